//! Whole groups on a virtual clock: real members and the bundled broker's real coordinator, over a network that loses,
//! delays and cuts, with consumers that dawdle and topics that grow. Runs are repeatable: `SEED=42` replays one.
//!
//! Checked all the time:
//! - no partition is with two consumers that the coordinator counts as members, so never two in one generation;
//! - a commit carries the generation and the partitions that its member has at that moment, and the coordinator
//!   accepts none for a partition that another of its members has;
//! - what is committed never goes back;
//! - every commit gets exactly one outcome.
//!
//! And once the faults have stopped, within two virtual minutes: every partition has an owner, every consumer is
//! stable, and everything can be committed.

mod network;
mod translation;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use kafka_broker::group as broker;
use kafka_client::types::{OffsetAndMetadata, TopicPartition};
use kafka_wire::error_code::ErrorCode;

use super::assignor::{Topics, by_name};
use super::classic::{ClassicMember, Input, Output};
use super::config::GroupConfig;
use super::interface::Offsets;
use super::messages::{Answer, JoinRejected, Joined, JoinedMember, Request, RequestId, Synced};
use super::seeds;

const SESSION_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(20);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// Faults happen for so long, and so long it may take to recover from them.
const TROUBLE: Duration = Duration::from_secs(90);
const RECOVERY: Duration = Duration::from_secs(120);

#[test]
fn a_group_survives_whatever_happens_to_it() {
    for (seed, _) in seeds(200) {
        Simulation::run(seed, true);
    }
}

#[test]
fn a_group_without_trouble_settles_and_loses_nothing() {
    for (seed, _) in seeds(50) {
        assert_eq!(Simulation::run(seed, false).lost, 0, "seed {seed}");
    }
}

/// Ten thousand troubled groups; `SEED=n` replays one with its whole story.
#[test]
#[ignore = "a long run, by hand or by night: cargo test -p kafka-consumer --release -- --ignored survives"]
fn many_groups_survive_whatever_happens_to_them() {
    for (seed, _) in seeds(10_000) {
        Simulation::run(seed, true);
    }
}

/// One consumer process and the application in it.
struct Consumer {
    instance_id: Option<Arc<str>>,
    subscription: BTreeSet<Arc<str>>,
    /// None while it is not running.
    machine: Option<ClassicMember>,
    /// Tells one run of the process from the next: what belonged to an earlier one comes to nothing.
    run: u64,
    /// What the membership has told and the application has not read yet, with the losses there had been then.
    inbox: VecDeque<(u64, Output)>,
    /// The application is finishing what was revoked.
    releasing: bool,
    /// What the application may read, and how far it has read.
    positions: BTreeMap<TopicPartition, i64>,
    /// Partitions that are with this consumer: assigned, and neither released nor lost.
    held: BTreeSet<TopicPartition>,
    /// How often its membership was lost, and with it whatever it held.
    losses: u64,
    /// Commits without an outcome.
    commits: BTreeSet<u64>,
    busy_until: Instant,
    leaving: bool,
    link: Link,
    watched: Option<BTreeSet<Arc<str>>>,
    /// When its machine will be looked at next.
    timer: Option<Instant>,
}

/// The consumer's connection to the coordinator, which serves it in order and one request at a time.
#[derive(Default)]
struct Link {
    number: u64,
    outstanding: BTreeSet<RequestId>,
    queue: VecDeque<(RequestId, Request)>,
    parked: bool,
    last_out: Option<Instant>,
    last_back: Option<Instant>,
}

#[derive(Debug)]
enum Event {
    /// The consumer's machine may have something due.
    Timer,
    /// The application does a bit of work.
    Work,
    /// The application has finished with what was revoked.
    Release {
        revocation: u64,
        partitions: Vec<TopicPartition>,
        losses: u64,
    },
    /// The process starts again.
    Start,
    Arrive {
        link: u64,
        request: RequestId,
        body: Box<Request>,
    },
    Answered {
        link: u64,
        request: RequestId,
        answer: Box<Answer>,
    },
    TimedOut {
        link: u64,
        request: RequestId,
    },
    Topics {
        watched: BTreeSet<Arc<str>>,
    },
}

/// Where the coordinator's answer goes.
struct Origin {
    consumer: usize,
    run: u64,
    link: u64,
    request: RequestId,
    commit: Vec<(TopicPartition, i64)>,
    member_id: String,
}

