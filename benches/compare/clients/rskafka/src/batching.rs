//! Collects a partition's records into batches, which go when they are full or have lingered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use driver::{Codec, Error, Options, Result};
use rskafka::client::partition::{Compression, PartitionClient};
use rskafka::record::Record;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What the format adds to a record's key and value, about.
const RECORD_OVERHEAD: usize = 10;

/// The batches of one partition.
pub(crate) struct Batches(Arc<Partition>);

struct Partition {
    client: Arc<PartitionClient>,
    compression: Compression,
    linger: Duration,
    largest: usize,
    /// How many batches may be unanswered. Each partition has a connection of its own.
    in_flight: Arc<Semaphore>,
    open: Mutex<Option<Open>>,
}

/// The batch that takes records.
struct Open {
    records: Vec<Record>,
    bytes: usize,
    timestamp: DateTime<Utc>,
    batch: Arc<Batch>,
}

/// What becomes of a batch's records.
#[derive(Default)]
pub(crate) struct Batch {
    outcome: OnceLock<std::result::Result<(), String>>,
    settled: Notify,
}

impl Batches {
    pub(crate) fn new(client: Arc<PartitionClient>, options: &Options) -> Self {
        Self(Arc::new(Partition {
            client,
            compression: match options.codec {
                Codec::None => Compression::NoCompression,
                Codec::Lz4 => Compression::Lz4,
                Codec::Zstd => Compression::Zstd,
            },
            linger: options.linger,
            largest: options.batch_bytes,
            in_flight: Arc::new(Semaphore::new(options.in_flight)),
            open: Mutex::default(),
        }))
    }

    /// Adds a record to the open batch. A batch that it does not fit into is sent first, when few enough are under way.
    pub(crate) async fn push(&self, record: &'static driver::Record) -> Arc<Batch> {
        let bytes = record.key.len() + record.value.len() + RECORD_OVERHEAD;
        let full = self.0.open().take_if(|open| open.bytes + bytes > self.0.largest);
        if let Some(full) = full {
            let permit = Arc::clone(&self.0.in_flight).acquire_owned().await;
            self.0.send(full, permit.ok());
        }
        let mut open = self.0.open();
        let open = open.get_or_insert_with(|| Open {
            records: Vec::with_capacity(self.0.largest.min(1 << 20) / bytes),
            bytes: 0,
            timestamp: SystemTime::now().into(),
            batch: self.0.begin(),
        });
        open.bytes += bytes;
        open.records.push(Record {
            key: Some(record.key.to_vec()),
            value: Some(record.value.to_vec()),
            headers: BTreeMap::new(),
            timestamp: open.timestamp,
        });
        Arc::clone(&open.batch)
    }

    pub(crate) fn flush(&self) {
        if let Some(open) = self.0.open().take() {
            self.0.send(open, None);
        }
    }
}

impl Partition {
    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch that is sent when it has lingered, unless it was before.
    fn begin(self: &Arc<Self>) -> Arc<Batch> {
        let batch = Arc::<Batch>::default();
        let (partition, lingering) = (Arc::clone(self), Arc::clone(&batch));
        tokio::spawn(async move {
            if !partition.linger.is_zero() {
                tokio::time::sleep(partition.linger).await;
            }
            let late = partition.open().take_if(|open| Arc::ptr_eq(&open.batch, &lingering));
            if let Some(late) = late {
                let permit = Arc::clone(&partition.in_flight).acquire_owned().await;
                partition.send(late, permit.ok());
            }
        });
        batch
    }

    fn send(self: &Arc<Self>, open: Open, permit: Option<OwnedSemaphorePermit>) {
        let partition = Arc::clone(self);
        tokio::spawn(async move {
            let produced = partition.client.produce(open.records, partition.compression).await;
            drop(permit);
            // Nobody else sets it.
            let _ = open.batch.outcome.set(produced.map(drop).map_err(|error| error.to_string()));
            open.batch.settled.notify_waiters();
        });
    }
}

impl Batch {
    pub(crate) fn outcome(&self) -> Option<Result<()>> {
        Some(self.outcome.get()?.clone().map_err(Error::failed))
    }

    pub(crate) async fn settled(&self) -> Result<()> {
        let settled = self.settled.notified();
        if let Some(outcome) = self.outcome() {
            return outcome;
        }
        settled.await;
        self.outcome().unwrap_or_else(|| Err(Error::failed("woken before the outcome was known")))
    }
}
