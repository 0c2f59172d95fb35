//! LZ4 frames over `lz4_flex` blocks: independent 64 KiB blocks are written, as every client reads them; all that the
//! frame format allows is read.
//!
//! `lz4_flex`'s own frame costs three allocations and a copy a batch; this one none.

use bytes::BytesMut;
use lz4_flex::block::{self, CompressTable};

use super::output::Output;
use super::xxh32::xxh32;
use super::{Compression, CompressionError, bad_level};

const MAGIC: u32 = 0x184d_2204;
/// The 16 magics of frames to be skipped differ in the low four bits.
const SKIPPABLE: u32 = 0x184d_2a50;
/// Version 1, independent blocks, no checksums, no content size.
const FLAGS: u8 = 0x60;
/// Blocks of up to 64 KiB.
const DESCRIPTOR: u8 = 0x40;
const BLOCK: usize = 64 << 10;
/// A block with this bit in its size is stored as it is.
const STORED: u32 = 1 << 31;
/// How far a linked block refers back.
const WINDOW: usize = 64 << 10;
/// The level that means the fast compressor in Kafka's settings.
const JAVA_LEVEL: i32 = 9;

pub(super) struct Writer {
    // 16-bit positions are faster and reach for all but whole blocks.
    small: CompressTable,
    large: Option<CompressTable>,
}

impl Writer {
    pub(super) fn new(level: Option<i32>) -> Result<Writer, CompressionError> {
        match level {
            None | Some(JAVA_LEVEL) => Ok(Writer { small: CompressTable::small(), large: None }),
            Some(level) => Err(bad_level(Compression::Lz4, level, "it has one level, Java's default of 9")),
        }
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(), CompressionError> {
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&[FLAGS, DESCRIPTOR, (xxh32(&[FLAGS, DESCRIPTOR]) >> 8) as u8]);
        for block in input.chunks(BLOCK) {
            let size_at = out.len();
            let at = size_at + 4;
            out.resize(at + block::get_maximum_output_size(block.len()), 0);
            let table = if block.len() < usize::from(u16::MAX) {
                &mut self.small
            } else {
                self.large.get_or_insert_with(CompressTable::large)
            };
            let used = block::compress_into_with_table(block, &mut out[at..], table).map_err(|error| {
                CompressionError::Failed { codec: Compression::Lz4, reason: error.to_string() }
            })?;
            if used < block.len() {
                out.truncate(at + used);
                out[size_at..at].copy_from_slice(&(used as u32).to_le_bytes());
            } else {
                out.truncate(at);
                out[size_at..at].copy_from_slice(&(block.len() as u32 | STORED).to_le_bytes());
                out.extend_from_slice(block);
            }
        }
        out.extend_from_slice(&[0; 4]);
        Ok(())
    }
}

/// Keeps memory for a block of the usual size between batches: how much a block gives is known only behind it, and to clear
/// room for the most that it may give, each time, costs a tenth of what reading the batch does.
#[derive(Default)]
pub(super) struct Reader {
    block: Vec<u8>,
}

impl Reader {
    /// Reads one frame or several in a row.
    pub(super) fn decompress(
        &mut self,
        mut input: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), CompressionError> {
        out.expect(input.len());
        loop {
            input = frame(input, &mut self.block, out)?;
            if input.is_empty() {
                return Ok(());
            }
        }
    }
}

