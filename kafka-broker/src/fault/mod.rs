//! Fault rules: which requests go wrong, when, and how. Each has a guard that tells whether it ever did.

pub(crate) mod served;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_wire::api::Api;
use kafka_wire::error_code::ErrorCode;

/// The requests that a fault is for: those of one API, narrowed by the methods of [`Matcher`].
///
/// ```
/// use kafka_broker::on;
/// use kafka_wire::api::Api;
///
/// let third_write_to_t0 = on(Api::Produce).topic("t").partition(0).nth(3);
/// ```
#[must_use]
pub fn on(api: Api) -> Matcher {
    Matcher { api: Some(api), ..on_any() }
}

/// Requests of any API, narrowed by the methods of [`Matcher`].
#[must_use]
pub fn on_any() -> Matcher {
    Matcher {
        api: None,
        broker: None,
        topic: None,
        partition: None,
        group: None,
        client_id: None,
        first: 1,
        times: None,
        chance: None,
    }
}

/// Which requests a fault is for. Everything that is not said matches.
#[derive(Debug, Clone)]
pub struct Matcher {
    api: Option<Api>,
    broker: Option<i32>,
    topic: Option<String>,
    partition: Option<i32>,
    group: Option<String>,
    client_id: Option<String>,
    first: u64,
    times: Option<u64>,
    chance: Option<(f64, u64)>,
}

impl Matcher {
    /// Only requests that this broker receives.
    #[must_use]
    pub fn broker(mut self, id: i32) -> Self {
        self.broker = Some(id);
        self
    }

    /// Only requests that name this topic.
    #[must_use]
    pub fn topic(mut self, name: impl Into<String>) -> Self {
        self.topic = Some(name.into());
        self
    }

    /// Only requests that name a partition with this number.
    #[must_use]
    pub fn partition(mut self, number: i32) -> Self {
        self.partition = Some(number);
        self
    }

    /// Only requests about this group.
    #[must_use]
    pub fn group(mut self, id: impl Into<String>) -> Self {
        self.group = Some(id.into());
        self
    }

    /// Only requests of clients with this id.
    #[must_use]
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// Only the `n`-th request that matches everything else, counted from 1; with [`times`](Self::times), from it on.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.first = n;
        self.times = self.times.or(Some(1));
        self
    }

    /// At most so many requests. Default: every one, or one after [`nth`](Self::nth).
    #[must_use]
    pub fn times(mut self, times: u64) -> Self {
        self.times = Some(times);
        self
    }

    /// Each matching request only with this probability, from 0 to 1, drawn from a generator with this seed.
    #[must_use]
    pub fn probability(mut self, probability: f64, seed: u64) -> Self {
        self.chance = Some((probability, seed));
        self
    }

    fn matches(&self, request: &Seen<'_>) -> bool {
        let wants =
            |wanted: &Option<String>, seen: Option<&str>| wanted.is_none() || wanted.as_deref() == seen;
        self.api.is_none_or(|api| api == request.api)
            && self.broker.is_none_or(|broker| broker == request.broker)
            && wants(&self.client_id, request.client_id)
            && wants(&self.group, request.group)
            && self.matches_items(request)
    }

    fn matches_items(&self, request: &Seen<'_>) -> bool {
        if self.topic.is_none() && self.partition.is_none() {
            return true;
        }
        let mut found = false;
        (request.items)(&mut |topic, partition| found |= self.matches_item(topic, partition));
        found
    }

    fn matches_item(&self, topic: &str, partition: Option<i32>) -> bool {
        self.topic.as_deref().is_none_or(|wanted| wanted == topic)
            && (self.partition.is_none() || self.partition == partition)
    }
}

/// A fault in the making: says what goes wrong, and arms it.
#[derive(Debug)]
#[must_use = "a fault is armed by error, delay, close, hang, close_after_bytes, drip or throttle"]
pub struct Fault {
    faults: Arc<Faults>,
    matcher: Matcher,
    stage: Stage,
}

