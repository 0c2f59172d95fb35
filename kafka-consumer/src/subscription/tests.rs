use std::cell::Cell;
use std::collections::HashMap;

use bytes::Bytes;
use kafka_client::{NodeId, TopicId};
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::{BatchWriter, batch_buffer};
use tokio::time::Instant;

use super::answers::PREFERRED_REPLICA_AGE;
use super::plan::Plan;
use super::reading::CORRUPT_BACKOFF;
use super::*;
use crate::buffer::Run;

const LEADER: NodeId = 1;
const FOLLOWER: NodeId = 2;

struct Bench {
    subscription: Subscription,
    now: Instant,
    epoch: Cell<Option<i32>>,
    topic_id: Cell<TopicId>,
}

impl Bench {
    fn new(start_at: Option<Offset>, out_of_range: Option<Offset>) -> Self {
        let settings = Settings {
            start_at,
            out_of_range,
            partition_bytes: 1000,
            answer_bytes: 4000,
            max_buffered: 4000,
            retry_backoff: Duration::from_millis(100),
        };
        Self {
            subscription: Subscription::new(settings),
            now: Instant::now(),
            epoch: Cell::new(Some(5)),
            topic_id: Cell::new(TopicId([1; 16])),
        }
    }

    /// One partition that stands at an offset and is being fetched.
    fn fetching(offset: i64) -> Self {
        let mut bench = Self::new(Some(Offset::At(offset)), None);
        bench.subscription.assign([orders()], false);
        bench
    }

    fn plan(&mut self) -> Vec<Work> {
        self.plan_with(&HashMap::new()).work
    }

    fn plan_with(&mut self, busy: &HashMap<NodeId, usize>) -> Plan {
        let (epoch, topic_id) = (self.epoch.get(), self.topic_id.get());
        let leader = |_: &TopicPartition| Ok(Leader { node: LEADER, epoch, topic_id });
        self.subscription.plan(self.now, busy, leader, |_| true)
    }

    fn planned_fetches(&mut self) -> Vec<FetchEntry> {
        match self.plan().pop() {
            Some(Work::Fetch { entries, .. }) => entries,
            None => Vec::new(),
            other => panic!("no fetch but {other:?}"),
        }
    }

    fn planned_fetch(&mut self) -> (NodeId, FetchEntry) {
        match self.plan().pop() {
            Some(Work::Fetch { node, mut entries, .. }) => (node, entries.pop().unwrap()),
            other => panic!("no fetch but {other:?}"),
        }
    }

    fn planned_lookup(&mut self) -> LookupEntry {
        match self.plan().pop() {
            Some(Work::Offsets { mut entries, .. }) => entries.pop().unwrap(),
            other => panic!("no lookup but {other:?}"),
        }
    }

    fn planned_validation(&mut self) -> ValidateEntry {
        match self.plan().pop() {
            Some(Work::Validate { mut entries, .. }) => entries.pop().unwrap(),
            other => panic!("no validation but {other:?}"),
        }
    }

    fn fits(&self, entry: &FetchEntry) -> Fit {
        self.subscription.fits(entry.ticket, entry.offset, entry.topic_id)
    }

    /// Answers a fetch with a batch of `records`, written under `epoch`.
    fn answer(&mut self, entry: &FetchEntry, records: i64, epoch: i32) {
        let frame_len = batch(entry.offset, records, epoch).len();
        self.answer_in(entry, records, epoch, frame_len);
    }

    /// As [`answer`](Self::answer), as a part of a larger answer.
    fn answer_in(&mut self, entry: &FetchEntry, records: i64, epoch: i32, frame_len: usize) {
        assert_eq!(self.fits(entry), Fit::Yes);
        let frame = self.subscription.held().frame(frame_len);
        let batch = batch(entry.offset, records, epoch);
        let (run, failure) = Run::read(batch, entry.offset, None, true, &frame);
        assert_eq!(failure, None);
        self.subscription.push(entry.ticket, run.unwrap(), entry.topic_id);
    }

    fn fail(&mut self, entry: &FetchEntry, node: NodeId, code: ErrorCode) -> bool {
        self.subscription.fetch_failed(entry.ticket, entry.offset, node, code, self.now)
    }

