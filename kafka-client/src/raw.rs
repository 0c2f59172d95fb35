//! The escape hatch: what the sibling crates and experts build on. It shows Kafka's own messages and is not covered
//! by the stability of the rest.

pub use crate::clock::{FOREVER, WallClock};
pub use crate::cluster::backoff::Backoff;
pub use crate::cluster::metadata::{Broker, Metadata, Partition, Topic};
pub use crate::cluster::refresh::{Refresher, Tracked};
pub use crate::cluster::route::{Answer, Call, Route};
pub use crate::net::{BrokerRequest, BrokerResponse, BrokerService, Connection, Lane, Owner, Progress};
/// Kafka's own messages, and everything else about its bytes.
pub use kafka_wire as wire;

/// Reads the broker's answer in AWS_MSK_IAM: its request id.
#[cfg(feature = "aws-msk")]
pub use crate::auth::aws_msk::response::request_id as msk_request_id;

/// Reads a token endpoint's answer, as far as it can be read without secrets: its token, and how long that is good for.
///
/// # Errors
/// It refuses, or is none of OAuth 2.0.
#[cfg(feature = "oidc")]
pub fn token_answer(
    status: u16,
    body: &[u8],
    now: std::time::SystemTime,
) -> Result<(crate::auth::Secret, std::time::Duration), crate::auth::oidc::OidcErrorKind> {
    let answer = crate::auth::oidc::response::Answer { status, location: None, retry_after: None, body };
    answer.grant(now, None).map(|grant| (grant.token, grant.lifetime))
}
