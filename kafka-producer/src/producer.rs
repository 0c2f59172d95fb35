//! The handle that applications hold: accepts records, waits for room, and tells what became of them.

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use kafka_client::properties::{self, Properties, PropertiesReport, Role};
use kafka_client::raw::Tracked;
use kafka_client::serde::Serialize;
use kafka_client::{Client, TopicPartition};
use kafka_wire::record_batch::{HEADER_LEN, HeaderRef};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::accumulator::{Accumulator, Encoded, Refusal, TopicSlots};
use crate::builder::ProducerBuilder;
use crate::clock::bounded;
use crate::completion::Delivery;
use crate::config::{ProducerConfig, SETTINGS};
use crate::error::{Error, ErrorKind, Fate, Result};
use crate::memory::Room;
use crate::partitioner::RecordBytes;
use crate::record::{ProducerRecord, RecordMetadata};
use crate::sink::ProducerSink;
use crate::topic::Topic;

/// Sends records to Kafka. Clones are handles to the same producer; all methods take `&self`.
///
/// Records for a partition are collected into batches and sent by a task of the producer's own, in the order in which
/// they were accepted. By default brokers recognise a batch that is sent twice, so a record is written once however
/// often it had to be retried.
///
/// When the last handle is dropped, what was not sent is not written, and every [`Delivery`] says what became of its
/// record; [`flush`](Self::flush) or [`close`](Self::close) before that.
#[derive(Clone)]
pub struct Producer(Arc<Handle>);

/// Dropped with the last handle; the sender holds only what is in it.
struct Handle {
    shared: Arc<Shared>,
}

/// What the handles and the sender share.
pub(crate) struct Shared {
    pub(crate) accumulator: Accumulator,
    pub(crate) config: ProducerConfig,
    /// The most a record may take, its batch's header not included.
    largest_record: usize,
    client: Client,
    /// Guards the topics that were used, to keep their metadata fresh.
    tracked: Mutex<Tracked>,
    /// No more records are taken.
    closing: AtomicBool,
    /// Why the producer is of no further use, if it is.
    fatal: OnceLock<Error>,
    /// How many batches were unresolved when the sender ended.
    finished: watch::Sender<Option<usize>>,
}

impl Shared {
    pub(crate) fn new(client: Client, config: ProducerConfig, accumulator: Accumulator) -> Self {
        let tracked = client.refresher().track(Vec::<Arc<str>>::new(), config.allow_auto_create_topics);
        Self {
            accumulator,
            largest_record: config.max_request_size.min(config.buffer_memory).saturating_sub(HEADER_LEN),
            config,
            client,
            tracked: Mutex::new(tracked),
            closing: AtomicBool::new(false),
            fatal: OnceLock::new(),
            finished: watch::Sender::new(None),
        }
    }

    /// Makes every send fail from now on.
    pub(crate) fn close(&self) {
        self.closing.store(true, Ordering::Release);
    }

    /// Makes every send fail from now on, for that reason.
    pub(crate) fn poison(&self, error: Error) {
        let _ = self.fatal.set(error);
        self.close();
    }

    /// Why every send fails, if it does.
    pub(crate) fn poisoned(&self) -> Option<&Error> {
        self.fatal.get()
    }

    /// The sender has ended; so many batches had not been resolved before.
    pub(crate) fn finished(&self, unfinished: usize) {
        self.finished.send_replace(Some(unfinished));
    }

    fn closed(&self) -> Error {
        self.fatal.get().cloned().unwrap_or_else(|| Error::not_sent(ErrorKind::Closed))
    }
}

/// What keeps a record from being accepted at once.
enum Obstacle {
    /// The topic's partitions are not known.
    Topic,
    /// The topic has fewer partitions, as far as is known.
    Partition { partition: i32, partitions: i32 },
    /// There is no credit for a buffer of this size.
    Room(usize),
    /// It never will be.
    Error(Error),
}

impl From<ErrorKind> for Obstacle {
    fn from(kind: ErrorKind) -> Self {
        Self::Error(Error::not_sent(kind))
    }
}