    fn take(&mut self) -> (Ticket, Next) {
        let taken = self.subscription.take().unwrap();
        (taken.ticket, taken.next)
    }

    /// Takes a run and hands all of it out.
    fn hand_out(&mut self) -> i64 {
        let (ticket, Next::Piece(piece)) = self.take() else { panic!() };
        assert!(matches!(self.subscription.turn(ticket), Turn::Yes(_)));
        match piece.batch {
            Some(_) => self.subscription.advance(ticket, piece.next_offset, piece.leader_epoch),
            None => self.subscription.step_over(ticket, piece.next_offset, piece.leader_epoch),
        };
        piece.next_offset
    }

    fn claim(&self) -> Claim {
        self.subscription.claim(&orders()).unwrap()
    }

    fn error(&mut self) -> Error {
        let (_, Next::Error(error)) = self.take() else { panic!() };
        error
    }

    fn position(&self) -> Option<i64> {
        self.subscription.position(&orders()).unwrap()
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }
}

fn orders() -> TopicPartition {
    TopicPartition::new("orders", 0)
}

fn batch(from: i64, records: i64, epoch: i32) -> Bytes {
    let mut writer = BatchWriter::new(batch_buffer(256));
    for _ in 0..records {
        writer.append(0, None, Some(&[0; 100]), &[]).unwrap();
    }
    let mut batch = writer.finish().unwrap().freeze().to_vec();
    batch[..8].copy_from_slice(&from.to_be_bytes());
    batch[12..16].copy_from_slice(&epoch.to_be_bytes());
    batch.into()
}

#[test]
fn without_a_committed_offset_reading_starts_where_the_caller_said() {
    let mut bench = Bench::new(Some(Offset::Latest), None);
    bench.subscription.assign([orders()], true);
    let Some(Work::Committed(asked)) = bench.plan().pop() else { panic!() };
    assert!(bench.plan().is_empty(), "it is being asked for already");
    bench.subscription.committed(asked[0].0, None);
    let entry = bench.planned_lookup();
    assert_eq!(entry.lookup, Lookup::Place(Offset::Latest));
    bench.subscription.place_found(entry.ticket, 42, bench.now);
    assert_eq!(bench.planned_fetch().1.offset, 42);
}

#[test]
fn a_committed_offset_counts_before_the_place_to_start_at() {
    let mut bench = Bench::new(Some(Offset::Latest), None);
    bench.subscription.assign([orders()], true);
    let Some(Work::Committed(asked)) = bench.plan().pop() else { panic!() };
    bench.subscription.committed(asked[0].0, Some(OffsetAndMetadata::new(7)));
    assert_eq!(bench.planned_fetch().1.offset, 7);
}

#[test]
fn nowhere_to_start_is_an_error_until_a_seek() {
    let mut bench = Bench::new(None, None);
    bench.subscription.assign([orders()], false);
    assert!(matches!(bench.error().kind(), ErrorKind::NoOffset(_)));
    assert!(bench.plan().is_empty());
    bench.subscription.seek(&orders(), Offset::At(3)).unwrap();
    assert_eq!(bench.planned_fetch().1.offset, 3);
}

#[test]
fn the_position_moves_only_when_something_is_handed_out() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    assert_eq!(bench.position(), Some(10));
    assert_eq!(bench.planned_fetch().1.offset, 12, "the next fetch goes on behind what is buffered");
    assert_eq!(bench.hand_out(), 12);
    assert_eq!(bench.position(), Some(12));
}

#[test]
fn an_answer_from_before_a_seek_changes_nothing() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.subscription.seek(&orders(), Offset::At(10)).unwrap();
    assert_eq!(bench.fits(&entry), Fit::Stale, "even to the same offset");
}

#[test]
fn a_second_answer_to_the_same_offset_is_not_handed_out_again() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    assert_eq!(bench.fits(&entry), Fit::Stale);
}

#[test]
fn what_a_reader_holds_during_a_seek_is_stale() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    let (ticket, _) = bench.take();
    bench.subscription.seek(&orders(), Offset::At(0)).unwrap();
    assert_eq!(bench.subscription.turn(ticket), Turn::Stale);
    bench.subscription.advance(ticket, 12, None);
    assert_eq!(bench.position(), Some(0));
}

