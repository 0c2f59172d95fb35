//! What can go wrong, and what a caller can do about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kafka_wire::address::NodeAddress;
use kafka_wire::api::{Api, VersionRange};
use kafka_wire::error::ProtocolError;
use kafka_wire::error_code::ErrorCode;

use crate::serde::BoxError;
use crate::tls::TlsProblem;
use crate::types::{NodeId, TopicPartition};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: cheap to clone, so that one failure can be told to many waiters.
#[derive(Clone)]
pub struct Error(Arc<ErrorKind>);

/// The kinds of failure, and what to do about each.
///
/// What [`is_retriable`](Error::is_retriable) has been tried again already, until the call's time was over: so there is
/// nothing to do about it but to wait longer, or to look at the brokers.
#[derive(Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting cannot work; nothing was started.
    Config {
        /// The setting's name, as in Kafka's documentation.
        setting: String,
        /// The value that was given.
        value: String,
        /// What to give instead.
        remedy: String,
    },
    /// A broker answered with an error. Unless it is retriable, the request, a permission or the broker's own settings
    /// have to change.
    Broker {
        /// Kafka's error code.
        code: ErrorCode,
        /// What it was asked.
        api: Api,
        /// Which broker answered, where known.
        node: Option<NodeId>,
        /// The broker's own words, where it sent some.
        message: Option<String>,
    },
    /// The peer sent bytes that are not Kafka's protocol, or not this request's answer; its connection is closed. Look at
    /// what listens there: TLS and HTTP are named in the cause.
    Protocol {
        /// Who sent them.
        address: NodeAddress,
        /// What was wrong with them.
        source: ProtocolError,
    },
    /// A request could not be encoded in the version that the broker speaks: leave out what the cause names, or upgrade
    /// the broker.
    Encode(ProtocolError),
    /// The broker is too old, or too new, for what was asked of it: upgrade the one that is behind, or do without.
    UnsupportedVersion {
        /// The API in question.
        api: Api,
        /// The versions that this client, or this feature of it, speaks.
        needed: VersionRange,
        /// The versions that the broker speaks; `None` if it does not serve the API at all.
        broker: Option<VersionRange>,
        /// The broker.
        node: Option<NodeId>,
        /// What cannot be had, where it is less than the whole API.
        feature: Option<&'static str>,
    },
    /// The connection ended before the answer came; the broker may have carried the request out.
    Disconnected {
        /// Who was at the other end.
        address: NodeAddress,
        /// Why, as far as this side knows.
        reason: String,
    },
    /// Time ran out, for one attempt or for them all. The last failure tells more than this does.
    TimedOut {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// The last failure before time ran out, where there was one.
        last: Option<Error>,
    },
    /// The operating system, or the connector, refused: look at the address, the firewall and the broker's listeners.
    Io {
        /// Who was to be reached.
        address: NodeAddress,
        /// What it said.
        source: std::io::Error,
    },
    /// A host name has no address: look at the bootstrap list, or at the broker's `advertised.listeners`.
    Resolve {
        /// The name.
        address: NodeAddress,
        /// What the resolver said.
        source: std::io::Error,
    },
    /// The broker does not accept who the client says it is, or did not prove who it is itself: correct the credentials,
    /// the mechanism or the broker's listener. No broker is asked again for a while, see [`auth`](crate::auth).
    Authentication {
        /// Who refused, or was refused.
        address: NodeAddress,
        /// The SASL mechanism that was used.
        mechanism: String,
        /// The mechanisms that the broker offers, as far as it told.
        offered: Vec<String>,
        /// Kafka's error code, if it was the broker that refused.
        code: Option<ErrorCode>,
        /// The broker's own words, or what is wrong on this side of the connection.
        message: String,
    },
    /// There are no credentials to show a broker at the moment, though there may be later: look at what provides them,
    /// such as the identity provider.
    NoCredentials {
        /// The broker to be connected to.
        address: NodeAddress,
        /// The SASL mechanism that needs them.
        mechanism: String,
        /// What the provider said.
        source: BoxError,
    },
    /// The two sides of a connection do not agree on TLS: a certificate, a name, or whether it is spoken at all.
    Tls {
        /// Who was at the other end.
        address: NodeAddress,
        /// What is wrong, and what to do about it.
        problem: TlsProblem,
        /// What was heard or found, in the words of the TLS library.
        source: Option<std::io::Error>,
    },
    /// A layer of the user's refused the request, which was not sent.
    Layer(BoxError),
    /// No broker leads the partition at the moment: too many of its replicas are down.
    NoLeader(TopicPartition),
    /// The cluster has no such topic, or hides it from this client: create it first.
    UnknownTopic(Arc<str>),
    /// The cluster's metadata names no broker with this id: it is down, or never was.
    UnknownNode(NodeId),
    /// No broker is known that could be asked; every bootstrap address failed.
    NoBroker {
        /// The last failure, where there was one.
        last: Option<Error>,
    },
    /// The client, or the role that asked, was closed. Build another one.
    Closed,
}

