//! Compressed blocks: literals, and the sequences that copy them and earlier output into place (RFC 8878, 3.1.1.3).

use super::bits::Bits;
use super::fse::Table;
use super::huffman::Huffman;

/// Output of a block at most.
pub(super) const MAX_BLOCK: usize = 128 << 10;
/// Short copies move this much at once, into room that the next copy overwrites.
pub(super) const STRIDE: usize = 16;

/// Why a block cannot be decoded.
pub(super) enum Fault {
    Malformed(&'static str),
    /// It is longer than the room it was given.
    NoRoom,
}

use Fault::Malformed;

/// The tables, offsets and scratch that a frame's blocks share.
pub(super) struct Decoder {
    huffman: Huffman,
    literal_lengths: Table,
    offsets: Table,
    match_lengths: Table,
    recent: [usize; 3],
    literals: Vec<u8>,
}

impl Decoder {
    pub(super) const fn new() -> Decoder {
        Decoder {
            huffman: Huffman::new(),
            literal_lengths: Table::new(),
            offsets: Table::new(),
            match_lengths: Table::new(),
            recent: [1, 4, 8],
            literals: Vec::new(),
        }
    }

    /// Forgets the frame before.
    pub(super) fn start_frame(&mut self) {
        self.huffman.forget();
        self.literal_lengths.forget();
        self.offsets.forget();
        self.match_lengths.forget();
        self.recent = [1, 4, 8];
    }

    /// Decodes `block` into `out` from `at` on; the frame's earlier output is in front. Returns where the block ends.
    pub(super) fn decode(&mut self, block: &[u8], out: &mut [u8], at: usize) -> Result<usize, Fault> {
        // Taken out, so that the literals can lie in it while the tables are borrowed.
        let mut scratch = std::mem::take(&mut self.literals);
        let decoded = self.decode_with(block, out, at, &mut scratch);
        self.literals = scratch;
        decoded
    }

    fn decode_with(
        &mut self,
        block: &[u8],
        out: &mut [u8],
        at: usize,
        scratch: &mut Vec<u8>,
    ) -> Result<usize, Fault> {
        let (literals, rest) =
            self.read_literals(block, scratch).ok_or(Malformed("its literals are unreadable"))?;
        let (count, rest) = sequence_count(rest).ok_or(Malformed("a block's sequences are cut off"))?;
        if count == 0 {
            if !rest.is_empty() {
                return Err(Malformed("bytes follow a block's literals"));
            }
            return put_literals(out, at, literals, literals.len());
        }
        let stream = self.read_tables(rest).ok_or(Malformed("a block's tables are unreadable"))?;
        let bits = Bits::new(stream).ok_or(Malformed("a block's sequences are cut off"))?;
        self.execute(bits, count, literals, out, at)
    }

    /// The literals, in the block or decoded into `scratch`, and what follows them.
    fn read_literals<'a>(
        &mut self,
        block: &'a [u8],
        scratch: &'a mut Vec<u8>,
    ) -> Option<(&'a [u8], &'a [u8])> {
        let &[first, ..] = block else { return None };
        let (kind, format) = (first & 3, first >> 2 & 3);
        // The sizes lie in the header's bytes as one number, behind type and format.
        let (header_len, size_bits, shift) = match (kind, format) {
            (0 | 1, 0 | 2) => (1, 5, 3),
            (0 | 1, 1) => (2, 12, 4),
            (0 | 1, _) => (3, 20, 4),
            (_, 0 | 1) => (3, 10, 4),
            (_, 2) => (4, 14, 4),
            _ => (5, 18, 4),
        };
        let (header, rest) = block.split_at_checked(header_len)?;
        let mut word = [0; 8];
        word[..header_len].copy_from_slice(header);
        let word = u64::from_le_bytes(word) >> shift;
        let size = (word & ((1 << size_bits) - 1)) as usize;
        if size > MAX_BLOCK {
            return None;
        }
        match kind {
            0 => rest.split_at_checked(size),
            1 => {
                let (&byte, rest) = rest.split_first()?;
                scratch.clear();
                scratch.resize(size, byte);
                Some((scratch, rest))
            }
            _ => {
                let packed = (word >> size_bits) as usize;
                let (mut packed, rest) = rest.split_at_checked(packed)?;
                if kind == 2 {
                    packed = self.huffman.read(packed)?;
                }
                scratch.resize(size, 0);
                if format == 0 {
                    self.huffman.decode(packed, scratch)?;
                } else {
                    self.huffman.decode_four(packed, scratch)?;
                }
                Some((scratch, rest))
            }
        }
    }

