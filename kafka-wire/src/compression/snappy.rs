//! Snappy in the framing of xerial's Java library, which Kafka's Java client writes; raw blocks (librdkafka's) are
//! read as well.

use bytes::BytesMut;

use super::output::Output;
use super::{Compression, CompressionError, bad_level};

const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version and the oldest version that reads it, both 1.
const HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// Uncompressed bytes in a block, as xerial writes them.
const BLOCK: usize = 32 << 10;
/// Three bytes of snappy stand for 64 at most, so a block that claims more lies.
const MAX_RATIO: usize = 22;

pub(super) struct Writer(snap::raw::Encoder);

impl Writer {
    pub(super) fn new(level: Option<i32>) -> Result<Writer, CompressionError> {
        match level {
            None => Ok(Writer(snap::raw::Encoder::new())),
            Some(level) => Err(bad_level(Compression::Snappy, level, "it has no levels")),
        }
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(), CompressionError> {
        out.extend_from_slice(&HEADER);
        for block in input.chunks(BLOCK) {
            let size_at = out.len();
            let at = size_at + 4;
            out.resize(at + snap::raw::max_compress_len(block.len()), 0);
            let used = self.0.compress(block, &mut out[at..]).map_err(|error| CompressionError::Failed {
                codec: Compression::Snappy,
                reason: error.to_string(),
            })?;
            out.truncate(at + used);
            out[size_at..at].copy_from_slice(&(used as u32).to_be_bytes());
        }
        Ok(())
    }
}

pub(super) struct Reader(snap::raw::Decoder);

impl Reader {
    pub(super) fn new() -> Reader {
        Reader(snap::raw::Decoder::new())
    }

    pub(super) fn decompress(&mut self, input: &[u8], out: &mut Output<'_>) -> Result<(), CompressionError> {
        if !input.starts_with(&MAGIC) {
            return self.block(input, out);
        }
        out.expect(input.len());
        let mut rest = input;
        while !rest.is_empty() {
            // Streams can follow each other; a block's size never looks like the magic, which is negative as a size.
            if rest.starts_with(&MAGIC) {
                rest = rest.get(HEADER.len()..).ok_or_else(|| out.malformed("its header is cut off"))?;
                continue;
            }
            let Some((size, tail)) = rest.split_first_chunk::<4>() else {
                return Err(out.malformed("a block's size is cut off"));
            };
            let Some((block, tail)) = tail.split_at_checked(u32::from_be_bytes(*size) as usize) else {
                return Err(out.malformed("a block is cut off"));
            };
            rest = tail;
            self.block(block, out)?;
        }
        Ok(())
    }

    fn block(&mut self, block: &[u8], out: &mut Output<'_>) -> Result<(), CompressionError> {
        let Ok(size) = snap::raw::decompress_len(block) else {
            return Err(out.malformed("a block's length is unreadable"));
        };
        if size > out.left() {
            return Err(out.too_large());
        }
        if size > block.len().saturating_mul(MAX_RATIO) {
            return Err(out.malformed("a block claims more than its bytes can hold"));
        }
        match out.fill(size, |bytes, at| self.0.decompress(block, &mut bytes[at..])) {
            Ok(_) => Ok(()),
            Err(_) => Err(out.malformed("a block does not decompress")),
        }
    }
}
