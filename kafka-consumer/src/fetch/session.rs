//! One incremental fetch session (KIP-227): the broker remembers what is fetched from it, so a request names only what
//! changed. Pure.
//!
//! What both sides remember must never differ. So any answer that leaves doubt, and any request without one, makes the
//! next request a full one.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_client::{TopicId, TopicPartition};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::fetch::TopicRef;

use crate::subscription::{FetchEntry, Ticket};

/// The epoch that asks for a new session.
const NEW: i32 = 0;
/// The epoch of a request outside of any session.
const NONE: i32 = -1;

/// What the next request says about its session.
#[derive(Debug, PartialEq)]
pub(crate) struct SessionRequest {
    pub(crate) id: i32,
    pub(crate) epoch: i32,
    /// Which of the wanted partitions the request names, as indices.
    pub(crate) send: Vec<usize>,
    /// Which partitions the broker is to forget.
    pub(crate) forget: Vec<(TopicPartition, TopicId)>,
}

/// What the broker remembers of a partition.
#[derive(Clone, Debug, PartialEq)]
struct Remembered {
    topic_id: TopicId,
    offset: i64,
    leader_epoch: Option<i32>,
    last_fetched_epoch: Option<i32>,
}

/// A partition of the session, as the last request left it.
#[derive(Clone, Debug)]
struct Entry {
    remembered: Remembered,
    ticket: Ticket,
    /// The request in which it was wanted last, to find those that no longer are.
    wanted: u64,
    /// The request whose answer told of it last.
    answered: u64,
}

/// What a request asked for in a partition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    pub(crate) partition: TopicPartition,
    pub(crate) ticket: Ticket,
    pub(crate) offset: i64,
    pub(crate) topic_id: TopicId,
}

/// The session with one broker.
#[derive(Debug, Default)]
pub(crate) struct FetchSession {
    id: i32,
    epoch: i32,
    requests: u64,
    /// The last request named everything, so that its answer must, too.
    is_full: bool,
    partitions: HashMap<TopicPartition, Entry>,
    /// Of the topics that have an id.
    names: HashMap<TopicId, Arc<str>>,
}

impl FetchSession {
    /// What to send in order to fetch `wanted`.
    pub(crate) fn request(&mut self, wanted: &[FetchEntry]) -> SessionRequest {
        self.requests += 1;
        let full = self.epoch == NEW;
        self.is_full = full;
        if full {
            self.partitions.clear();
            self.names.clear();
        }
        let mut send = Vec::with_capacity(if full { wanted.len() } else { 0 });
        let mut forget = Vec::new();
        for (at, entry) in wanted.iter().enumerate() {
            let remembered = Remembered {
                topic_id: entry.topic_id,
                offset: entry.offset,
                leader_epoch: entry.leader_epoch,
                last_fetched_epoch: entry.last_fetched_epoch,
            };
            let known = self.partitions.get_mut(&entry.partition);
            match known {
                Some(known) if known.remembered == remembered => {
                    known.ticket = entry.ticket;
                    known.wanted = self.requests;
                    continue;
                }
                // The topic was created anew: to the broker the two are different partitions.
                Some(known) if known.remembered.topic_id != entry.topic_id => {
                    forget.push((entry.partition.clone(), known.remembered.topic_id));
                }
                _ => {}
            }
            send.push(at);
            if !entry.topic_id.is_zero() {
                self.names.insert(entry.topic_id, Arc::clone(&entry.partition.topic));
            }
            let entry_now = Entry { remembered, ticket: entry.ticket, wanted: self.requests, answered: 0 };
            self.partitions.insert(entry.partition.clone(), entry_now);
        }
        self.partitions.retain(|partition, entry| {
            let wanted = entry.wanted == self.requests;
            if !wanted {
                forget.push((partition.clone(), entry.remembered.topic_id));
            }
            wanted
        });
        SessionRequest { id: self.id, epoch: self.epoch, send, forget }
    }

    /// What the answered request asked for this partition, which the answer names by id or by name; `None` if it did not
    /// ask, or the answer has told of it before.
    pub(crate) fn asked(&mut self, topic: TopicRef<'_>, index: i32) -> Option<Asked> {
        let partition = match topic.name {
            "" => TopicPartition::new(Arc::clone(self.names.get(&TopicId(topic.id))?), index),
            name => TopicPartition::new(name, index),
        };
        let entry = self.partitions.get_mut(&partition)?;
        let is_first = std::mem::replace(&mut entry.answered, self.requests) != self.requests;
        let Remembered { offset, topic_id, .. } = entry.remembered;
        is_first.then_some(Asked { partition, ticket: entry.ticket, offset, topic_id })
    }

    /// What the answer should have told of and did not.
    pub(crate) fn left_out(&self) -> Vec<Ticket> {
        let entries = self.partitions.values().filter(|_| self.is_full);
        entries.filter(|entry| entry.answered != self.requests).map(|entry| entry.ticket).collect()
    }