impl Producer {
    /// A producer with default settings.
    ///
    /// # Errors
    /// As [`ProducerBuilder::build`].
    ///
    /// # Cancel safety
    /// Dropping it leaves nothing behind.
    pub async fn new(client: &Client) -> Result<Self> {
        Self::builder(client).build().await
    }

    /// Begins a producer on `client`, whose connections and metadata it shares with others.
    pub fn builder(client: &Client) -> ProducerBuilder {
        ProducerBuilder::new(client)
    }

    /// Begins a producer from settings under Java's or librdkafka's property names, and reports what it made of them.
    /// A bad value fails the build.
    pub fn from_properties(client: &Client, properties: &Properties) -> (ProducerBuilder, PropertiesReport) {
        let mut builder = ProducerBuilder::new(client);
        let report = properties::apply(SETTINGS, Role::Producer, properties, &mut builder.config);
        builder.error = report.bad_value();
        (builder, report)
    }

    pub(crate) fn over(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Handle { shared }))
    }

    /// The settings in force.
    pub fn config(&self) -> &ProducerConfig {
        &self.0.shared.config
    }

    /// Sends a record and waits until it is acknowledged as [`acks`](ProducerConfig::acks) demands.
    ///
    /// One task that sends one record after the other waits out `linger.ms` and a round trip for each; for more,
    /// [`enqueue`](Self::enqueue), or send from many tasks.
    ///
    /// # Errors
    /// Why the record was not acknowledged; its [`fate`](Error::fate) says whether it may be in the log all the same.
    ///
    /// # Cancel safety
    /// Dropped before the record is accepted, it is not sent. Dropped later, it is sent all the same, and only the
    /// acknowledgement is lost.
    pub async fn send<K: Serialize, V: Serialize>(
        &self,
        record: ProducerRecord<'_, K, V>,
    ) -> Result<RecordMetadata> {
        self.enqueue(record).await?.await
    }

    /// Waits until there is room for a record and accepts it; the acknowledgement comes through the [`Delivery`].
    ///
    /// Records that one task enqueues for one partition are written in that order.
    ///
    /// # Errors
    /// Why the record was not accepted: it is not, and will not be, in the log. After `max.block.ms` without room or
    /// without knowing the topic, [`BlockedTooLong`](ErrorKind::BlockedTooLong) or the failure of the look-up.
    ///
    /// # Cancel safety
    /// Dropped before it is ready, the record is not sent and its place in line for memory is given up.
    pub async fn enqueue<K: Serialize, V: Serialize>(
        &self,
        record: ProducerRecord<'_, K, V>,
    ) -> Result<Delivery> {
        let shared = &*self.0.shared;
        let mut room = None;
        let mut deadline = None;
        let mut looked_again = false;
        loop {
            let obstacle = match shared.append(&record, &mut room) {
                Ok(delivery) => return Ok(delivery),
                Err(obstacle) => obstacle,
            };
            // Whoever waits in line for more must not hold what he has.
            room = None;
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + bounded(shared.config.max_block));
            match obstacle {
                Obstacle::Error(error) => return Err(error),
                Obstacle::Room(size) => room = Some(shared.wait_for_room(size, deadline).await?),
                Obstacle::Topic => shared.load_topic(record.topic(), deadline).await?,
                Obstacle::Partition { partition, partitions } => {
                    if std::mem::replace(&mut looked_again, true) {
                        let partition = TopicPartition::new(record.topic(), partition);
                        return Err(Error::not_sent(ErrorKind::UnknownPartition { partition, partitions }));
                    }
                    shared.look_again(record.topic(), deadline).await?;
                }
            }
        }
    }

    /// Looks a topic up, for those who send it many records: `ProducerRecord::to(&topic)` saves the look-up of its name
    /// for each of them.
    ///
    /// ```
    /// # use kafka_producer::{Producer, ProducerRecord};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = kafka_broker::Cluster::builder().topic("orders", 3, 1).start().await?;
    /// # let client = kafka_client::Client::connect(cluster.bootstrap()).await?;
    /// # let producer = Producer::new(&client).await?;
    /// let orders = producer.topic("orders").await?;
    /// for number in 0..1000_u32 {
    ///     let key = number.to_be_bytes();
    ///     producer.enqueue(ProducerRecord::to(&orders).key(&key[..]).value("created")).await?;
    /// }
    /// producer.flush().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As of [`enqueue`](Self::enqueue), where the topic is not known within `max.block.ms`.
    ///
    /// # Cancel safety
    /// Dropping it leaves nothing behind.
    pub async fn topic(&self, name: &str) -> Result<Topic> {
        let shared = &self.0.shared;
        loop {
            if shared.closing.load(Ordering::Acquire) {
                return Err(shared.closed());
            }
            if let Some(slots) = shared.accumulator.topics().get(name) {
                return Ok(Topic::new(shared, slots.clone()));
            }
            shared.load_topic(name, Instant::now() + bounded(shared.config.max_block)).await?;
        }
    }

    /// Accepts a record if that is possible without waiting.
    ///
    /// # Errors
    /// [`BufferFull`](ErrorKind::BufferFull) and [`TopicNotLoaded`](ErrorKind::TopicNotLoaded) pass: try again later,
    /// or [`enqueue`](Self::enqueue). Any other error is that of the record.
    pub fn try_enqueue<K: Serialize, V: Serialize>(
        &self,
        record: &ProducerRecord<'_, K, V>,
    ) -> Result<Delivery> {
        let shared = &*self.0.shared;
        let kind = match shared.append(record, &mut None) {
            Ok(delivery) => return Ok(delivery),
            Err(Obstacle::Error(error)) => return Err(error),
            Err(Obstacle::Room(_)) => {
                shared.accumulator.notices.send_everything();
                ErrorKind::BufferFull { capacity: shared.config.buffer_memory }
            }
            Err(Obstacle::Topic) => {
                let name: Arc<str> = record.topic().into();
                shared.track(&name);
                match shared.client.metadata().topic(&name).filter(|topic| topic.partition_count() > 0) {
                    Some(topic) => {
                        shared.open_topic(topic);
                        return self.try_enqueue(record);
                    }
                    None => ErrorKind::TopicNotLoaded(name),
                }
            }
            Err(Obstacle::Partition { partition, partitions }) => {
                shared.client.refresher().request("a record names a partition that is not known");
                let partition = TopicPartition::new(record.topic(), partition);
                ErrorKind::UnknownPartition { partition, partitions }
            }
        };
        Err(Error::not_sent(kind))
    }

    /// Sends records and waits until all are acknowledged; the results are in the records' order.
    ///
    /// # Cancel safety
    /// Dropped, the records accepted so far are sent all the same, and the others are not.
    pub async fn send_all<'a, K: Serialize, V: Serialize>(
        &self,
        records: impl IntoIterator<Item = ProducerRecord<'a, K, V>>,
    ) -> Vec<Result<RecordMetadata>> {
        let mut accepted = Vec::new();
        for record in records {
            accepted.push(self.enqueue(record).await);
        }
        let mut results = Vec::with_capacity(accepted.len());
        for delivery in accepted {
            results.push(match delivery {
                Ok(delivery) => delivery.await,
                Err(error) => Err(error),
            });
        }
        results
    }

    /// Sends what was accepted so far without waiting for more records, and waits until each of these records is
    /// acknowledged or failed; what became of it its [`Delivery`] says.
    ///
    /// # Cancel safety
    /// Dropping it changes nothing: the records are on their way, and a later flush waits for them too.
    pub async fn flush(&self) {
        let accumulator = &self.0.shared.accumulator;
        let generation = accumulator.ledger().turn();
        accumulator.notices.send_everything();
        accumulator.ledger().emptied(generation).await;
    }

    /// A [`Sink`](futures_sink::Sink) that accepts records as there is room, and whose flush waits for their
    /// acknowledgements.
    pub fn sink<K, V>(&self) -> ProducerSink<K, V> {
        ProducerSink::new(self.clone())
    }

    /// Takes no more records, through any handle, and waits until those that were accepted are acknowledged, at most
    /// for `timeout`. What is left then fails, each record with its fate, and the producer's connections close.
    ///
    /// # Errors
    /// [`CloseTimedOut`](ErrorKind::CloseTimedOut) if something was left, or what had made the producer useless before.
    ///
    /// # Cancel safety
    /// Dropped, the producer closes all the same. A second call joins the first; the earlier deadline counts.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        let shared = &self.0.shared;
        let mut finished = shared.finished.subscribe();
        shared.closing.store(true, Ordering::Release);
        shared.accumulator.notices.close_by(Instant::now() + bounded(timeout));
        let unfinished = match finished.wait_for(Option::is_some).await {
            Ok(finished) => finished.unwrap_or(0),
            Err(_) => 0,
        };
        match (unfinished, shared.poisoned()) {
            (0, _) => Ok(()),
            (_, Some(error)) => Err(error.with_fate(Fate::PossiblyWritten)),
            (batches, None) => {
                let kind = ErrorKind::CloseTimedOut { after: timeout, batches };
                Err(Error::new(kind, Fate::PossiblyWritten))
            }
        }
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("client_id", &self.0.shared.client.config().client_id)
            .field("available_memory", &self.0.shared.accumulator.memory.available())
            .finish_non_exhaustive()
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Release);
        self.shared.accumulator.notices.close_by(Instant::now());
    }
}

