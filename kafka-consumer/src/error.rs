//! What can go wrong in a consumer, and what a caller can do about it.

use std::fmt;
use std::sync::Arc;

use kafka_client::types::TopicPartition;
use kafka_wire::error_code::ErrorCode;

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
    /// The partition is not assigned to this consumer, so neither its position nor its offset are this consumer's.
    NotAssigned(TopicPartition),
    /// Some offsets could not be committed; those of partitions not named here are.
    CommitRefused(Vec<(TopicPartition, ErrorCode)>),
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
            ErrorKind::NotAMember { .. }
            | ErrorKind::RebalanceInProgress { .. }
            | ErrorKind::NotAssigned(_) => None,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        match self.kind() {
            ErrorKind::Client(error) => error.is_retriable(),
            ErrorKind::RebalanceInProgress { .. } => true,
            ErrorKind::CommitRefused(partitions) => partitions.iter().all(|(_, code)| code.is_retriable()),
            ErrorKind::NotAMember { .. } | ErrorKind::NotAssigned(_) => false,
        }
    }

    /// Whether this consumer is of no further use: closed, fenced off, or turned away by the cluster for good.
    pub fn is_fatal(&self) -> bool {
        matches!(self.kind(), ErrorKind::Client(error) if error.is_fatal())
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
            ErrorKind::NotAssigned(partition) => write!(f, "{partition} is not assigned to this consumer"),
            ErrorKind::CommitRefused(partitions) => {
                f.write_str("offsets were not committed:")?;
                partitions.iter().try_for_each(|(partition, code)| write!(f, " {partition}: {code}"))
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.kind() {
            // The display above is already the client's own, so its source is ours.
            ErrorKind::Client(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}
