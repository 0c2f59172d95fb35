//! Finite state entropy: the tables that turn bits into sequence codes and Huffman weights (RFC 8878, 4.1).

use super::bits::ForwardBits;

/// Entries of the largest table: accuracy log 9.
const MAX_ENTRIES: usize = 1 << 9;
/// Codes of the richest alphabet, the match lengths, and of Huffman weights.
const MAX_SYMBOLS: usize = 64;

/// What a state stands for, and where it leads.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Entry {
    /// What the code adds its extra bits to.
    pub(super) base: u32,
    /// How many extra bits the code has.
    pub(super) extra: u8,
    /// Bits to read for the next state, which are added to `next`.
    pub(super) bits: u8,
    pub(super) next: u16,
}

/// A decoding table; `None` as its log until it is built.
#[derive(Clone)]
pub(super) struct Table {
    entries: [Entry; MAX_ENTRIES],
    log: Option<u32>,
}

impl Table {
    pub(super) const fn new() -> Table {
        Table { entries: [Entry { base: 0, extra: 0, bits: 0, next: 0 }; MAX_ENTRIES], log: None }
    }

    /// Bits of the first state; `None` when there is no table yet.
    pub(super) fn log(&self) -> Option<u32> {
        self.log
    }

    pub(super) fn forget(&mut self) {
        self.log = None;
    }

    #[inline(always)]
    pub(super) fn entry(&self, state: u64) -> Entry {
        self.entries[state as usize % MAX_ENTRIES]
    }

    /// A table of one symbol, which costs no bits.
    pub(super) fn set_single(&mut self, base: u32, extra: u8) {
        self.entries[0] = Entry { base, extra, bits: 0, next: 0 };
        self.log = Some(0);
    }

    /// Builds the table from the probabilities of its symbols, whose sum is a power of two: -1 stands for "less than 1".
    /// `code` gives a symbol's base and extra bits. `None` when the probabilities make no table.
    pub(super) fn build(
        &mut self,
        probabilities: &[i16],
        log: u32,
        code: impl Fn(u8) -> Option<(u32, u8)>,
    ) -> Option<()> {
        self.log = None;
        let size = 1 << log;
        let entries = self.entries.get_mut(..size)?;
        let mut symbols = [0_u8; MAX_ENTRIES];
        // How often a symbol was met; its states lead on in that order.
        let mut next = [0_u16; MAX_SYMBOLS];
        let mut high = size;
        for (symbol, &probability) in probabilities.iter().enumerate() {
            *next.get_mut(symbol)? = probability.unsigned_abs();
            if probability == -1 {
                high = high.checked_sub(1)?;
                symbols[high] = symbol as u8;
            }
        }
        let step = (size >> 1) + (size >> 3) + 3;
        let mut at = 0;
        for (symbol, &probability) in probabilities.iter().enumerate() {
            for _ in 0..probability {
                symbols[at] = symbol as u8;
                loop {
                    at = (at + step) & (size - 1);
                    if at < high {
                        break;
                    }
                }
            }
        }
        if at != 0 {
            return None;
        }
        for (entry, &symbol) in entries.iter_mut().zip(&symbols) {
            let (base, extra) = code(symbol)?;
            let count = &mut next[usize::from(symbol)];
            let bits = log - count.checked_ilog2()?;
            *entry = Entry { base, extra, bits: bits as u8, next: (*count << bits) - size as u16 };
            *count += 1;
        }
        self.log = Some(log);
        Some(())
    }

    /// Reads the probabilities at the front of `bytes`, builds the table, and returns what follows.
    pub(super) fn read<'a>(
        &mut self,
        bytes: &'a [u8],
        max_log: u32,
        code: impl Fn(u8) -> Option<(u32, u8)>,
    ) -> Option<&'a [u8]> {
        let mut bits = ForwardBits::new(bytes);
        let log = bits.read(4) + 5;
        if log > max_log {
            return None;
        }
        let mut probabilities = [0_i16; MAX_SYMBOLS];
        let mut count = 0;
        let mut remaining = 1_i32 << log;
        while remaining > 0 {
            // Values up to `remaining + 1`, the smaller of which need one bit less.
            let width = (remaining + 1).ilog2() + 1;
            let short = (1 << width) - 1 - (remaining as u32 + 1);
            let value = bits.peek(width);
            let low = value & ((1 << (width - 1)) - 1);
            let value = if low < short {
                bits.skip(width - 1);
                low
            } else {
                bits.skip(width);
                if value >> (width - 1) == 0 { value } else { value - short }
            };
            let probability = value as i16 - 1;
            remaining -= i32::from(probability.unsigned_abs());
            *probabilities.get_mut(count)? = probability;
            count += 1;
            if probability == 0 {
                loop {
                    let zeros = bits.read(2) as usize;
                    count += zeros;
                    if zeros < 3 {
                        break;
                    }
                    if count > MAX_SYMBOLS {
                        return None;
                    }
                }
            }
        }
        let rest = bits.rest()?;
        self.build(probabilities.get(..count)?, log, code)?;
        Some(rest)
    }
}
