//! Varints of records on plain slices: the writer made room beforehand, the reader has a fast path for short ones.

use super::BatchError;
use crate::primitives::{unzigzag, unzigzag_long};

/// Writes `value` at `at` and returns the position behind it.
#[inline]
pub(super) fn write(out: &mut [u8], mut at: usize, mut value: u64) -> usize {
    while value >= 0x80 {
        out[at] = value as u8 | 0x80;
        value >>= 7;
        at += 1;
    }
    out[at] = value as u8;
    at + 1
}

/// Reads a zigzag varint of at most 32 bits from the front of `bytes`.
#[inline]
pub(super) fn read32(bytes: &mut &[u8]) -> Result<i32, BatchError> {
    match **bytes {
        [first, ref rest @ ..] if first < 0x80 => {
            *bytes = rest;
            Ok(unzigzag(u32::from(first)))
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *bytes = rest;
            Ok(unzigzag(u32::from(first & 0x7f) | u32::from(second) << 7))
        }
        _ => {
            let value = read_long(bytes, 32)?;
            Ok(unzigzag(value as u32))
        }
    }
}

/// Reads a zigzag varint of at most 64 bits from the front of `bytes`.
#[inline]
pub(super) fn read64(bytes: &mut &[u8]) -> Result<i64, BatchError> {
    match **bytes {
        [first, ref rest @ ..] if first < 0x80 => {
            *bytes = rest;
            Ok(unzigzag_long(u64::from(first)))
        }
        [first, second, ref rest @ ..] if second < 0x80 => {
            *bytes = rest;
            Ok(unzigzag_long(u64::from(first & 0x7f) | u64::from(second) << 7))
        }
        _ => Ok(unzigzag_long(read_long(bytes, 64)?)),
    }
}

/// The general form: fails on a value of more than `bits` bits and at the end of the bytes.
#[inline(never)]
fn read_long(bytes: &mut &[u8], bits: u32) -> Result<u64, BatchError> {
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
        let mut bytes = vec![0; 10];
        let len = write(&mut bytes, 0, value);
        bytes.truncate(len);
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
