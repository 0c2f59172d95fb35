//! Varints of records on plain bytes: the writer made room beforehand, the reader has a fast path for short ones.

use bytes::BufMut;

use super::BatchError;
use crate::primitives::{unzigzag, unzigzag_long};

#[inline]
pub(super) fn put(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// The unsigned varint in the low bytes of `word` and its size, when it has one or two bytes.
#[inline(always)]
pub(super) fn short(word: u64) -> Option<(u64, usize)> {
    if word & 0x80 == 0 {
        Some((word & 0x7f, 1))
    } else if word & 0x8000 == 0 {
        Some((word & 0x7f | word >> 1 & 0x3f80, 2))
    } else {
        None
    }
}

/// A zigzag value as a length, unless it is negative.
#[inline(always)]
pub(super) fn short_length(value: u64) -> Option<usize> {
    (value & 1 == 0).then_some((value >> 1) as usize)
}

/// Reads a zigzag varint of at most 32 bits from the front of `bytes`.
pub(super) fn read32(bytes: &mut &[u8]) -> Result<i32, BatchError> {
    read(bytes, 32).map(|value| unzigzag(value as u32))
}

/// Reads a zigzag varint of at most 64 bits from the front of `bytes`.
pub(super) fn read64(bytes: &mut &[u8]) -> Result<i64, BatchError> {
    read(bytes, 64).map(unzigzag_long)
}

/// Fails on a value of more than `bits` bits and at the end of the bytes.
#[inline]
fn read(bytes: &mut &[u8], bits: u32) -> Result<u64, BatchError> {
    let mut value = 0_u64;
    let mut shift = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        let payload = u64::from(byte & 0x7f);
        let room = bits - shift;
        if room < 7 && payload >> room != 0 {
            return Err(BatchError::Malformed("a varint has too many bits"));
        }
        value |= payload << shift;
        if byte < 0x80 {
            *bytes = &bytes[index + 1..];
            return Ok(value);
        }
        shift += 7;
        if shift >= bits {
            return Err(BatchError::Malformed("a varint is too long"));
        }
    }
    Err(BatchError::Malformed("a varint is cut off"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::{zigzag, zigzag_long};

    fn written(value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        put(&mut bytes, value);
        bytes
    }

    #[test]
    fn every_magnitude_of_both_signs_comes_back() {
        for shift in 0..64 {
            for value in [1_i64 << shift, (1_i64 << shift).wrapping_neg(), (1_i64 << shift).wrapping_sub(1)] {
                let bytes = written(zigzag_long(value));
                assert_eq!(read64(&mut &bytes[..]), Ok(value));
                if let Ok(value) = i32::try_from(value) {
                    let bytes = written(u64::from(zigzag(value)));
                    assert_eq!(read32(&mut &bytes[..]), Ok(value));
                }
            }
        }
    }

    #[test]
    fn overlong_and_cut_off_varints_are_refused() {
        assert!(read32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]).is_err());
        assert!(read32(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00][..]).is_err());
        assert!(read64(&mut &[0xff; 9][..]).is_err());
        assert!(read64(&mut &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x03][..]).is_err());
        assert_eq!(read32(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Ok(i32::MIN));
        assert!(read32(&mut &[][..]).is_err());
        assert!(read32(&mut &[0x80][..]).is_err());
    }
}