#[test]
fn a_paused_partition_keeps_its_buffer_and_is_not_fetched() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    let (ticket, next) = bench.take();
    bench.subscription.pause(&orders()).unwrap();
    assert_eq!(bench.subscription.turn(ticket), Turn::Paused);
    bench.subscription.give_back(ticket, next);
    assert!(bench.subscription.take().is_none());
    assert!(bench.plan().is_empty());
    bench.subscription.resume(&orders()).unwrap();
    assert_eq!(bench.hand_out(), 12);
}

#[test]
fn a_partition_with_enough_buffered_is_not_fetched_until_its_reader_has_drained_it() {
    let mut bench = Bench::fetching(0);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 10, 5);
    assert!(bench.plan().is_empty());
    assert!(bench.subscription.take().unwrap().wake_fetcher);
    assert_eq!(bench.planned_fetch().1.offset, 10);
}

#[test]
fn a_node_is_asked_for_one_fetch_at_a_time() {
    let mut bench = Bench::fetching(0);
    assert!(bench.plan_with(&HashMap::from([(LEADER, 1000)])).work.is_empty());
    bench.planned_fetch();
}

#[test]
fn out_of_range_is_believed_only_of_the_leader_and_only_with_its_ends() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    assert!(bench.fail(&entry, LEADER, ErrorCode::OFFSET_OUT_OF_RANGE));
    let ends = bench.planned_lookup();
    assert_eq!(ends.lookup, Lookup::Ends);
    bench.subscription.ends_found(ends.ticket, 5, 20, bench.now);
    assert!(bench.plan().is_empty(), "it backs off, and does not move");
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.planned_fetch().1.offset, 10);
}

#[test]
fn out_of_range_without_a_policy_is_a_typed_error_and_the_partition_stands_still() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.fail(&entry, LEADER, ErrorCode::OFFSET_OUT_OF_RANGE);
    let ends = bench.planned_lookup();
    bench.subscription.ends_found(ends.ticket, 50, 60, bench.now);
    match bench.error().kind() {
        ErrorKind::OutOfRange { position: 10, earliest: 50, latest: 60, .. } => {}
        other => panic!("{other:?}"),
    }
    assert!(bench.plan().is_empty());
    assert_eq!(bench.position(), Some(10));
}

#[test]
fn out_of_range_with_a_policy_goes_there() {
    for (policy, offset) in [(Offset::Earliest, 50), (Offset::Latest, 60)] {
        let mut bench = Bench::new(Some(Offset::At(10)), Some(policy));
        bench.subscription.assign([orders()], false);
        let (_, entry) = bench.planned_fetch();
        bench.fail(&entry, LEADER, ErrorCode::OFFSET_OUT_OF_RANGE);
        let ends = bench.planned_lookup();
        bench.subscription.ends_found(ends.ticket, 50, 60, bench.now);
        assert_eq!(bench.planned_fetch().1.offset, offset);
    }
}

#[test]
fn a_follower_out_of_range_sends_the_reader_back_to_the_leader() {
    let mut bench = Bench::fetching(10);
    let (node, entry) = bench.planned_fetch();
    assert_eq!(node, LEADER);
    bench.subscription.prefer(entry.ticket, FOLLOWER, true, bench.now);
    let (node, entry) = bench.planned_fetch();
    assert_eq!(node, FOLLOWER);
    assert!(!bench.fail(&entry, FOLLOWER, ErrorCode::OFFSET_OUT_OF_RANGE));
    assert!(bench.plan().is_empty(), "the leader may send us there again");
    bench.pass(Duration::from_millis(100));
    let (node, entry) = bench.planned_fetch();
    assert_eq!((node, entry.offset), (LEADER, 10));
}

#[test]
fn a_preferred_replica_is_forgotten_when_it_fails_or_gets_old() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.subscription.prefer(entry.ticket, FOLLOWER, true, bench.now);
    bench.subscription.node_failed([entry.ticket], FOLLOWER, bench.now);
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.planned_fetch().0, LEADER);
    bench.subscription.prefer(entry.ticket, FOLLOWER, true, bench.now);
    assert_eq!(bench.planned_fetch().0, FOLLOWER);
    bench.pass(PREFERRED_REPLICA_AGE);
    assert_eq!(bench.planned_fetch().0, LEADER);
}

