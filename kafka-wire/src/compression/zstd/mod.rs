//! Zstandard in pure Rust: our own decoder, which writes straight into the output and never beyond its limit, and the
//! one level that `ruzstd` writes.

mod bits;
mod block;
mod fse;
mod huffman;

use std::io::{self, Read};

use bytes::BytesMut;
use ruzstd::encoding::{CompressionLevel, FrameCompressor, MatchGeneratorDriver};

use self::block::{Decoder, Fault, MAX_BLOCK, STRIDE};
use super::output::Output;
use super::xxh64::xxh64;
use super::{Compression, CompressionError, bad_level};

const MAGIC: u32 = 0xfd2f_b528;
/// The 16 magics of frames to be skipped differ in the low four bits.
const SKIPPABLE: u32 = 0x184d_2a50;
const RAW_BLOCK: u32 = 0;
const RLE_BLOCK: u32 = 1;
const COMPRESSED_BLOCK: u32 = 2;
/// `Fastest` is close to this level of the C library.
const LEVEL: i32 = 1;

pub(super) struct Writer(FrameCompressor<Source, Vec<u8>, MatchGeneratorDriver>);

/// The input by value: a borrowed one would tie the reusable compressor to a lifetime. The copy is 1 % of the work.
#[derive(Default)]
struct Source {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = (&self.bytes[self.at..]).read(into)?;
        self.at += read;
        Ok(read)
    }
}

impl Writer {
    pub(super) fn new(level: Option<i32>) -> Result<Writer, CompressionError> {
        match level {
            None | Some(LEVEL) => {
                let mut compressor = FrameCompressor::new(CompressionLevel::Fastest);
                compressor.set_source(Source::default());
                compressor.set_drain(Vec::new());
                Ok(Writer(compressor))
            }
            Some(level) => Err(bad_level(
                Compression::Zstd,
                level,
                "without the C library it has level 1 only; enable the feature `zstd` for the others",
            )),
        }
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(), CompressionError> {
        if let Some(source) = self.0.source_mut() {
            source.bytes.clear();
            source.bytes.extend_from_slice(input);
            source.at = 0;
        }
        self.0.compress();
        if let Some(drain) = self.0.drain_mut() {
            out.extend_from_slice(drain);
            drain.clear();
        }
        Ok(())
    }
}

/// The tables and scratch of a decoder, set up with the first batch that needs them.
pub(super) struct Reader(Option<Box<Decoder>>);

impl Reader {
    pub(super) fn new() -> Reader {
        Reader(None)
    }