fn frame<'a>(
    mut input: &'a [u8],
    scratch: &mut Vec<u8>,
    out: &mut Output<'_>,
) -> Result<&'a [u8], CompressionError> {
    let magic = u32(&mut input, out)?;
    if magic & !0xf == SKIPPABLE {
        let size = u32(&mut input, out)? as usize;
        return input.get(size..).ok_or_else(|| out.malformed("a frame to be skipped is cut off"));
    }
    if magic != MAGIC {
        return Err(out.malformed("it does not start with LZ4's magic"));
    }
    let frame = Descriptor::read(&mut input, out)?;
    let start = out.produced().len();
    loop {
        let size = u32(&mut input, out)?;
        if size == 0 {
            break;
        }
        let length = (size & !STORED) as usize;
        if length > frame.block_size {
            return Err(out.malformed("a block is larger than the frame allows"));
        }
        let Some((block, rest)) = input.split_at_checked(length) else {
            return Err(out.malformed("a block is cut off"));
        };
        input = rest;
        if frame.block_checksums && u32(&mut input, out)? != xxh32(block) {
            return Err(out.malformed("a block's checksum is wrong"));
        }
        if size & STORED != 0 {
            out.extend(block)?;
        } else {
            frame.decompress_block(block, start, scratch, out)?;
        }
    }
    let produced = out.produced().len() - start;
    if frame.content_size.is_some_and(|size| size != produced as u64) {
        return Err(out.malformed("its content size is wrong"));
    }
    if frame.content_checksum && u32(&mut input, out)? != xxh32(&out.produced()[start..]) {
        return Err(out.malformed("its checksum is wrong"));
    }
    Ok(input)
}

/// What a frame's header says about its blocks.
struct Descriptor {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    block_size: usize,
}

impl Descriptor {
    fn read(input: &mut &[u8], out: &Output<'_>) -> Result<Descriptor, CompressionError> {
        let header = *input;
        let &[flags, sizes, ..] = header else { return Err(out.malformed("its header is cut off")) };
        if flags >> 6 != 1 {
            return Err(out.malformed("its version is unknown"));
        }
        if flags & 0x01 != 0 {
            return Err(out.malformed("it needs a dictionary"));
        }
        *input = &header[2..];
        let content_size = if flags & 0x08 != 0 {
            let Some((size, rest)) = input.split_first_chunk::<8>() else {
                return Err(out.malformed("its header is cut off"));
            };
            *input = rest;
            Some(u64::from_le_bytes(*size))
        } else {
            None
        };
        let Some((&checksum, rest)) = input.split_first() else {
            return Err(out.malformed("its header is cut off"));
        };
        if checksum != (xxh32(&header[..header.len() - input.len()]) >> 8) as u8 {
            return Err(out.malformed("its header's checksum is wrong"));
        }
        *input = rest;
        let block_size = match sizes >> 4 & 0x07 {
            id @ 4..=7 => 1_usize << (8 + 2 * id),
            _ => return Err(out.malformed("its block size is unknown")),
        };
        Ok(Descriptor {
            linked: flags & 0x20 == 0,
            block_checksums: flags & 0x10 != 0,
            content_checksum: flags & 0x04 != 0,
            content_size,
            block_size,
        })
    }

    fn decompress_block(
        &self,
        block: &[u8],
        frame_start: usize,
        scratch: &mut Vec<u8>,
        out: &mut Output<'_>,
    ) -> Result<(), CompressionError> {
        // A byte of LZ4 stands for at most 255, so a small block never asks for a large room.
        let most = self.block_size.min(block.len().saturating_mul(255));
        let limited = most > out.left();
        let filled = if !self.linked && most <= BLOCK {
            if scratch.len() < most {
                scratch.resize(most, 0);
            }
            let room = most.min(out.left());
            match block::decompress_into(block, &mut scratch[..room]) {
                Ok(filled) => return out.extend(&scratch[..filled]),
                Err(error) => Err(error),
            }
        } else {
            out.fill(most, |bytes, at| {
                let (before, room) = bytes.split_at_mut(at);
                if self.linked {
                    let window = &before[frame_start..];
                    let window = &window[window.len().saturating_sub(WINDOW)..];
                    block::decompress_into_with_dict(block, room, window)
                } else {
                    block::decompress_into(block, room)
                }
            })
            .map(drop)
        };
        match filled {
            Ok(()) => Ok(()),
            Err(block::DecompressError::OutputTooSmall { .. }) if limited => Err(out.too_large()),
            Err(_) => Err(out.malformed("a block does not decompress")),
        }
    }
}

fn u32(input: &mut &[u8], out: &Output<'_>) -> Result<u32, CompressionError> {
    let Some((value, rest)) = input.split_first_chunk::<4>() else {
        return Err(out.malformed("it is cut off"));
    };
    *input = rest;
    Ok(u32::from_le_bytes(*value))
}
