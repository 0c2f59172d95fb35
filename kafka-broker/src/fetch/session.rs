//! Incremental fetch sessions (KIP-227): what a client fetches from this broker, and what it was told of it last.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use kafka_wire::error_code::ErrorCode;
use tokio::time::Instant;
use uuid::Uuid;

/// A session that was not used for this long gives way to a new one.
const EVICTED_AFTER: Duration = Duration::from_secs(120);
/// How many partitions all sessions of a broker remember at most, some hundred bytes each.
const MOST_REMEMBERED: usize = 500_000;
/// A request outside of any session, and the epoch that ends one.
pub(crate) const NO_SESSION: i32 = 0;
const FIRST_EPOCH: i32 = 0;
const FINAL_EPOCH: i32 = -1;

/// What names a partition in a session: a topic's name, or its id where the request has ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) name: Arc<str>,
    pub(crate) id: Uuid,
    pub(crate) index: i32,
}

/// How a client wants to read a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: i64,
    pub(crate) max_bytes: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

/// What a client was last told of a partition, beside records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: i64,
    pub(crate) log_start: i64,
}

/// Nothing was told, or an error, after which everything is news.
pub(crate) const NOTHING_TOLD: Told = Told { high_watermark: -1, log_start: -1 };

/// A partition to read.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) key: Key,
    pub(crate) position: Position,
    pub(crate) told: Told,
}

/// What a request asks of its session.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    pub(crate) uses_ids: bool,
    pub(crate) partitions: Vec<(Key, Position)>,
    pub(crate) forgotten: Vec<Key>,
}

/// How a request is answered.
#[derive(Debug)]
pub(crate) struct Fetching {
    pub(crate) kind: Kind,
    /// In the order to read them.
    pub(crate) wanted: Vec<Wanted>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Everything is answered, and nothing remembered.
    Sessionless,
    /// Everything is answered, and remembered if there is room.
    New { uses_ids: bool },
    /// Only news are answered.
    Incremental { id: i32, epoch: i32 },
}

/// The sessions of one broker.
#[derive(Debug)]
pub(crate) struct Sessions {
    most: usize,
    /// How many partitions they remember together at most.
    room: usize,
    /// Guards all sessions; held for as long as copying one takes.
    by_id: Mutex<HashMap<i32, Session>>,
}

#[derive(Debug)]
struct Session {
    /// What the next request must say.
    epoch: i32,
    uses_ids: bool,
    used: Instant,
    /// By the order in which they are read: those that had records go to the end, so that each has its turn.
    partitions: BTreeMap<u64, Wanted>,
    order: HashMap<Key, u64>,
    next: u64,
}