thread_local! {
    /// Where keys and values are serialized that are not bytes to begin with.
    static SCRATCH: Cell<(Vec<u8>, Vec<u8>)> = const { Cell::new((Vec::new(), Vec::new())) };
}

/// A scratch buffer that one huge value made large is not kept.
const LARGEST_SCRATCH: usize = 1 << 20;

impl Shared {
    /// Accepts a record if nothing stands in the way.
    #[inline]
    fn append<K: Serialize, V: Serialize>(
        &self,
        record: &ProducerRecord<'_, K, V>,
        room: &mut Option<Room>,
    ) -> Result<Delivery, Obstacle> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Obstacle::Error(self.closed()));
        }
        let topics;
        let topic = match record.topic.slots(self) {
            Some(topic) => topic,
            None => {
                topics = self.accumulator.topics();
                &**topics.get(record.topic.name()).ok_or(Obstacle::Topic)?
            }
        };
        if !record.key.uses_scratch() && !record.value.uses_scratch() {
            return self.append_to(topic, record, (&mut Vec::new(), &mut Vec::new()), room);
        }
        // Taken out, not borrowed: a serializer may itself send a record.
        let (mut key, mut value) = SCRATCH.take();
        let appended = self.append_to(topic, record, (&mut key, &mut value), room);
        if key.capacity().max(value.capacity()) <= LARGEST_SCRATCH {
            key.clear();
            value.clear();
            SCRATCH.set((key, value));
        }
        appended
    }

    #[inline]
    fn append_to<K: Serialize, V: Serialize>(
        &self,
        topic: &TopicSlots,
        record: &ProducerRecord<'_, K, V>,
        scratch: (&mut Vec<u8>, &mut Vec<u8>),
        room: &mut Option<Room>,
    ) -> Result<Delivery, Obstacle> {
        let failed = |part| move |source| ErrorKind::Serialize { part, source };
        let key = record.key.serialize(scratch.0).map_err(failed("key"))?;
        let value = record.value.serialize(scratch.1).map_err(failed("value"))?;
        let timestamp = record.timestamp;
        if timestamp.is_some_and(|timestamp| timestamp < 0) {
            return Err(ErrorKind::InvalidRecord { reason: "its timestamp is before 1970".to_owned() }.into());
        }
        if record.headers.is_empty() {
            return self.place(
                topic,
                record.partition,
                &Encoded { key, value, headers: &[], timestamp },
                room,
            );
        }
        with_headers(record, |headers| {
            self.place(topic, record.partition, &Encoded { key, value, headers, timestamp }, room)
        })
    }

    #[inline]
    fn place(
        &self,
        topic: &TopicSlots,
        partition: Option<i32>,
        record: &Encoded<'_>,
        room: &mut Option<Room>,
    ) -> Result<Delivery, Obstacle> {
        let size = record.size();
        if size > self.largest_record {
            return Err(self.too_large(size));
        }
        let partitions = topic.partitions() as i32;
        let chosen = partition.or_else(|| {
            let bytes = RecordBytes { topic: &topic.name, key: record.key, value: record.value };
            self.config.partitioner.partition(&bytes, partitions)
        });
        let partition = chosen.unwrap_or_else(|| topic.sticky_partition());
        let slot =
            self.accumulator.slot(topic, partition).ok_or(Obstacle::Partition { partition, partitions })?;
        match self.accumulator.append(slot, record, size, room) {
            Ok(appended) => {
                if chosen.is_none() {
                    topic.count_sticky(partition, size, appended.began_batch);
                }
                Ok(appended.delivery)
            }
            Err(refusal) => Err(self.refused(refusal)),
        }
    }

    #[cold]
    fn refused(&self, refusal: Refusal) -> Obstacle {
        match refusal {
            Refusal::NeedsRoom(size) => Obstacle::Room(size),
            Refusal::Malformed(error) => ErrorKind::InvalidRecord { reason: error.to_string() }.into(),
            Refusal::Closed => Obstacle::Error(self.closed()),
        }
    }

    #[cold]
    fn too_large(&self, size: usize) -> Obstacle {
        let size = size + HEADER_LEN;
        let (limit, setting) = if size > self.config.max_request_size {
            (self.config.max_request_size, "max.request.size")
        } else {
            (self.config.buffer_memory, "buffer.memory")
        };
        ErrorKind::RecordTooLarge { size, limit: Some(limit), setting }.into()
    }

    async fn wait_for_room(&self, size: usize, deadline: Instant) -> Result<Room> {
        // Open batches hold memory too: nobody should wait here for their linger, nor for that of batches still to come.
        let _waiting = self.accumulator.memory.begin_wait();
        self.accumulator.notices.send_everything();
        match timeout_at(deadline, self.accumulator.memory.take(size)).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(self.closed()),
            Err(_) => {
                let after = self.config.max_block;
                Err(Error::not_sent(ErrorKind::BlockedTooLong { what: "room in the buffer", after }))
            }
        }
    }

    async fn load_topic(&self, name: &str, deadline: Instant) -> Result<()> {
        let create = self.config.allow_auto_create_topics;
        let mut finished = self.finished.subscribe();
        let topic = tokio::select! {
            topic = self.client.refresher().topic(name, create, deadline) => topic?,
            _ = finished.wait_for(Option::is_some) => return Err(self.closed()),
        };
        self.track(topic.name());
        self.open_topic(&topic);
        Ok(())
    }

    /// Waits for newer metadata and takes over how many partitions the topic has.
    async fn look_again(&self, name: &str, deadline: Instant) -> Result<()> {
        let mut changes = self.client.refresher().subscribe();
        changes.mark_unchanged();
        self.client.refresher().request("a record names a partition that is not known");
        // Without an answer the error about the partition will do.
        let _ = timeout_at(deadline, changes.changed()).await;
        if let Some(topic) = self.client.metadata().topic(name)
            && topic.partition_count() > 0
        {
            self.open_topic(topic);
        }
        Ok(())
    }

    /// Takes records for a topic's partitions from now on, those without key only where there is a leader.
    pub(crate) fn open_topic(&self, topic: &kafka_client::raw::Topic) {
        let partitions = topic.partition_count();
        self.accumulator.open_topic(topic.name(), partitions);
        let leads =
            |partition| topic.partition(partition).is_some_and(|partition| partition.leader.is_some());
        let numbers = 0..i32::try_from(partitions).unwrap_or(i32::MAX);
        self.accumulator.avoid(topic.name(), numbers.filter(|partition| !leads(*partition)));
    }

    fn track(&self, topic: &Arc<str>) {
        self.tracked.lock().unwrap_or_else(PoisonError::into_inner).add(topic.clone());
    }
}

/// Records with more headers than this allocate for them.
const INLINE_HEADERS: usize = 8;

fn with_headers<K, V, T>(record: &ProducerRecord<'_, K, V>, then: impl FnOnce(&[HeaderRef<'_>]) -> T) -> T {
    let headers = record.headers.iter().map(|header| HeaderRef::new(&header.name, header.value.as_deref()));
    if record.headers.len() > INLINE_HEADERS {
        return then(&headers.collect::<Vec<_>>());
    }
    let mut inline = [HeaderRef { key: &[], value: None }; INLINE_HEADERS];
    for (place, header) in inline.iter_mut().zip(headers) {
        *place = header;
    }
    then(&inline[..record.headers.len()])
}
