//! Huffman coded literals (RFC 8878, 4.2).

use super::bits::Bits;
use super::fse;

const MAX_BITS: u32 = 11;
/// Symbols that fit into what one refill gives: 5 of at most 11 bits.
const PER_REFILL: usize = 5;

/// A decoding table: the next bits to a symbol and how many of them it took.
pub(super) struct Huffman {
    entries: [(u8, u8); 1 << MAX_BITS],
    max_bits: Option<u32>,
    weights: fse::Table,
}

impl Huffman {
    pub(super) const fn new() -> Huffman {
        Huffman { entries: [(0, 0); 1 << MAX_BITS], max_bits: None, weights: fse::Table::new() }
    }

    pub(super) fn forget(&mut self) {
        self.max_bits = None;
    }

    /// Reads the table at the front of `bytes` and returns what follows; `None` when it is none.
    pub(super) fn read<'a>(&mut self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        self.max_bits = None;
        let mut weights = [0_u8; 256];
        let (&header, rest) = bytes.split_first()?;
        let (count, rest) = if header < 128 {
            let (coded, rest) = rest.split_at_checked(usize::from(header))?;
            (self.read_weights(coded, &mut weights)?, rest)
        } else {
            let count = usize::from(header) - 127;
            let (packed, rest) = rest.split_at_checked(count.div_ceil(2))?;
            for (pair, byte) in weights.chunks_exact_mut(2).zip(packed) {
                pair.copy_from_slice(&[byte >> 4, byte & 15]);
            }
            (count, rest)
        };
        self.build(&mut weights, count)?;
        Some(rest)
    }

    /// Two states take turns; the stream ends by running out of bits.
    fn read_weights(&mut self, coded: &[u8], weights: &mut [u8; 256]) -> Option<usize> {
        let stream = self.weights.read(coded, 6, |symbol| Some((u32::from(symbol), 0)))?;
        let log = self.weights.log()?;
        let mut bits = Bits::new(stream)?;
        bits.refill();
        let mut states = [bits.read(log), bits.read(log)];
        // 255 at most: the weight of the last symbol follows from the others.
        for count in 0..254 {
            bits.refill();
            let entry = self.weights.entry(states[count % 2]);
            weights[count] = entry.base as u8;
            states[count % 2] = u64::from(entry.next) + bits.read(entry.bits.into());
            if bits.left() < 0 {
                weights[count + 1] = self.weights.entry(states[(count + 1) % 2]).base as u8;
                return Some(count + 2);
            }
        }
        None
    }

    /// Fills the table, from the longest codes to the shortest, each in the order of symbols.
    fn build(&mut self, weights: &mut [u8; 256], count: usize) -> Option<()> {
        let mut sum = 0_u32;
        for &weight in &weights[..count] {
            if u32::from(weight) > MAX_BITS {
                return None;
            }
            sum += 1 << weight >> 1;
        }
        let max_bits = sum.checked_ilog2()? + 1;
        let missing = (1 << max_bits) - sum;
        if max_bits > MAX_BITS || !missing.is_power_of_two() {
            return None;
        }
        weights[count] = missing.ilog2() as u8 + 1;
        let mut at = 0;
        for weight in 1..=max_bits as u8 {
            let symbols = weights[..=count].iter().enumerate().filter(|(_, of)| **of == weight);
            for (symbol, _) in symbols {
                let span = 1 << weight >> 1;
                self.entries.get_mut(at..at + span)?.fill((symbol as u8, max_bits as u8 + 1 - weight));
                at += span;
            }
        }
        self.max_bits = Some(max_bits);
        Some(())
    }

    /// Decodes `stream` into exactly `out`.
    pub(super) fn decode(&self, stream: &[u8], out: &mut [u8]) -> Option<()> {
        let max_bits = self.max_bits?;
        let mut bits = Bits::new(stream)?;
        self.finish(&mut bits, max_bits, out)
    }

    /// Decodes four streams, each a quarter of `out`; together they keep the processor busier than one by one.
    pub(super) fn decode_four(&self, streams: &[u8], out: &mut [u8]) -> Option<()> {
        let max_bits = self.max_bits?;
        let (sizes, streams) = streams.split_first_chunk::<6>()?;
        let [a, b, c, d, e, f] = *sizes;
        let size = |low, high| usize::from(u16::from_le_bytes([low, high]));
        let (first, rest) = streams.split_at_checked(size(a, b))?;
        let (second, rest) = rest.split_at_checked(size(c, d))?;
        let (third, fourth) = rest.split_at_checked(size(e, f))?;
        let mut bits = [Bits::new(first)?, Bits::new(second)?, Bits::new(third)?, Bits::new(fourth)?];

        let quarter = out.len().div_ceil(4);
        let (first, rest) = out.split_at_mut_checked(quarter)?;
        let (second, rest) = rest.split_at_mut_checked(quarter)?;
        let (third, fourth) = rest.split_at_mut_checked(quarter)?;
        // The last is the shortest.
        let together = fourth.len() / PER_REFILL * PER_REFILL;
        let front = chunks(first).iter_mut().zip(chunks(second));
        let back = chunks(third).iter_mut().zip(chunks(fourth));
        for ((a, b), (c, d)) in front.zip(back) {
            bits.iter_mut().for_each(Bits::refill);
            for n in 0..PER_REFILL {
                a[n] = self.symbol(&mut bits[0], max_bits);
                b[n] = self.symbol(&mut bits[1], max_bits);
                c[n] = self.symbol(&mut bits[2], max_bits);
                d[n] = self.symbol(&mut bits[3], max_bits);
            }
        }
        for (bits, out) in bits.iter_mut().zip([first, second, third, fourth]) {
            self.finish(bits, max_bits, out.get_mut(together..)?)?;
        }
        Some(())
    }

    /// Decodes what is left of a stream, which must be exactly `out`.
    fn finish(&self, bits: &mut Bits<'_>, max_bits: u32, out: &mut [u8]) -> Option<()> {
        for chunk in out.chunks_mut(PER_REFILL) {
            bits.refill();
            for symbol in chunk {
                *symbol = self.symbol(bits, max_bits);
            }
        }
        (bits.left() == 0).then_some(())
    }

    #[inline(always)]
    fn symbol(&self, bits: &mut Bits<'_>, max_bits: u32) -> u8 {
        let (symbol, len) = self.entries[bits.peek(max_bits) as usize % (1 << MAX_BITS)];
        bits.skip(len.into());
        symbol
    }
}

fn chunks(out: &mut [u8]) -> &mut [[u8; PER_REFILL]] {
    out.as_chunks_mut().0
}
