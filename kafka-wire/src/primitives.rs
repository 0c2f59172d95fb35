//! Kafka's primitive types over plain bytes: a bounded reader that cannot pass its end, and the writers beside it.

use bytes::BufMut;

use crate::error::ProtocolErrorKind;

/// The outcome of reading one primitive; the caller knows which message it is in.
pub type Result<T> = std::result::Result<T, ProtocolErrorKind>;

/// The most bytes of a string, in compact form too.
const MAX_STRING: usize = i16::MAX as usize;

/// Reads primitives from the front of a slice and never past its end.
///
/// What it returns borrows from the slice; `Bytes::slice_ref` turns that into an owned, shared handle.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    #[must_use]
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The number of bytes not yet read.
    #[must_use]
    #[inline]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes not yet read.
    #[must_use]
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Fails unless everything was read.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::TrailingBytes`].
    #[inline]
    pub const fn finish(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(ProtocolErrorKind::TrailingBytes(self.rest.len())) }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub const fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(length) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(ProtocolErrorKind::Truncated { needed: length, remaining: self.rest.len() }),
        }
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(ProtocolErrorKind::Truncated { needed: N, remaining: self.rest.len() }),
        }
    }

    /// A byte.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub fn u8(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// `BOOLEAN`: every byte but 0 is true.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub fn bool(&mut self) -> Result<bool> {
        self.u8().map(|byte| byte != 0)
    }

    /// `INT8`.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub fn i8(&mut self) -> Result<i8> {
        self.array().map(i8::from_be_bytes)
    }

    /// `INT16`.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub fn i16(&mut self) -> Result<i16> {
        self.array().map(i16::from_be_bytes)
    }

    /// `UINT16`.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub fn u16(&mut self) -> Result<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// `INT32`.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub fn i32(&mut self) -> Result<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// `UINT32`.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// `INT64`.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub fn i64(&mut self) -> Result<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// `FLOAT64`.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub fn f64(&mut self) -> Result<f64> {
        self.array().map(f64::from_be_bytes)
    }

    /// `UUID`.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`].
    #[inline]
    pub fn uuid(&mut self) -> Result<[u8; 16]> {
        self.array()
    }

    /// `UNSIGNED_VARINT`: 7 bits a byte, the low ones first, 5 bytes at most.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`], [`ProtocolErrorKind::VarintOverflow`].
    #[inline]
    pub fn unsigned_varint(&mut self) -> Result<u32> {
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u32::from(*byte));
        }
        let mut value = 0;
        for shift in (0..35).step_by(7) {
            let byte = self.u8()?;
            if shift == 28 && byte > 0x0f {
                return Err(ProtocolErrorKind::VarintOverflow);
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtocolErrorKind::VarintOverflow)
    }

    /// 64 bits of `UNSIGNED_VARINT`, 10 bytes at most.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`], [`ProtocolErrorKind::VarintOverflow`].
    #[inline]
    pub fn unsigned_varlong(&mut self) -> Result<u64> {
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.u8()?;
            if shift == 63 && byte > 0x01 {
                return Err(ProtocolErrorKind::VarintOverflow);
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(ProtocolErrorKind::VarintOverflow)
    }

    /// `VARINT`: zigzag, so that small negative numbers are short too.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`], [`ProtocolErrorKind::VarintOverflow`].
    #[inline]
    pub fn varint(&mut self) -> Result<i32> {
        self.unsigned_varint().map(unzigzag)
    }

    /// `VARLONG`: zigzag.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`], [`ProtocolErrorKind::VarintOverflow`].
    #[inline]
    pub fn varlong(&mut self) -> Result<i64> {
        self.unsigned_varlong().map(unzigzag_long)
    }

    /// The length before a `STRING`, or a `COMPACT_STRING` in a flexible version; `None` is null.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`], [`ProtocolErrorKind::NegativeLength`], [`ProtocolErrorKind::VarintOverflow`],
    /// [`ProtocolErrorKind::TooLarge`] for more than 32767 bytes, Kafka's limit in every version.
    #[inline]
    pub fn string_length(&mut self, flexible: bool) -> Result<Option<usize>> {
        if !flexible {
            return nullable_length(i32::from(self.i16()?));
        }
        match self.compact_length()? {
            Some(length) if length > MAX_STRING => {
                Err(ProtocolErrorKind::TooLarge { length, limit: MAX_STRING })
            }
            length => Ok(length),
        }
    }

    /// The length before `BYTES`, `RECORDS` or an `ARRAY`, or their compact forms in a flexible version; `None` is null.
    ///
    /// # Errors
    /// [`ProtocolErrorKind::Truncated`], [`ProtocolErrorKind::NegativeLength`], [`ProtocolErrorKind::VarintOverflow`].
    #[inline]
    pub fn length(&mut self, flexible: bool) -> Result<Option<usize>> {
        if flexible { self.compact_length() } else { nullable_length(self.i32()?) }
    }

    /// A nullable `STRING` or `COMPACT_STRING`.
    ///
    /// # Errors
    /// As [`Reader::string_length`], [`ProtocolErrorKind::InvalidUtf8`].
    #[inline]
    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<&'a str>> {
        let Some(length) = self.string_length(flexible)? else { return Ok(None) };
        std::str::from_utf8(self.take(length)?).map(Some).map_err(|_| ProtocolErrorKind::InvalidUtf8)
    }

    /// A `STRING` or `COMPACT_STRING`.
    ///
    /// # Errors
    /// As [`Reader::nullable_string`], [`ProtocolErrorKind::UnexpectedNull`].
    #[inline]
    pub fn string(&mut self, flexible: bool) -> Result<&'a str> {
        self.nullable_string(flexible)?.ok_or(ProtocolErrorKind::UnexpectedNull)
    }

    /// Nullable `BYTES`, `COMPACT_BYTES` or records.
    ///
    /// # Errors
    /// As [`Reader::length`].
    #[inline]
    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<&'a [u8]>> {
        let Some(length) = self.length(flexible)? else { return Ok(None) };
        self.take(length).map(Some)
    }

    /// `BYTES` or `COMPACT_BYTES`.
    ///
    /// # Errors
    /// As [`Reader::nullable_bytes`], [`ProtocolErrorKind::UnexpectedNull`].
    #[inline]
    pub fn bytes(&mut self, flexible: bool) -> Result<&'a [u8]> {
        self.nullable_bytes(flexible)?.ok_or(ProtocolErrorKind::UnexpectedNull)
    }

    /// The count before an array whose elements take at least `minimum` bytes each; `None` is null.
    ///
    /// A count that the rest cannot hold is refused here, so that it is safe to reserve room for.
    ///
    /// # Errors
    /// As [`Reader::length`], [`ProtocolErrorKind::CountTooLarge`].
    #[inline]
    pub fn nullable_count(&mut self, flexible: bool, minimum: usize) -> Result<Option<usize>> {
        let Some(count) = self.length(flexible)? else { return Ok(None) };
        let remaining = self.remaining();
        if count > remaining / minimum.max(1) {
            return Err(ProtocolErrorKind::CountTooLarge { count, minimum, remaining });
        }
        Ok(Some(count))
    }

    /// The count before an array that cannot be null.
    ///
    /// # Errors
    /// As [`Reader::nullable_count`], [`ProtocolErrorKind::UnexpectedNull`].
    #[inline]
    pub fn count(&mut self, flexible: bool, minimum: usize) -> Result<usize> {
        self.nullable_count(flexible, minimum)?.ok_or(ProtocolErrorKind::UnexpectedNull)
    }

    /// Walks the tagged fields at the end of a struct, handing the content of each to `field`.
    ///
    /// `field` returns how much it used: [`Tag::Skipped`] for a tag it does not know.
    ///
    /// # Errors
    /// What `field` returns, [`ProtocolErrorKind::TagOrder`], [`ProtocolErrorKind::TagSize`] and those of the primitives.
    pub fn tagged_fields(
        &mut self,
        mut field: impl FnMut(u32, &mut Reader<'a>) -> Result<Tag>,
    ) -> Result<()> {
        let count = self.unsigned_varint()?;
        let mut previous = None;
        for _ in 0..count {
            let (tag, mut content) = self.tagged_field(previous)?;
            let announced = content.remaining();
            if field(tag, &mut content)? == Tag::Read && content.remaining() > 0 {
                let used = announced - content.remaining();
                return Err(ProtocolErrorKind::TagSize { tag, announced, used });
            }
            previous = Some(tag);
        }
        Ok(())
    }

    /// Skips the tagged fields at the end of a struct.
    ///
    /// # Errors
    /// As [`Reader::tagged_fields`].
    pub fn skip_tagged_fields(&mut self) -> Result<()> {
        self.tagged_fields(|_, _| Ok(Tag::Skipped))
    }

    /// The number and the content of the tagged field that follows the one numbered `previous`.
    pub(crate) fn tagged_field(&mut self, previous: Option<u32>) -> Result<(u32, Reader<'a>)> {
        let tag = self.unsigned_varint()?;
        // Java and kafka-protocol keep tags in an int.
        if tag > i32::MAX.cast_unsigned() {
            return Err(ProtocolErrorKind::VarintOverflow);
        }
        if let Some(previous) = previous.filter(|previous| *previous >= tag) {
            return Err(ProtocolErrorKind::TagOrder { previous, tag });
        }
        let length = self.unsigned_varint()? as usize;
        Ok((tag, Reader::new(self.take(length)?)))
    }

    #[inline]
    fn compact_length(&mut self) -> Result<Option<usize>> {
        Ok(self.unsigned_varint()?.checked_sub(1).map(|length| length as usize))
    }
}