#[test]
fn transient_errors_never_move_the_position() {
    for code in [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::UNKNOWN_TOPIC_ID,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ] {
        let mut bench = Bench::fetching(10);
        let (_, entry) = bench.planned_fetch();
        assert!(bench.fail(&entry, LEADER, code), "{code}");
        assert!(bench.plan().is_empty(), "{code}");
        bench.pass(Duration::from_millis(100));
        assert_eq!(bench.planned_fetch().1.offset, 10, "{code}");
    }
}

#[test]
fn a_failed_lookup_is_asked_again_and_never_taken_for_an_answer() {
    let mut bench = Bench::new(Some(Offset::Earliest), None);
    bench.subscription.assign([orders()], false);
    let entry = bench.planned_lookup();
    bench.subscription.lookup_failed(entry.ticket, bench.now);
    assert!(bench.plan().is_empty());
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.planned_lookup().lookup, Lookup::Place(Offset::Earliest));
    assert_eq!(bench.position(), None);
}

#[test]
fn a_new_leader_is_asked_whether_it_has_what_was_read() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    bench.hand_out();
    bench.epoch.set(Some(6));
    let validation = bench.planned_validation();
    assert_eq!((validation.epoch, validation.leader_epoch), (5, Some(6)));
    bench.subscription.validated(validation.ticket, Some((5, 12)));
    assert_eq!(bench.planned_fetch().1.offset, 12);
}

#[test]
fn an_older_leader_epoch_is_no_new_leader() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    bench.hand_out();
    bench.epoch.set(Some(4));
    bench.planned_fetch();
}

#[test]
fn a_truncated_log_is_a_typed_error_without_a_policy_and_its_end_with_one() {
    for policy in [None, Some(Offset::Earliest)] {
        let mut bench = Bench::new(Some(Offset::At(10)), policy);
        bench.subscription.assign([orders()], false);
        let (_, entry) = bench.planned_fetch();
        bench.answer(&entry, 2, 5);
        bench.hand_out();
        bench.epoch.set(Some(6));
        let validation = bench.planned_validation();
        bench.subscription.validated(validation.ticket, Some((4, 11)));
        match policy {
            None => match bench.error().kind() {
                ErrorKind::Truncated { position: 12, diverged_at: Some(11), .. } => {}
                other => panic!("{other:?}"),
            },
            Some(_) => {
                // From where the new leader's log ends for what was read, and what stands there is read on.
                assert_eq!(bench.position(), Some(11));
            }
        }
    }
}

#[test]
fn a_truncation_of_what_is_only_buffered_is_no_error() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    bench.hand_out();
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    bench.epoch.set(Some(6));
    let validation = bench.planned_validation();
    bench.subscription.validated(validation.ticket, Some((5, 13)));
    let again = bench.planned_validation();
    bench.subscription.validated(again.ticket, Some((5, 13)));
    assert_eq!(bench.planned_fetch().1.offset, 12, "the buffered rest was dropped and is fetched anew");
}

#[test]
fn a_batch_that_cannot_be_read_is_fetched_again_after_a_pause() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    let (ticket, _) = bench.take();
    bench.subscription.corrupt(ticket, bench.now);
    assert!(bench.plan().is_empty());
    bench.pass(CORRUPT_BACKOFF);
    assert_eq!(bench.planned_fetch().1.offset, 10);
    assert_eq!(bench.subscription.buffered(), 0);
}

#[test]
fn a_partition_under_revocation_hands_out_nothing_and_keeps_what_is_to_be_committed() {
    let mut bench = Bench::fetching(10);
    let claim = bench.claim();
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    let (ticket, _) = bench.take();
    bench.subscription.advance(ticket, 12, Some(5));
    bench.subscription.ack_handed(claim);
    bench.subscription.start_revoking([&orders()]);
    assert_eq!(bench.subscription.turn(ticket), Turn::Stale);
    assert!(!bench.subscription.is_assigned(claim));
    assert!(bench.plan().is_empty());
    let expected = OffsetAndMetadata::new(12).with_leader_epoch(5);
    assert_eq!(bench.subscription.acked(Some(&[orders()])), BTreeMap::from([(orders(), expected)]));
    bench.subscription.unassign([&orders()]);
    assert!(bench.subscription.assignment().is_empty());
    assert!(matches!(bench.subscription.position(&orders()).unwrap_err().kind(), ErrorKind::NotAssigned(_)));
}

