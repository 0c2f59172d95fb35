//! A batch from its first record to its outcome: its bytes, the credit for their memory, and the duty to tell what became of it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_wire::compression::{Compressor, DEFAULT_DECOMPRESSION_LIMIT, Decompressor};
use kafka_wire::record_batch::{BatchError, BatchWriter, NO_PRODUCER, ProducerStamp, SealedBatch, batches};
use tokio::time::Instant;

use crate::completion::{BatchCompletion, Outcome};
use crate::error::{Error, ErrorKind, Fate};
use crate::idempotence::Stampable;
use crate::ledger::Completer;
use crate::memory::{Closed, Memory, Room};

#[derive(Debug)]
pub(crate) struct Batch {
    payload: Payload,
    completer: Completer,
    room: Option<Room>,
    created: Instant,
    /// Known when it takes no more of them.
    record_count: u32,
    /// How often it was handed to a connection.
    pub(crate) attempts: u32,
    /// What the last attempt came to.
    pub(crate) last_error: Option<Error>,
}

#[derive(Debug)]
enum Payload {
    /// Encoded, not compressed; more may be added.
    Raw(BatchWriter),
    /// On a blocking thread, being compressed.
    Away,
    Sealed(SealedBatch),
    /// As it was handed to a connection, and must be handed to it again.
    Frozen {
        bytes: Bytes,
        stamp: ProducerStamp,
    },
}

impl Batch {
    pub(crate) fn new(writer: BatchWriter, completer: Completer, room: Room, created: Instant) -> Self {
        Self {
            payload: Payload::Raw(writer),
            completer,
            room: Some(room),
            created,
            record_count: 0,
            attempts: 0,
            last_error: None,
        }
    }

    /// Where to add a record of `size` bytes, if it takes records and has room for that one.
    #[inline(always)]
    pub(crate) fn writer_for(&mut self, size: usize) -> Option<&mut BatchWriter> {
        let room = self.room.as_ref().map_or(0, Room::size);
        match &mut self.payload {
            Payload::Raw(writer) if writer.len() + size <= room => Some(writer),
            _ => None,
        }
    }

    /// Makes room for `size` more bytes by taking a larger buffer, if a batch may be so large and credit permits.
    pub(crate) fn grow(&mut self, size: usize, memory: &Memory) -> Result<bool, Closed> {
        let (Payload::Raw(writer), Some(room)) = (&mut self.payload, &mut self.room) else {
            return Ok(false);
        };
        let needed = writer.len() + size;
        let larger = memory.size_for(needed);
        if needed > memory.batch_size() || larger <= room.size() {
            return Ok(false);
        }
        let Some(more) = memory.try_take(larger - room.size())? else { return Ok(false) };
        room.merge(more);
        drop(writer.move_to(memory.buffer(larger)));
        Ok(true)
    }

    /// When its first record was accepted.
    pub(crate) fn created(&self) -> Instant {
        self.created
    }

    /// Its size on the wire, as far as known: before compression, what it would be without.
    pub(crate) fn len(&self) -> usize {
        match &self.payload {
            Payload::Raw(writer) => writer.len(),
            Payload::Away => self.room.as_ref().map_or(0, Room::size),
            Payload::Sealed(sealed) => sealed.len(),
            Payload::Frozen { bytes, .. } => bytes.len(),
        }
    }

    /// Whether its bytes could be sent now.
    pub(crate) fn is_prepared(&self) -> bool {
        matches!(self.payload, Payload::Sealed(_) | Payload::Frozen { .. })
    }

    /// Whether its records are neither compressed nor being compressed.
    pub(crate) fn is_raw(&self) -> bool {
        matches!(self.payload, Payload::Raw(_))
    }

    /// Where its outcome will be told; tells one batch from another.
    pub(crate) fn completion(&self) -> &Arc<BatchCompletion> {
        self.completer.completion()
    }

    /// Takes the records out to compress them elsewhere; [`put_back`](Self::put_back) brings them back.
    pub(crate) fn take_raw(&mut self) -> Option<BatchWriter> {
        match std::mem::replace(&mut self.payload, Payload::Away) {
            Payload::Raw(writer) => {
                self.record_count = writer.record_count();
                Some(writer)
            }
            other => {
                self.payload = other;
                None
            }
        }
    }

    pub(crate) fn put_back(&mut self, sealed: SealedBatch) {
        self.payload = Payload::Sealed(sealed);
    }

    /// Compresses the records, unless that has been done.
    pub(crate) fn prepare(
        &mut self,
        compressor: Option<&mut Compressor>,
        memory: &Memory,
    ) -> Result<(), BatchError> {
        if let Some(writer) = self.take_raw() {
            self.put_back(seal(writer, compressor, memory)?);
        }
        Ok(())
    }

