//! What can be wrong with bytes from a peer: one typed error that names the API, its version and the fault.

use thiserror::Error;

/// The API key of errors that arise before a message is known, in a frame or in the first bytes of a header.
pub const NO_API: i16 = -1;

/// Bytes that are not the message they claim to be, or a message that the chosen version cannot express.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{}: {kind}", Subject(*.api_key, *.version))]
#[non_exhaustive]
pub struct ProtocolError {
    /// The key of the API whose message was at fault, or [`NO_API`].
    pub api_key: i16,
    /// The version of that message.
    pub version: i16,
    /// The fault.
    pub kind: ProtocolErrorKind,
}

impl ProtocolError {
    /// An error in a message of this API and version.
    #[must_use]
    pub const fn new(api_key: i16, version: i16, kind: ProtocolErrorKind) -> Self {
        Self { api_key, version, kind }
    }

    /// An error in a frame, before a message was known.
    #[must_use]
    pub const fn in_frame(kind: ProtocolErrorKind) -> Self {
        Self::new(NO_API, 0, kind)
    }
}

/// The fault inside a [`ProtocolError`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProtocolErrorKind {
    /// The bytes end inside a field.
    #[error("{needed} bytes needed where {remaining} remain")]
    Truncated {
        /// Bytes that the field needs.
        needed: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// A length or count is below the one negative value that means null.
    #[error("negative length {0}")]
    NegativeLength(i64),
    /// An array announces more elements than its bytes could hold.
    #[error("{count} elements announced, at least {minimum} bytes each, where {remaining} bytes remain")]
    CountTooLarge {
        /// The announced number of elements.
        count: usize,
        /// The smallest encoding of one element.
        minimum: usize,
        /// Bytes that are left.
        remaining: usize,
    },
    /// A field is null that this version does not allow to be null.
    #[error("null in a field that cannot be null")]
    UnexpectedNull,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    InvalidUtf8,
    /// A variable-length integer has more bytes or bits than its type.
    #[error("a variable-length integer is too long")]
    VarintOverflow,
    /// Tagged fields do not strictly ascend.
    #[error("tagged field {tag} does not come after tagged field {previous}")]
    TagOrder {
        /// The tag before.
        previous: u32,
        /// The tag at fault.
        tag: u32,
    },
    /// A tagged field is not as long as it announces.
    #[error("tagged field {tag} announces {announced} bytes and has {used}")]
    TagSize {
        /// The tag at fault.
        tag: u32,
        /// Bytes that its prefix announces.
        announced: usize,
        /// Bytes that its content takes.
        used: usize,
    },
    /// Bytes are left after the message.
    #[error("{0} bytes are left after the message")]
    TrailingBytes(usize),
    /// The API key is not in our table.
    #[error("unknown API")]
    UnknownApi,
    /// The version is outside what we encode and decode.
    #[error("versions {min} to {max} are supported")]
    UnsupportedVersion {
        /// The lowest version we know.
        min: i16,
        /// The highest version we know.
        max: i16,
    },
    /// A value is set that this version has no place for, or that does not fit its field.
    #[error("{0}")]
    Unencodable(Box<str>),
    /// A field holds a value that its message does not allow.
    #[error("{0}")]
    InvalidValue(Box<str>),
    /// A frame announces a negative length.
    #[error("negative frame length {0}")]
    NegativeFrame(i32),
    /// A frame or body is longer than allowed.
    #[error("{length} bytes announced, at most {limit} allowed")]
    TooLarge {
        /// Its length in bytes.
        length: usize,
        /// The most bytes allowed.
        limit: usize,
    },
    /// The bytes are the start of a TLS record, so one side of the connection is plaintext and the other is not.
    #[error("the peer speaks TLS, and this side does not")]
    PeerSpeaksTls,
    /// The bytes are HTTP.
    #[error("the peer speaks HTTP, not Kafka's protocol")]
    PeerSpeaksHttp,
    /// A response answers another request than the one it had to answer.
    #[error("correlation id {received} where {expected} was due")]
    CorrelationId {
        /// The id of the oldest request without a response.
        expected: i32,
        /// The id in the response.
        received: i32,
    },
}

impl ProtocolErrorKind {
    /// This fault in a message of the API and version.
    #[must_use]
    pub const fn at(self, api_key: i16, version: i16) -> ProtocolError {
        ProtocolError::new(api_key, version, self)
    }
}

/// Writes "Metadata v12", "API 999 v0" or "frame".
struct Subject(i16, i16);

impl std::fmt::Display for Subject {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.0, crate::api::Api::from_key(self.0)) {
            (NO_API, _) => out.write_str("frame"),
            (_, Some(api)) => write!(out, "{api} v{}", self.1),
            (key, None) => write!(out, "API {key} v{}", self.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_its_api_and_version() {
        let known = ProtocolErrorKind::InvalidUtf8.at(3, 12);
        assert_eq!(known.to_string(), "Metadata v12: a string is not UTF-8");
        let unknown = ProtocolErrorKind::UnknownApi.at(999, 1);
        assert_eq!(unknown.to_string(), "API 999 v1: unknown API");
        let frame = ProtocolError::in_frame(ProtocolErrorKind::PeerSpeaksTls);
        assert_eq!(frame.to_string(), "frame: the peer speaks TLS, and this side does not");
    }
}
