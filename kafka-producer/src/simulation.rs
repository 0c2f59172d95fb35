//! Accumulator, outbox and idempotence against a model of Kafka's log, with faults from a seed: nothing lost, nothing
//! twice, order kept, and every record's fate told truly.
//!
//! `SEED=42 cargo test -p kafka-producer simulation` repeats one run.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use kafka_client::raw::Backoff;
use kafka_client::{NodeId, TopicId};
use kafka_wire::compression::{Compression, Compressor, Decompressor};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::batches;
use tokio::time::Instant;

use crate::accumulator::{Accumulator, Encoded, Refusal, Settings as AccumulatorSettings};
use crate::answer::Verdict;
use crate::completion::Delivery;
use crate::error::{ErrorKind, Fate};
use crate::idempotence::{ProducerIdentity, Sequence};
use crate::outbox::{Outbox, Part, Settings};

const NODES: NodeId = 3;
const DELIVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// A partition's log, with what a broker remembers of idempotent producers.
#[derive(Default)]
struct Log {
    values: Vec<u32>,
    producers: HashMap<i64, ProducerState>,
}

struct ProducerState {
    epoch: i16,
    last_sequence: i32,
    /// The last five batches: first sequence, last sequence, base offset.
    batches: VecDeque<(i32, i32, i64)>,
}

