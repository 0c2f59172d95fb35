//! Random bytes that are a given message: every field drawn from the schema, in Kafka's own canonical form.

use bytes::BufMut;
use fastrand::Rng;

use super::{ApiShape, Direction, Field, Kind};
use crate::api::Api;
use crate::primitives::{put_bytes, put_length, put_string, put_unsigned_varint};

/// The body of a random message, as the codec would write it too.
pub(crate) fn sample(random: &mut Rng, api: Api, version: i16, direction: Direction) -> Vec<u8> {
    // kafka-protocol keeps tags that it does not know; our own types leave them out.
    let unknown_tags = !matches!(api, Api::OffsetCommit | Api::OffsetFetch | Api::DescribeLogDirs);
    draw(random, api, version, direction, unknown_tags, None)
}

/// The body of a message in which every value takes as few bytes as it can, with up to `elements` elements in arrays:
/// the most memory for the fewest bytes.
pub(super) fn lean_sample(
    random: &mut Rng,
    api: Api,
    version: i16,
    direction: Direction,
    elements: usize,
) -> Vec<u8> {
    let unknown_tags = random.bool();
    draw(random, api, version, direction, unknown_tags, Some(elements))
}

fn draw(
    random: &mut Rng,
    api: Api,
    version: i16,
    direction: Direction,
    unknown_tags: bool,
    lean: Option<usize>,
) -> Vec<u8> {
    let shape = ApiShape::of(api).unwrap();
    let mut out = Vec::new();
    let mut sampler = Sampler { random, version, flexible: api.is_flexible(version), unknown_tags, lean };
    sampler.fields(shape.fields(direction), &mut out);
    out
}

struct Sampler<'r> {
    random: &'r mut Rng,
    version: i16,
    flexible: bool,
    unknown_tags: bool,
    /// The elements that arrays may still have, in a lean message.
    lean: Option<usize>,
}

impl Sampler<'_> {
    fn fields(&mut self, fields: &[Field], out: &mut Vec<u8>) {
        let present = |field: &&Field| field.exists_in(self.version);
        let (mut tagged, untagged): (Vec<&Field>, Vec<&Field>) =
            fields.iter().filter(present).partition(|field| field.tag.is_some());
        for field in untagged {
            self.field(field, out);
        }
        if !self.flexible {
            return;
        }
        tagged.sort_by_key(|field| field.tag);
        tagged.retain(|_| self.random.bool());
        let unknown = self.unknown_tags && (self.lean.is_some() || self.random.u8(0..4) == 0);
        put_unsigned_varint(out, tagged.len() as u32 + u32::from(unknown));
        for field in tagged {
            let mut content = Vec::new();
            self.field(field, &mut content);
            put_unsigned_varint(out, field.tag.unwrap().into());
            put_unsigned_varint(out, content.len() as u32);
            out.put_slice(&content);
        }
        match (unknown, self.lean) {
            (true, None) => out.put_slice(&[100, 3, 1, 2, 3]),
            (true, Some(_)) => out.put_slice(&[100, 0]),
            (false, _) => {}
        }
    }

    fn field(&mut self, field: &Field, out: &mut Vec<u8>) {
        // A tagged field is left out when it has its default, so here it never has.
        let tagged = field.tag.is_some();
        let nullable = !tagged && self.version >= i16::from(field.nullable);
        match (field.array, nullable && self.random.u8(0..4) == 0) {
            (true, true) => put_length(out, None, self.flexible).unwrap(),
            (true, false) => {
                let count = self.count(usize::from(tagged));
                put_length(out, Some(count), self.flexible).unwrap();
                for _ in 0..count {
                    self.value(field.kind, out);
                }
            }
            (false, null) => match field.kind {
                Kind::String if null => {
                    crate::primitives::put_nullable_string(out, None, self.flexible).unwrap()
                }
                Kind::Bytes if null => put_length(out, None, self.flexible).unwrap(),
                Kind::Struct(_) if null => out.put_i8(-1),
                Kind::Struct(_) if nullable => {
                    out.put_i8(1);
                    self.value(field.kind, out);
                }
                kind => self.value(kind, out),
            },
        }
    }

    fn count(&mut self, least: usize) -> usize {
        let Some(left) = &mut self.lean else { return self.random.usize(least..4) };
        let count = [least, least.max(1), *left][self.random.usize(..3)];
        *left = left.saturating_sub(count);
        count
    }

    fn value(&mut self, kind: Kind, out: &mut Vec<u8>) {
        match kind {
            Kind::String if self.lean.is_some() => put_string(out, "", self.flexible).unwrap(),
            Kind::Bytes if self.lean.is_some() => put_bytes(out, &[], self.flexible).unwrap(),
            // Also a boolean, whose other values are not canonical.
            Kind::Fixed(1) => out.put_u8(1),
            Kind::Fixed(size) => out.extend((0..size).map(|_| self.random.u8(1..))),
            Kind::String => {
                let text: String = (0..self.random.u8(1..20)).map(|_| self.random.char('!'..'ÿ')).collect();
                put_string(out, &text, self.flexible).unwrap();
            }
            Kind::Bytes => {
                let bytes: Vec<u8> = (0..self.random.u8(1..20)).map(|_| self.random.u8(..)).collect();
                put_bytes(out, &bytes, self.flexible).unwrap();
            }
            Kind::Struct(fields) => self.fields(fields, out),
        }
    }
}