    /// How many requests were made.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether the last request named everything.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full
    }

    /// All that the answered request covered.
    pub(crate) fn tickets(&self) -> impl Iterator<Item = Ticket> + '_ {
        self.partitions.values().map(|entry| entry.ticket)
    }

    /// The broker answered without a top-level error, with this session id.
    pub(crate) fn answered(&mut self, id: i32) {
        if id == 0 {
            // No session: the broker has no room for one, or it has ended this one. Always ask in full.
            self.reset();
        } else if self.epoch == NEW {
            self.id = id;
            self.epoch = 1;
        } else if self.id != id {
            // A session that we did not ask for: nobody can say what is in it.
            self.id = id;
            self.epoch = NEW;
        } else {
            self.epoch = if self.epoch == i32::MAX { 1 } else { self.epoch + 1 };
        }
    }

    /// The broker answered with a top-level error, or not at all.
    pub(crate) fn failed(&mut self, code: Option<ErrorCode>) {
        if code == Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND) {
            self.id = 0;
        }
        // With its id and epoch 0 the old session is closed and a new one begun.
        self.epoch = NEW;
        self.partitions.clear();
    }

    /// The session that the broker keeps, 0 for none.
    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    /// What closes the session with this id.
    pub(crate) fn goodbye(id: i32) -> SessionRequest {
        SessionRequest { id, epoch: NONE, send: Vec::new(), forget: Vec::new() }
    }

    fn reset(&mut self) {
        self.id = 0;
        self.epoch = NEW;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subscription::Ticket;

    fn want(partition: i32, offset: i64) -> FetchEntry {
        FetchEntry {
            ticket: Ticket::for_test(partition as usize, 1),
            partition: TopicPartition::new("orders", partition),
            topic_id: TopicId([7; 16]),
            offset,
            leader_epoch: Some(0),
            last_fetched_epoch: None,
        }
    }

    #[test]
    fn a_session_begins_with_everything_and_goes_on_with_what_changed() {
        let mut session = FetchSession::default();
        let first = session.request(&[want(0, 5), want(1, 9)]);
        assert_eq!((first.id, first.epoch, first.send), (0, 0, vec![0, 1]));
        session.answered(42);

        let second = session.request(&[want(0, 6), want(1, 9)]);
        assert_eq!((second.id, second.epoch, second.send), (42, 1, vec![0]));
        for topic in [TopicRef { name: "orders", id: [0; 16] }, TopicRef { name: "", id: [7; 16] }] {
            let asked = session.asked(topic, 1).unwrap();
            assert_eq!((asked.partition.to_string().as_str(), asked.offset), ("orders-1", 9));
            assert_eq!(session.asked(topic, 2), None);
            assert_eq!(session.asked(topic, 1), None, "the first answer counts");
            session.requests += 1;
        }
        session.answered(42);
        assert_eq!(session.request(&[want(0, 6), want(1, 9)]).epoch, 2);
    }

    #[test]
    fn a_partition_that_is_no_longer_wanted_is_forgotten_once() {
        let mut session = FetchSession::default();
        session.request(&[want(0, 5), want(1, 9)]);
        session.answered(42);
        let forget = session.request(&[want(1, 9)]).forget;
        assert_eq!(forget, [(TopicPartition::new("orders", 0), TopicId([7; 16]))]);
        session.answered(42);
        assert_eq!(session.request(&[want(1, 9)]).forget, []);
    }

    #[test]
    fn a_topic_created_anew_is_forgotten_under_its_old_id_and_named_under_the_new() {
        let mut session = FetchSession::default();
        session.request(&[want(0, 5)]);
        session.answered(42);
        let mut anew = want(0, 0);
        anew.topic_id = TopicId([8; 16]);
        let request = session.request(&[anew]);
        assert_eq!(request.forget, [(TopicPartition::new("orders", 0), TopicId([7; 16]))]);
        assert_eq!(request.send, [0]);
    }

    #[test]
    fn session_id_0_is_no_session_but_a_broker_without_room_for_one() {
        let mut session = FetchSession::default();
        session.request(&[want(0, 5)]);
        session.answered(0);
        let next = session.request(&[want(0, 5)]);
        assert_eq!((next.id, next.epoch, next.send), (0, 0, vec![0]));
    }

    #[test]
    fn after_an_error_or_silence_the_next_request_is_full_and_replaces_the_session() {
        for (code, id) in [
            (None, 42),
            (Some(ErrorCode::INVALID_FETCH_SESSION_EPOCH), 42),
            (Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND), 0),
        ] {
            let mut session = FetchSession::default();
            session.request(&[want(0, 5)]);
            session.answered(42);
            session.request(&[want(0, 5)]);
            session.failed(code);
            let next = session.request(&[want(0, 5)]);
            assert_eq!((next.id, next.epoch, next.send), (id, 0, vec![0]), "{code:?}");
        }
    }

    #[test]
    fn the_epoch_wraps_to_1_for_0_would_begin_a_new_session() {
        let mut session = FetchSession { id: 42, epoch: i32::MAX, ..FetchSession::default() };
        session.answered(42);
        assert_eq!(session.request(&[want(0, 5)]).epoch, 1);
    }

    #[test]
    fn closing_names_the_session_and_epoch_minus_1() {
        let mut session = FetchSession::default();
        session.request(&[want(0, 5)]);
        session.answered(42);
        let goodbye = FetchSession::goodbye(session.id());
        assert_eq!((goodbye.id, goodbye.epoch), (42, -1));
    }

    #[test]
    fn an_answer_in_full_that_leaves_out_a_partition_is_noticed() {
        let mut session = FetchSession::default();
        session.request(&[want(0, 5), want(1, 9)]);
        let topic = TopicRef { name: "orders", id: [0; 16] };
        assert!(session.asked(topic, 1).is_some());
        assert_eq!(session.left_out(), [Ticket::for_test(0, 1)]);
        session.answered(42);
        session.request(&[want(0, 5), want(1, 9)]);
        assert_eq!(session.left_out(), [], "what has no news is left out of an incremental one");
    }

    #[test]
    fn a_session_nobody_asked_for_is_replaced() {
        let mut session = FetchSession::default();
        session.request(&[want(0, 5)]);
        session.answered(42);
        session.request(&[want(0, 6)]);
        session.answered(43);
        let next = session.request(&[want(0, 7)]);
        assert_eq!((next.id, next.epoch, next.send), (43, 0, vec![0]));
    }
}
