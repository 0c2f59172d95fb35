//! Kafka's codecs: which there are, compressing a batch's records, decompressing within a limit.
//!
//! Pure Rust, except for zstd with the feature `zstd`. Decompression never trusts a size that the data claims: memory
//! grows with what was produced, up to the [`Decompressor`]'s limit.

mod gzip;
mod lz4;
mod output;
mod snappy;
mod xxh32;
#[cfg(not(feature = "zstd"))]
mod xxh64;
#[cfg_attr(feature = "zstd", path = "zstd_c.rs")]
mod zstd;

use std::fmt;
use std::str::FromStr;

use bytes::{Bytes, BytesMut};

use output::Output;

/// What a batch decompresses to at most unless said otherwise: 128 MiB.
pub const DEFAULT_DECOMPRESSION_LIMIT: usize = 128 << 20;

/// A codec of Kafka's; the discriminant is its number in a batch's attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
#[repr(u8)]
pub enum Compression {
    /// Records as they are.
    #[default]
    None = 0,
    /// Slow to write; for topics that demand it.
    Gzip = 1,
    /// Fast, modest ratio.
    Snappy = 2,
    /// Fast both ways: the one to pick without the feature `zstd`.
    Lz4 = 3,
    /// The best ratio; fast with the feature `zstd`.
    Zstd = 4,
}

impl Compression {
    /// Every codec.
    pub const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    /// The number in a batch's attributes.
    pub const fn id(self) -> u8 {
        self as u8
    }

    /// The codec with that number.
    pub fn from_id(id: u8) -> Option<Compression> {
        Compression::ALL.get(usize::from(id)).copied()
    }

    /// The name in Kafka's settings, such as `lz4`.
    pub const fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = CompressionError;

    fn from_str(name: &str) -> Result<Compression, CompressionError> {
        let codec = Compression::ALL.into_iter().find(|codec| codec.name() == name);
        codec.ok_or_else(|| CompressionError::UnknownName(name.to_owned()))
    }
}

/// Why a codec cannot be set up, or bytes cannot be compressed or decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// No codec has that name.
    #[error("unknown compression {0:?}: use none, gzip, snappy, lz4 or zstd")]
    UnknownName(String),
    /// The codec cannot write at that level in this build.
    #[error("{codec} cannot compress at level {level}: {remedy}")]
    Level {
        /// The codec.
        codec: Compression,
        /// The level that was asked for.
        level: i32,
        /// What works instead.
        remedy: &'static str,
    },
    /// The bytes are not what the codec writes.
    #[error("malformed {codec} data: {reason}")]
    Malformed {
        /// The codec.
        codec: Compression,
        /// What is wrong.
        reason: &'static str,
    },
    /// The data would decompress to more than allowed.
    #[error("{codec} data decompresses to more than the limit of {limit} bytes")]
    TooLarge {
        /// The codec.
        codec: Compression,
        /// The limit in bytes.
        limit: usize,
    },
    /// The codec's own library failed while compressing.
    #[error("{codec} failed to compress: {reason}")]
    Failed {
        /// The codec.
        codec: Compression,
        /// What the library said.
        reason: String,
    },
}

/// A codec with its working memory, to be kept and used for one batch after another.
pub struct Compressor(Inner);

enum Inner {
    None,
    Gzip(Box<gzip::Writer>),
    Snappy(Box<snappy::Writer>),
    Lz4(Box<lz4::Writer>),
    Zstd(Box<zstd::Writer>),
}

impl Compressor {
    /// Sets up `compression`, at `level` where given.
    ///
    /// Levels: gzip 1 to 9, -1 for its default of 6; lz4 has the one Java calls 9; snappy none; zstd 1 only, or with
    /// the feature `zstd` all of the C library's (-131072 to 22, default 3).
    ///
    /// # Errors
    /// [`CompressionError::Level`] when the codec has no such level in this build.
    pub fn new(compression: Compression, level: Option<i32>) -> Result<Compressor, CompressionError> {
        Ok(Compressor(match compression {
            Compression::None => match level {
                None => Inner::None,
                Some(level) => {
                    return Err(bad_level(compression, level, "records as they are have no level"));
                }
            },
            Compression::Gzip => Inner::Gzip(Box::new(gzip::Writer::new(level)?)),
            Compression::Snappy => Inner::Snappy(Box::new(snappy::Writer::new(level)?)),
            Compression::Lz4 => Inner::Lz4(Box::new(lz4::Writer::new(level)?)),
            Compression::Zstd => Inner::Zstd(Box::new(zstd::Writer::new(level)?)),
        }))
    }

