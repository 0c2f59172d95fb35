//! What can go wrong in a consumer, and what a caller can do about it.

use std::fmt;
use std::sync::Arc;

use kafka_client::types::TopicPartition;
use kafka_wire::error_code::ErrorCode;
use kafka_wire::record_batch::BatchError;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: cheap to clone, so that one failure can be told to many waiters.
#[derive(Clone)]
pub struct Error(Arc<ErrorKind>);

/// The kinds of failure.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The client's part of the work failed: connections, metadata, a broker's answer.
    Client(kafka_client::Error),
    /// The commit was refused because this consumer is not, or no longer, a member of its group: its partitions belong
    /// to others, who start from the offsets committed last (Java's `CommitFailedException`).
    NotAMember {
        /// The group.
        group: Arc<str>,
    },
    /// The commit came while the group was rebalancing; it can be repeated afterwards for what is still assigned.
    RebalanceInProgress {
        /// The group.
        group: Arc<str>,
    },
    /// The group has turned this consumer away for good: a missing permission, another instance of the same static
    /// member, protocols that do not agree. What it had is with others.
    MembershipEnded {
        /// The group.
        group: Arc<str>,
        /// Why.
        source: Error,
    },
    /// The partition is not assigned to this consumer, so neither its position nor its offset are this consumer's.
    NotAssigned(TopicPartition),
    /// Some offsets could not be committed; those of partitions not named here are.
    CommitRefused(Vec<(TopicPartition, ErrorCode)>),
    /// The partition has no committed offset, and the consumer was told to start nowhere else. Seek to go on; the
    /// partition stands still until then.
    NoOffset(TopicPartition),
    /// The position lies outside the log, as the current leader confirmed, and no policy says where to go. Seek to go
    /// on; the partition stands still until then.
    OutOfRange {
        /// The partition.
        partition: TopicPartition,
        /// Where the consumer stood.
        position: i64,
        /// The first offset that the broker still has.
        earliest: i64,
        /// The end of the log.
        latest: i64,
    },
    /// The log was truncated below the position: records that were read are gone from it (KIP-320). Seek to go on; the
    /// partition stands still until then.
    Truncated {
        /// The partition.
        partition: TopicPartition,
        /// Where the consumer stood.
        position: i64,
        /// Where the log as it is now departs from what was read, where the broker knows.
        diverged_at: Option<i64>,
    },
    /// A batch cannot be read. The position stays before it and it is fetched again; seek behind it to skip it.
    Corrupt {
        /// The partition.
        partition: TopicPartition,
        /// The offset of the batch, or the position where not even that can be read.
        offset: i64,
        /// What is wrong with it.
        source: BatchError,
    },
    /// The broker refuses to serve the partition, and waiting does not mend it: a missing permission, for one.
    Refused {
        /// The partition.
        partition: TopicPartition,
        /// Kafka's error code.
        code: ErrorCode,
    },
    /// The cluster refuses a topic that was subscribed to, and waiting does not mend it: a missing permission, or a name that
    /// no topic can have. The other topics are read all the same, and this one once it may be.
    TopicRefused {
        /// The topic.
        topic: Arc<str>,
        /// Kafka's error code.
        code: ErrorCode,
    },
    /// The call needs a group, and the consumer was built without one.
    NoGroup,
    /// The consumer was closed.
    Closed,
}

impl Error {
    /// Wraps a kind.
    pub fn new(kind: ErrorKind) -> Self {
        Self(Arc::new(kind))
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// Kafka's error code, if a broker sent one.
    pub fn error_code(&self) -> Option<ErrorCode> {
        match self.kind() {
            ErrorKind::Client(error) => error.error_code(),
            ErrorKind::CommitRefused(partitions) => partitions.first().map(|(_, code)| *code),
            ErrorKind::Refused { code, .. } | ErrorKind::TopicRefused { code, .. } => Some(*code),
            ErrorKind::OutOfRange { .. } => Some(ErrorCode::OFFSET_OUT_OF_RANGE),
            ErrorKind::MembershipEnded { source, .. } => source.error_code(),
            _ => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self.kind() {
            ErrorKind::Client(error) => error.is_retriable(),
            ErrorKind::RebalanceInProgress { .. } | ErrorKind::Corrupt { .. } => true,
            ErrorKind::Refused { code, .. } => code.is_retriable(),
            ErrorKind::CommitRefused(partitions) => partitions.iter().all(|(_, code)| code.is_retriable()),
            _ => false,
        }
    }

    /// Whether this consumer is of no further use: closed, fenced off, or turned away by the cluster for good.
    pub fn is_fatal(&self) -> bool {
        match self.kind() {
            ErrorKind::Client(error) => error.is_fatal(),
            ErrorKind::Closed | ErrorKind::MembershipEnded { .. } => true,
            _ => false,
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

impl From<kafka_client::Error> for Error {
    fn from(error: kafka_client::Error) -> Self {
        Self::new(ErrorKind::Client(error))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            ErrorKind::Client(error) => fmt::Display::fmt(error, f),
            ErrorKind::NotAMember { group } => {
                write!(f, "not a member of group {group} any more: other members have its partitions")
            }
            ErrorKind::RebalanceInProgress { group } => write!(f, "group {group} is rebalancing"),
            ErrorKind::MembershipEnded { group, .. } => {
                write!(f, "group {group} has turned this consumer away for good")
            }
            ErrorKind::NotAssigned(partition) => write!(f, "{partition} is not assigned to this consumer"),
            ErrorKind::CommitRefused(partitions) => {
                f.write_str("offsets were not committed:")?;
                partitions.iter().try_for_each(|(partition, code)| write!(f, " {partition}: {code}"))
            }
            ErrorKind::NoOffset(partition) => {
                write!(
                    f,
                    "{partition} has no committed offset, and the consumer was told to start nowhere; seek to go on"
                )
            }
            ErrorKind::OutOfRange { partition, position, earliest, latest } => {
                write!(f, "position {position} of {partition} is outside its log, ")?;
                write!(f, "which reaches from {earliest} to {latest}; seek to go on")
            }
            ErrorKind::Truncated { partition, position, diverged_at } => {
                write!(f, "the log of {partition} was truncated below position {position}")?;
                if let Some(offset) = diverged_at {
                    write!(f, ", from offset {offset} on")?;
                }
                f.write_str("; seek to go on")
            }
            ErrorKind::Corrupt { partition, offset, .. } => {
                write!(f, "the batch at offset {offset} of {partition} cannot be read")
            }
            ErrorKind::Refused { partition, code } => {
                write!(f, "{partition}: {code}: {}", code.message().trim_end_matches('.'))
            }
            ErrorKind::TopicRefused { topic, code } => {
                write!(f, "topic {topic}: {code}: {}", code.message().trim_end_matches('.'))
            }
            ErrorKind::NoGroup => f.write_str("the consumer has no group; name one with `group(..)`"),
            ErrorKind::Closed => f.write_str("the consumer was closed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.kind() {
            // The display above is already the client's own, so its source is ours.
            ErrorKind::Client(error) => std::error::Error::source(error),
            ErrorKind::Corrupt { source, .. } => Some(source),
            ErrorKind::MembershipEnded { source, .. } => Some(source),
            _ => None,
        }
    }
}