/// What an automatic commit says now, if it has news.
fn news(bench: &mut Bench) -> Option<i64> {
    bench.subscription.acked_since_last().remove(&orders()).map(|committed| committed.offset)
}

#[test]
fn an_automatic_commit_says_only_what_is_new_and_again_what_was_not_committed() {
    let mut bench = Bench::fetching(10);
    assert_eq!(news(&mut bench), Some(10), "where reading begins is known to the group, too");
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    bench.hand_out();
    assert_eq!(news(&mut bench), None, "handed out is not done with");
    let claim = bench.claim();
    bench.subscription.ack_handed(claim);
    assert_eq!(news(&mut bench), Some(12));
    assert_eq!(news(&mut bench), None);
    bench.subscription.not_committed([&orders()]);
    assert_eq!(news(&mut bench), Some(12));
}

#[test]
fn an_automatic_commit_after_a_seek_says_the_new_position_and_not_what_was_in_hand() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    bench.hand_out();
    bench.subscription.seek(&orders(), Offset::At(3)).unwrap();
    let claim = bench.claim();
    bench.subscription.ack_handed(claim);
    assert_eq!(news(&mut bench), Some(3));
}

#[test]
fn what_was_in_hand_is_done_with_also_if_what_is_behind_it_had_to_be_fetched_again() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    bench.hand_out();
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    let (ticket, _) = bench.take();
    bench.subscription.corrupt(ticket, bench.now);
    let claim = bench.claim();
    bench.subscription.ack_handed(claim);
    assert_eq!(news(&mut bench), Some(12));
}

#[test]
fn a_gap_is_done_with_as_soon_as_what_is_before_it() {
    for acked_first in [true, false] {
        let mut bench = Bench::fetching(10);
        let claim = bench.claim();
        let (_, entry) = bench.planned_fetch();
        bench.answer(&entry, 2, 5);
        bench.hand_out();
        let ticket = entry.ticket;
        if acked_first {
            bench.subscription.ack_claim(claim, 12, Some(5));
        }
        bench.subscription.step_over(ticket, 13, Some(5));
        bench.subscription.step_over(ticket, 15, Some(5));
        if !acked_first {
            bench.subscription.ack_claim(claim, 12, Some(5));
        }
        assert_eq!(news(&mut bench), Some(15), "acked_first = {acked_first}");
    }
}

#[test]
fn a_claim_outlives_seeks_but_not_the_assignment() {
    let mut bench = Bench::fetching(10);
    let claim = bench.claim();
    bench.subscription.seek(&orders(), Offset::At(3)).unwrap();
    assert!(bench.subscription.is_assigned(claim));
    bench.subscription.unassign([&orders()]);
    bench.subscription.assign([orders()], false);
    assert!(!bench.subscription.is_assigned(claim));
}

#[test]
fn another_reader_begins_with_what_the_last_one_took_and_did_not_hand_out() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    bench.take();
    let claim = bench.claim();
    bench.subscription.rewind(claim);
    assert_eq!(bench.planned_fetch().1.offset, 10);
}

#[test]
fn an_answer_that_names_no_offset_is_asked_for_again_after_a_pause() {
    let mut bench = Bench::new(Some(Offset::Latest), Some(Offset::Latest));
    bench.subscription.assign([orders()], false);
    let entry = bench.planned_lookup();
    bench.subscription.place_found(entry.ticket, -1, bench.now);
    assert!(bench.plan().is_empty());
    bench.pass(Duration::from_millis(100));
    let entry = bench.planned_lookup();
    bench.subscription.place_found(entry.ticket, 10, bench.now);
    let (_, entry) = bench.planned_fetch();
    bench.fail(&entry, LEADER, ErrorCode::OFFSET_OUT_OF_RANGE);
    for (earliest, latest) in [(-1, 60), (60, 50)] {
        let ends = bench.planned_lookup();
        bench.subscription.ends_found(ends.ticket, earliest, latest, bench.now);
        assert_eq!(bench.position(), Some(10));
        assert!(bench.plan().is_empty());
        bench.pass(Duration::from_millis(100));
    }
}

