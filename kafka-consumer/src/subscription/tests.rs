use std::cell::Cell;

use kafka_wire::record_batch::{BatchWriter, batch_buffer, batches};

use super::*;

const LEADER: NodeId = 1;
const FOLLOWER: NodeId = 2;

struct Bench {
    subscription: Subscription,
    now: Instant,
    epoch: Cell<Option<i32>>,
}

impl Bench {
    fn new(start_at: Option<Offset>, out_of_range: Option<Offset>) -> Self {
        let settings = Settings {
            start_at,
            out_of_range,
            low_water: 1000,
            max_buffered: 4000,
            retry_backoff: Duration::from_millis(100),
        };
        Self { subscription: Subscription::new(settings), now: Instant::now(), epoch: Cell::new(Some(5)) }
    }

    /// One partition that stands at an offset and is being fetched.
    fn fetching(offset: i64) -> Self {
        let mut bench = Self::new(Some(Offset::At(offset)), None);
        bench.subscription.assign([orders()], false);
        bench
    }

    fn plan(&mut self) -> Vec<Work> {
        self.plan_with(&HashSet::new()).work
    }

    fn plan_with(&mut self, busy: &HashSet<NodeId>) -> Plan {
        let epoch = self.epoch.get();
        let leader = |_: &TopicPartition| Some(Leader { node: LEADER, epoch, topic_id: TopicId([1; 16]) });
        self.subscription.plan(self.now, busy, leader, |_| true)
    }

    fn planned_fetch(&mut self) -> (NodeId, FetchEntry) {
        match self.plan().pop() {
            Some(Work::Fetch { node, mut entries }) => (node, entries.pop().unwrap()),
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

    /// Answers a fetch with a batch of `records`, written under `epoch`.
    fn answer(&mut self, entry: &FetchEntry, records: i64, epoch: i32) {
        assert!(self.subscription.expects(entry.ticket, entry.offset));
        self.subscription.push(entry.ticket, run(entry.offset, records, epoch));
    }

    /// Takes a run and hands all of it out.
    fn hand_out(&mut self) -> i64 {
        let taken = self.subscription.take().unwrap().unwrap();
        assert!(matches!(self.subscription.turn(taken.ticket), Turn::Yes(_)));
        self.subscription.advance(taken.ticket, taken.queued.next_offset, taken.queued.leader_epoch);
        taken.queued.next_offset
    }

    fn error(&mut self) -> Error {
        self.subscription.take().unwrap().unwrap_err()
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

fn run(from: i64, records: i64, epoch: i32) -> Queued {
    let mut writer = BatchWriter::new(batch_buffer(256));
    for _ in 0..records {
        writer.append(0, None, Some(&[0; 100]), &[]).unwrap();
    }
    let mut batch = batches(writer.finish().unwrap().freeze()).next().unwrap().unwrap();
    batch.header.base_offset = from;
    Queued { batch: Some(batch), next_offset: from + records, leader_epoch: Some(epoch) }
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
    bench.subscription.place_found(entry.ticket, 42, Some(5));
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
    bench.subscription.seek(&orders(), Offset::At(3), None).unwrap();
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
    bench.subscription.seek(&orders(), Offset::At(10), None).unwrap();
    assert!(!bench.subscription.expects(entry.ticket, entry.offset), "even to the same offset");
}

#[test]
fn a_second_answer_to_the_same_offset_is_not_handed_out_again() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    assert!(!bench.subscription.expects(entry.ticket, entry.offset));
}

#[test]
fn what_a_reader_holds_during_a_seek_is_stale() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    let taken = bench.subscription.take().unwrap().unwrap();
    bench.subscription.seek(&orders(), Offset::At(0), None).unwrap();
    assert_eq!(bench.subscription.turn(taken.ticket), Turn::Stale);
    bench.subscription.advance(taken.ticket, 12, None);
    assert_eq!(bench.position(), Some(0));
}

#[test]
fn a_paused_partition_keeps_its_buffer_and_is_not_fetched() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    let taken = bench.subscription.take().unwrap().unwrap();
    bench.subscription.pause(&orders()).unwrap();
    assert_eq!(bench.subscription.turn(taken.ticket), Turn::Paused);
    bench.subscription.give_back(taken.ticket, taken.queued);
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
    let taken = bench.subscription.take().unwrap().unwrap();
    assert!(taken.wake_fetcher);
    assert_eq!(bench.planned_fetch().1.offset, 10);
}

#[test]
fn a_node_is_asked_for_one_fetch_at_a_time() {
    let mut bench = Bench::fetching(0);
    assert!(bench.plan_with(&HashSet::from([LEADER])).work.is_empty());
    bench.planned_fetch();
}

#[test]
fn out_of_range_is_believed_only_of_the_leader_and_only_with_its_ends() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    assert!(bench.subscription.fetch_failed(entry.ticket, LEADER, ErrorCode::OFFSET_OUT_OF_RANGE, bench.now));
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
    bench.subscription.fetch_failed(entry.ticket, LEADER, ErrorCode::OFFSET_OUT_OF_RANGE, bench.now);
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
        bench.subscription.fetch_failed(entry.ticket, LEADER, ErrorCode::OFFSET_OUT_OF_RANGE, bench.now);
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
    bench.subscription.prefer(entry.ticket, FOLLOWER, bench.now);
    let (node, entry) = bench.planned_fetch();
    assert_eq!(node, FOLLOWER);
    bench.subscription.fetch_failed(entry.ticket, FOLLOWER, ErrorCode::OFFSET_OUT_OF_RANGE, bench.now);
    let (node, entry) = bench.planned_fetch();
    assert_eq!((node, entry.offset), (LEADER, 10));
}

