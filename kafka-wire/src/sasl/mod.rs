//! The messages of SASL mechanisms, as bytes and as values, for both sides: PLAIN, SCRAM and OAUTHBEARER.
//!
//! Nothing here waits, asks for randomness or reads a clock. Whatever holds a secret wipes its memory when it is dropped,
//! and shows `***` in its place.

use thiserror::Error;

pub mod oauthbearer;
pub mod plain;
pub mod scram;

/// What can be wrong with a message of a SASL mechanism, or with what it says. No variant carries a secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SaslError {
    /// The bytes are not the message that was due: which part of it is wrong.
    #[error("{0}")]
    Malformed(&'static str),
    /// A message is longer than its mechanism ever needs.
    #[error("a message of {length} bytes, at most {limit} are accepted")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The most bytes that are accepted.
        limit: usize,
    },
    /// The caller gave a value that the mechanism has no way to say.
    #[error("{0}")]
    Unsayable(&'static str),
    /// The other side's nonce is not the one that was sent, or does not extend it: the message may be replayed.
    #[error("the nonce does not extend the one that was sent")]
    Nonce,
    /// The iteration count is outside what is accepted: fewer protect no password, more would burn a core.
    #[error(
        "{iterations} iterations, where {} to {} are accepted",
        scram::MIN_ITERATIONS,
        scram::MAX_ITERATIONS
    )]
    Iterations {
        /// The count that the message gives; as many as fit, if it is larger.
        iterations: u64,
    },
    /// The server did not prove that it knows the password: it may not be the server that it claims to be.
    #[error("the server's signature is wrong: it does not know the password")]
    ServerSignature,
    /// The client did not prove that it knows the password.
    #[error("the client's proof is wrong: it does not know the password")]
    ClientProof,
    /// The server's final message is an error instead of a signature.
    #[error("the server answered {0:?}")]
    ServerError(String),
}

/// The most characters that an error keeps of what a peer said.
const SHOWN: usize = 256;

/// The beginning of what a peer said.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).collect()
}
