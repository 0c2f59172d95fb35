//! Zstandard through the C library: it writes four times as fast as the pure-Rust one, and every level.

use bytes::BytesMut;
use zstd::zstd_safe::{self, CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective};

use super::output::Output;
use super::{Compression, CompressionError, bad_level};

/// Java's default.
const LEVEL: i32 = 3;
/// A frame's own word for its size is taken up to this many times its bytes; beyond, memory grows as it is produced.
const BELIEVED_RATIO: u64 = 64;
/// Output is made room for in steps between these.
const MIN_STEP: usize = 4 << 10;
const MAX_STEP: usize = 256 << 10;

pub(super) struct Writer(CCtx<'static>);

impl Writer {
    pub(super) fn new(level: Option<i32>) -> Result<Writer, CompressionError> {
        let level = level.unwrap_or(LEVEL);
        if !(zstd_safe::min_c_level()..=zstd_safe::max_c_level()).contains(&level) {
            return Err(bad_level(Compression::Zstd, level, "use -131072 to 22"));
        }
        let mut context = CCtx::try_create().ok_or_else(|| failed("it got no memory"))?;
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(failed_with)?;
        Ok(Writer(context))
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(), CompressionError> {
        let at = out.len();
        out.resize(at + zstd_safe::compress_bound(input.len()), 0);
        let used = self.0.compress2(&mut out[at..], input).map_err(failed_with)?;
        out.truncate(at + used);
        Ok(())
    }
}

fn failed_with(code: usize) -> CompressionError {
    failed(zstd_safe::get_error_name(code))
}

fn failed(reason: &str) -> CompressionError {
    CompressionError::Failed { codec: Compression::Zstd, reason: reason.to_owned() }
}

pub(super) struct Reader(Option<DCtx<'static>>);

impl Reader {
    pub(super) fn new() -> Reader {
        Reader(None)
    }

    /// Reads one frame or several in a row.
    pub(super) fn decompress(&mut self, input: &[u8], out: &mut Output<'_>) -> Result<(), CompressionError> {
        if self.0.is_none() {
            self.0 = DCtx::try_create();
        }
        let Some(context) = &mut self.0 else { return Err(out.malformed("no memory for its decoder")) };
        // The last batch may have left it in the middle of a frame.
        if context.reset(ResetDirective::SessionOnly).is_err() {
            return Err(out.malformed("its decoder cannot be reset"));
        }
        let mut input = InBuffer::around(input);
        loop {
            frame(context, &mut input, out)?;
            if input.pos() == input.src.len() {
                return Ok(());
            }
        }
    }
}

fn frame(
    context: &mut DCtx<'static>,
    input: &mut InBuffer<'_>,
    out: &mut Output<'_>,
) -> Result<(), CompressionError> {
    let rest = &input.src[input.pos()..];
    let size = zstd_safe::get_frame_content_size(rest).ok().flatten();
    if size.is_some_and(|size| size > out.left() as u64) {
        return Err(out.too_large());
    }
    // With room for the whole frame the library decodes straight into it.
    let whole = size.filter(|&size| size <= rest.len() as u64 * BELIEVED_RATIO).map(|size| size as usize);
    loop {
        let before = input.pos();
        let step = whole.unwrap_or_else(|| out.produced().len().clamp(MIN_STEP, MAX_STEP));
        let mut outcome = Ok(1);
        let produced = out.fill_stream(step, |room| {
            let mut room = OutBuffer::around(room);
            outcome = context.decompress_stream(&mut room, input);
            room.pos()
        })?;
        match outcome {
            Ok(0) => return Ok(()),
            Ok(_) if produced > 0 || input.pos() > before => {}
            Ok(_) => return Err(out.malformed("it is cut off")),
            Err(_) => return Err(out.malformed("a frame does not decompress")),
        }
    }
}
