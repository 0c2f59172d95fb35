//! Zstandard in pure Rust: reads everything, writes the one level that `ruzstd` has.

use std::io::{self, Read, Write};

use bytes::BytesMut;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use ruzstd::encoding::{CompressionLevel, FrameCompressor, MatchGeneratorDriver};

use super::output::Output;
use super::{Compression, CompressionError, bad_level};

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

/// Nothing is kept between batches: a kept decoder would allocate the window that a frame claims before a byte of it.
pub(super) struct Reader;

impl Reader {
    pub(super) fn new() -> Reader {
        Reader
    }

    /// Reads one frame or several in a row.
    pub(super) fn decompress(
        &mut self,
        mut input: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), CompressionError> {
        out.expect(input.len());
        loop {
            input = frame(input, out)?;
            if input.is_empty() {
                return Ok(());
            }
        }
    }
}

fn frame<'a>(mut input: &'a [u8], out: &mut Output<'_>) -> Result<&'a [u8], CompressionError> {
    let mut decoder = FrameDecoder::new();
    match decoder.init(&mut input) {
        Ok(()) => {}
        Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
            let skipped = input.get(length as usize..);
            return skipped.ok_or_else(|| out.malformed("a frame to be skipped is cut off"));
        }
        Err(_) => return Err(out.malformed("its frame header is unreadable")),
    }
    if decoder.content_size() > out.left() as u64 {
        return Err(out.too_large());
    }
    loop {
        let finished = decoder
            .decode_blocks(&mut input, BlockDecodingStrategy::UptoBlocks(1))
            .map_err(|_| out.malformed("a block does not decompress"))?;
        decoder.collect_to_writer(&mut Sink(out)).map_err(|_| out.too_large())?;
        if finished {
            return Ok(input);
        }
    }
}

struct Sink<'a, 'b>(&'a mut Output<'b>);

impl Write for Sink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