#[test]
fn what_is_buffered_is_handed_out_before_the_position_is_found_out_of_range() {
    let mut bench = Bench::new(Some(Offset::At(10)), Some(Offset::Earliest));
    bench.subscription.assign([orders()], false);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    let (_, entry) = bench.planned_fetch();
    bench.fail(&entry, LEADER, ErrorCode::OFFSET_OUT_OF_RANGE);
    let ends = bench.planned_lookup();
    bench.subscription.ends_found(ends.ticket, 50, 60, bench.now);
    assert!(bench.plan().is_empty());
    assert_eq!(bench.hand_out(), 12);
    let (_, entry) = bench.planned_fetch();
    bench.fail(&entry, LEADER, ErrorCode::OFFSET_OUT_OF_RANGE);
    let ends = bench.planned_lookup();
    bench.subscription.ends_found(ends.ticket, 50, 60, bench.now);
    assert_eq!(bench.planned_fetch().1.offset, 50);
}

#[test]
fn if_only_the_buffered_end_is_out_of_range_reading_goes_on_from_the_position() {
    let mut bench = Bench::new(Some(Offset::At(10)), Some(Offset::Latest));
    bench.subscription.assign([orders()], false);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 5, 5);
    let (_, entry) = bench.planned_fetch();
    bench.fail(&entry, LEADER, ErrorCode::OFFSET_OUT_OF_RANGE);
    let ends = bench.planned_lookup();
    bench.subscription.ends_found(ends.ticket, 0, 12, bench.now);
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.planned_fetch().1.offset, 10);
}

#[test]
fn without_anything_read_there_is_nothing_to_validate() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    bench.epoch.set(Some(6));
    let validation = bench.planned_validation();
    // The new leader lacks what was buffered; nothing of it was handed out, and the position came without an epoch.
    bench.subscription.validated(validation.ticket, Some((5, 11)));
    assert_eq!(bench.planned_fetch().1.offset, 10);
}

#[test]
fn a_topic_created_anew_is_no_continuation_of_the_old_one() {
    for policy in [None, Some(Offset::Earliest)] {
        let mut bench = Bench::new(Some(Offset::At(10)), policy);
        bench.subscription.assign([orders()], false);
        let (_, entry) = bench.planned_fetch();
        bench.answer(&entry, 2, 5);
        bench.topic_id.set(TopicId([2; 16]));
        let (_, entry) = bench.planned_fetch();
        assert_eq!(bench.fits(&entry), Fit::OtherTopic);
        assert!(!bench.subscription.created_anew(entry.ticket), "what was read of the old one comes first");
        assert!(bench.plan().is_empty());
        assert_eq!(bench.hand_out(), 12);
        let (_, entry) = bench.planned_fetch();
        assert_eq!(bench.fits(&entry), Fit::OtherTopic);
        assert!(bench.subscription.created_anew(entry.ticket));
        assert!(bench.subscription.acked(None).is_empty());
        match policy {
            Some(policy) => assert_eq!(bench.planned_lookup().lookup, Lookup::Place(policy)),
            None => assert!(matches!(bench.error().kind(), ErrorKind::Truncated { position: 12, .. })),
        }
    }
}

#[test]
fn only_the_leader_names_a_closer_replica_and_only_one_that_is_known() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.subscription.prefer(entry.ticket, FOLLOWER, false, bench.now);
    assert!(bench.plan().is_empty());
    bench.pass(Duration::from_millis(100));
    let (node, entry) = bench.planned_fetch();
    assert_eq!(node, LEADER);
    bench.subscription.prefer(entry.ticket, FOLLOWER, true, bench.now);
    let (node, entry) = bench.planned_fetch();
    assert_eq!(node, FOLLOWER);
    bench.subscription.prefer(entry.ticket, LEADER, true, bench.now);
    assert!(bench.plan().is_empty());
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.planned_fetch().0, LEADER);
}

