//! What an error code, or the lack of an answer, says about a batch, and the error its records get for it.

use kafka_client::TopicPartition;
use kafka_wire::error_code::ErrorCode;

use crate::completion::Outcome;
use crate::error::{Error, ErrorKind, Fate};
use crate::idempotence::Answer;

/// The outcome of one attempt to write one batch.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) answer: Answer,
    pub(crate) base_offset: Option<i64>,
    pub(crate) append_time: Option<i64>,
    /// Why it was not written; `None` if it was.
    pub(crate) reason: Option<Reason>,
    /// The records at fault by index (KIP-467), with the broker's words.
    pub(crate) record_errors: Vec<(u32, Option<String>)>,
    /// The partition's leader is known by now to be another: there is no need to wait before trying that.
    pub(crate) retry_at_once: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum Reason {
    Code(ErrorCode, Option<String>),
    Client(kafka_client::Error),
    LeftOut,
}

impl Verdict {
    pub(crate) fn written(base_offset: Option<i64>, append_time: Option<i64>) -> Self {
        Self { base_offset, append_time, ..Self::failed(Answer::Written, None) }
    }

    /// The connection failed, or a layer did. A request whose first byte was not handed to the socket never gets there.
    pub(crate) fn unanswered(error: kafka_client::Error, was_written: bool) -> Self {
        let answer = if was_written { Answer::Unknown } else { Answer::NotAppended };
        Self::failed(answer, Some(Reason::Client(error)))
    }

    /// The broker answered, but said nothing about this partition.
    pub(crate) fn left_out() -> Self {
        Self::failed(Answer::Unknown, Some(Reason::LeftOut))
    }

    /// The broker's error code, if it sent one.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self.reason {
            Some(Reason::Code(code, _)) => Some(code),
            _ => None,
        }
    }

    /// The request could not even be made.
    pub(crate) fn impossible(error: kafka_client::Error) -> Self {
        Self::failed(Answer::Refused, Some(Reason::Client(error)))
    }

    pub(crate) fn refused(
        code: ErrorCode,
        message: Option<String>,
        log_start_offset: i64,
        record_errors: Vec<(u32, Option<String>)>,
        idempotent: bool,
    ) -> Self {
        let answer = answer_to(code, log_start_offset, idempotent);
        Self { record_errors, ..Self::failed(answer, Some(Reason::Code(code, message))) }
    }

    fn failed(answer: Answer, reason: Option<Reason>) -> Self {
        Self {
            answer,
            base_offset: None,
            append_time: None,
            reason,
            record_errors: Vec::new(),
            retry_at_once: false,
        }
    }

    /// The error of this attempt, for a batch whose fate is `fate`.
    pub(crate) fn error(&self, partition: &TopicPartition, fate: Fate) -> Error {
        let kind = match &self.reason {
            Some(Reason::Code(code, message)) => {
                ErrorKind::Refused { partition: partition.clone(), code: *code, message: message.clone() }
            }
            Some(Reason::Client(error)) => ErrorKind::Client(error.clone()),
            // The code of Kafka's own client for it.
            Some(Reason::LeftOut) | None => ErrorKind::Refused {
                partition: partition.clone(),
                code: ErrorCode::UNKNOWN_SERVER_ERROR,
                message: Some("the broker's answer leaves the partition out".to_owned()),
            },
        };
        Error::new(kind, fate)
    }

    /// What the records of a batch are told that ends with this attempt.
    pub(crate) fn outcome(self, partition: &TopicPartition, fate: Fate) -> Outcome {
        let code = match &self.reason {
            None => return Outcome::Written { base_offset: self.base_offset, append_time: self.append_time },
            Some(Reason::Code(code, _)) if !self.record_errors.is_empty() => *code,
            Some(_) => return Outcome::Failed(self.error(partition, fate)),
        };
        let others = Error::new(ErrorKind::SameBatch { partition: partition.clone(), code }, fate);
        let mut records: Vec<(u32, Error)> = self
            .record_errors
            .into_iter()
            .map(|(index, message)| {
                let partition = partition.clone();
                (index, Error::new(ErrorKind::Refused { partition, code, message }, fate))
            })
            .collect();
        records.sort_by_key(|(index, _)| *index);
        records.dedup_by_key(|(index, _)| *index);
        Outcome::Refused { records, others }
    }
}