impl Fault {
    pub(crate) fn new(faults: Arc<Faults>, matcher: Matcher) -> Self {
        Self { faults, matcher, stage: Stage::Before }
    }

    /// Lets the request take effect first: an append is in the log, a commit is stored, only the answer suffers.
    pub fn after_effect(mut self) -> Self {
        self.stage = Stage::After;
        self
    }

    /// Answers with this code, in the fields where the API carries it.
    ///
    /// Produce, Fetch, ListOffsets, OffsetForLeaderEpoch and Metadata carry it for the topic and partition matched alone;
    /// the others carry it for the whole request or for each of its items.
    pub fn error(self, code: ErrorCode) -> FaultGuard {
        self.arm(Action::Error(code))
    }

    /// Waits this long.
    pub fn delay(self, delay: Duration) -> FaultGuard {
        self.arm(Action::Delay(delay))
    }

    /// Closes the connection instead of answering.
    pub fn close(self) -> FaultGuard {
        self.arm(Action::Close)
    }

    /// Never answers, and leaves the connection open.
    pub fn hang(self) -> FaultGuard {
        self.arm(Action::Hang)
    }

    /// Closes the connection after this many bytes of the answer, length prefix included.
    pub fn close_after_bytes(self, bytes: usize) -> FaultGuard {
        self.arm(Action::Cut(bytes))
    }

    /// Writes the answer at this many bytes a second.
    pub fn drip(self, bytes_per_second: usize) -> FaultGuard {
        self.arm(Action::Drip(bytes_per_second.max(1)))
    }

    /// Answers at once with this throttle time in milliseconds, then does not read from the connection that long (KIP-219).
    pub fn throttle(self, milliseconds: u32) -> FaultGuard {
        self.arm(Action::Throttle(milliseconds))
    }

    /// Does what a bug in a handler would do.
    #[cfg(test)]
    pub(crate) fn panic(self) -> FaultGuard {
        self.arm(Action::Panic)
    }

    fn arm(self, action: Action) -> FaultGuard {
        let seed = self.matcher.chance.map_or(0, |(_, seed)| seed);
        let counts = Counts { matched: 0, fired: 0, rng: fastrand::Rng::with_seed(seed) };
        let rule =
            Arc::new(Rule { matcher: self.matcher, stage: self.stage, action, counts: Mutex::new(counts) });
        self.faults.add(Arc::clone(&rule));
        FaultGuard { faults: self.faults, rule }
    }
}

/// An armed fault; dropping it disarms it.
#[derive(Debug)]
#[must_use = "dropping the guard disarms the fault"]
pub struct FaultGuard {
    faults: Arc<Faults>,
    rule: Arc<Rule>,
}

impl FaultGuard {
    /// How many requests it has hit.
    #[must_use]
    pub fn fired(&self) -> u64 {
        self.rule.counts().fired
    }

    /// Fails the test if the fault never hit a request.
    ///
    /// # Panics
    /// If [`fired`](Self::fired) is 0.
    #[track_caller]
    pub fn assert_fired(&self) {
        let Counts { fired, matched, .. } = *self.rule.counts();
        assert!(fired > 0, "a fault never fired ({matched} requests matched): {:?}", self.rule.matcher);
    }
}

impl Drop for FaultGuard {
    fn drop(&mut self) {
        self.faults.remove(&self.rule);
    }
}

/// When a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Before the handler runs.
    Before,
    /// After it ran.
    After,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    Error(ErrorCode),
    Delay(Duration),
    Close,
    Hang,
    Cut(usize),
    Drip(usize),
    Throttle(u32),
    #[cfg(test)]
    Panic,
}

/// One armed fault.
#[derive(Debug)]
struct Rule {
    matcher: Matcher,
    stage: Stage,
    action: Action,
    /// Guards what has been matched and fired so far.
    counts: Mutex<Counts>,
}

#[derive(Debug)]
struct Counts {
    matched: u64,
    fired: u64,
    rng: fastrand::Rng,
}