#[test]
fn what_waiting_does_not_mend_is_told_and_tried_again_once_that_was_heard() {
    for code in [
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        ErrorCode(999),
    ] {
        let mut bench = Bench::fetching(10);
        let (_, entry) = bench.planned_fetch();
        bench.fail(&entry, LEADER, code);
        bench.pass(Duration::from_secs(2));
        assert!(bench.plan().is_empty());
        let taken = bench.subscription.take().unwrap();
        assert!(taken.wake_fetcher);
        assert!(matches!(taken.next, Next::Error(_)));
        assert_eq!(bench.planned_fetch().1.offset, 10);
    }
}

#[test]
fn a_refused_topic_is_told_of() {
    let mut bench = Bench::fetching(10);
    let refuse = |partition: &TopicPartition| {
        let code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
        Err(Some(ErrorKind::Refused { partition: partition.clone(), code }.into()))
    };
    let plan = bench.subscription.plan(bench.now, &HashMap::new(), refuse, |_| true);
    assert!(plan.has_errors);
    assert_eq!(plan.wake_at, Some(bench.now + Duration::from_secs(1)));
    assert!(matches!(bench.error().kind(), ErrorKind::Refused { .. }));
}

/// Two partitions, of which the second has filled the whole buffer with answers of `frame_len` bytes.
fn crowded(frame_len: usize) -> (Bench, FetchEntry) {
    let mut bench = Bench::fetching(0);
    bench.subscription.settings.partition_bytes = 3000;
    let other = TopicPartition::new("orders", 1);
    bench.subscription.assign([other.clone()], false);
    let mut starving = None;
    while let [own, others] = &bench.planned_fetches()[..] {
        starving = Some(own.clone());
        bench.answer_in(others, 4, 5, frame_len);
        if bench.subscription.held().bytes() >= 4000 {
            break;
        }
    }
    bench.subscription.pause(&other).unwrap();
    assert!(bench.plan().is_empty(), "nobody waits for the first one");
    (bench, starving.unwrap())
}

#[test]
fn a_paused_partition_that_fills_the_buffer_makes_room_for_one_that_is_awaited() {
    let (mut bench, _) = crowded(2000);
    let other = TopicPartition::new("orders", 1);
    assert!(bench.subscription.take().is_none());
    assert!(bench.subscription.await_more(None), "the fetcher is to know");
    let (_, entry) = bench.planned_fetch();
    assert_eq!(entry.partition, orders());
    bench.answer(&entry, 1, 5);
    assert_eq!(bench.hand_out(), 1);
    // What was dropped is fetched again, when what was kept has been read.
    bench.subscription.resume(&other).unwrap();
    let mut read = 0;
    while read < 8 {
        if bench.subscription.ready.is_empty() {
            let entries = bench.planned_fetches();
            let entry = entries.iter().find(|entry| entry.partition == other).unwrap().clone();
            assert_eq!(entry.offset, read);
            bench.answer(&entry, 4, 5);
        }
        read = bench.hand_out();
    }
}

#[test]
fn small_parts_of_large_answers_are_copied_rather_than_dropped() {
    let (mut bench, _) = crowded(4000);
    let buffered = bench.subscription.buffered();
    assert!(buffered > 0 && buffered < 1000);
    bench.subscription.await_more(None);
    bench.planned_fetch();
    assert_eq!((bench.subscription.buffered(), bench.subscription.held().bytes()), (buffered, buffered));
}

#[test]
fn what_is_under_way_takes_room_too() {
    let mut bench = Bench::fetching(0);
    let max_bytes = |plan: Plan| match &plan.work[..] {
        [Work::Fetch { max_bytes, .. }] => Some(*max_bytes),
        _ => None,
    };
    assert_eq!(max_bytes(bench.plan_with(&HashMap::from([(7, 1500)]))), Some(2500));
    assert_eq!(max_bytes(bench.plan_with(&HashMap::from([(7, 3900)]))), Some(1000), "a partition's share");
    assert_eq!(max_bytes(bench.plan_with(&HashMap::from([(7, 4000)]))), None);
}