    /// Reads one frame or several in a row.
    pub(super) fn decompress(
        &mut self,
        mut input: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), CompressionError> {
        let decoder = self.0.get_or_insert_with(|| Box::new(Decoder::new()));
        out.expect(input.len());
        loop {
            input = frame(decoder, input, out)?;
            if input.is_empty() {
                return Ok(());
            }
        }
    }
}

fn frame<'a>(
    decoder: &mut Decoder,
    input: &'a [u8],
    out: &mut Output<'_>,
) -> Result<&'a [u8], CompressionError> {
    let Some((magic, mut input)) = input.split_first_chunk::<4>() else {
        return Err(out.malformed("it is cut off"));
    };
    let magic = u32::from_le_bytes(*magic);
    if magic & !0xf == SKIPPABLE {
        let rest = input.split_first_chunk::<4>();
        let rest = rest.and_then(|(size, rest)| rest.get(u32::from_le_bytes(*size) as usize..));
        return rest.ok_or_else(|| out.malformed("a frame to be skipped is cut off"));
    }
    if magic != MAGIC {
        return Err(out.malformed("it does not start with zstd's magic"));
    }
    let Some(header) = FrameHeader::read(&mut input) else {
        return Err(out.malformed("its frame header is unreadable"));
    };
    if header.content_size.is_some_and(|size| size > out.left() as u64) {
        return Err(out.too_large());
    }
    let start = out.produced().len();
    decoder.start_frame();
    loop {
        let Some((&[a, b, c], rest)) = input.split_first_chunk::<3>() else {
            return Err(out.malformed("a block's header is cut off"));
        };
        let block = u32::from_le_bytes([a, b, c, 0]);
        let (last, kind, size) = (block & 1 == 1, block >> 1 & 3, (block >> 3) as usize);
        let stored = if kind == RLE_BLOCK { 1 } else { size };
        let Some((block, rest)) = rest.split_at_checked(stored) else {
            return Err(out.malformed("a block is cut off"));
        };
        input = rest;
        if size > MAX_BLOCK {
            return Err(out.malformed("a block is larger than zstd allows"));
        }
        match (kind, block) {
            (RAW_BLOCK, block) => out.extend(block)?,
            (RLE_BLOCK, &[byte]) if size <= out.left() => {
                out.fill(size, |bytes, at| {
                    bytes[at..].fill(byte);
                    Ok(size)
                })?;
            }
            (RLE_BLOCK, _) => return Err(out.too_large()),
            (COMPRESSED_BLOCK, block) => compressed_block(decoder, block, start, &header, out)?,
            _ => return Err(out.malformed("a block's type is unknown")),
        }
        if last {
            break;
        }
    }
    let content = &out.produced()[start..];
    if header.content_size.is_some_and(|size| size != content.len() as u64) {
        return Err(out.malformed("its content size is wrong"));
    }
    if header.checksum {
        let Some((checksum, rest)) = input.split_first_chunk::<4>() else {
            return Err(out.malformed("its checksum is cut off"));
        };
        if u32::from_le_bytes(*checksum) != xxh64(content) as u32 {
            return Err(out.malformed("its checksum is wrong"));
        }
        input = rest;
    }
    Ok(input)
}

fn compressed_block(
    decoder: &mut Decoder,
    block: &[u8],
    start: usize,
    header: &FrameHeader,
    out: &mut Output<'_>,
) -> Result<(), CompressionError> {
    // A frame that says its size saves preparing room for a block's largest.
    let left = header.content_size.map(|size| (size as usize).saturating_sub(out.produced().len() - start));
    let room = left.unwrap_or(MAX_BLOCK).min(MAX_BLOCK) + STRIDE;
    let limited = room > out.left();
    let decoded = out.fill(room, |bytes, at| {
        let (bytes, at) = (&mut bytes[start..], at - start);
        decoder.decode(block, bytes, at).map(|end| end - at)
    });
    match decoded {
        Ok(size) if size <= MAX_BLOCK => Ok(()),
        Err(Fault::NoRoom) if limited => Err(out.too_large()),
        Ok(_) | Err(Fault::NoRoom) => Err(out.malformed("a block is larger than it may be")),
        Err(Fault::Malformed(reason)) => Err(out.malformed(reason)),
    }
}

struct FrameHeader {
    content_size: Option<u64>,
    checksum: bool,
}

impl FrameHeader {
    /// Reads what follows the magic; `None` when it is cut off, from the future, or needs a dictionary.
    fn read(input: &mut &[u8]) -> Option<FrameHeader> {
        let (&flags, rest) = input.split_first()?;
        let single_segment = flags & 0x20 != 0;
        if flags & 0x08 != 0 {
            return None;
        }
        // The window's size is of no interest: all output is kept until the batch is read.
        let rest = rest.get(usize::from(!single_segment)..)?;
        let (dictionary, rest) = rest.split_at_checked([0, 1, 2, 4][usize::from(flags & 3)])?;
        if dictionary.iter().any(|&byte| byte != 0) {
            return None;
        }
        let size_len = match flags >> 6 {
            0 => usize::from(single_segment),
            log => 1 << log,
        };
        let (size, rest) = rest.split_at_checked(size_len)?;
        let mut word = [0; 8];
        word[..size_len].copy_from_slice(size);
        // Two bytes count from where one ends.
        let size = u64::from_le_bytes(word).saturating_add(if size_len == 2 { 256 } else { 0 });
        *input = rest;
        Some(FrameHeader { content_size: (size_len > 0).then_some(size), checksum: flags & 0x04 != 0 })
    }
}