impl Rule {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it hits this request; counts it.
    fn fires(&self, request: &Seen<'_>) -> bool {
        if !self.matcher.matches(request) {
            return false;
        }
        let mut counts = self.counts();
        counts.matched += 1;
        let due = counts.matched >= self.matcher.first
            && self.matcher.times.is_none_or(|times| counts.fired < times);
        let fires = due && self.matcher.chance.is_none_or(|(probability, _)| counts.rng.f64() < probability);
        counts.fired += u64::from(fires);
        fires
    }
}

/// The armed faults of a cluster.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// Spares a request the mutex while there are none.
    armed: AtomicBool,
    /// Guards the rules, in the order they were armed.
    rules: Mutex<Vec<Arc<Rule>>>,
}

/// Calls its argument for each topic and partition of a request.
pub(crate) type Items<'a> = dyn Fn(&mut dyn FnMut(&str, Option<i32>)) + 'a;

/// What a rule can see of a request.
pub(crate) struct Seen<'a> {
    pub(crate) broker: i32,
    pub(crate) api: Api,
    pub(crate) client_id: Option<&'a str>,
    pub(crate) group: Option<&'a str>,
    pub(crate) items: &'a Items<'a>,
}

impl Faults {
    fn add(&self, rule: Arc<Rule>) {
        let mut rules = self.lock();
        rules.push(rule);
        self.armed.store(true, Ordering::Release);
    }

    fn remove(&self, rule: &Arc<Rule>) {
        let mut rules = self.lock();
        rules.retain(|other| !Arc::ptr_eq(other, rule));
        self.armed.store(!rules.is_empty(), Ordering::Release);
    }