/// What a partition's error code in a Produce response means for the batch.
fn answer_to(code: ErrorCode, log_start_offset: i64, idempotent: bool) -> Answer {
    match code {
        ErrorCode::NONE | ErrorCode::DUPLICATE_SEQUENCE_NUMBER => Answer::Written,

        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER if idempotent => Answer::OutOfOrder,
        ErrorCode::UNKNOWN_PRODUCER_ID if idempotent => Answer::UnknownProducerId { log_start_offset },
        ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED if idempotent => Answer::StaleEpoch,

        ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE => Answer::TooLarge,

        // Checked before anything is appended, and may pass next time.
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::UNKNOWN_TOPIC_ID
        | ErrorCode::NOT_ENOUGH_REPLICAS
        | ErrorCode::KAFKA_STORAGE_ERROR
        | ErrorCode::CORRUPT_MESSAGE => Answer::NotAppended,

        // Checked before anything is appended, and will fail next time too.
        ErrorCode::INVALID_RECORD
        | ErrorCode::INVALID_TIMESTAMP
        | ErrorCode::UNSUPPORTED_COMPRESSION_TYPE
        | ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT
        | ErrorCode::POLICY_VIOLATION
        | ErrorCode::INVALID_TOPIC_EXCEPTION
        | ErrorCode::INVALID_REQUIRED_ACKS
        | ErrorCode::TOPIC_AUTHORIZATION_FAILED
        | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
        | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        | ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER
        | ErrorCode::UNKNOWN_PRODUCER_ID
        | ErrorCode::INVALID_PRODUCER_EPOCH
        | ErrorCode::PRODUCER_FENCED
        | ErrorCode::INVALID_TXN_STATE => Answer::Refused,

        // Among them NOT_LEADER_OR_FOLLOWER: the old leader may have appended before it learned that it is none
        // (KAFKA-13574).
        code if code.is_retriable() => Answer::Unknown,
        // The broker failed somewhere between receiving and answering; with idempotence, asking again is safe.
        ErrorCode::UNKNOWN_SERVER_ERROR if idempotent => Answer::Unknown,
        _ => Answer::GivenUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    #[test]
    fn every_code_says_whether_the_batch_may_be_in_the_log_and_whether_to_retry() {
        use Answer::{GivenUp, NotAppended, OutOfOrder, Refused, StaleEpoch, TooLarge, Unknown, Written};
        // The code, what it means with idempotence, and without.
        let table = [
            (ErrorCode::NONE, Written, Written),
            (ErrorCode::DUPLICATE_SEQUENCE_NUMBER, Written, Written),
            (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, OutOfOrder, Refused),
            (ErrorCode::UNKNOWN_PRODUCER_ID, Answer::UnknownProducerId { log_start_offset: 5 }, Refused),
            (ErrorCode::INVALID_PRODUCER_EPOCH, StaleEpoch, Refused),
            (ErrorCode::PRODUCER_FENCED, StaleEpoch, Refused),
            (ErrorCode::MESSAGE_TOO_LARGE, TooLarge, TooLarge),
            (ErrorCode::RECORD_LIST_TOO_LARGE, TooLarge, TooLarge),
            (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, NotAppended, NotAppended),
            (ErrorCode::UNKNOWN_TOPIC_ID, NotAppended, NotAppended),
            (ErrorCode::NOT_ENOUGH_REPLICAS, NotAppended, NotAppended),
            (ErrorCode::KAFKA_STORAGE_ERROR, NotAppended, NotAppended),
            (ErrorCode::CORRUPT_MESSAGE, NotAppended, NotAppended),
            (ErrorCode::INVALID_RECORD, Refused, Refused),
            (ErrorCode::INVALID_TIMESTAMP, Refused, Refused),
            (ErrorCode::UNSUPPORTED_COMPRESSION_TYPE, Refused, Refused),
            (ErrorCode::POLICY_VIOLATION, Refused, Refused),
            (ErrorCode::INVALID_TOPIC_EXCEPTION, Refused, Refused),
            (ErrorCode::INVALID_REQUIRED_ACKS, Refused, Refused),
            (ErrorCode::TOPIC_AUTHORIZATION_FAILED, Refused, Refused),
            (ErrorCode::CLUSTER_AUTHORIZATION_FAILED, Refused, Refused),
            (ErrorCode::INVALID_TXN_STATE, Refused, Refused),
            (ErrorCode::NOT_LEADER_OR_FOLLOWER, Unknown, Unknown),
            (ErrorCode::LEADER_NOT_AVAILABLE, Unknown, Unknown),
            (ErrorCode::FENCED_LEADER_EPOCH, Unknown, Unknown),
            (ErrorCode::REQUEST_TIMED_OUT, Unknown, Unknown),
            (ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND, Unknown, Unknown),
            (ErrorCode::UNKNOWN_SERVER_ERROR, Unknown, GivenUp),
            (ErrorCode::INVALID_REQUEST, GivenUp, GivenUp),
            (ErrorCode(999), GivenUp, GivenUp),
        ];
        for (code, idempotent, plain) in table {
            assert_eq!(answer_to(code, 5, true), idempotent, "{code}");
            assert_eq!(answer_to(code, 5, false), plain, "{code}");
        }
    }

    #[test]
    fn a_request_that_never_reached_the_socket_leaves_no_doubt() {
        let error = kafka_client::Error::closed;
        assert_eq!(Verdict::unanswered(error(), false).answer, Answer::NotAppended);
        assert_eq!(Verdict::unanswered(error(), true).answer, Answer::Unknown);
    }

    #[test]
    fn only_the_records_that_the_broker_names_get_its_reason() {
        let errors = vec![(4, Some("no key".into())), (1, None), (4, Some("again".into()))];
        let verdict = Verdict::refused(ErrorCode::INVALID_RECORD, None, -1, errors, true);
        let Outcome::Refused { records, others } = verdict.outcome(&orders(), Fate::NotWritten) else {
            panic!("not refused by record")
        };
        let texts: Vec<_> = records.iter().map(|(index, error)| (*index, error.to_string())).collect();
        assert_eq!(texts[0].0, 1);
        assert_eq!(texts[1], (4, "orders-0 answered INVALID_RECORD (87): no key".into()));
        assert_eq!(texts.len(), 2);
        assert!(matches!(others.kind(), ErrorKind::SameBatch { .. }));
        assert!(others.is_retriable());
    }
}
