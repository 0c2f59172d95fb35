//! Decides whether bytes have the shape of a message, before any decoder trusts a count in them.
//!
//! kafka-protocol reserves room for as many elements as an array announces, so that four bytes can abort the process.
//! This walk over the schema allocates nothing and accepts only bytes in which every count, length, null and tag
//! holds; what passes costs a decoder at most 512 bytes per byte received.

use crate::api::Api;
use crate::error::{ProtocolError, ProtocolErrorKind};
use crate::primitives::{Reader, Result};
use crate::shape_tables::APIS;

/// The most bytes that a body may have, except in Produce, Fetch and Metadata: 16 MiB.
pub const MAX_CONTROL_BODY: usize = 16 * 1024 * 1024;

/// Which of the two messages of an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From a client to a broker.
    Request,
    /// From a broker to a client.
    Response,
}

/// Fails unless `body` is, to its last byte, a message of this API and version.
///
/// Tagged fields that the version does not have yet are skipped, as are unknown ones.
///
/// # Errors
/// The first fault in the bytes, [`ProtocolErrorKind::UnsupportedVersion`], or [`ProtocolErrorKind::TooLarge`] for more
/// than [`MAX_CONTROL_BODY`].
pub fn check(
    api: Api,
    version: i16,
    direction: Direction,
    body: &[u8],
) -> std::result::Result<(), ProtocolError> {
    api.check_version(version)?;
    let walk = || {
        if body.len() > MAX_CONTROL_BODY && !matches!(api, Api::Produce | Api::Fetch | Api::Metadata) {
            return Err(ProtocolErrorKind::TooLarge { length: body.len(), limit: MAX_CONTROL_BODY });
        }
        let shape = ApiShape::of(api)?;
        let mut reader = Reader::new(body);
        Walk::new(api, version).fields(&mut reader, shape.fields(direction))?;
        reader.finish()
    };
    walk().map_err(|kind: ProtocolErrorKind| kind.at(api.key(), version))
}

/// How long a client must send nothing to the broker that answered with `body`, in milliseconds.
///
/// `None` where the response has no such field, where the broker of this version waited itself before it answered
/// (before KIP-219), and where the bytes are malformed.
#[must_use]
pub fn throttle_time(api: Api, version: i16, body: &[u8]) -> Option<i32> {
    if version < api.throttles_since()? {
        return None;
    }
    let shape = ApiShape::of(api).ok()?;
    let before = shape.response.get(..shape.throttle?)?;
    let mut reader = Reader::new(body);
    Walk::new(api, version).untagged(&mut reader, before).ok()?;
    reader.i32().ok()
}

/// The shapes of the messages of one API.
pub(crate) struct ApiShape {
    pub(crate) key: i16,
    pub(crate) request: &'static [Field],
    pub(crate) response: &'static [Field],
    /// The index of the throttle time in the response.
    pub(crate) throttle: Option<usize>,
}

impl ApiShape {
    fn of(api: Api) -> Result<&'static Self> {
        let index = APIS.binary_search_by_key(&api.key(), |shape| shape.key);
        index.ok().and_then(|index| APIS.get(index)).ok_or(ProtocolErrorKind::UnknownApi)
    }

    fn fields(&self, direction: Direction) -> &'static [Field] {
        match direction {
            Direction::Request => self.request,
            Direction::Response => self.response,
        }
    }
}

/// The shape of one field of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    kind: Kind,
    array: bool,
    first: i8,
    last: i8,
    nullable: i8,
    tag: Option<u8>,
}

/// The shape of a value, in a field or as the element of an array.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// So many bytes.
    Fixed(u8),
    /// UTF-8.
    String,
    /// Anything, records too.
    Bytes,
    /// These fields.
    Struct(&'static [Field]),
}

impl Field {
    pub(crate) const fn new(kind: Kind) -> Self {
        Self { kind, array: false, first: 0, last: i8::MAX, nullable: i8::MAX, tag: None }
    }

    pub(crate) const fn array(kind: Kind) -> Self {
        Self { array: true, ..Self::new(kind) }
    }

    pub(crate) const fn since(self, first: i8) -> Self {
        Self { first, ..self }
    }

    pub(crate) const fn until(self, last: i8) -> Self {
        Self { last, ..self }
    }

