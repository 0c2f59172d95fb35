use super::*;

#[derive(Debug, PartialEq, Eq, Clone)]
struct Records(&'static str, i32);

impl Stampable for Records {
    fn record_count(&self) -> i32 {
        self.1
    }

    fn split(self) -> Result<[Self; 2], Self> {
        if self.1 == 1 {
            return Err(self);
        }
        Ok([Self(self.0, self.1 / 2), Self(self.0, self.1 - self.1 / 2)])
    }
}

const FIRST: ProducerIdentity = ProducerIdentity { id: 7, epoch: 0 };
const SECOND: ProducerIdentity = ProducerIdentity { id: 7, epoch: 1 };

struct Producer {
    identity: Identity,
    pipeline: Pipeline<Records>,
}

impl Producer {
    fn new() -> Self {
        let mut identity = Identity::default();
        identity.assign(FIRST);
        Self { identity, pipeline: Pipeline::new(true) }
    }

    /// A producer whose first batch, of ten records, is acknowledged: its window is open.
    fn warm() -> Self {
        let mut producer = Self::new();
        producer.send("zero", 10);
        producer.expect(0, Answer::Written, Step::Acknowledge(Records("zero", 10)));
        producer
    }

    fn next(&self) -> Next {
        self.pipeline.next(&self.identity)
    }

    fn send(&mut self, name: &'static str, count: i32) -> (Option<ProducerIdentity>, i32) {
        assert_eq!(self.next(), Next::Stamp, "{name}");
        let sent = self.pipeline.stamp(&self.identity, Records(name, count));
        (sent.stamp, sent.sequence.0)
    }

    fn retry(&mut self, name: &'static str) -> (Option<ProducerIdentity>, i32) {
        assert_eq!(self.next(), Next::Retry, "{name}");
        let sent = self.pipeline.retry().unwrap();
        assert_eq!(sent.batch.0, name);
        (sent.stamp, sent.sequence.0)
    }

    fn answer(&mut self, sequence: i32, answer: Answer) -> Step<Records> {
        self.pipeline.answered(Sequence(sequence), answer)
    }

    fn expect(&mut self, sequence: i32, answer: Answer, step: Step<Records>) {
        assert_eq!(self.answer(sequence, answer), step, "{answer:?} for {sequence}");
    }

    fn restart(&mut self) -> (Vec<&'static str>, Vec<(&'static str, Fate)>) {
        assert_eq!(self.next(), Next::Restart);
        let (mut again, mut failed) = (vec![], vec![]);
        self.pipeline.restart(
            &mut self.identity,
            |batch| again.push(batch.0),
            |batch, fate| failed.push((batch.0, fate)),
        );
        (again, failed)
    }

    fn expire(&mut self, names: &[&'static str]) -> Vec<(&'static str, Fate)> {
        let mut resolved = vec![];
        self.pipeline.expire(|batch| names.contains(&batch.0), |batch, fate| resolved.push((batch.0, fate)));
        resolved
    }
}

#[test]
fn nothing_is_stamped_without_an_identity() {
    let producer = Producer { identity: Identity::default(), pipeline: Pipeline::new(true) };
    assert_eq!(producer.next(), Next::Wait);
}

#[test]
fn the_first_batch_of_an_epoch_travels_alone_and_then_five_may() {
    let mut producer = Producer::new();
    assert_eq!(producer.send("a", 3), (Some(FIRST), 0));
    assert_eq!(producer.next(), Next::Wait);
    producer.expect(0, Answer::Written, Step::Acknowledge(Records("a", 3)));
    for (index, name) in ["b", "c", "d", "e", "f"].into_iter().enumerate() {
        assert_eq!(producer.send(name, 2), (Some(FIRST), 3 + 2 * index as i32));
    }
    assert_eq!(producer.next(), Next::Wait);
    producer.expect(3, Answer::Written, Step::Acknowledge(Records("b", 2)));
    assert_eq!(producer.next(), Next::Stamp);
}

#[test]
fn a_first_batch_that_is_refused_keeps_the_window_shut() {
    for answer in [Answer::NotAppended, Answer::Unknown] {
        let mut producer = Producer::new();
        producer.send("a", 3);
        producer.expect(0, answer, Step::Retry);
        assert_eq!(producer.retry("a"), (Some(FIRST), 0));
        assert_eq!(producer.next(), Next::Wait);
        producer.expect(0, Answer::Written, Step::Acknowledge(Records("a", 3)));
        assert_eq!(producer.send("b", 1), (Some(FIRST), 3));
        assert_eq!(producer.next(), Next::Stamp);
    }
}

#[test]
fn after_a_rest_the_next_batch_travels_alone_again_under_the_same_epoch() {
    let mut producer = Producer::warm();
    producer.pipeline.rest();
    assert_eq!(producer.send("a", 1), (Some(FIRST), 10));
    assert_eq!(producer.next(), Next::Wait);
    producer.pipeline.rest();
    producer.expect(10, Answer::Written, Step::Acknowledge(Records("a", 1)));
    producer.send("b", 1);
    assert_eq!(producer.next(), Next::Stamp);
}

/// What each answer to the only batch in flight leads to, when no earlier attempt left a doubt and when one did.
#[test]
fn each_answer_to_a_lone_batch_has_one_consequence() {
    use Fate::{NotWritten, PossiblyWritten};
    let batch = || Records("a", 1);
    let acknowledged = || Step::Acknowledge(batch());
    let fail = |fate| Step::Fail(batch(), fate);
    type Row = (Answer, Step<Records>, Next, Step<Records>, Next);
    let table: [Row; 11] = [
        (Answer::Written, acknowledged(), Next::Stamp, acknowledged(), Next::Stamp),
        (Answer::NotAppended, Step::Retry, Next::Retry, Step::Retry, Next::Retry),
        (Answer::Unknown, Step::Retry, Next::Retry, Step::Retry, Next::Retry),
        // The range of a batch that is in no log is free again; otherwise it is spent, and the count is in doubt.
        (Answer::Refused, fail(NotWritten), Next::Stamp, fail(PossiblyWritten), Next::Restart),
        (Answer::GivenUp, fail(PossiblyWritten), Next::Restart, fail(PossiblyWritten), Next::Restart),
        (Answer::TooLarge, fail(NotWritten), Next::Stamp, fail(PossiblyWritten), Next::Restart),
        (Answer::OutOfOrder, Step::Retry, Next::Restart, Step::Retry, Next::Restart),
        (Answer::StaleEpoch, Step::Retry, Next::Restart, Step::Retry, Next::Restart),
        (
            Answer::UnknownProducerId { log_start_offset: -1 },
            Step::Retry,
            Next::Retry,
            Step::Retry,
            Next::Retry,
        ),
        (
            Answer::UnknownProducerId { log_start_offset: 0 },
            Step::Retry,
            Next::Restart,
            Step::Retry,
            Next::Restart,
        ),
        (
            Answer::UnknownProducerId { log_start_offset: 900 },
            Step::Retry,
            Next::Restart,
            Step::Retry,
            Next::Restart,
        ),
    ];
    for (answer, step, next, doubtful_step, doubtful_next) in table {
        let mut producer = Producer::warm();
        producer.send("a", 1);
        producer.expect(10, answer, step);
        assert_eq!(producer.next(), next, "{answer:?}");

        let mut producer = Producer::warm();
        producer.send("a", 1);
        producer.expect(10, Answer::Unknown, Step::Retry);
        producer.retry("a");
        producer.expect(10, answer, doubtful_step);
        assert_eq!(producer.next(), doubtful_next, "{answer:?} after a lost answer");
    }
}

#[test]
fn retries_go_one_at_a_time_in_order_with_the_stamps_they_had() {
    let mut producer = Producer::warm();
    for name in ["a", "b", "c"] {
        producer.send(name, 1);
    }
    producer.expect(10, Answer::Unknown, Step::Retry);
    assert_eq!(producer.retry("a"), (Some(FIRST), 10));
    producer.expect(11, Answer::OutOfOrder, Step::Retry);
    producer.expect(12, Answer::OutOfOrder, Step::Retry);
    assert_eq!(producer.next(), Next::Wait);
    producer.expect(10, Answer::Written, Step::Acknowledge(Records("a", 1)));
    assert_eq!(producer.retry("b"), (Some(FIRST), 11));
    assert_eq!(producer.next(), Next::Wait);
    producer.expect(11, Answer::Written, Step::Acknowledge(Records("b", 1)));
    assert_eq!(producer.retry("c"), (Some(FIRST), 12));
    producer.expect(12, Answer::Written, Step::Acknowledge(Records("c", 1)));
    assert_eq!(producer.send("d", 1), (Some(FIRST), 13));
}

#[test]
fn nothing_new_is_stamped_behind_a_retry() {
    let mut producer = Producer::warm();
    producer.send("a", 1);
    producer.send("b", 1);
    producer.expect(10, Answer::Unknown, Step::Retry);
    producer.retry("a");
    assert_eq!(producer.next(), Next::Wait);
    producer.expect(11, Answer::Written, Step::Acknowledge(Records("b", 1)));
    assert_eq!(producer.next(), Next::Wait);
}

#[test]
fn a_batch_whose_successor_is_in_the_log_is_confirmed_or_failed_but_never_restamped() {
    // The answer to "a" was lost, "b" was taken: so "a" is in the log, and its retry says so.
    let mut producer = Producer::warm();
    producer.send("a", 1);
    producer.send("b", 1);
    producer.expect(10, Answer::Unknown, Step::Retry);
    producer.expect(11, Answer::Written, Step::Acknowledge(Records("b", 1)));
    producer.retry("a");
    producer.expect(10, Answer::Written, Step::Acknowledge(Records("a", 1)));
    assert_eq!(producer.send("c", 1), (Some(FIRST), 12));

    // "a" was refused, "b" was taken by a log that had forgotten the producer.
    for (first, fate) in [(Answer::NotAppended, Fate::NotWritten), (Answer::Unknown, Fate::PossiblyWritten)] {
        let mut producer = Producer::warm();
        producer.send("a", 1);
        producer.send("b", 1);
        producer.expect(10, first, Step::Retry);
        producer.expect(11, Answer::Written, Step::Acknowledge(Records("b", 1)));
        producer.retry("a");
        producer.expect(10, Answer::OutOfOrder, Step::Fail(Records("a", 1), fate));
        assert_eq!(producer.send("c", 1), (Some(FIRST), 12));
    }
}

#[test]
fn a_hole_in_the_log_starts_a_new_epoch_once_the_socket_is_quiet() {
    let mut producer = Producer::warm();
    producer.send("a", 2);
    producer.send("b", 1);
    producer.send("c", 1);
    producer.expect(10, Answer::OutOfOrder, Step::Retry);
    assert_eq!(producer.next(), Next::Wait);
    producer.expect(12, Answer::OutOfOrder, Step::Retry);
    producer.expect(13, Answer::Unknown, Step::Retry);
    // "c" may be in the log, so it is never stamped anew.
    assert_eq!(producer.restart(), (vec!["a", "b"], vec![("c", Fate::PossiblyWritten)]));
    assert_eq!(producer.send("a", 2), (Some(SECOND), 0));
    assert_eq!(producer.next(), Next::Wait);
}

#[test]
fn a_batch_that_may_be_written_is_never_stamped_anew() {
    let mut producer = Producer::warm();
    producer.send("a", 1);
    producer.expect(10, Answer::Unknown, Step::Retry);
    producer.retry("a");
    producer.expect(10, Answer::OutOfOrder, Step::Retry);
    assert_eq!(producer.restart(), (vec![], vec![("a", Fate::PossiblyWritten)]));
}

#[test]
fn another_partition_keeps_its_stamp_until_it_is_drained() {
    let mut producer = Producer::warm();
    let mut other = Pipeline::new(true);
    other.stamp(&producer.identity, Records("x", 4));
    producer.send("a", 1);
    producer.expect(10, Answer::OutOfOrder, Step::Retry);
    producer.restart();
    assert_eq!(producer.identity.current(), Some(SECOND));

    assert_eq!(other.next(&producer.identity), Next::Wait);
    assert_eq!(other.answered(Sequence(0), Answer::Unknown), Step::Retry);
    let sent = other.retry().unwrap();
    assert_eq!((sent.stamp, sent.sequence), (Some(FIRST), Sequence(0)));
    assert_eq!(other.answered(Sequence(0), Answer::Written), Step::Acknowledge(Records("x", 4)));
    let sent = other.stamp(&producer.identity, Records("y", 1));
    assert_eq!((sent.stamp, sent.sequence), (Some(SECOND), Sequence(0)));
}

#[test]
fn two_partitions_with_holes_use_one_new_epoch() {
    let mut producer = Producer::warm();
    let mut other = Pipeline::new(true);
    other.stamp(&producer.identity, Records("x", 4));
    producer.send("a", 1);
    producer.expect(10, Answer::OutOfOrder, Step::Retry);
    producer.restart();
    assert_eq!(other.answered(Sequence(0), Answer::OutOfOrder), Step::Retry);
    assert_eq!(other.next(&producer.identity), Next::Restart);
    other.restart(&mut producer.identity, |_| {}, |_, _| {});
    assert_eq!(producer.identity.current(), Some(SECOND));
}

#[test]
fn a_producer_without_epochs_left_asks_for_a_new_id() {
    let mut producer = Producer::new();
    producer.identity.assign(ProducerIdentity { id: 7, epoch: i16::MAX });
    producer.send("a", 1);
    producer.expect(0, Answer::StaleEpoch, Step::Retry);
    assert_eq!(producer.restart(), (vec!["a"], vec![]));
    assert_eq!(producer.identity.current(), None);
    assert_eq!(producer.next(), Next::Wait);
    let fresh = ProducerIdentity { id: 8, epoch: 0 };
    producer.identity.assign(fresh);
    assert_eq!(producer.send("a", 1), (Some(fresh), 0));
}

#[test]
fn sequences_continue_at_zero_after_the_highest() {
    let mut producer = Producer::warm();
    producer.pipeline.next_sequence = i32::MAX - 1;
    producer.pipeline.last_acked = Some(i32::MAX - 2);
    assert_eq!(producer.send("a", 3), (Some(FIRST), i32::MAX - 1));
    assert_eq!(producer.send("b", 1), (Some(FIRST), 1));
    producer.expect(i32::MAX - 1, Answer::Written, Step::Acknowledge(Records("a", 3)));
    assert_eq!(producer.pipeline.last_acked, Some(0));
    producer.expect(1, Answer::Unknown, Step::Retry);
    assert_eq!(producer.expire(&["b"]), [("b", Fate::PossiblyWritten)]);
    assert_eq!(producer.next(), Next::Restart);
}

#[test]
fn a_refused_batch_in_the_middle_leaves_a_hole_that_a_new_epoch_closes() {
    let mut producer = Producer::warm();
    producer.send("a", 1);
    producer.send("b", 1);
    producer.expect(10, Answer::Refused, Step::Fail(Records("a", 1), Fate::NotWritten));
    assert_eq!(producer.next(), Next::Wait);
    producer.expect(11, Answer::OutOfOrder, Step::Retry);
    assert_eq!(producer.restart(), (vec!["b"], vec![]));
    assert_eq!(producer.send("b", 1), (Some(SECOND), 0));
}

#[test]
fn a_refused_batch_does_not_endanger_an_earlier_one_that_may_be_written() {
    let mut producer = Producer::warm();
    producer.send("a", 1);
    producer.send("b", 1);
    producer.send("c", 1);
    producer.expect(10, Answer::Unknown, Step::Retry);
    producer.expect(11, Answer::Refused, Step::Fail(Records("b", 1), Fate::NotWritten));
    producer.expect(12, Answer::OutOfOrder, Step::Retry);
    producer.retry("a");
    producer.expect(10, Answer::Written, Step::Acknowledge(Records("a", 1)));
    producer.retry("c");
    producer.expect(12, Answer::OutOfOrder, Step::Retry);
    assert_eq!(producer.restart(), (vec!["c"], vec![]));
}

#[test]
fn halves_of_a_batch_that_is_too_large_share_its_range() {
    let mut producer = Producer::warm();
    producer.send("a", 5);
    producer.send("b", 1);
    producer.expect(10, Answer::TooLarge, Step::Retry);
    producer.expect(15, Answer::OutOfOrder, Step::Retry);
    assert_eq!(producer.retry("a"), (Some(FIRST), 10));
    producer.expect(10, Answer::Written, Step::Acknowledge(Records("a", 2)));
    assert_eq!(producer.retry("a"), (Some(FIRST), 12));
    producer.expect(12, Answer::Written, Step::Acknowledge(Records("a", 3)));
    assert_eq!(producer.retry("b"), (Some(FIRST), 15));
    producer.expect(15, Answer::Written, Step::Acknowledge(Records("b", 1)));
    assert_eq!(producer.send("c", 1), (Some(FIRST), 16));
}

#[test]
fn halves_inherit_the_doubt_about_the_whole() {
    let mut producer = Producer::warm();
    producer.send("a", 2);
    producer.expect(10, Answer::Unknown, Step::Retry);
    producer.retry("a");
    producer.expect(10, Answer::TooLarge, Step::Retry);
    producer.retry("a");
    producer.expect(10, Answer::Refused, Step::Fail(Records("a", 1), Fate::PossiblyWritten));
}

#[test]
fn an_expired_batch_that_was_never_on_the_wire_again_is_settled_at_once() {
    let mut producer = Producer::warm();
    producer.send("a", 1);
    producer.expect(10, Answer::NotAppended, Step::Retry);
    assert_eq!(producer.expire(&["a"]), [("a", Fate::NotWritten)]);
    // Its range is spent all the same.
    assert_eq!(producer.restart(), (vec![], vec![]));
    assert_eq!(producer.send("b", 1), (Some(SECOND), 0));
}

#[test]
fn after_an_expiry_on_the_wire_nothing_is_stamped_until_the_rest_is_answered() {
    for (answer, next) in [(Answer::Written, Next::Stamp), (Answer::Unknown, Next::Restart)] {
        let mut producer = Producer::warm();
        producer.send("a", 1);
        assert_eq!(producer.expire(&["a"]), [("a", Fate::PossiblyWritten)]);
        assert_eq!(producer.expire(&["a"]), []);
        assert_eq!(producer.next(), Next::Wait);
        producer.expect(10, answer, Step::Forget(Records("a", 1)));
        assert_eq!(producer.next(), next);
    }
}

#[test]
fn a_batch_behind_an_expired_one_is_tried_before_it_is_stamped_anew() {
    for answer in [Answer::Written, Answer::OutOfOrder] {
        let mut producer = Producer::warm();
        producer.send("a", 1);
        producer.send("b", 1);
        producer.expect(10, Answer::Unknown, Step::Retry);
        producer.expect(11, Answer::NotAppended, Step::Retry);
        assert_eq!(producer.expire(&["a"]), [("a", Fate::PossiblyWritten)]);
        assert_eq!(producer.retry("b"), (Some(FIRST), 11));
        if answer == Answer::Written {
            // "a" is in the log after all.
            producer.expect(11, answer, Step::Acknowledge(Records("b", 1)));
            assert_eq!(producer.send("c", 1), (Some(FIRST), 12));
        } else {
            producer.expect(11, answer, Step::Retry);
            assert_eq!(producer.restart(), (vec!["b"], vec![]));
        }
    }
}

#[test]
fn a_new_log_is_met_under_a_new_epoch() {
    let mut producer = Producer::warm();
    producer.send("a", 1);
    producer.pipeline.new_log();
    assert_eq!(producer.next(), Next::Wait);
    producer.expect(10, Answer::NotAppended, Step::Retry);
    assert_eq!(producer.restart(), (vec!["a"], vec![]));
    assert_eq!(producer.send("a", 1), (Some(SECOND), 0));

    let mut untouched = Pipeline::<Records>::new(true);
    untouched.new_log();
    assert_eq!(untouched.next(&producer.identity), Next::Stamp);
}

#[test]
fn without_idempotence_one_batch_is_in_flight_and_unstamped() {
    let mut producer = Producer { identity: Identity::default(), pipeline: Pipeline::new(false) };
    for name in ["a", "b", "c"] {
        let (stamp, sequence) = producer.send(name, 1);
        assert_eq!((stamp, producer.next()), (None, Next::Wait));
        producer.expect(sequence, Answer::Unknown, Step::Retry);
        producer.retry(name);
        producer.expect(sequence, Answer::Written, Step::Acknowledge(Records(name, 1)));
    }
    let (_, sequence) = producer.send("d", 1);
    producer.expect(sequence, Answer::GivenUp, Step::Fail(Records("d", 1), Fate::PossiblyWritten));
    producer.send("e", 1);
    assert_eq!(producer.expire(&["e"]), [("e", Fate::PossiblyWritten)]);
    producer.expect(4, Answer::Unknown, Step::Forget(Records("e", 1)));
    producer.send("f", 1);
}

#[test]
fn an_answer_that_nothing_waits_for_changes_nothing() {
    let mut producer = Producer::warm();
    producer.expect(0, Answer::Written, Step::Nothing);
    producer.send("a", 1);
    producer.expect(10, Answer::Unknown, Step::Retry);
    producer.expect(10, Answer::Written, Step::Nothing);
    assert_eq!(producer.next(), Next::Retry);
}

#[test]
fn closing_tells_the_fate_of_everything_sent() {
    let mut producer = Producer::warm();
    for name in ["a", "b", "c"] {
        producer.send(name, 1);
    }
    producer.expect(10, Answer::NotAppended, Step::Retry);
    producer.expect(11, Answer::Unknown, Step::Retry);
    let mut fates = vec![];
    producer.pipeline.close(|batch, fate| fates.push((batch.0, fate)));
    assert_eq!(fates, [("a", Fate::NotWritten), ("b", Fate::PossiblyWritten), ("c", Fate::PossiblyWritten)]);
}
