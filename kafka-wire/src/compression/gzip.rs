//! Gzip: our own header and trailer around raw deflate, because that is what the library can reset without allocating.

use bytes::BytesMut;
use flate2::{Compress, Crc, Decompress, FlushCompress, FlushDecompress, Status};

use super::output::Output;
use super::{Compression, CompressionError, bad_level};

/// Magic, deflate, no flags, no time, no hint, unknown system: what Java writes.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
const DEFAULT_LEVEL: i32 = 6;
/// Output is made room for in steps between these.
const MIN_STEP: usize = 4 << 10;
const MAX_STEP: usize = 256 << 10;

pub(super) struct Writer(Compress);

impl Writer {
    pub(super) fn new(level: Option<i32>) -> Result<Writer, CompressionError> {
        let level = match level {
            None | Some(-1) => DEFAULT_LEVEL,
            Some(level @ 1..=9) => level,
            Some(level) => {
                return Err(bad_level(Compression::Gzip, level, "use 1 to 9, or -1 for its default"));
            }
        };
        Ok(Writer(Compress::new(flate2::Compression::new(level as u32), false)))
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(), CompressionError> {
        self.0.reset();
        out.extend_from_slice(&HEADER);
        loop {
            let consumed = self.0.total_in() as usize;
            let produced = self.0.total_out();
            let at = out.len();
            // Usually records shrink to less than half, so one step is all.
            let step = ((input.len() - consumed) / 2).max(MIN_STEP);
            out.resize(at + step, 0);
            let status = self
                .0
                .compress(&input[consumed..], &mut out[at..], FlushCompress::Finish)
                .map_err(|error| failed(error.to_string()))?;
            out.truncate(at + (self.0.total_out() - produced) as usize);
            match status {
                Status::StreamEnd => break,
                Status::BufError if out.len() == at => return Err(failed("it made no progress".to_owned())),
                Status::Ok | Status::BufError => {}
            }
        }
        let mut crc = Crc::new();
        crc.update(input);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&(input.len() as u32).to_le_bytes());
        Ok(())
    }
}

fn failed(reason: String) -> CompressionError {
    CompressionError::Failed { codec: Compression::Gzip, reason }
}

pub(super) struct Reader(Decompress);

impl Reader {
    pub(super) fn new() -> Reader {
        Reader(Decompress::new(false))
    }

    /// Reads one member or several in a row.
    pub(super) fn decompress(
        &mut self,
        mut input: &[u8],
        out: &mut Output<'_>,
    ) -> Result<(), CompressionError> {
        out.expect(input.len());
        loop {
            input = self.member(input, out)?;
            if input.is_empty() {
                return Ok(());
            }
        }
    }

    fn member<'a>(&mut self, input: &'a [u8], out: &mut Output<'_>) -> Result<&'a [u8], CompressionError> {
        let Some(mut input) = skip_header(input) else {
            return Err(out.malformed("its header is not gzip's"));
        };
        let start = out.produced().len();
        self.0.reset(false);
        loop {
            let before = self.0.total_in();
            let step = out.produced().len().clamp(MIN_STEP, MAX_STEP);
            let mut status = Ok(Status::Ok);
            let produced = out.fill_stream(step, |room| {
                let before = self.0.total_out();
                status = self.0.decompress(input, room, FlushDecompress::None);
                (self.0.total_out() - before) as usize
            })?;
            let consumed = (self.0.total_in() - before) as usize;
            input = &input[consumed..];
            match status {
                Ok(Status::StreamEnd) => break,
                Ok(_) if consumed > 0 || produced > 0 => {}
                Ok(_) => return Err(out.malformed("it is cut off")),
                Err(_) => return Err(out.malformed("it does not inflate")),
            }
        }
        let Some((trailer, rest)) = input.split_first_chunk::<8>() else {
            return Err(out.malformed("its trailer is cut off"));
        };
        let content = &out.produced()[start..];
        let mut crc = Crc::new();
        crc.update(content);
        let [a, b, c, d, e, f, g, h] = *trailer;
        if u32::from_le_bytes([a, b, c, d]) != crc.sum()
            || u32::from_le_bytes([e, f, g, h]) != content.len() as u32
        {
            return Err(out.malformed("its checksum or length is wrong"));
        }
        Ok(rest)
    }
}

/// What follows a member's header, `None` when there is none.
fn skip_header(input: &[u8]) -> Option<&[u8]> {
    const HEADER_CRC: u8 = 0x02;
    const EXTRA: u8 = 0x04;
    const NAME: u8 = 0x08;
    const COMMENT: u8 = 0x10;
    let (&[0x1f, 0x8b, 8, flags, ..], mut rest) = input.split_first_chunk::<10>()? else { return None };
    if flags & EXTRA != 0 {
        let (size, tail) = rest.split_first_chunk::<2>()?;
        rest = tail.get(usize::from(u16::from_le_bytes(*size))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = &rest[end + 1..];
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}