    pub(crate) const fn nullable_since(self, nullable: i8) -> Self {
        Self { nullable, ..self }
    }

    pub(crate) const fn tag(self, tag: u8) -> Self {
        Self { tag: Some(tag), ..self }
    }

    const fn exists_in(&self, version: i16) -> bool {
        self.first as i16 <= version && version <= self.last as i16
    }
}

#[derive(Clone, Copy)]
struct Walk {
    version: i16,
    flexible: bool,
}

impl Walk {
    fn new(api: Api, version: i16) -> Self {
        Self { version, flexible: api.is_flexible(version) }
    }

    fn fields(self, reader: &mut Reader<'_>, fields: &[Field]) -> Result<()> {
        self.untagged(reader, fields)?;
        if self.flexible { self.tagged(reader, fields) } else { Ok(()) }
    }

    fn untagged(self, reader: &mut Reader<'_>, fields: &[Field]) -> Result<()> {
        let mut fields = fields.iter().filter(|field| field.tag.is_none() && field.exists_in(self.version));
        fields.try_for_each(|field| self.field(reader, field))
    }

    fn tagged(self, reader: &mut Reader<'_>, fields: &[Field]) -> Result<()> {
        let count = reader.unsigned_varint()?;
        let mut previous = None;
        for _ in 0..count {
            let (tag, mut content) = reader.tagged_field(previous)?;
            let known =
                |field: &&Field| field.tag.map(u32::from) == Some(tag) && field.exists_in(self.version);
            if let Some(field) = fields.iter().find(known) {
                let announced = content.remaining();
                self.field(&mut content, field)?;
                let used = announced - content.remaining();
                if used < announced {
                    return Err(ProtocolErrorKind::TagSize { tag, announced, used });
                }
            }
            previous = Some(tag);
        }
        Ok(())
    }

    fn field(self, reader: &mut Reader<'_>, field: &Field) -> Result<()> {
        let nullable = self.version >= i16::from(field.nullable);
        if !field.array {
            return self.value(reader, field.kind, nullable);
        }
        let Some(count) = reader.nullable_count(self.flexible, self.smallest(field.kind))? else {
            return null(nullable);
        };
        match field.kind {
            Kind::Fixed(size) => reader.take(count * usize::from(size)).map(drop),
            kind => (0..count).try_for_each(|_| self.value(reader, kind, false)),
        }
    }

    fn value(self, reader: &mut Reader<'_>, kind: Kind, nullable: bool) -> Result<()> {
        match kind {
            Kind::Fixed(size) => reader.take(usize::from(size)).map(drop),
            Kind::String => reader.nullable_string(self.flexible)?.map_or_else(|| null(nullable), |_| Ok(())),
            Kind::Bytes => reader.nullable_bytes(self.flexible)?.map_or_else(|| null(nullable), |_| Ok(())),
            Kind::Struct(_) if nullable && is_null(reader)? => Ok(()),
            Kind::Struct(fields) => self.fields(reader, fields),
        }
    }

    /// The fewest bytes that a value takes in this version.
    fn smallest(self, kind: Kind) -> usize {
        let length = if self.flexible { 1 } else { 4 };
        match kind {
            Kind::Fixed(size) => usize::from(size),
            Kind::String => length.min(2),
            Kind::Bytes => length,
            Kind::Struct(fields) => {
                let fields =
                    fields.iter().filter(|field| field.tag.is_none() && field.exists_in(self.version));
                let sizes = fields.map(|field| match field.kind {
                    _ if field.array => length,
                    Kind::Struct(_) if self.version >= i16::from(field.nullable) => 1,
                    kind => self.smallest(kind),
                });
                sizes.sum::<usize>() + usize::from(self.flexible)
            }
        }
    }
}

fn null(allowed: bool) -> Result<()> {
    if allowed { Ok(()) } else { Err(ProtocolErrorKind::UnexpectedNull) }
}

/// Reads the byte before a nullable struct.
fn is_null(reader: &mut Reader<'_>) -> Result<bool> {
    match reader.i8()? {
        -1 => Ok(true),
        1 => Ok(false),
        other => {
            Err(ProtocolErrorKind::InvalidValue(format!("{other} before a struct that may be null").into()))
        }
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
