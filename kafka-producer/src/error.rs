//! Why a record was not sent, and whether it is in the log all the same.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_client::TopicPartition;
use kafka_client::serde::BoxError;
use kafka_wire::error_code::ErrorCode;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a record was not sent. Cheap to clone: the records of one batch share one.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    fate: Fate,
}

/// Whether the records of a failed send are in the log. A later attempt can only add doubt, never remove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fate {
    /// The record is in the log.
    Written,
    /// The record is not in the log; sending it again cannot duplicate it.
    NotWritten,
    /// Nobody can tell; sending it again may duplicate it.
    PossiblyWritten,
}

/// The kinds of failure.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting, the cluster's metadata, or the way to a broker.
    Client(kafka_client::Error),
    /// A key or value could not be turned into bytes.
    Serialize {
        /// `"key"` or `"value"`.
        part: &'static str,
        /// What the type said.
        source: BoxError,
    },
    /// The record itself cannot be sent.
    InvalidRecord {
        /// What is wrong with it.
        reason: String,
    },
    /// The record is larger than a setting or the broker allows.
    RecordTooLarge {
        /// Its size in bytes with key, value, headers and overhead.
        size: usize,
        /// What is allowed, in bytes; `None` if the broker refused it without saying.
        limit: Option<usize>,
        /// The setting that says so: `max.request.size`, `buffer.memory`, or the topic's `max.message.bytes`.
        setting: &'static str,
    },
    /// The topic has no partition with this number.
    UnknownPartition {
        /// The partition asked for.
        partition: TopicPartition,
        /// How many the topic has.
        partitions: i32,
    },
    /// The buffer has no room at the moment; only [`try_enqueue`](crate::Producer::try_enqueue) says so.
    BufferFull {
        /// `buffer.memory`, in bytes.
        capacity: usize,
    },
    /// The topic's partitions are not known yet; only [`try_enqueue`](crate::Producer::try_enqueue) says so. The
    /// producer has asked for them.
    TopicNotLoaded(Arc<str>),
    /// `max.block.ms` passed before the record found room.
    BlockedTooLong {
        /// What was waited for.
        what: &'static str,
        /// `max.block.ms`.
        after: Duration,
    },
    /// `delivery.timeout.ms` passed before the record was acknowledged.
    DeliveryTimedOut {
        /// Where it was to go.
        partition: TopicPartition,
        /// `delivery.timeout.ms`.
        after: Duration,
        /// How often it was sent.
        attempts: u32,
        /// What the last attempt came to.
        last: Option<Error>,
    },
    /// The leader refused the record, or the answers to it ended in a state that allows no retry.
    Refused {
        /// Where it was to go.
        partition: TopicPartition,
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's own words, where it sent some.
        message: Option<String>,
    },
    /// Another record of the same batch was refused, and so none of the batch was written.
    SameBatch {
        /// Where it was to go.
        partition: TopicPartition,
        /// Why the others were refused.
        code: ErrorCode,
    },
    /// The partition's log does not continue where this producer's sequence of batches does, and it cannot be found out
    /// whether an attempt to write the record succeeded before.
    SequenceLost {
        /// Where it was to go.
        partition: TopicPartition,
        /// What the last attempt came to.
        last: Option<Error>,
    },
    /// [`close`](crate::Producer::close) ran out of time.
    CloseTimedOut {
        /// How long it was given.
        after: Duration,
        /// How many batches were left; their records were told their fates.
        batches: usize,
    },
    /// The producer failed for good while the record was on its way.
    Failed(Error),
    /// The producer was closed or dropped first.
    Closed,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, fate: Fate) -> Self {
        Self(Arc::new(Inner { kind, fate }))
    }

    /// A failure before the record was accepted.
    pub(crate) fn not_sent(kind: ErrorKind) -> Self {
        Self::new(kind, Fate::NotWritten)
    }

    /// The same failure of a record with another fate.
    pub(crate) fn with_fate(&self, fate: Fate) -> Self {
        if fate == self.fate() { self.clone() } else { Self::new(ErrorKind::Failed(self.clone()), fate) }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> &ErrorKind {
        &self.0.kind
    }

    /// Whether the record is in the log all the same.
    pub fn fate(&self) -> Fate {
        self.0.fate
    }

    /// Kafka's error code, if a broker sent one.
    pub fn error_code(&self) -> Option<ErrorCode> {
        match self.kind() {
            ErrorKind::Refused { code, .. } | ErrorKind::SameBatch { code, .. } => Some(*code),
            ErrorKind::Client(error) => error.error_code(),
            ErrorKind::Failed(error) => error.error_code(),
            ErrorKind::DeliveryTimedOut { last: Some(last), .. }
            | ErrorKind::SequenceLost { last: Some(last), .. } => last.error_code(),
            _ => None,
        }
    }

    /// Whether the same send may succeed later, without a change to the record or the settings. If the
    /// [`fate`](Self::fate) is [`Fate::PossiblyWritten`], sending again may write the record twice.
    pub fn is_retriable(&self) -> bool {
        match self.kind() {
            ErrorKind::Client(error) => error.is_retriable(),
            ErrorKind::Refused { code, .. } => code.is_retriable(),
            ErrorKind::BufferFull { .. }
            | ErrorKind::TopicNotLoaded(_)
            | ErrorKind::BlockedTooLong { .. }
            | ErrorKind::DeliveryTimedOut { .. }
            | ErrorKind::SequenceLost { .. }
            | ErrorKind::SameBatch { .. } => true,
            ErrorKind::Serialize { .. }
            | ErrorKind::InvalidRecord { .. }
            | ErrorKind::RecordTooLarge { .. }
            | ErrorKind::UnknownPartition { .. }
            | ErrorKind::CloseTimedOut { .. }
            | ErrorKind::Closed => false,
            ErrorKind::Failed(error) => error.is_retriable(),
        }
    }

    /// Whether this producer is of no further use.
    pub fn is_fatal(&self) -> bool {
        match self.kind() {
            ErrorKind::Client(error) => error.is_fatal(),
            ErrorKind::Closed | ErrorKind::CloseTimedOut { .. } | ErrorKind::Failed(_) => true,
            _ => false,
        }
    }
}