    fn read_tables<'a>(&mut self, rest: &'a [u8]) -> Option<&'a [u8]> {
        let (&modes, rest) = rest.split_first()?;
        if modes & 3 != 0 {
            return None;
        }
        let rest = read_table(&mut self.literal_lengths, modes >> 6, rest, &LITERAL_LENGTHS)?;
        let rest = read_table(&mut self.offsets, modes >> 4 & 3, rest, &OFFSETS)?;
        read_table(&mut self.match_lengths, modes >> 2 & 3, rest, &MATCH_LENGTHS)
    }

    fn execute(
        &mut self,
        mut bits: Bits<'_>,
        count: usize,
        mut literals: &[u8],
        out: &mut [u8],
        mut at: usize,
    ) -> Result<usize, Fault> {
        let logs = (self.literal_lengths.log(), self.offsets.log(), self.match_lengths.log());
        let (Some(literal_log), Some(offset_log), Some(match_log)) = logs else {
            return Err(Malformed("a block repeats a table that there is not"));
        };
        bits.refill();
        let mut literal_state = bits.read(literal_log);
        let mut offset_state = bits.read(offset_log);
        let mut match_state = bits.read(match_log);
        for sequence in 1..=count {
            let literal = self.literal_lengths.entry(literal_state);
            let offset = self.offsets.entry(offset_state);
            let matched = self.match_lengths.entry(match_state);
            bits.refill();
            // 31 and 16 bits at most, then 16 and three states of 9: each group fits one refill.
            let offset_value = offset.base as usize + bits.read(offset.extra.into()) as usize;
            let match_len = matched.base as usize + bits.read(matched.extra.into()) as usize;
            bits.refill();
            let literal_len = literal.base as usize + bits.read(literal.extra.into()) as usize;
            if sequence < count {
                literal_state = u64::from(literal.next) + bits.read(literal.bits.into());
                match_state = u64::from(matched.next) + bits.read(matched.bits.into());
                offset_state = u64::from(offset.next) + bits.read(offset.bits.into());
            }
            at = put_literals(out, at, literals, literal_len)?;
            literals = &literals[literal_len..];
            let offset = self.offset(offset_value, literal_len);
            at = put_match(out, at, offset, match_len)?;
        }
        if bits.left() != 0 {
            return Err(Malformed("a block's sequences do not end with its bits"));
        }
        put_literals(out, at, literals, literals.len())
    }

    /// Resolves the three values that stand for a recent offset, which shift by one when a match follows no literal.
    #[inline(always)]
    fn offset(&mut self, value: usize, literal_len: usize) -> usize {
        let [first, second, third] = self.recent;
        if value > 3 {
            self.recent = [value - 3, first, second];
        } else {
            match value + usize::from(literal_len == 0) {
                1 => {}
                2 => self.recent = [second, first, third],
                3 => self.recent = [third, first, second],
                _ => self.recent = [first - 1, first, second],
            }
        }
        self.recent[0]
    }
}

fn sequence_count(bytes: &[u8]) -> Option<(usize, &[u8])> {
    match *bytes {
        [first @ 0..128, ref rest @ ..] => Some((first.into(), rest)),
        [255, low, high, ref rest @ ..] => {
            Some((usize::from(u16::from_le_bytes([low, high])) + 0x7f00, rest))
        }
        [255, ..] => None,
        [first, second, ref rest @ ..] => Some(((usize::from(first) - 128) << 8 | usize::from(second), rest)),
        _ => None,
    }
}