impl Error {
    /// Wraps a kind.
    pub fn new(kind: ErrorKind) -> Self {
        Self(Arc::new(kind))
    }

    /// A setting that cannot work: its name, the value given, and what to give instead.
    pub fn config(setting: impl Into<String>, value: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config {
            setting: setting.into(),
            value: value.to_string(),
            remedy: remedy.into(),
        })
    }

    /// An error code from a broker, with its message where it sent one.
    pub fn broker(code: ErrorCode, api: Api, node: Option<NodeId>, message: Option<String>) -> Self {
        Self::new(ErrorKind::Broker { code, api, node, message })
    }

    /// Time ran out while waiting for `what`.
    pub fn timed_out(what: impl Into<String>, after: Duration) -> Self {
        Self::new(ErrorKind::TimedOut { what: what.into(), after, last: None })
    }

    /// The connection to `address` ended.
    pub fn disconnected(address: NodeAddress, reason: impl Into<String>) -> Self {
        Self::new(ErrorKind::Disconnected { address, reason: reason.into() })
    }

    /// The client, or the role that asked, was closed.
    pub fn closed() -> Self {
        Self::new(ErrorKind::Closed)
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> &ErrorKind {
        &self.0
    }

    /// Kafka's error code, if a broker sent one.
    pub fn error_code(&self) -> Option<ErrorCode> {
        match self.kind() {
            ErrorKind::Broker { code, .. } => Some(*code),
            ErrorKind::Authentication { code, .. } => *code,
            ErrorKind::TimedOut { last: Some(last), .. } | ErrorKind::NoBroker { last: Some(last) } => {
                last.error_code()
            }
            _ => None,
        }
    }

    /// Whether the same call may succeed later, without a change to anything but the cluster's state.
    pub fn is_retriable(&self) -> bool {
        match self.kind() {
            ErrorKind::Broker { code, .. } => code.is_retriable(),
            ErrorKind::NoBroker { last } => last.as_ref().is_none_or(Self::is_retriable),
            ErrorKind::Tls { problem, .. } => problem.is_retriable(),
            ErrorKind::Disconnected { .. }
            | ErrorKind::TimedOut { .. }
            | ErrorKind::Io { .. }
            | ErrorKind::Resolve { .. }
            | ErrorKind::NoCredentials { .. }
            | ErrorKind::NoLeader(_)
            | ErrorKind::UnknownTopic(_)
            | ErrorKind::UnknownNode(_) => true,
            ErrorKind::Config { .. }
            | ErrorKind::Protocol { .. }
            | ErrorKind::Encode(_)
            | ErrorKind::UnsupportedVersion { .. }
            | ErrorKind::Authentication { .. }
            | ErrorKind::Layer(_)
            | ErrorKind::Closed => false,
        }
    }

    /// Whether this handle is of no further use: closed, fenced off, or turned away by the cluster for good.
    pub fn is_fatal(&self) -> bool {
        match self.kind() {
            ErrorKind::Closed | ErrorKind::Authentication { .. } => true,
            ErrorKind::Tls { problem, .. } => !problem.is_retriable(),
            ErrorKind::NoBroker { last: Some(last) } => last.is_fatal(),
            ErrorKind::Broker { code, .. } => matches!(
                *code,
                ErrorCode::SASL_AUTHENTICATION_FAILED
                    | ErrorCode::UNSUPPORTED_SASL_MECHANISM
                    | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
                    | ErrorCode::PRODUCER_FENCED
                    | ErrorCode::INVALID_PRODUCER_EPOCH
                    | ErrorCode::FENCED_INSTANCE_ID
            ),
            _ => false,
        }
    }

    /// Whether this is about the way to the broker, not about what it answered: the request may or may not have
    /// been carried out, and another broker may be asked.
    pub fn is_transport(&self) -> bool {
        match self.kind() {
            ErrorKind::Disconnected { .. }
            | ErrorKind::TimedOut { .. }
            | ErrorKind::Io { .. }
            | ErrorKind::Resolve { .. }
            | ErrorKind::NoCredentials { .. } => true,
            ErrorKind::Tls { problem, .. } => problem.is_retriable(),
            _ => false,
        }
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
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
            ErrorKind::Config { setting, value, remedy } => write!(f, "{setting} = {value:?}: {remedy}"),
            ErrorKind::Broker { code, api, node, message } => {
                match node {
                    Some(node) => write!(f, "broker {node} answered {api} with {code}")?,
                    None => write!(f, "{api} was answered with {code}")?,
                }
                match message.as_deref() {
                    Some(message) if !message.is_empty() => write!(f, ": {message}"),
                    _ => write!(f, ": {}", code.message().trim_end_matches('.')),
                }
            }
            ErrorKind::Protocol { address, .. } => write!(f, "{address} sent bytes that cannot be accepted"),
            ErrorKind::Encode(_) => f.write_str("the request cannot be encoded"),
            ErrorKind::UnsupportedVersion { api, needed, broker, node, feature } => {
                match feature {
                    Some(feature) => write!(f, "{feature} needs {api} version {}", Versions(*needed))?,
                    None => write!(f, "{api} is needed in version {}", Versions(*needed))?,
                }
                match node {
                    Some(node) => write!(f, ", but broker {node} ")?,
                    None => f.write_str(", but the broker ")?,
                }
                match broker {
                    Some(versions) => write!(f, "speaks {}", Versions(*versions)),
                    None => f.write_str("does not serve it"),
                }
            }
            ErrorKind::Disconnected { address, reason } => write!(f, "disconnected from {address}: {reason}"),
            ErrorKind::TimedOut { what, after, .. } => write!(f, "{what}: timed out after {after:?}"),
            ErrorKind::Io { address, .. } => write!(f, "cannot reach {address}"),
            ErrorKind::Resolve { address, .. } => write!(f, "cannot resolve {}", address.host),
            ErrorKind::Authentication { address, mechanism, offered, code, message } => {
                write!(f, "authentication to {address} with {mechanism} failed: {message}")?;
                if let Some(code) = code {
                    write!(f, " ({code})")?;
                }
                if offered.is_empty() { Ok(()) } else { write!(f, "; it offers {}", offered.join(", ")) }
            }
            ErrorKind::NoCredentials { address, mechanism, .. } => {
                write!(f, "no {mechanism} credentials to show {address} at the moment")
            }
            ErrorKind::Tls { address, problem, .. } => {
                write!(f, "no secure connection to {address}: {problem}")
            }
            ErrorKind::Layer(_) => f.write_str("a layer refused the request"),
            ErrorKind::NoLeader(partition) => write!(f, "no broker leads {partition} at the moment"),
            ErrorKind::UnknownTopic(topic) => write!(f, "the cluster has no topic {topic:?}"),
            ErrorKind::UnknownNode(node) => write!(f, "the cluster has no broker {node}"),
            ErrorKind::NoBroker { .. } => f.write_str("no broker can be reached"),
            ErrorKind::Closed => f.write_str("closed"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self.kind() {
            ErrorKind::Protocol { source, .. } | ErrorKind::Encode(source) => Some(source),
            ErrorKind::TimedOut { last: Some(last), .. } | ErrorKind::NoBroker { last: Some(last) } => {
                Some(last)
            }
            ErrorKind::Io { source, .. } | ErrorKind::Resolve { source, .. } => Some(source),
            ErrorKind::Layer(source) | ErrorKind::NoCredentials { source, .. } => Some(source.as_ref()),
            ErrorKind::Tls { source: Some(source), .. } => Some(source),
            _ => None,
        }
    }
}

/// `7`, `4 to 7`, or `none`.
struct Versions(VersionRange);

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            VersionRange { min, max } if min == max => write!(f, "{min}"),
            VersionRange { min, max } if min < max => write!(f, "{min} to {max}"),
            _ => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_error_of_each_kind_that_is_retriable_as_a_whole() -> Vec<Error> {
        let address: NodeAddress = "localhost:9092".parse().unwrap();
        vec![
            Error::disconnected(address.clone(), "reset"),
            Error::timed_out("Metadata", Duration::from_secs(30)),
            ErrorKind::Io { address, source: std::io::ErrorKind::ConnectionRefused.into() }.into(),
            ErrorKind::NoLeader(TopicPartition::new("orders", 0)).into(),
            ErrorKind::UnknownTopic("orders".into()).into(),
        ]
    }

    #[test]
    fn failures_of_the_way_to_a_broker_can_be_retried_and_are_never_fatal() {
        for error in one_error_of_each_kind_that_is_retriable_as_a_whole() {
            assert!(error.is_retriable(), "{error}");
            assert!(!error.is_fatal(), "{error}");
        }
    }

    #[test]
    fn a_brokers_error_is_retriable_as_kafka_says() {
        let error = |code| Error::broker(code, Api::Metadata, Some(1), None);
        assert!(error(ErrorCode::NOT_LEADER_OR_FOLLOWER).is_retriable());
        assert!(!error(ErrorCode::TOPIC_AUTHORIZATION_FAILED).is_retriable());
        assert!(error(ErrorCode::PRODUCER_FENCED).is_fatal());
        assert_eq!(error(ErrorCode::PRODUCER_FENCED).error_code(), Some(ErrorCode::PRODUCER_FENCED));
    }

    #[test]
    fn a_refusal_names_the_mechanism_what_the_broker_said_and_what_it_offers() {
        let error = Error::new(ErrorKind::Authentication {
            address: "kafka-1:9093".parse().unwrap(),
            mechanism: "PLAIN".into(),
            offered: vec!["SCRAM-SHA-256".into(), "OAUTHBEARER".into()],
            code: Some(ErrorCode::UNSUPPORTED_SASL_MECHANISM),
            message: "no such mechanism".into(),
        });
        assert_eq!(
            error.to_string(),
            "authentication to kafka-1:9093 with PLAIN failed: no such mechanism (UNSUPPORTED_SASL_MECHANISM (33)); \
             it offers SCRAM-SHA-256, OAUTHBEARER"
        );
        assert!(error.is_fatal() && !error.is_retriable() && !error.is_transport());
        assert_eq!(error.error_code(), Some(ErrorCode::UNSUPPORTED_SASL_MECHANISM));
    }

    #[test]
    fn a_bad_setting_is_told_with_its_name_value_and_remedy() {
        let error = Error::config("request.timeout.ms", 0, "give at least 1 ms");
        assert_eq!(error.to_string(), r#"request.timeout.ms = "0": give at least 1 ms"#);
    }

    #[test]
    fn a_broker_too_old_for_a_feature_is_told_with_both_versions() {
        let error = Error::new(ErrorKind::UnsupportedVersion {
            api: Api::ListOffsets,
            needed: VersionRange { min: 7, max: 11 },
            broker: Some(VersionRange { min: 1, max: 6 }),
            node: Some(3),
            feature: Some("the offset of the highest timestamp"),
        });
        assert_eq!(
            error.to_string(),
            "the offset of the highest timestamp needs ListOffsets version 7 to 11, but broker 3 speaks 1 to 6"
        );
    }

    #[test]
    fn the_last_failure_before_a_timeout_is_its_source_and_gives_its_code() {
        let last = Error::broker(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, Api::FindCoordinator, None, None);
        let error = Error::new(ErrorKind::TimedOut {
            what: "committing".into(),
            after: Duration::from_secs(60),
            last: Some(last),
        });
        assert_eq!(error.error_code(), Some(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS));
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("COORDINATOR_LOAD_IN_PROGRESS"), "{source}");
    }
}