    /// The codec.
    pub fn compression(&self) -> Compression {
        match self.0 {
            Inner::None => Compression::None,
            Inner::Gzip(_) => Compression::Gzip,
            Inner::Snappy(_) => Compression::Snappy,
            Inner::Lz4(_) => Compression::Lz4,
            Inner::Zstd(_) => Compression::Zstd,
        }
    }

    /// Whether one batch can take long enough to belong on a blocking thread: gzip and zstd.
    pub fn is_slow(&self) -> bool {
        matches!(self.0, Inner::Gzip(_) | Inner::Zstd(_))
    }

    /// Compresses `input` and appends the result to `out`.
    ///
    /// # Errors
    /// [`CompressionError::Failed`] with what the codec's library said; `out` then ends anywhere.
    pub fn compress(&mut self, input: &[u8], out: &mut BytesMut) -> Result<(), CompressionError> {
        match &mut self.0 {
            Inner::None => {
                out.extend_from_slice(input);
                Ok(())
            }
            Inner::Gzip(writer) => writer.compress(input, out),
            Inner::Snappy(writer) => writer.compress(input, out),
            Inner::Lz4(writer) => writer.compress(input, out),
            Inner::Zstd(writer) => writer.compress(input, out),
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compressor").field(&self.compression()).finish()
    }
}

/// Working memory to decompress one batch after another, of any codec, each within a limit.
pub struct Decompressor {
    limit: usize,
    spare: Vec<u8>,
    gzip: Option<gzip::Reader>,
    snappy: snappy::Reader,
    lz4: lz4::Reader,
    zstd: zstd::Reader,
}

impl Decompressor {
    /// Lets one batch decompress to at most `limit` bytes.
    pub fn new(limit: usize) -> Decompressor {
        Decompressor {
            limit,
            spare: Vec::new(),
            gzip: None,
            snappy: snappy::Reader::new(),
            lz4: lz4::Reader::default(),
            zstd: zstd::Reader::new(),
        }
    }

    /// Lets the next batches decompress to at most `limit` bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Decompresses `input`.
    ///
    /// # Errors
    /// [`CompressionError::Malformed`] and [`CompressionError::TooLarge`].
    pub fn decompress(&mut self, compression: Compression, input: &[u8]) -> Result<Bytes, CompressionError> {
        let mut out = std::mem::take(&mut self.spare);
        out.clear();
        self.decompress_into(compression, input, &mut out)?;
        Ok(Bytes::from(out))
    }

    /// Decompresses `input` and appends the result to `out`.
    ///
    /// # Errors
    /// [`CompressionError::Malformed`] and [`CompressionError::TooLarge`]; `out` then ends anywhere.
    pub fn decompress_into(
        &mut self,
        compression: Compression,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CompressionError> {
        let mut out = Output::new(compression, out, self.limit);
        match compression {
            Compression::None => out.extend(input),
            Compression::Gzip => self.gzip.get_or_insert_with(gzip::Reader::new).decompress(input, &mut out),
            Compression::Snappy => self.snappy.decompress(input, &mut out),
            Compression::Lz4 => self.lz4.decompress(input, &mut out),
            Compression::Zstd => self.zstd.decompress(input, &mut out),
        }
    }

    /// Takes a batch's memory back for the next one, unless something still refers to it.
    pub fn recycle(&mut self, bytes: Bytes) {
        if bytes.is_unique() {
            let buffer = Vec::from(bytes);
            if buffer.capacity() > self.spare.capacity() {
                self.spare = buffer;
            }
        }
    }
}

impl Default for Decompressor {
    fn default() -> Decompressor {
        Decompressor::new(DEFAULT_DECOMPRESSION_LIMIT)
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Decompresses `input` to at most `limit` bytes, appended to `out`; a [`Decompressor`] keeps its working memory.
///
/// # Errors
/// [`CompressionError::Malformed`] and [`CompressionError::TooLarge`]; `out` then ends anywhere.
pub fn decompress(
    compression: Compression,
    input: &[u8],
    limit: usize,
    out: &mut Vec<u8>,
) -> Result<(), CompressionError> {
    Decompressor::new(limit).decompress_into(compression, input, out)
}

fn bad_level(codec: Compression, level: i32, remedy: &'static str) -> CompressionError {
    CompressionError::Level { codec, level, remedy }
}