impl Log {
    /// Kafka's rules (`ProducerAppendInfo`): an unknown producer may begin anywhere, a new epoch begins at 0.
    fn append(&mut self, bytes: &Bytes) -> Result<i64, ErrorCode> {
        let raw = batches(bytes.clone()).next().unwrap().unwrap();
        raw.verify().unwrap();
        let (first, count) = (raw.header.base_sequence, raw.header.record_count);
        let last = first.wrapping_add(count - 1) & i32::MAX;
        if raw.header.producer_id >= 0
            && let Some(state) = self.producers.get(&raw.header.producer_id)
        {
            if raw.header.producer_epoch < state.epoch {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            if raw.header.producer_epoch > state.epoch {
                if first != 0 {
                    return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
                }
            } else if let Some((_, _, offset)) = state
                .batches
                .iter()
                .find(|(known_first, known_last, _)| (*known_first, *known_last) == (first, last))
            {
                return Ok(*offset);
            } else if first != state.last_sequence.wrapping_add(1) & i32::MAX {
                return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
        }
        let base_offset = self.values.len() as i64;
        for record in raw.decode(&mut Decompressor::default()).unwrap().into_reader() {
            self.values.push(u32::from_be_bytes(record.unwrap().value.unwrap()[..4].try_into().unwrap()));
        }
        if raw.header.producer_id >= 0 {
            let epoch = raw.header.producer_epoch;
            let state = self.producers.entry(raw.header.producer_id).or_insert(ProducerState {
                epoch,
                last_sequence: last,
                batches: VecDeque::new(),
            });
            if state.epoch != epoch {
                state.batches.clear();
            }
            (state.epoch, state.last_sequence) = (epoch, last);
            state.batches.push_back((first, last, base_offset));
            if state.batches.len() > 5 {
                state.batches.pop_front();
            }
        }
        Ok(base_offset)
    }
}

/// One request on its way to a broker and back.
struct Flight {
    node: NodeId,
    parts: Vec<Part>,
    /// Whether its place in the socket's order is fixed; before that, a layer holds it up.
    queued: bool,
    /// The broker's answer, once it has carried out the request.
    verdicts: Option<Vec<Verdict>>,
}

struct World {
    rng: fastrand::Rng,
    accumulator: Accumulator,
    outbox: Outbox,
    logs: Vec<Log>,
    leaders: Vec<NodeId>,
    /// In the order of the sockets, for those that are queued.
    flights: Vec<Flight>,
    /// Requests of connections that broke, which a broker may carry out later all the same.
    zombies: Vec<Flight>,
    deliveries: Vec<(usize, u32, Delivery)>,
    next_value: u32,
    next_producer_id: i64,
    faults: bool,
    idempotent: bool,
    events: u64,
    faults_seen: HashSet<&'static str>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let idempotent = rng.u8(..8) > 0;
        let partitions = rng.usize(1..4);
        let linger = if rng.bool() { Duration::ZERO } else { Duration::from_millis(5) };
        let accumulator = Accumulator::new(AccumulatorSettings {
            batch_size: 2048,
            buffer_memory: 64 * 1024,
            adaptive_partitioning: true,
            eager: linger.is_zero(),
            seed,
        });
        let settings = Settings {
            idempotent,
            linger,
            delivery_timeout: DELIVERY_TIMEOUT,
            max_request_size: 8192,
            retries: u32::MAX,
            backoff: Backoff::new(Duration::from_millis(100), Duration::from_secs(1)),
        };
        let codec = Compression::ALL[rng.usize(..Compression::ALL.len())];
        let compressor = (codec != Compression::None).then(|| Compressor::new(codec, None).unwrap());
        accumulator.open_topic(&"orders".into(), partitions);
        // In order, so that a slot's number is its partition's.
        for partition in 0..partitions {
            accumulator.slot(&accumulator.topics()["orders"], partition as i32).unwrap();
        }
        Self {
            outbox: Outbox::new(settings, compressor, accumulator.memory.clone(), rng.fork()),
            accumulator,
            logs: (0..partitions).map(|_| Log::default()).collect(),
            leaders: (0..partitions).map(|_| rng.i32(0..NODES)).collect(),
            rng,
            flights: vec![],
            zombies: vec![],
            deliveries: vec![],
            next_value: 0,
            next_producer_id: 1000,
            faults: true,
            idempotent,
            events: 0,
            faults_seen: HashSet::new(),
        }
    }

    fn chance(&mut self, name: &'static str, one_in: u32) -> bool {
        let hit = self.faults && self.rng.u32(..one_in) == 0;
        if hit {
            self.faults_seen.insert(name);
        }
        hit
    }

    fn enqueue(&mut self) {
        let partition = self.rng.usize(..self.logs.len());
        for _ in 0..self.rng.u32(1..40) {
            let mut value = vec![b'x'; self.rng.usize(4..300)];
            value[..4].copy_from_slice(&self.next_value.to_be_bytes());
            let record = Encoded { key: None, value: Some(&value), headers: &[], timestamp: None };
            let topics = self.accumulator.topics();
            let slot = self.accumulator.slot(&topics["orders"], partition as i32).unwrap();
            match self.accumulator.append(slot, &record, record.size(), &mut None) {
                Ok(appended) => {
                    self.deliveries.push((partition, self.next_value, appended.delivery));
                    self.next_value += 1;
                }
                Err(Refusal::NeedsRoom(_)) => {
                    self.accumulator.notices.send_everything();
                    break;
                }
                Err(refusal) => panic!("{refusal:?}"),
            }
        }
    }

    /// What the sender does whenever it runs.
    fn run_sender(&mut self, now: Instant) {
        let memory = &self.accumulator.memory;
        let mut slots = vec![];
        let everything = self.accumulator.notices.take(&mut slots).send_everything;
        for slot in slots {
            let is_new = !self.outbox.knows(&slot);
            self.outbox.note(&slot, now);
            if is_new {
                let leader = self.leaders[slot.id.partition as usize];
                self.outbox.set_leader(&slot, Some(leader), TopicId::ZERO, now);
            }
        }
        if everything {
            self.outbox.send_everything(now);
        }
        self.outbox.handle_timeout(now);
        if self.outbox.needs_identity() {
            self.next_producer_id += 1;
            // Close to the last epoch, so that a few restarts use them up.
            let identity = ProducerIdentity { id: self.next_producer_id, epoch: i16::MAX - 2 };
            self.outbox.assign_identity(identity, now);
        }
        while let Some(job) = self.outbox.next_compression() {
            let mut compressor = Compressor::new(Compression::Gzip, None).unwrap();
            let done = job.run(Some(&mut compressor), memory);
            self.outbox.compressed(done, now);
        }
        for node in 0..NODES {
            while self.flights.iter().filter(|flight| flight.node == node).count() < 5 {
                let mut parts = vec![];
                self.outbox.take_request(node, &mut parts, now);
                if parts.is_empty() {
                    break;
                }
                let held_up = self.faults && self.rng.u8(..10) == 0;
                let flight = Flight { node, parts, queued: false, verdicts: None };
                self.flights.push(flight);
                if !held_up {
                    self.queue(self.flights.len() - 1, now);
                }
            }
        }
    }

    /// A layer lets a request through to the connection.
    fn queue(&mut self, index: usize, now: Instant) {
        let mut flight = self.flights.remove(index);
        flight.queued = true;
        for part in &flight.parts {
            self.outbox.queued(part, now);
        }
        self.flights.push(flight);
    }

    /// A broker carries out the first request of a connection that it has not carried out.
    fn carry_out(&mut self, node: NodeId) {
        let Some(index) = self
            .flights
            .iter()
            .position(|flight| flight.node == node && flight.queued && flight.verdicts.is_none())
        else {
            return;
        };
        let parts = std::mem::take(&mut self.flights[index].parts);
        let verdicts = parts.iter().map(|part| self.produce(node, part)).collect();
        self.flights[index].parts = parts;
        self.flights[index].verdicts = Some(verdicts);
    }

    fn produce(&mut self, node: NodeId, part: &Part) -> Verdict {
        let partition = part.partition as usize;
        let refused = |code| Verdict::refused(code, None, 0, vec![], true);
        if self.leaders[partition] != node {
            return refused(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        for (name, one_in, code) in [
            ("not leader", 15, ErrorCode::NOT_LEADER_OR_FOLLOWER),
            ("unknown topic", 15, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("not enough replicas", 20, ErrorCode::NOT_ENOUGH_REPLICAS),
            ("invalid record", 60, ErrorCode::INVALID_RECORD),
            ("too large", 40, ErrorCode::MESSAGE_TOO_LARGE),
        ] {
            if self.chance(name, one_in) {
                return refused(code);
            }
        }
        match self.logs[partition].append(&part.bytes) {
            Err(code) => {
                if code == ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER {
                    self.faults_seen.insert("out of order");
                }
                refused(code)
            }
            Ok(offset) => {
                for (name, code) in [
                    ("not leader after append", ErrorCode::NOT_LEADER_OR_FOLLOWER),
                    ("not enough replicas after append", ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
                    ("timed out after append", ErrorCode::REQUEST_TIMED_OUT),
                    ("unknown server error", ErrorCode::UNKNOWN_SERVER_ERROR),
                ] {
                    if self.chance(name, 40) {
                        return refused(code);
                    }
                }
                Verdict::written(Some(offset), None)
            }
        }
    }

    /// An answer arrives.
    fn answer(&mut self, node: NodeId, now: Instant) {
        let arrived = |flight: &Flight| flight.node == node && flight.verdicts.is_some();
        let Some(index) = self.flights.iter().position(arrived) else { return };
        let flight = self.flights.remove(index);
        for (part, verdict) in flight.parts.iter().zip(flight.verdicts.unwrap()) {
            self.outbox.answered(part.slot, part.sequence, verdict, now);
        }
    }

    fn fail(&mut self, parts: &[(u32, Sequence)], was_written: bool, now: Instant) {
        for (slot, sequence) in parts {
            let verdict = Verdict::unanswered(kafka_client::Error::closed(), was_written);
            self.outbox.answered(*slot, *sequence, verdict, now);
        }
    }

    /// A connection breaks: what was written on it may be carried out later, or not.
    fn disconnect(&mut self, node: NodeId, now: Instant) {
        let (broken, rest) = std::mem::take(&mut self.flights)
            .into_iter()
            .partition(|flight| flight.node == node && flight.queued);
        self.flights = rest;
        let mut broken: Vec<Flight> = broken;
        // Written in order, and carried out in order: some of the first, none after.
        let written = broken.iter().rposition(|flight| flight.verdicts.is_some()).map_or(0, |last| last + 1);
        let written = self.rng.usize(written..=broken.len());
        for (index, flight) in broken.iter().enumerate() {
            let parts: Vec<_> = flight.parts.iter().map(|part| (part.slot, part.sequence)).collect();
            self.fail(&parts, index < written, now);
        }
        broken.truncate(written);
        broken.retain(|flight| flight.verdicts.is_none());
        let carried_out_later = self.rng.usize(..=broken.len());
        self.zombies.extend(broken.drain(..carried_out_later));
    }

    fn step(&mut self, now: Instant) {
        self.events += 1;
        let node = self.rng.i32(0..NODES);
        match self.rng.u8(..20) {
            0..=4 => self.enqueue(),
            5..=9 => self.carry_out(node),
            10..=14 => self.answer(node, now),
            15 => {
                // A layer lets go of a request it held, or refuses it.
                if let Some(index) = self.flights.iter().position(|flight| !flight.queued) {
                    if self.chance("layer", 3) {
                        let flight = self.flights.remove(index);
                        let parts: Vec<_> =
                            flight.parts.iter().map(|part| (part.slot, part.sequence)).collect();
                        self.fail(&parts, false, now);
                    } else {
                        self.queue(index, now);
                    }
                }
            }
            16 if self.chance("disconnect", 3) => self.disconnect(node, now),
            17 if self.chance("leader move", 3) => {
                let partition = self.rng.usize(..self.leaders.len());
                self.leaders[partition] = self.rng.i32(0..NODES);
            }
            18 => self.tell_leaders(now),
            19 if !self.zombies.is_empty() => {
                // Any connection's, but of each the oldest.
                let node = self.zombies[self.rng.usize(..self.zombies.len())].node;
                let index = self.zombies.iter().position(|zombie| zombie.node == node).unwrap_or(0);
                let zombie = self.zombies.remove(index);
                for part in &zombie.parts {
                    self.produce(zombie.node, part);
                }
            }
            _ => {}
        }
        if self.chance("forgotten producer", 30) {
            // As after retention or DeleteRecords: a producer can be forgotten while it has nothing to send.
            let quiet = |index: usize| {
                let is_here = |part: &Part| part.partition as usize == index;
                !self.flights.iter().chain(&self.zombies).any(|flight| flight.parts.iter().any(is_here))
            };
            let quiet: Vec<_> = (0..self.logs.len()).filter(|index| quiet(*index)).collect();
            for index in quiet {
                if self.outbox.is_at_rest(index as u32) {
                    self.logs[index].producers.clear();
                }
            }
        }
    }

    fn tell_leaders(&mut self, now: Instant) {
        for slot in self.accumulator.topics()["orders"].slots() {
            let leader = self.leaders[slot.id.partition as usize];
            self.outbox.set_leader(slot, Some(leader), TopicId::ZERO, now);
        }
    }

    fn check(mut self, seed: u64) -> HashSet<&'static str> {
        let memory = self.accumulator.memory.available();
        assert_eq!(memory, 64 * 1024, "seed {seed}: memory was not given back");
        let mut found: HashMap<(usize, u32), Vec<i64>> = HashMap::new();
        for (partition, log) in self.logs.iter().enumerate() {
            for (offset, value) in log.values.iter().enumerate() {
                found.entry((partition, *value)).or_default().push(offset as i64);
            }
            if self.idempotent {
                let ascending = log.values.windows(2).all(|pair| pair[0] < pair[1]);
                assert!(ascending, "seed {seed}: partition {partition} is out of order or has duplicates");
            }
        }
        for (partition, value, delivery) in &mut self.deliveries {
            let offsets = found.get(&(*partition, *value)).map_or(&[][..], Vec::as_slice);
            let outcome = delivery.try_outcome();
            let Some(outcome) = outcome else { panic!("seed {seed}: record {value} was never resolved") };
            match outcome {
                Ok(record) => {
                    let offset = record.offset.unwrap();
                    assert!(
                        offsets.contains(&offset),
                        "seed {seed}: {value} is lost: {offset} of {offsets:?}"
                    );
                }
                Err(error) => match error.fate() {
                    Fate::NotWritten => {
                        assert_eq!(offsets, &[0; 0], "seed {seed}: {value} was written: {error:?}")
                    }
                    Fate::PossiblyWritten => {
                        assert!(!matches!(error.kind(), ErrorKind::Closed), "seed {seed}: {value} {error:?}");
                    }
                    Fate::Written => panic!("seed {seed}: {value} {error:?}"),
                },
            }
        }
        self.faults_seen
    }
}

async fn run(seed: u64) -> HashSet<&'static str> {
    let mut world = World::new(seed);
    for _ in 0..world.rng.usize(50..600) {
        let now = Instant::now();
        world.run_sender(now);
        world.step(now);
        let pause = match world.rng.u8(..40) {
            0 => Duration::from_millis(world.rng.u64(..3000)),
            1..15 => Duration::from_millis(world.rng.u64(..20)),
            _ => Duration::ZERO,
        };
        tokio::time::advance(pause).await;
    }
    // The faults stop; within the delivery timeout everything must come to its end.
    world.faults = false;
    let end = Instant::now() + DELIVERY_TIMEOUT + Duration::from_secs(5);
    while Instant::now() < end {
        let now = Instant::now();
        world.tell_leaders(now);
        world.run_sender(now);
        while let Some(index) = world.flights.iter().position(|flight| !flight.queued) {
            world.queue(index, now);
        }
        for node in 0..NODES {
            world.carry_out(node);
            world.answer(node, now);
        }
        tokio::time::advance(Duration::from_millis(20)).await;
    }
    world.check(seed)
}

#[tokio::test(start_paused = true)]
async fn a_model_of_kafkas_log_sees_no_loss_no_duplicate_and_no_reordering() {
    if let Some(seed) = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        run(seed).await;
        return;
    }
    let first = fastrand::u64(..1 << 40);
    let runs = std::env::var("RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(200);
    println!("seeds from {first}, {runs} of them");
    let mut seen = HashSet::new();
    for seed in first..first + runs {
        seen.extend(run(seed).await);
    }
    for fault in [
        "not leader after append",
        "disconnect",
        "leader move",
        "layer",
        "forgotten producer",
        "too large",
        "out of order",
    ] {
        assert!(seen.contains(fault), "no run had the fault {fault:?}");
    }
}