struct Simulation {
    random: Rng,
    trouble: bool,
    strategies: &'static [&'static str],
    start: Instant,
    now: Instant,
    topics: Topics,
    group: broker::Group,
    coordinator_gone: bool,
    consumers: Vec<Consumer>,
    origins: HashMap<u64, Origin>,
    next_origin: u64,
    next_commit: u64,
    committed: BTreeMap<TopicPartition, i64>,
    events: BinaryHeap<Reverse<(Instant, u64, usize, u64)>>,
    bodies: HashMap<u64, Event>,
    next_event: u64,
    lost: usize,
    telling: bool,
    story: String,
}

impl Simulation {
    fn new(mut random: Rng, trouble: bool) -> Self {
        let start = Instant::now();
        let strategies: &[&'static [&'static str]] = &[
            &["range", "cooperative-sticky"],
            &["range"],
            &["roundrobin"],
            &["sticky"],
            &["cooperative-sticky"],
            &["cooperative-sticky"],
        ];
        let strategies = strategies[random.usize(..strategies.len())];
        let topics: Topics =
            (0..random.usize(1..4)).map(|number| (format!("t{number}"), random.usize(1..7))).collect();
        let config = broker::GroupConfig {
            initial_rebalance_delay: Duration::from_millis(random.u64(..2) * 500),
            ..broker::GroupConfig::default()
        };
        let mut simulation = Self {
            trouble,
            strategies,
            start,
            now: start,
            group: broker::Group::new("group", config, random.u64(..)),
            coordinator_gone: false,
            consumers: Vec::new(),
            origins: HashMap::new(),
            next_origin: 0,
            next_commit: 0,
            committed: BTreeMap::new(),
            events: BinaryHeap::new(),
            bodies: HashMap::new(),
            next_event: 0,
            lost: 0,
            telling: false,
            story: String::new(),
            topics,
            random,
        };
        for number in 0..simulation.random.usize(1..7) {
            let is_static = simulation.random.u8(..4) == 0;
            let subscription = simulation.choose_topics();
            simulation.consumers.push(Consumer {
                instance_id: is_static.then(|| format!("instance-{number}").into()),
                subscription,
                machine: None,
                run: 0,
                inbox: VecDeque::new(),
                releasing: false,
                positions: BTreeMap::new(),
                held: BTreeSet::new(),
                losses: 0,
                commits: BTreeSet::new(),
                busy_until: start,
                leaving: false,
                link: Link::default(),
                watched: None,
                timer: None,
            });
            let after = simulation.milliseconds(0, 3_000);
            simulation.schedule(number, after, Event::Start);
        }
        simulation
    }

    /// Runs the group of this seed. One that fails is run again, and tells its story.
    fn run(seed: u64, trouble: bool) -> Self {
        let run = |telling: bool| {
            let mut simulation = Self::new(Rng::with_seed(seed), trouble);
            simulation.telling = telling;
            let outcome = catch_unwind(AssertUnwindSafe(|| simulation.live()));
            (simulation, outcome)
        };
        let (simulation, outcome) = run(false);
        if let Err(panic) = outcome {
            let (Self { story, .. }, _) = run(true);
            println!("{story}\nSEED={seed} replays it");
            resume_unwind(panic);
        }
        simulation
    }

    fn live(&mut self) {
        let until = self.start + TROUBLE;
        while let Some(at) = self.next_due().filter(|at| *at < until) {
            self.step(at);
            if self.trouble && self.random.u16(..400) == 0 {
                self.make_trouble();
            }
        }
        self.tell(|| "quiet from here on".into());
        self.now = self.now.max(until);
        self.trouble = false;
        self.coordinator_gone = false;
        for consumer in 0..self.consumers.len() {
            if self.consumers[consumer].machine.is_none() && !self.consumers[consumer].leaving {
                self.schedule(consumer, Duration::ZERO, Event::Start);
            }
        }
        let limit = until + RECOVERY;
        // Long enough for a session to have expired, and for what was under way to have arrived.
        let earliest = until + SESSION_TIMEOUT + MAX_POLL_INTERVAL;
        while let Some(at) = self.next_due() {
            if at > limit {
                panic!("not quiet after {RECOVERY:?}: {}", self.unrest().unwrap_or_default());
            }
            if at > earliest && self.unrest().is_none() {
                return;
            }
            self.step(at);
        }
    }

    fn next_due(&self) -> Option<Instant> {
        let event = self.events.peek().map(|Reverse((at, ..))| *at);
        event.into_iter().chain(self.group.poll_timeout()).min()
    }

    fn step(&mut self, at: Instant) {
        self.now = self.now.max(at);
        if self.group.poll_timeout().is_some_and(|due| due <= self.now) {
            self.group.handle_timeout(self.now);
            self.coordinator_answers();
        }
        if self.events.peek().is_some_and(|Reverse((at, ..))| *at <= self.now)
            && let Some(Reverse((_, number, consumer, run))) = self.events.pop()
            && let Some(event) = self.bodies.remove(&number)
            && self.consumers[consumer].run == run
        {
            self.happen(consumer, event);
        }
    }

    /// What is not as it should be in a quiet group.
    fn unrest(&self) -> Option<String> {
        if self.group.state() != broker::GroupState::Stable {
            return Some(format!("the coordinator is in {}", self.group.state()));
        }
        let mut owned = BTreeSet::new();
        for (number, consumer) in self.consumers.iter().enumerate() {
            let Some(machine) = &consumer.machine else { return Some(format!("{number} is not running")) };
            if machine.membership().generation != self.group.generation() || consumer.releasing {
                return Some(format!("{number} is in {:?}: {machine:?}", machine.membership()));
            }
            if !consumer.commits.is_empty() {
                return Some(format!("{number} waits for commits {:?}", consumer.commits));
            }
            if consumer.positions.keys().ne(consumer.held.iter()) {
                return Some(format!("{number} has not read all it was told"));
            }
            owned.extend(consumer.held.iter().cloned());
        }
        for (topic, partitions) in self.topics.iter() {
            if self.consumers.iter().any(|consumer| consumer.subscription.contains(topic)) {
                for partition in 0..partitions as i32 {
                    let partition = TopicPartition::new(Arc::clone(topic), partition);
                    if !owned.contains(&partition) {
                        return Some(format!("nobody has {partition}"));
                    }
                }
            }
        }
        None
    }

    /// No partition may be with two consumers whom the coordinator both counts as members.
    fn check_owners(&self) {
        let members = self.group.describe().members;
        let mut owners: HashMap<&TopicPartition, usize> = HashMap::new();
        for (number, consumer) in self.consumers.iter().enumerate() {
            if !self.is_counted(consumer, &members) {
                continue;
            }
            for partition in &consumer.held {
                if let Some(other) = owners.insert(partition, number) {
                    panic!("{partition} is with {other} and with {number}");
                }
            }
        }
    }

    /// Whether the coordinator counts this consumer as a member of its generation. A static member stays on its list
    /// even if it has missed a generation.
    fn is_counted(&self, consumer: &Consumer, members: &[broker::MemberDescription]) -> bool {
        let Some(machine) = &consumer.machine else { return false };
        let membership = machine.membership();
        let is_current = consumer.instance_id.is_none() || membership.generation == self.group.generation();
        is_current && members.iter().any(|member| *member.member_id == *membership.member_id)
    }

    fn happen(&mut self, consumer: usize, event: Event) {
        match event {
            Event::Timer => {
                let now = self.now;
                let at_work = &mut self.consumers[consumer];
                at_work.timer = None;
                if let Some(machine) = &mut at_work.machine {
                    if machine.poll_timeout().is_some_and(|due| due <= now) {
                        machine.handle_timeout(now);
                    }
                    self.drain(consumer);
                }
            }
            Event::Work => self.work(consumer),
            Event::Release { revocation, partitions, losses } => {
                self.release(consumer, revocation, &partitions, losses);
            }
            Event::Start => self.start(consumer),
            Event::Arrive { link, request, body } => {
                if self.consumers[consumer].link.number == link {
                    self.consumers[consumer].link.queue.push_back((request, *body));
                    self.serve(consumer);
                }
            }
            Event::Answered { link, request, answer } => {
                let of_consumer = &mut self.consumers[consumer].link;
                if of_consumer.number == link && of_consumer.outstanding.remove(&request) {
                    self.tell(|| format!("{consumer} hears {answer:?}"));
                    self.input(consumer, Input::Answer { request, answer: *answer });
                }
            }
            Event::TimedOut { link, request } => {
                let of_consumer = &self.consumers[consumer].link;
                if of_consumer.number == link && of_consumer.outstanding.contains(&request) {
                    self.cut(consumer);
                }
            }
            Event::Topics { watched } => {
                if self.consumers[consumer].watched.as_ref() == Some(&watched) {
                    let known = self.topics.iter().filter(|(topic, _)| watched.contains(*topic));
                    let known = known.map(|(topic, partitions)| (Arc::clone(topic), partitions)).collect();
                    self.input(consumer, Input::Topics(known));
                }
            }
        }
    }

    fn start(&mut self, number: usize) {
        if self.consumers[number].machine.is_some() {
            return;
        }
        let mut config = GroupConfig::new("group");
        config.assignors = self.strategies.iter().filter_map(|name| by_name(name)).collect();
        config.instance_id = self.consumers[number].instance_id.clone();
        config.session_timeout = SESSION_TIMEOUT;
        config.max_poll_interval = MAX_POLL_INTERVAL;
        let machine = ClassicMember::new(config, self.random.u64(..), self.now);
        let consumer = &mut self.consumers[number];
        consumer.machine = Some(machine);
        consumer.leaving = false;
        let topics = consumer.subscription.clone();
        self.tell(|| format!("{number} starts, for {topics:?}"));
        self.input(number, Input::Subscribe(topics));
        self.schedule(number, Duration::from_millis(50), Event::Work);
    }

    /// The process ends without a word.
    fn stop(&mut self, number: usize) {
        let consumer = &mut self.consumers[number];
        consumer.run += 1;
        consumer.machine = None;
        consumer.inbox.clear();
        consumer.releasing = false;
        consumer.positions.clear();
        consumer.held.clear();
        consumer.commits.clear();
        consumer.watched = None;
        consumer.timer = None;
        consumer.link = Link { number: consumer.link.number + 1, ..Link::default() };
        consumer.leaving = false;
        let after = self.milliseconds(500, 8_000);
        self.schedule(number, after, Event::Start);
    }

    /// What the application does whenever it has time: polls, hears the news, reads, commits.
    fn work(&mut self, number: usize) {
        let pause = self.milliseconds(50, 1_000);
        self.schedule(number, pause, Event::Work);
        if self.consumers[number].machine.is_none() || self.consumers[number].busy_until > self.now {
            return;
        }
        self.input(number, Input::Polled);
        self.read_news(number);
        if self.consumers[number].releasing || self.consumers[number].machine.is_none() {
            return;
        }
        let steps = self.random.i64(1..50);
        let consumer = &mut self.consumers[number];
        consumer.positions.values_mut().for_each(|position| *position += steps);
        if self.random.u8(..3) == 0 {
            self.commit(number);
        }
        if self.random.u16(..300) == 0 && self.trouble {
            // Once in a while a record takes longer than allowed.
            self.consumers[number].busy_until = self.now + self.milliseconds(1_000, 40_000);
        }
    }

    fn read_news(&mut self, number: usize) {
        while !self.consumers[number].releasing {
            let Some((losses, news)) = self.consumers[number].inbox.pop_front() else { return };
            match news {
                Output::Assigned(partitions) => {
                    for partition in partitions {
                        let position = self.committed.get(&partition).copied().unwrap_or(0);
                        self.consumers[number].positions.insert(partition, position);
                    }
                }
                Output::Revoked { revocation, partitions } => {
                    self.consumers[number].releasing = true;
                    let slow = self.trouble && self.random.u8(..30) == 0;
                    let after =
                        if slow { self.milliseconds(5_000, 50_000) } else { self.milliseconds(0, 800) };
                    self.schedule(number, after, Event::Release { revocation, partitions, losses });
                }
                Output::Lost(partitions) => {
                    let consumer = &mut self.consumers[number];
                    consumer.positions.retain(|partition, _| !partitions.contains(partition));
                }
                other => panic!("{other:?} is no news"),
            }
        }
    }

    fn release(&mut self, number: usize, revocation: u64, partitions: &[TopicPartition], losses: u64) {
        let offsets = self.offsets(number, |partition| partitions.contains(partition));
        let consumer = &mut self.consumers[number];
        consumer.releasing = false;
        for partition in partitions {
            consumer.positions.remove(partition);
            if consumer.losses == losses {
                consumer.held.remove(partition);
            }
        }
        self.tell(|| format!("{number} releases {partitions:?}"));
        self.input(number, Input::Released { revocation, offsets });
    }

    fn commit(&mut self, number: usize) {
        let offsets = self.offsets(number, |_| true);
        if offsets.is_empty() {
            return;
        }
        self.next_commit += 1;
        let commit = self.next_commit;
        let deadline = self.now + self.milliseconds(1_000, 30_000);
        self.consumers[number].commits.insert(commit);
        self.input(number, Input::Commit { commit, offsets, deadline });
    }

    fn offsets(&self, number: usize, of: impl Fn(&TopicPartition) -> bool) -> Offsets {
        let positions = self.consumers[number].positions.iter().filter(|(partition, _)| of(partition));
        positions
            .map(|(partition, position)| (partition.clone(), OffsetAndMetadata::new(*position)))
            .collect()
    }

    fn input(&mut self, number: usize, input: Input) {
        let now = self.now;
        if let Some(machine) = &mut self.consumers[number].machine {
            machine.handle(input, now);
            self.drain(number);
        }
    }

    fn make_trouble(&mut self) {
        let number = self.random.usize(..self.consumers.len());
        match self.random.u8(..10) {
            0 | 1 => self.cut(number),
            2 => {
                self.tell(|| format!("{number} crashes"));
                self.stop(number);
            }
            3 => {
                self.tell(|| format!("{number} closes"));
                self.consumers[number].leaving = true;
                self.input(number, Input::Leave);
            }
            4 => {
                if self.consumers[number].leaving {
                    self.tell(|| format!("{number} gives up closing"));
                    for commit in std::mem::take(&mut self.consumers[number].commits) {
                        self.consumers[number].commits.insert(commit);
                    }
                    self.input(number, Input::Abandon);
                }
            }
            5 => {
                self.tell(|| "the coordinator moves".into());
                self.coordinator_gone = true;
                self.group.fail_parked(broker::GroupError::NotCoordinator, self.now);
                self.coordinator_answers();
            }
            6 => {
                self.tell(|| "the coordinator is back".into());
                self.coordinator_gone = false;
            }
            7 => {
                let subscription = self.choose_topics();
                self.tell(|| format!("{number} subscribes to {subscription:?}"));
                self.consumers[number].subscription = subscription.clone();
                self.input(number, Input::Subscribe(subscription));
            }
            8 => {
                let grown = self.random.usize(..self.topics.iter().count());
                let Some((topic, partitions)) = self.topics.iter().nth(grown) else { return };
                let (topic, partitions) = (Arc::clone(topic), partitions + self.random.usize(1..3));
                self.tell(|| format!("{topic} grows to {partitions} partitions"));
                self.topics.insert(topic, partitions);
                for consumer in 0..self.consumers.len() {
                    if let Some(watched) = self.consumers[consumer].watched.clone() {
                        let after = self.milliseconds(0, 2_000);
                        self.schedule(consumer, after, Event::Topics { watched });
                    }
                }
            }
            _ => self.consumers[number].busy_until = self.now + self.milliseconds(1_000, 60_000),
        }
    }

    fn choose_topics(&mut self) -> BTreeSet<Arc<str>> {
        let mut chosen: BTreeSet<Arc<str>> = BTreeSet::new();
        for (topic, _) in self.topics.iter() {
            if self.random.u8(..3) > 0 {
                chosen.insert(Arc::clone(topic));
            }
        }
        if chosen.is_empty() {
            chosen.extend(self.topics.iter().map(|(topic, _)| Arc::clone(topic)).take(1));
        }
        chosen
    }

    fn delay(&mut self) -> Duration {
        match self.random.u8(..20) {
            0 if self.trouble => self.milliseconds(500, 6_000),
            _ => self.milliseconds(1, 60),
        }
    }

    fn milliseconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.u64(from..to))
    }

    fn schedule(&mut self, consumer: usize, after: Duration, event: Event) {
        self.next_event += 1;
        let run = self.consumers[consumer].run;
        self.events.push(Reverse((self.now + after, self.next_event, consumer, run)));
        self.bodies.insert(self.next_event, event);
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if !self.telling {
            return;
        }
        let at = (self.now - self.start).as_secs_f64();
        let _ = writeln!(self.story, "{at:9.3} {}", what());
    }
}