    /// The bytes under `stamp`: for the same stamp always the same. `None` while they are being compressed.
    pub(crate) fn bytes(&mut self, stamp: ProducerStamp) -> Option<Bytes> {
        let mut sealed = match std::mem::replace(&mut self.payload, Payload::Away) {
            Payload::Frozen { bytes, stamp: old } if old == stamp => {
                self.payload = Payload::Frozen { bytes: bytes.clone(), stamp };
                return Some(bytes);
            }
            Payload::Frozen { bytes, .. } => SealedBatch::thaw(bytes).ok()?,
            Payload::Sealed(sealed) => sealed,
            other => {
                self.payload = other;
                return None;
            }
        };
        if stamp != NO_PRODUCER {
            sealed.stamp(stamp, false);
        }
        let bytes = sealed.freeze();
        self.payload = Payload::Frozen { bytes: bytes.clone(), stamp };
        Some(bytes)
    }

    /// It is handed to a connection now.
    pub(crate) fn begin_attempt(&mut self) {
        self.attempts += 1;
        self.completer.mark_sent();
    }

    /// Tells the outcome; the memory stays taken until the batch is dropped or [`finish`](Self::finish)ed.
    pub(crate) fn resolve(&mut self, outcome: Outcome) {
        self.completer.resolve(outcome);
    }

    /// Tells the outcome and gives the memory back.
    pub(crate) fn finish(mut self, outcome: Outcome, memory: &Memory) {
        // Memory first: whoever is woken by the outcome may want room for the next record.
        match std::mem::replace(&mut self.payload, Payload::Away) {
            Payload::Frozen { bytes, .. } => memory.recycle_sent(bytes),
            Payload::Sealed(sealed) => memory.recycle_sent(sealed.freeze()),
            Payload::Raw(writer) => memory.recycle(writer.into_buffer()),
            Payload::Away => {}
        }
        let Self { mut completer, room, .. } = self;
        drop(room);
        completer.resolve(outcome);
    }

    /// Fails all records.
    pub(crate) fn fail(self, kind: ErrorKind, fate: Fate, memory: &Memory) {
        self.finish(Outcome::Failed(Error::new(kind, fate)), memory);
    }
}

/// Adds to the end of a queue that hardly ever holds more than one: a queue begins with room for four, and with thousands
/// of partitions that is most of what an idle producer takes.
pub(crate) fn push_sparingly<T>(queue: &mut VecDeque<T>, item: T) {
    if queue.capacity() == 0 {
        queue.reserve_exact(1);
    }
    queue.push_back(item);
}

/// Ends a batch's records, compressed if a compressor is given.
pub(crate) fn seal(
    writer: BatchWriter,
    compressor: Option<&mut Compressor>,
    memory: &Memory,
) -> Result<SealedBatch, BatchError> {
    let Some(compressor) = compressor else { return writer.finish() };
    let out = memory.buffer(memory.size_for(writer.len()));
    let (sealed, spent) = writer.finish_compressed(compressor, out)?;
    memory.recycle(spent);
    Ok(sealed)
}

impl Stampable for Box<Batch> {
    fn record_count(&self) -> i32 {
        i32::try_from(self.record_count).unwrap_or(i32::MAX)
    }

    fn split(self) -> Result<[Self; 2], Self> {
        let Payload::Frozen { bytes, .. } = &self.payload else { return Err(self) };
        if self.record_count < 2 {
            return Err(self);
        }
        let middle = self.record_count / 2;
        let Ok([first, second]) = halves(bytes.clone(), middle) else { return Err(self) };
        let Batch { completer, mut room, created, attempts, last_error, .. } = *self;
        let second_room = room.as_mut().and_then(|room| room.split(room.size() / 2));
        let [first_completer, second_completer] = completer.divide(middle);
        let half = |writer: BatchWriter, completer, room| {
            Box::new(Batch {
                record_count: writer.record_count(),
                payload: Payload::Raw(writer),
                completer,
                room,
                created,
                attempts,
                last_error: last_error.clone(),
            })
        };
        Ok([half(first, first_completer, room), half(second, second_completer, second_room)])
    }
}

/// The records of a batch in two: those before the one with index `middle`, and the rest.
fn halves(bytes: Bytes, middle: u32) -> Result<[BatchWriter; 2], BatchError> {
    let size = bytes.len();
    let raw = batches(bytes).next().unwrap_or(Err(BatchError::Empty))?;
    let decoded = raw.decode(&mut Decompressor::new(DEFAULT_DECOMPRESSION_LIMIT))?;
    let mut writers = [(); 2].map(|()| BatchWriter::new(BytesMut::with_capacity(size / 2)));
    let mut headers = Vec::new();
    for (index, record) in (0..).zip(decoded.records()) {
        let record = record?;
        headers.clear();
        headers.extend(record.headers());
        writers[usize::from(index >= middle)].append(record.timestamp, record.key, record.value, &headers)?;
    }
    Ok(writers)
}

#[cfg(test)]
mod tests {
    use kafka_wire::compression::Compression;
    use kafka_wire::record_batch::{HeaderRef, OwnedRecord};

    use super::*;
    use crate::completion::Delivery;
    use crate::ledger::Ledger;