/// Appends the first `len` of `literals`.
#[inline(always)]
fn put_literals(out: &mut [u8], at: usize, literals: &[u8], len: usize) -> Result<usize, Fault> {
    if len <= STRIDE
        && let Some(from) = literals.first_chunk::<STRIDE>()
        && let Some(to) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut)
    {
        *to = *from;
        return Ok(at + len);
    }
    let from = literals.get(..len).ok_or(Malformed("a sequence has more literals than the block"))?;
    out.get_mut(at..at + len).ok_or(Fault::NoRoom)?.copy_from_slice(from);
    Ok(at + len)
}

/// Appends `len` bytes from `offset` back, which may overlap what they are appended to.
#[inline(always)]
fn put_match(out: &mut [u8], at: usize, offset: usize, len: usize) -> Result<usize, Fault> {
    let from = match at.checked_sub(offset) {
        Some(from) if offset > 0 => from,
        _ => return Err(Malformed("a match starts before the frame")),
    };
    let end = at + len;
    if offset >= STRIDE && end + STRIDE <= out.len() {
        let (mut from, mut to) = (from, at);
        while to < end {
            let mut stride = [0; STRIDE];
            stride.copy_from_slice(&out[from..from + STRIDE]);
            out[to..to + STRIDE].copy_from_slice(&stride);
            (from, to) = (from + STRIDE, to + STRIDE);
        }
        return Ok(end);
    }
    put_overlap(out, at, from, end)
}

#[inline(never)]
fn put_overlap(out: &mut [u8], at: usize, from: usize, end: usize) -> Result<usize, Fault> {
    if end > out.len() {
        return Err(Fault::NoRoom);
    }
    let mut to = at;
    while to < end {
        // What was appended repeats the match, so each round can copy twice as much.
        let n = (to - from).min(end - to);
        out.copy_within(from..from + n, to);
        to += n;
    }
    Ok(end)
}

/// One of the three alphabets of sequences.
struct Alphabet {
    max_log: u32,
    default_log: u32,
    default: &'static [i16],
    /// Base and extra bits of a code.
    code: fn(u8) -> Option<(u32, u8)>,
}

fn read_table<'a>(table: &mut Table, mode: u8, rest: &'a [u8], alphabet: &Alphabet) -> Option<&'a [u8]> {
    match mode {
        0 => table.build(alphabet.default, alphabet.default_log, alphabet.code).map(|()| rest),
        1 => {
            let (&symbol, rest) = rest.split_first()?;
            let (base, extra) = (alphabet.code)(symbol)?;
            table.set_single(base, extra);
            Some(rest)
        }
        2 => table.read(rest, alphabet.max_log, alphabet.code),
        _ => Some(rest),
    }
}

const LITERAL_LENGTHS: Alphabet = Alphabet {
    max_log: 9,
    default_log: 6,
    default: &[
        4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1,
        -1, -1, -1,
    ],
    code: |code| match code {
        0..16 => Some((code.into(), 0)),
        16..36 => {
            const EXTRA: [u8; 20] = [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
            const BASE: [u32; 20] = [
                16, 18, 20, 22, 24, 28, 32, 40, 48, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768,
                65536,
            ];
            Some((BASE[usize::from(code) - 16], EXTRA[usize::from(code) - 16]))
        }
        _ => None,
    },
};

const MATCH_LENGTHS: Alphabet = Alphabet {
    max_log: 9,
    default_log: 6,
    default: &[
        1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
    ],
    code: |code| match code {
        0..32 => Some((u32::from(code) + 3, 0)),
        32..53 => {
            const EXTRA: [u8; 21] = [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16];
            const BASE: [u32; 21] = [
                35, 37, 39, 41, 43, 47, 51, 59, 67, 83, 99, 131, 259, 515, 1027, 2051, 4099, 8195, 16387,
                32771, 65539,
            ];
            Some((BASE[usize::from(code) - 32], EXTRA[usize::from(code) - 32]))
        }
        _ => None,
    },
};

const OFFSETS: Alphabet = Alphabet {
    max_log: 8,
    default_log: 5,
    default: &[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
    // 31 bits reach further than any frame that is accepted.
    code: |code| if code < 32 { Some((1 << code, code)) } else { None },
};
