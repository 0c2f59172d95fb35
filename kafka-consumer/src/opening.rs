//! Opening batches: the CRC, the codec, and a look at every record. Where the codec is slow that is done on another thread,
//! but for short batches of zstd; all others are opened at once.

use std::sync::{Arc, Mutex, PoisonError};

use kafka_wire::compression::{Compression, CompressionError, Decompressor};
use kafka_wire::record_batch::{BatchError, DecodedBatch, RawBatch};
use tokio::task::JoinHandle;

/// What zstd makes of a batch no longer than the one is opened at once, up to the other: that takes less than 0.1 ms, and
/// the way to another thread and back costs as much as 16 KiB do.
const SHORT: usize = 16 << 10;
const SHORT_OPENED: usize = 64 << 10;
/// How many decompressors are kept that nobody uses. One for zstd takes 160 KiB.
const KEPT: usize = 16;

pub(crate) type Opened = Result<DecodedBatch, BatchError>;

#[derive(Debug)]
pub(crate) enum Opening {
    /// There is nothing to open: a gap in the log, or an error.
    None,
    Done(Opened),
    Elsewhere(JoinHandle<Opened>),
}

/// Opens the batches of all of a consumer's readers.
#[derive(Debug)]
pub(crate) struct Opener {
    check_crcs: bool,
    max_decompressed: usize,
    /// A codec's working memory takes longer to make than a batch takes to open.
    idle: Mutex<Vec<Decompressor>>,
}

impl Opener {
    pub(crate) fn new(check_crcs: bool, max_decompressed: usize) -> Arc<Self> {
        Arc::new(Self { check_crcs, max_decompressed, idle: Mutex::default() })
    }

    pub(crate) fn open(self: &Arc<Self>, batch: &RawBatch) -> Opening {
        match batch.header.compression() {
            Compression::Zstd if batch.bytes.len() <= SHORT => {
                match self.open_within(batch, self.max_decompressed.min(SHORT_OPENED)) {
                    Err(BatchError::Compression(CompressionError::TooLarge { .. })) => {}
                    opened => return Opening::Done(opened),
                }
            }
            Compression::Gzip | Compression::Zstd => {}
            _ => return Opening::Done(self.open_within(batch, self.max_decompressed)),
        }
        let (opener, batch) = (self.clone(), batch.clone());
        Opening::Elsewhere(tokio::task::spawn_blocking(move || {
            opener.open_within(&batch, opener.max_decompressed)
        }))
    }

    /// Opens a batch and sees that every record of it can be read, so that nothing of a bad one is handed out.
    fn open_within(&self, batch: &RawBatch, limit: usize) -> Opened {
        if self.check_crcs {
            batch.verify()?;
        }
        let idle = || self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let mut decompressor = idle().pop().unwrap_or_default();
        decompressor.set_limit(limit);
        let decoded = batch.decode(&mut decompressor);
        let mut idle = idle();
        if idle.len() < KEPT {
            idle.push(decompressor);
        }
        drop(idle);
        let decoded = decoded?;
        decoded.check()?;
        Ok(decoded)
    }
}