    const STAMP: ProducerStamp = ProducerStamp { producer_id: 7, producer_epoch: 1, base_sequence: 40 };

    fn batch(values: &[&str], memory: &Memory) -> (Box<Batch>, Vec<Delivery>) {
        let size = memory.size_for(4000);
        let mut writer = BatchWriter::new(memory.buffer(size));
        let headers = [HeaderRef::new("h", Some(b"1")), HeaderRef::new("h", None)];
        for value in values {
            writer.append(1000, Some(b"key"), Some(value.as_bytes()), &headers).unwrap();
        }
        let completion = BatchCompletion::new("orders".into(), 0);
        let deliveries =
            (0..values.len() as u32).map(|index| Delivery::new(completion.clone(), index, 1000)).collect();
        let completer = Completer::new(completion, &Arc::<Ledger>::default());
        let room = memory.try_take(size).unwrap().unwrap();
        (Box::new(Batch::new(writer, completer, room, Instant::now())), deliveries)
    }

    fn records(bytes: Bytes) -> Vec<OwnedRecord> {
        let raw = batches(bytes).next().unwrap().unwrap();
        raw.verify().unwrap();
        raw.decode(&mut Decompressor::new(1 << 20)).unwrap().into_reader().map(Result::unwrap).collect()
    }

    #[tokio::test]
    async fn every_attempt_sends_the_same_bytes_until_the_stamp_changes() {
        let memory = Memory::new(1 << 20, 16_384);
        let (mut batch, _deliveries) = batch(&["a", "b"], &memory);
        assert_eq!(batch.bytes(STAMP), None);
        batch.prepare(None, &memory).unwrap();
        let first = batch.bytes(STAMP).unwrap();
        assert_eq!(batch.bytes(STAMP).unwrap().as_ptr(), first.as_ptr());
        let moved = batch.bytes(ProducerStamp { base_sequence: 0, ..STAMP }).unwrap();
        // The first attempt's bytes are still being written somewhere: they must not change under it.
        assert_ne!(moved, first);
        let sequence = |bytes: &Bytes| batches(bytes.clone()).next().unwrap().unwrap().header.base_sequence;
        assert_eq!((sequence(&first), sequence(&moved)), (40, 0));
    }

    #[tokio::test]
    async fn halves_of_a_batch_hold_its_records_in_order_with_everything_in_them() {
        for codec in Compression::ALL {
            let memory = Memory::new(1 << 20, 16_384);
            let values: Vec<String> = (0..7).map(|index| "x".repeat(100) + &index.to_string()).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let (mut batch, mut deliveries) = batch(&values, &memory);
            let mut compressor = Compressor::new(codec, None).unwrap();
            batch.prepare(Some(&mut compressor), &memory).unwrap();
            let whole = records(batch.bytes(STAMP).unwrap());
            let [mut first, mut second] = batch.split().unwrap();
            assert_eq!((first.record_count(), second.record_count()), (3, 4));
            let mut parts = vec![];
            for half in [&mut first, &mut second] {
                half.prepare(Some(&mut compressor), &memory).unwrap();
                parts.extend(records(half.bytes(STAMP).unwrap()));
            }
            for (index, (part, whole)) in parts.iter().zip(&whole).enumerate() {
                assert_eq!(part.value, whole.value, "{index}");
                assert_eq!((&part.key, &part.headers, part.timestamp), (&whole.key, &whole.headers, 1000));
            }
            assert_eq!(parts.len(), whole.len());

            first.finish(Outcome::Written { base_offset: Some(10), append_time: None }, &memory);
            second.finish(Outcome::Written { base_offset: Some(90), append_time: None }, &memory);
            let offsets: Vec<_> =
                deliveries.iter_mut().map(|d| d.try_outcome().unwrap().unwrap().offset).collect();
            assert_eq!(offsets, [10, 11, 12, 90, 91, 92, 93].map(Some));
            assert_eq!(memory.available(), 1 << 20);
        }
    }

    #[tokio::test]
    async fn a_batch_of_one_record_cannot_be_split() {
        let memory = Memory::new(1 << 20, 16_384);
        let (mut batch, _deliveries) = batch(&["a"], &memory);
        batch.prepare(None, &memory).unwrap();
        batch.bytes(STAMP).unwrap();
        assert!(batch.split().is_err());
    }

    #[tokio::test]
    async fn finishing_gives_credit_and_buffer_back() {
        let memory = Memory::new(1 << 20, 4096);
        let (mut batch, mut deliveries) = batch(&["a"; 60], &memory);
        assert_eq!(memory.available(), (1 << 20) - 4096);
        batch.prepare(None, &memory).unwrap();
        let address = batch.bytes(STAMP).unwrap().as_ptr();
        batch.fail(ErrorKind::Closed, Fate::NotWritten, &memory);
        assert_eq!(memory.available(), 1 << 20);
        assert_eq!(memory.buffer(4096).as_ptr(), address);
        assert!(deliveries.iter_mut().all(|delivery| delivery.try_outcome().unwrap().is_err()));
    }
}