impl Sessions {
    /// At most so many.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, room: MOST_REMEMBERED, by_id: Mutex::default() }
    }

    /// What this request reads: what it names, changed or added to what its session has.
    pub(crate) fn begin(&self, request: SessionRequest) -> Result<Fetching, ErrorCode> {
        let mut sessions = self.lock();
        if matches!(request.epoch, FIRST_EPOCH | FINAL_EPOCH) {
            sessions.remove(&request.id);
            let kind = if request.epoch == FINAL_EPOCH {
                Kind::Sessionless
            } else {
                Kind::New { uses_ids: request.uses_ids }
            };
            return Ok(Fetching { kind, wanted: fresh(request.partitions) });
        }
        if !request.partitions.is_empty() && remembered(&sessions) + request.partitions.len() > self.room {
            // The client will start anew, and do without a session.
            sessions.remove(&request.id);
        }
        let session = sessions.get_mut(&request.id).ok_or(ErrorCode::FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != request.epoch {
            return Err(ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        }
        let names_partitions = !request.partitions.is_empty() || !request.forgotten.is_empty();
        if session.uses_ids != request.uses_ids && names_partitions {
            return Err(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        }
        for (key, position) in request.partitions {
            session.want(key, position);
        }
        for key in &request.forgotten {
            session.forget(key);
        }
        if session.partitions.is_empty() {
            sessions.remove(&request.id);
            return Ok(Fetching { kind: Kind::Sessionless, wanted: Vec::new() });
        }
        session.epoch = next_epoch(session.epoch);
        session.used = Instant::now();
        let wanted = session.partitions.values().cloned().collect();
        Ok(Fetching { kind: Kind::Incremental { id: request.id, epoch: session.epoch }, wanted })
    }

    /// Remembers what is read and told in a new session; returns its id, or [`NO_SESSION`] if there is no room.
    pub(crate) fn create(&self, uses_ids: bool, told: Vec<Wanted>) -> i32 {
        let mut sessions = self.lock();
        if remembered(&sessions) + told.len() > self.room {
            return NO_SESSION;
        }
        if sessions.len() >= self.most {
            let idle = |session: &Session| session.used.elapsed() >= EVICTED_AFTER;
            let oldest =
                sessions.iter().filter(|(_, session)| idle(session)).min_by_key(|(_, session)| session.used);
            match oldest.map(|(id, _)| *id) {
                Some(oldest) => sessions.remove(&oldest),
                None => return NO_SESSION,
            };
        }
        let id = loop {
            let id = fastrand::i32(1..);
            if !sessions.contains_key(&id) {
                break id;
            }
        };
        let mut session = Session {
            epoch: next_epoch(FIRST_EPOCH),
            uses_ids,
            used: Instant::now(),
            partitions: BTreeMap::new(),
            order: HashMap::new(),
            next: 0,
        };
        for wanted in told {
            session.push(wanted);
        }
        sessions.insert(id, session);
        id
    }

    /// Notes what a client is told; `true` marks partitions that it gets records of.
    pub(crate) fn update(&self, id: i32, epoch: i32, told: impl Iterator<Item = (Key, Told, bool)>) {
        let mut sessions = self.lock();
        // Another request may have replaced the session, or ended it.
        let Some(session) = sessions.get_mut(&id).filter(|session| session.epoch == epoch) else { return };
        for (key, told, has_records) in told {
            session.tell(&key, told, has_records);
        }
    }

    /// Calls `see` for each partition of a session.
    pub(crate) fn for_each(&self, id: i32, mut see: impl FnMut(&Key)) {
        if let Some(session) = self.lock().get(&id) {
            session.partitions.values().for_each(|wanted| see(&wanted.key));
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<i32, Session>> {
        self.by_id.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn want(&mut self, key: Key, position: Position) {
        match self.order.get(&key).and_then(|at| self.partitions.get_mut(at)) {
            Some(wanted) => wanted.position = position,
            None => self.push(Wanted { key, position, told: NOTHING_TOLD }),
        }
    }

    fn forget(&mut self, key: &Key) {
        if let Some(at) = self.order.remove(key) {
            self.partitions.remove(&at);
        }
    }

    fn tell(&mut self, key: &Key, told: Told, has_records: bool) {
        let Some(at) = self.order.get(key).copied() else { return };
        if has_records {
            if let Some(wanted) = self.partitions.remove(&at) {
                self.push(Wanted { told, ..wanted });
            }
        } else if let Some(wanted) = self.partitions.get_mut(&at) {
            wanted.told = told;
        }
    }

    fn push(&mut self, wanted: Wanted) {
        self.order.insert(wanted.key.clone(), self.next);
        self.partitions.insert(self.next, wanted);
        self.next += 1;
    }
}

fn remembered(sessions: &HashMap<i32, Session>) -> usize {
    sessions.values().map(|session| session.partitions.len()).sum()
}

/// Each partition once: named again, it stays where it is and is read from where it was named last.
fn fresh(partitions: Vec<(Key, Position)>) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::with_capacity(partitions.len());
    let mut places: HashMap<Key, usize, RandomState> = HashMap::default();
    places.reserve(partitions.len());
    for (key, position) in partitions {
        match places.entry(key) {
            Entry::Occupied(place) => {
                if let Some(named) = wanted.get_mut(*place.get()) {
                    named.position = position;
                }
            }
            Entry::Vacant(place) => {
                wanted.push(Wanted { key: place.key().clone(), position, told: NOTHING_TOLD });
                place.insert(wanted.len() - 1);
            }
        }
    }
    wanted
}

/// Epochs count from 1 and never come back to 0, which would start a new session.
fn next_epoch(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: i32) -> Key {
        Key { name: "t".into(), id: Uuid::nil(), index }
    }

    fn at(offset: i64) -> Position {
        Position { offset, max_bytes: 100, leader_epoch: -1, last_fetched_epoch: -1 }
    }

    fn request(id: i32, epoch: i32, partitions: &[(i32, i64)], forgotten: &[i32]) -> SessionRequest {
        SessionRequest {
            id,
            epoch,
            uses_ids: false,
            partitions: partitions.iter().map(|(index, offset)| (key(*index), at(*offset))).collect(),
            forgotten: forgotten.iter().map(|index| key(*index)).collect(),
        }
    }

    fn read(fetching: &Fetching) -> Vec<(i32, i64)> {
        fetching.wanted.iter().map(|wanted| (wanted.key.index, wanted.position.offset)).collect()
    }

    fn session(sessions: &Sessions) -> i32 {
        let fetching = sessions.begin(request(0, 0, &[(0, 5), (1, 5), (2, 5)], &[])).unwrap();
        assert_eq!(fetching.kind, Kind::New { uses_ids: false });
        sessions.create(false, fetching.wanted)
    }

    #[tokio::test]
    async fn a_request_changes_its_session_and_reads_all_of_it() {
        let sessions = Sessions::new(10);
        let id = session(&sessions);
        let fetching = sessions.begin(request(id, 1, &[(1, 7), (3, 0)], &[0])).unwrap();
        assert_eq!(read(&fetching), [(1, 7), (2, 5), (3, 0)]);
        assert_eq!(fetching.kind, Kind::Incremental { id, epoch: 2 });
        let fetching = sessions.begin(request(id, 2, &[], &[])).unwrap();
        assert_eq!(read(&fetching), [(1, 7), (2, 5), (3, 0)]);
    }

    #[tokio::test]
    async fn a_partition_named_twice_is_read_once_from_where_it_was_named_last() {
        for epoch in [FIRST_EPOCH, FINAL_EPOCH] {
            let fetching =
                Sessions::new(10).begin(request(0, epoch, &[(0, 5), (1, 5), (0, 7)], &[])).unwrap();
            assert_eq!(read(&fetching), [(0, 7), (1, 5)]);
        }
    }

    #[tokio::test]
    async fn partitions_that_had_records_wait_for_the_others() {
        let sessions = Sessions::new(10);
        let id = session(&sessions);
        let told = Told { high_watermark: 9, log_start: 0 };
        sessions.begin(request(id, 1, &[], &[])).unwrap();
        sessions.update(id, 2, [(key(0), told, true), (key(1), told, false)].into_iter());
        let fetching = sessions.begin(request(id, 2, &[], &[])).unwrap();
        assert_eq!(read(&fetching), [(1, 5), (2, 5), (0, 5)]);
        let told_of: Vec<Told> = fetching.wanted.iter().map(|wanted| wanted.told).collect();
        assert_eq!(told_of, [told, NOTHING_TOLD, told]);
    }

    #[tokio::test]
    async fn a_request_that_does_not_fit_its_session_is_refused() {
        let sessions = Sessions::new(10);
        let id = session(&sessions);
        let refused = |request| sessions.begin(request).unwrap_err();
        assert_eq!(refused(request(id, 2, &[], &[])), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
        assert_eq!(refused(request(id.wrapping_add(1), 1, &[], &[])), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        let ids = SessionRequest { uses_ids: true, ..request(id, 1, &[(0, 0)], &[]) };
        assert_eq!(refused(ids), ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
        sessions.begin(request(id, 1, &[], &[])).unwrap();
        assert_eq!(refused(request(id, 1, &[], &[])), ErrorCode::INVALID_FETCH_SESSION_EPOCH, "a repetition");
    }

    #[tokio::test]
    async fn sessions_together_remember_only_so_much() {
        let sessions = Sessions { room: 300, ..Sessions::new(1000) };
        let many: Vec<(i32, i64)> = (0..100).map(|index| (index, 0)).collect();
        let full = 3;
        let ids: Vec<i32> = (0..=full)
            .map(|_| {
                let fetching = sessions.begin(request(0, 0, &many, &[])).unwrap();
                sessions.create(false, fetching.wanted)
            })
            .collect();
        assert_eq!(ids.iter().position(|id| *id == NO_SESSION), Some(full));
        assert!(sessions.begin(request(ids[0], 1, &[], &[])).is_ok(), "those that are there go on");
        let grown = sessions.begin(request(ids[0], 2, &[(100, 0)], &[])).unwrap_err();
        assert_eq!(grown, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }

    #[tokio::test]
    async fn a_session_ends_when_it_is_told_to_or_empty() {
        let sessions = Sessions::new(10);
        let id = session(&sessions);
        let fetching = sessions.begin(request(id, 1, &[], &[0, 1, 2])).unwrap();
        assert_eq!((fetching.kind, sessions.len()), (Kind::Sessionless, 0));
        for epoch in [0, -1] {
            let id = session(&sessions);
            let fetching = sessions.begin(request(id, epoch, &[(0, 1)], &[])).unwrap();
            assert_eq!((read(&fetching), sessions.len()), (vec![(0, 1)], 0));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_cache_gives_way_only_to_sessions_that_nobody_uses() {
        let sessions = Sessions::new(2);
        let (first, second) = (session(&sessions), session(&sessions));
        assert_eq!(session(&sessions), NO_SESSION);
        tokio::time::advance(EVICTED_AFTER).await;
        sessions.begin(request(first, 1, &[], &[])).unwrap();
        assert_ne!(session(&sessions), NO_SESSION);
        assert!(sessions.begin(request(first, 2, &[], &[])).is_ok());
        let gone = sessions.begin(request(second, 1, &[], &[])).unwrap_err();
        assert_eq!(gone, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    }
}