#[test]
fn a_preferred_replica_is_forgotten_when_it_fails_or_gets_old() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.subscription.prefer(entry.ticket, FOLLOWER, bench.now);
    bench.subscription.node_failed([entry.ticket], FOLLOWER, bench.now);
    bench.pass(Duration::from_millis(100));
    assert_eq!(bench.planned_fetch().0, LEADER);
    bench.subscription.prefer(entry.ticket, FOLLOWER, bench.now);
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
        assert!(bench.subscription.fetch_failed(entry.ticket, LEADER, code, bench.now), "{code}");
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
    let taken = bench.subscription.take().unwrap().unwrap();
    bench.subscription.corrupt(taken.ticket, bench.now);
    assert!(bench.plan().is_empty());
    bench.pass(CORRUPT_BACKOFF);
    assert_eq!(bench.planned_fetch().1.offset, 10);
    assert_eq!(bench.subscription.buffered(), 0);
}

#[test]
fn gaps_are_stepped_over_with_the_batch_before_them() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    let gap = Queued { batch: None, next_offset: 15, leader_epoch: Some(5) };
    bench.subscription.push(entry.ticket, gap);
    assert_eq!(bench.hand_out(), 15);
    assert_eq!(bench.planned_fetch().1.offset, 15);
}

#[test]
fn a_partition_under_revocation_hands_out_nothing_and_keeps_what_is_to_be_committed() {
    let mut bench = Bench::fetching(10);
    let claim = bench.subscription.claim(&orders()).unwrap();
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    let taken = bench.subscription.take().unwrap().unwrap();
    bench.subscription.advance(taken.ticket, 12, Some(5));
    bench.subscription.ack_position(taken.ticket);
    bench.subscription.start_revoking([&orders()]);
    assert_eq!(bench.subscription.turn(taken.ticket), Turn::Stale);
    assert!(!bench.subscription.is_assigned(claim));
    assert!(bench.plan().is_empty());
    let expected = OffsetAndMetadata::new(12).with_leader_epoch(5);
    assert_eq!(bench.subscription.acked(Some(&[orders()])), BTreeMap::from([(orders(), expected)]));
    bench.subscription.unassign([&orders()]);
    assert!(bench.subscription.assignment().is_empty());
    assert!(matches!(bench.subscription.position(&orders()).unwrap_err().kind(), ErrorKind::NotAssigned(_)));
}

#[test]
fn an_automatic_commit_says_only_what_is_new() {
    let mut bench = Bench::fetching(10);
    let (_, entry) = bench.planned_fetch();
    bench.answer(&entry, 2, 5);
    let taken = bench.subscription.take().unwrap().unwrap();
    bench.subscription.advance(taken.ticket, 12, Some(5));
    assert!(bench.subscription.acked_since_last().is_empty(), "handed out is not done with");
    bench.subscription.ack_position(taken.ticket);
    assert_eq!(bench.subscription.acked_since_last().len(), 1);
    assert!(bench.subscription.acked_since_last().is_empty());
}

#[test]
fn a_claim_outlives_seeks_but_not_the_assignment() {
    let mut bench = Bench::fetching(10);
    let claim = bench.subscription.claim(&orders()).unwrap();
    bench.subscription.seek(&orders(), Offset::At(3), None).unwrap();
    assert!(bench.subscription.is_assigned(claim));
    bench.subscription.unassign([&orders()]);
    bench.subscription.assign([orders()], false);
    assert!(!bench.subscription.is_assigned(claim));
}
