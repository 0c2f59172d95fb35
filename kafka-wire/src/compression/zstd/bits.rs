//! The two ways zstd packs bits: forwards in the descriptions of tables, backwards in everything they encode.

/// A bit stream read from its end, whose last set bit says where it starts.
#[derive(Clone, Copy)]
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    /// Where `word` was loaded from.
    at: usize,
    /// Eight bytes, the next bits on top once `used` are shifted out.
    word: u64,
    used: u32,
}

impl<'a> Bits<'a> {
    /// `None` without a set bit in the last byte.
    pub(super) fn new(bytes: &'a [u8]) -> Option<Bits<'a>> {
        let padding = bytes.last().filter(|last| **last != 0)?.leading_zeros() + 1;
        if let Some((_, last)) = bytes.split_last_chunk::<8>() {
            return Some(Bits { bytes, at: bytes.len() - 8, word: u64::from_le_bytes(*last), used: padding });
        }
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let missing = 8 * (8 - bytes.len() as u32);
        Some(Bits { bytes, at: 0, word: u64::from_le_bytes(word), used: missing + padding })
    }

    /// Makes sure that at least 57 bits can be read, or as many as there are.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        let step = (self.used / 8).min(self.at as u32);
        if step > 0 {
            self.at -= step as usize;
            self.used -= 8 * step;
            if let Some(word) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
                self.word = u64::from_le_bytes(*word);
            }
        }
    }

    /// The next `count` bits (below 64) as far as they were refilled; zeros follow the end, and nonsense later.
    #[inline(always)]
    pub(super) fn peek(&self, count: u32) -> u64 {
        self.word << (self.used & 63) >> 1 >> (63 - (count & 63))
    }

    #[inline(always)]
    pub(super) fn skip(&mut self, count: u32) {
        self.used += count;
    }

    #[inline(always)]
    pub(super) fn read(&mut self, count: u32) -> u64 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    /// Bits that are left; below 0 when more were read than there were.
    #[inline]
    pub(super) fn left(&self) -> i64 {
        (8 * self.at as i64 + 64) - i64::from(self.used)
    }
}

/// A bit stream read from its start.
pub(super) struct ForwardBits<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl<'a> ForwardBits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> ForwardBits<'a> {
        ForwardBits { bytes, used: 0 }
    }

    /// The next `count` bits (at most 16), zeros behind the end.
    pub(super) fn peek(&self, count: u32) -> u32 {
        let mut word = [0; 4];
        let rest = self.bytes.get(self.used / 8..).unwrap_or_default();
        let here = rest.len().min(4);
        word[..here].copy_from_slice(&rest[..here]);
        u32::from_le_bytes(word) >> (self.used % 8) & ((1 << count) - 1)
    }

    pub(super) fn read(&mut self, count: u32) -> u32 {
        let bits = self.peek(count);
        self.skip(count);
        bits
    }

    pub(super) fn skip(&mut self, count: u32) {
        self.used += count as usize;
    }

    /// What follows the byte that the stream ends in, `None` when more was read than there was.
    pub(super) fn rest(self) -> Option<&'a [u8]> {
        self.bytes.get(self.used.div_ceil(8)..)
    }
}