    /// Every fault that hits this request.
    pub(crate) fn hitting(&self, request: &Seen<'_>) -> Injected {
        if !self.armed.load(Ordering::Acquire) {
            return Injected::default();
        }
        let rules = self.lock().clone();
        Injected { hits: rules.into_iter().filter(|rule| rule.fires(request)).collect() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Rule>>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The faults that hit one request; nearly always none.
#[derive(Debug, Default, Clone)]
pub(crate) struct Injected {
    hits: Vec<Arc<Rule>>,
}

impl Injected {
    /// The error for the whole request.
    pub(crate) fn error(&self, stage: Stage) -> Option<ErrorCode> {
        self.at(stage).find_map(|rule| match rule.action {
            Action::Error(code) => Some(code),
            _ => None,
        })
    }

    /// The error for one topic, or one partition of it.
    pub(crate) fn item_error(&self, stage: Stage, topic: &str, partition: Option<i32>) -> Option<ErrorCode> {
        self.at(stage).find_map(|rule| match rule.action {
            Action::Error(code) if rule.matcher.matches_item(topic, partition) => Some(code),
            _ => None,
        })
    }

    pub(crate) fn delay(&self, stage: Stage) -> Duration {
        let delays = self.at(stage).map(|rule| match rule.action {
            Action::Delay(delay) => delay,
            _ => Duration::ZERO,
        });
        delays.sum()
    }

    pub(crate) fn closes(&self, stage: Stage) -> bool {
        self.at(stage).any(|rule| matches!(rule.action, Action::Close))
    }

    pub(crate) fn hangs(&self, stage: Stage) -> bool {
        self.at(stage).any(|rule| matches!(rule.action, Action::Hang))
    }

    /// After how many bytes of the answer the connection closes.
    pub(crate) fn cut(&self) -> Option<usize> {
        self.hits.iter().find_map(|rule| match rule.action {
            Action::Cut(bytes) => Some(bytes),
            _ => None,
        })
    }

    /// At how many bytes a second the answer is written.
    pub(crate) fn drip(&self) -> Option<usize> {
        self.hits.iter().find_map(|rule| match rule.action {
            Action::Drip(rate) => Some(rate),
            _ => None,
        })
    }

    /// The throttle time in milliseconds.
    pub(crate) fn throttle(&self) -> Option<i32> {
        self.hits.iter().find_map(|rule| match rule.action {
            Action::Throttle(milliseconds) => Some(i32::try_from(milliseconds).unwrap_or(i32::MAX)),
            _ => None,
        })
    }

    #[cfg(test)]
    pub(crate) fn panic_if_told(&self) {
        assert!(!self.hits.iter().any(|rule| matches!(rule.action, Action::Panic)), "a fault rule panics");
    }

    fn at(&self, stage: Stage) -> impl Iterator<Item = &Arc<Rule>> {
        self.hits.iter().filter(move |rule| rule.stage == stage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(api: Api, items: &'a Items<'a>) -> Seen<'a> {
        Seen { broker: 1, api, client_id: Some("c"), group: Some("g"), items }
    }

    fn fired(matcher: Matcher, requests: u64) -> Vec<u64> {
        let faults = Arc::new(Faults::default());
        let guard = Fault::new(Arc::clone(&faults), matcher).close();
        let hits = (1..=requests).filter(|_| {
            faults.hitting(&request(Api::Produce, &|see| see("t", Some(0)))).closes(Stage::Before)
        });
        let hits: Vec<u64> = hits.collect();
        assert_eq!(guard.fired(), hits.len() as u64);
        hits
    }

    #[test]
    fn a_rule_hits_the_requests_it_was_told_to() {
        assert_eq!(fired(on(Api::Produce), 3), [1, 2, 3]);
        assert_eq!(fired(on(Api::Produce).nth(2), 4), [2]);
        assert_eq!(fired(on(Api::Produce).times(2), 4), [1, 2]);
        assert_eq!(fired(on(Api::Produce).nth(2).times(2), 5), [2, 3]);
        assert_eq!(fired(on(Api::Produce).times(2).nth(2), 5), [2, 3]);
        assert_eq!(fired(on_any().topic("t").partition(0).client_id("c").group("g").broker(1), 1), [1]);
        for other in [
            on(Api::Fetch),
            on(Api::Produce).topic("u"),
            on(Api::Produce).partition(1),
            on(Api::Produce).topic("t").partition(1),
            on(Api::Produce).broker(2),
            on(Api::Produce).client_id("d"),
            on(Api::Produce).group("h"),
        ] {
            assert_eq!(fired(other.clone(), 2), [0; 0], "{other:?}");
        }
    }

    #[test]
    fn a_seed_repeats_the_same_choices() {
        let once = fired(on(Api::Produce).probability(0.5, 42), 100);
        assert_eq!(once, fired(on(Api::Produce).probability(0.5, 42), 100));
        assert!((20..80).contains(&once.len()), "{once:?}");
    }

    #[test]
    fn an_error_reaches_only_the_items_it_was_meant_for() {
        let faults = Arc::new(Faults::default());
        let _guard = Fault::new(Arc::clone(&faults), on(Api::Produce).topic("t").partition(1))
            .error(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        let hit = faults.hitting(&request(Api::Produce, &|see| {
            see("t", Some(0));
            see("t", Some(1));
        }));
        assert_eq!(hit.item_error(Stage::Before, "t", Some(0)), None);
        assert_eq!(hit.item_error(Stage::Before, "t", Some(1)), Some(ErrorCode::NOT_LEADER_OR_FOLLOWER));
        assert_eq!(hit.item_error(Stage::After, "t", Some(1)), None);
    }

    #[test]
    fn a_dropped_guard_disarms_its_fault() {
        let faults = Arc::new(Faults::default());
        let guard = Fault::new(Arc::clone(&faults), on_any()).hang();
        assert!(faults.hitting(&request(Api::Fetch, &|_| {})).hangs(Stage::Before));
        guard.assert_fired();
        drop(guard);
        assert!(!faults.hitting(&request(Api::Fetch, &|_| {})).hangs(Stage::Before));
        assert!(!faults.armed.load(Ordering::Acquire));
    }

    #[test]
    #[should_panic(expected = "a fault never fired")]
    fn a_fault_that_never_fired_fails_its_test() {
        let faults = Arc::new(Faults::default());
        Fault::new(faults, on(Api::Produce)).close().assert_fired();
    }
}