/// What became of a tagged field handed to a reader of [`Reader::tagged_fields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// It was read, and must have been used up.
    Read,
    /// It is of no interest.
    Skipped,
}

fn nullable_length(length: i32) -> Result<Option<usize>> {
    match length {
        -1 => Ok(None),
        length => match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) => Err(ProtocolErrorKind::NegativeLength(i64::from(length))),
        },
    }
}

/// Maps 0, -1, 1, -2 … to 0, 1, 2, 3 …
#[must_use]
#[inline]
pub const fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

/// Maps 0, -1, 1, -2 … to 0, 1, 2, 3 …
#[must_use]
#[inline]
pub const fn zigzag_long(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Maps 0, 1, 2, 3 … to 0, -1, 1, -2 …
#[must_use]
#[inline]
pub const fn unzigzag(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Maps 0, 1, 2, 3 … to 0, -1, 1, -2 …
#[must_use]
#[inline]
pub const fn unzigzag_long(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// The encoded size of an unsigned varint, 1 to 5 bytes.
#[must_use]
#[inline]
pub const fn unsigned_varint_len(value: u32) -> usize {
    (38 - (value | 1).leading_zeros() as usize) / 7
}

/// The encoded size of 64 bits of unsigned varint, 1 to 10 bytes.
#[must_use]
#[inline]
pub const fn unsigned_varlong_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// The encoded size of a zigzag varint, 1 to 5 bytes.
#[must_use]
#[inline]
pub const fn varint_len(value: i32) -> usize {
    unsigned_varint_len(zigzag(value))
}

/// The encoded size of a zigzag varlong, 1 to 10 bytes.
#[must_use]
#[inline]
pub const fn varlong_len(value: i64) -> usize {
    unsigned_varlong_len(zigzag_long(value))
}

/// Writes an unsigned varint.
#[inline]
pub fn put_unsigned_varint(out: &mut impl BufMut, value: u32) {
    put_unsigned_varlong(out, u64::from(value));
}

/// Writes 64 bits of unsigned varint.
#[inline]
pub fn put_unsigned_varlong(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// Writes a zigzag varint.
#[inline]
pub fn put_varint(out: &mut impl BufMut, value: i32) {
    put_unsigned_varint(out, zigzag(value));
}

/// Writes a zigzag varlong.
#[inline]
pub fn put_varlong(out: &mut impl BufMut, value: i64) {
    put_unsigned_varlong(out, zigzag_long(value));
}

/// Writes a nullable `STRING`, or a `COMPACT_STRING` in a flexible version.
///
/// # Errors
/// [`ProtocolErrorKind::Unencodable`] for more than 32767 bytes, Kafka's limit in every version.
pub fn put_nullable_string(out: &mut impl BufMut, value: Option<&str>, flexible: bool) -> Result<()> {
    let Some(value) = value else {
        if flexible {
            out.put_u8(0);
        } else {
            out.put_i16(-1);
        }
        return Ok(());
    };
    let Ok(length) = i16::try_from(value.len()) else {
        let message = format!("a string of {} bytes, at most 32767 are possible", value.len());
        return Err(ProtocolErrorKind::Unencodable(message.into()));
    };
    if flexible {
        put_unsigned_varint(out, value.len() as u32 + 1);
    } else {
        out.put_i16(length);
    }
    out.put_slice(value.as_bytes());
    Ok(())
}

/// Writes a `STRING`, or a `COMPACT_STRING` in a flexible version.
///
/// # Errors
/// As [`put_nullable_string`].
pub fn put_string(out: &mut impl BufMut, value: &str, flexible: bool) -> Result<()> {
    put_nullable_string(out, Some(value), flexible)
}

/// Writes the length of nullable `BYTES`, records or an `ARRAY`, or of their compact forms in a flexible version.
///
/// # Errors
/// [`ProtocolErrorKind::Unencodable`] for 2 GiB and more.
pub fn put_length(out: &mut impl BufMut, length: Option<usize>, flexible: bool) -> Result<()> {
    let length = match length.map(i32::try_from) {
        None => -1,
        Some(Ok(length)) => length,
        Some(Err(_)) => return Err(ProtocolErrorKind::Unencodable("a length of 2 GiB or more".into())),
    };
    if flexible {
        put_unsigned_varint(out, (length + 1).cast_unsigned());
    } else {
        out.put_i32(length);
    }
    Ok(())
}

/// Writes nullable `BYTES`, or `COMPACT_BYTES` in a flexible version.
///
/// # Errors
/// As [`put_length`].
pub fn put_nullable_bytes(out: &mut impl BufMut, value: Option<&[u8]>, flexible: bool) -> Result<()> {
    put_length(out, value.map(<[u8]>::len), flexible)?;
    out.put_slice(value.unwrap_or_default());
    Ok(())
}

/// Writes `BYTES`, or `COMPACT_BYTES` in a flexible version.
///
/// # Errors
/// As [`put_length`].
pub fn put_bytes(out: &mut impl BufMut, value: &[u8], flexible: bool) -> Result<()> {
    put_nullable_bytes(out, Some(value), flexible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_of_every_length_survive_a_round_trip() {
        for shift in 0..32 {
            for value in [0, (1 << shift) - 1, 1 << shift, u32::MAX >> shift] {
                let mut out = Vec::new();
                put_unsigned_varint(&mut out, value);
                put_varint(&mut out, value.cast_signed());
                assert_eq!(
                    out.len(),
                    unsigned_varint_len(value) + varint_len(value.cast_signed()),
                    "{value}"
                );
                let mut reader = Reader::new(&out);
                assert_eq!(reader.unsigned_varint(), Ok(value));
                assert_eq!(reader.varint(), Ok(value.cast_signed()));
                assert_eq!(reader.finish(), Ok(()));
            }
        }
        for shift in 0..64 {
            for value in [0, (1 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_unsigned_varlong(&mut out, value);
                put_varlong(&mut out, value.cast_signed());
                assert_eq!(
                    out.len(),
                    unsigned_varlong_len(value) + varlong_len(value.cast_signed()),
                    "{value}"
                );
                let mut reader = Reader::new(&out);
                assert_eq!(reader.unsigned_varlong(), Ok(value));
                assert_eq!(reader.varlong(), Ok(value.cast_signed()));
                assert_eq!(reader.finish(), Ok(()));
            }
        }
    }

    #[test]
    fn zigzag_alternates_between_signs() {
        assert_eq!([0, -1, 1, -2, i32::MAX, i32::MIN].map(zigzag), [0, 1, 2, 3, u32::MAX - 1, u32::MAX]);
        assert_eq!([0, -1, 1, i64::MAX, i64::MIN].map(zigzag_long), [0, 1, 2, u64::MAX - 1, u64::MAX]);
    }

    #[test]
    fn a_varint_beyond_its_type_is_refused() {
        let overflow = Err(ProtocolErrorKind::VarintOverflow);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x10]).unsigned_varint(), overflow);
        assert_eq!(Reader::new(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]).unsigned_varint(), overflow);
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).unsigned_varint(), Ok(u32::MAX));
        let mut long = [0xff; 10];
        long[9] = 0x02;
        assert_eq!(Reader::new(&long).unsigned_varlong(), Err(ProtocolErrorKind::VarintOverflow));
        long[9] = 0x01;
        assert_eq!(Reader::new(&long).unsigned_varlong(), Ok(u64::MAX));
        let cut = Err(ProtocolErrorKind::Truncated { needed: 1, remaining: 0 });
        assert_eq!(Reader::new(&[0x80]).unsigned_varint(), cut);
    }

    #[test]
    fn strings_and_bytes_survive_a_round_trip_in_both_forms() {
        for flexible in [false, true] {
            let mut out = Vec::new();
            put_string(&mut out, "größe", flexible).unwrap();
            put_nullable_string(&mut out, None, flexible).unwrap();
            put_bytes(&mut out, &[1, 2, 3], flexible).unwrap();
            put_nullable_bytes(&mut out, None, flexible).unwrap();
            put_length(&mut out, Some(0), flexible).unwrap();
            let mut reader = Reader::new(&out);
            assert_eq!(reader.string(flexible), Ok("größe"));
            assert_eq!(reader.nullable_string(flexible), Ok(None));
            assert_eq!(reader.bytes(flexible), Ok(&[1, 2, 3][..]));
            assert_eq!(reader.nullable_bytes(flexible), Ok(None));
            assert_eq!(reader.count(flexible, 4), Ok(0));
            assert_eq!(reader.finish(), Ok(()));
        }
        let long = "x".repeat(32768);
        assert!(matches!(put_string(&mut Vec::new(), &long, true), Err(ProtocolErrorKind::Unencodable(_))));
    }

    #[test]
    fn lengths_and_counts_beyond_the_rest_are_refused() {
        assert_eq!(
            Reader::new(&[0x7f, 0xff, 0xff, 0xff, 0]).count(false, 3),
            Err(ProtocolErrorKind::CountTooLarge { count: i32::MAX as usize, minimum: 3, remaining: 1 })
        );
        assert_eq!(
            Reader::new(&[0xff, 0xff, 0xff, 0xfe]).length(false),
            Err(ProtocolErrorKind::NegativeLength(-2))
        );
        assert_eq!(Reader::new(&[0]).string(true), Err(ProtocolErrorKind::UnexpectedNull));
        assert_eq!(
            Reader::new(&[5, b'a']).string(true),
            Err(ProtocolErrorKind::Truncated { needed: 4, remaining: 1 })
        );
        assert_eq!(Reader::new(&[2, 0xff]).string(true), Err(ProtocolErrorKind::InvalidUtf8));
    }

    #[test]
    fn tagged_fields_must_ascend_and_be_as_long_as_they_say() {
        let read_byte = |_: u32, content: &mut Reader<'_>| content.u8().map(|_| Tag::Read);
        assert_eq!(Reader::new(&[2, 0, 1, 9, 1, 1, 9]).tagged_fields(read_byte), Ok(()));
        assert_eq!(
            Reader::new(&[2, 1, 1, 9, 1, 1, 9]).tagged_fields(read_byte),
            Err(ProtocolErrorKind::TagOrder { previous: 1, tag: 1 })
        );
        assert_eq!(
            Reader::new(&[1, 0, 2, 9, 9]).tagged_fields(read_byte),
            Err(ProtocolErrorKind::TagSize { tag: 0, announced: 2, used: 1 })
        );
        assert_eq!(Reader::new(&[1, 0, 2, 9, 9]).skip_tagged_fields(), Ok(()));
    }
}