/// The record was not accepted.
impl From<kafka_client::Error> for Error {
    fn from(error: kafka_client::Error) -> Self {
        Self::not_sent(ErrorKind::Client(error))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error").field("kind", &self.0.kind).field("fate", &self.0.fate).finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            ErrorKind::Client(error) => fmt::Display::fmt(error, f)?,
            ErrorKind::Serialize { part, .. } => write!(f, "the record's {part} cannot be serialized")?,
            ErrorKind::InvalidRecord { reason } => write!(f, "the record cannot be sent: {reason}")?,
            ErrorKind::RecordTooLarge { size, limit: Some(limit), setting } => {
                write!(f, "the record takes {size} bytes, and {setting} allows {limit}")?;
            }
            ErrorKind::RecordTooLarge { size, limit: None, setting } => {
                write!(f, "the record takes {size} bytes, more than {setting} allows")?;
            }
            ErrorKind::UnknownPartition { partition, partitions } => {
                write!(f, "{partition} does not exist: the topic has {partitions} partitions")?;
            }
            ErrorKind::BufferFull { capacity } => {
                write!(f, "the buffer is full (buffer.memory = {capacity})")?;
            }
            ErrorKind::TopicNotLoaded(topic) => {
                write!(f, "the partitions of topic {topic:?} are not known yet")?;
            }
            ErrorKind::BlockedTooLong { what, after, .. } => write!(f, "no {what} within {after:?}")?,
            ErrorKind::DeliveryTimedOut { partition, after, attempts, .. } => {
                write!(f, "not acknowledged by {partition} within {after:?}, after {attempts} attempts")?;
            }
            ErrorKind::Refused { partition, code, message } => {
                let message = message.as_deref().filter(|message| !message.is_empty());
                let message = message.unwrap_or_else(|| code.message().trim_end_matches('.'));
                write!(f, "{partition} answered {code}: {message}")?;
            }
            ErrorKind::SameBatch { partition, code } => {
                write!(
                    f,
                    "{partition} refused another record of the batch with {code}, and wrote none of it"
                )?;
            }
            ErrorKind::SequenceLost { partition, .. } => {
                write!(f, "{partition} lost its place in the producer's sequence")?;
            }
            ErrorKind::CloseTimedOut { after, batches } => {
                write!(f, "closed after {after:?} with {batches} batches left")?;
            }
            ErrorKind::Failed(error) => write!(f, "the producer failed: {error}")?,
            ErrorKind::Closed => f.write_str("the producer is closed")?,
        }
        match self.fate() {
            Fate::PossiblyWritten => f.write_str("; the record may be in the log"),
            Fate::Written => f.write_str("; the record is in the log"),
            Fate::NotWritten => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.kind() {
            // Its text is our text, so the chain goes on with what lies beneath it.
            ErrorKind::Client(error) => error.source(),
            ErrorKind::Serialize { source, .. } => Some(source.as_ref()),
            ErrorKind::Failed(error) => error.source(),
            ErrorKind::DeliveryTimedOut { last: Some(last), .. }
            | ErrorKind::SequenceLost { last: Some(last), .. } => Some(last),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    #[test]
    fn the_text_says_when_the_record_may_be_in_the_log() {
        let last = Error::new(
            ErrorKind::Refused {
                partition: orders(),
                code: ErrorCode::NOT_LEADER_OR_FOLLOWER,
                message: None,
            },
            Fate::PossiblyWritten,
        );
        let kind = ErrorKind::DeliveryTimedOut {
            partition: orders(),
            after: Duration::from_secs(120),
            attempts: 3,
            last: Some(last),
        };
        let error = Error::new(kind, Fate::PossiblyWritten);
        assert_eq!(
            error.to_string(),
            "not acknowledged by orders-0 within 120s, after 3 attempts; the record may be in the log"
        );
        assert_eq!(error.error_code(), Some(ErrorCode::NOT_LEADER_OR_FOLLOWER));
        assert!(error.is_retriable());
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(source.contains("NOT_LEADER_OR_FOLLOWER"), "{source}");
    }

    #[test]
    fn what_happens_before_a_record_is_accepted_leaves_nothing_in_the_log() {
        for kind in [
            ErrorKind::BufferFull { capacity: 1 },
            ErrorKind::RecordTooLarge { size: 2, limit: Some(1), setting: "max.request.size" },
            ErrorKind::InvalidRecord { reason: "no".into() },
        ] {
            assert_eq!(Error::not_sent(kind).fate(), Fate::NotWritten);
        }
        let closed: Error = kafka_client::Error::closed().into();
        assert!(closed.is_fatal());
        assert_eq!(closed.fate(), Fate::NotWritten);
    }
}
