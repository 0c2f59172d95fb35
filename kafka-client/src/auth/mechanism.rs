//! The extension point: what a SASL mechanism has to say, whoever writes it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::serde::BoxError;
use crate::types::NodeId;

/// A future in a box, which a trait object can return.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A SASL mechanism: a way to prove to brokers who the client is. One serves all connections of a client.
///
/// PLAIN, SCRAM and OAUTHBEARER are built in. Any other, such as GSSAPI, is a type of yours and given to
/// [`Sasl::mechanism`](super::Sasl::mechanism):
///
/// ```
/// use kafka_client::auth::{BoxFuture, BrokerIdentity, Exchange, Mechanism, Sasl, Step};
/// use kafka_client::serde::BoxError;
///
/// /// Kerberos, with the help of some library.
/// struct Gssapi {
///     service: String,
/// }
///
/// impl Mechanism for Gssapi {
///     fn name(&self) -> &str {
///         "GSSAPI"
///     }
///
///     fn start<'a>(
///         &'a self,
///         broker: &'a BrokerIdentity,
///     ) -> BoxFuture<'a, Result<Box<dyn Exchange>, BoxError>> {
///         Box::pin(async move {
///             // The service's principal has the broker's host in it.
///             let target = format!("{}@{}", self.service, broker.host);
///             Ok(Box::new(Context { target, established: false }) as Box<dyn Exchange>)
///         })
///     }
/// }
///
/// struct Context {
///     target: String,
///     established: bool,
/// }
///
/// impl Exchange for Context {
///     fn step<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Step, BoxError>> {
///         Box::pin(async move {
///             match challenge {
///                 // The library's first token for the target. What blocks belongs in `spawn_blocking`.
///                 None => Ok(Step::Send(self.target.clone().into_bytes())),
///                 Some(_) if !self.established => {
///                     self.established = true;
///                     Ok(Step::Send(Vec::new()))
///                 }
///                 // Whatever the broker still has to prove is checked here, and an error if it does not.
///                 Some(_) => Ok(Step::Done),
///             }
///         })
///     }
/// }
///
/// let sasl = Sasl::mechanism(Gssapi { service: "kafka".into() });
/// # let _ = sasl;
/// ```
pub trait Mechanism: Send + Sync + 'static {
    /// The name under which brokers know it (`sasl.mechanism`).
    fn name(&self) -> &str;

    /// Begins to prove who the client is on one connection, a new one or one whose session ends soon. Dropped when the
    /// connection's time to become ready is over, so it may wait.
    ///
    /// # Errors
    /// Why there is nothing to prove it with. The call fails with an
    /// [`Authentication`](crate::ErrorKind::Authentication) error, and no connection is tried for a while; wrap what may
    /// pass in [`Transient`].
    fn start<'a>(&'a self, broker: &'a BrokerIdentity) -> BoxFuture<'a, Result<Box<dyn Exchange>, BoxError>>;
}

/// The messages of a mechanism on one connection, in turns: the client begins.
pub trait Exchange: Send {
    /// What to do next. `challenge` is the broker's answer to the message before; `None` asks for the first message,
    /// which is made before the broker is told of the mechanism. A broker that refuses answers with an error, and there
    /// is no next step then.
    ///
    /// # Errors
    /// What is wrong with the challenge, or why there is no message; as for [`Mechanism::start`].
    fn step<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Step, BoxError>>;
}

/// What an [`Exchange`] does next.
#[derive(Clone, PartialEq, Eq)]
pub enum Step {
    /// Send this message, which is wiped from memory afterwards, and hand over the answer.
    Send(Vec<u8>),
    /// Both sides have proved what they had to.
    Done,
}

impl fmt::Debug for Step {
    /// Without the message, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Send(_) => "Send(***)",
            Self::Done => "Done",
        })
    }
}

/// The broker at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct BrokerIdentity {
    /// Its host, as in the bootstrap addresses or the cluster's metadata.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Its id, once it is known; not of a bootstrap address.
    pub node: Option<NodeId>,
}

impl BrokerIdentity {
    /// A broker whose id is not known.
    pub fn new(host: impl Into<Arc<str>>, port: u16) -> Self {
        Self { host: host.into(), port, node: None }
    }
}

/// A trouble with getting credentials that may pass by itself, such as an identity provider that does not answer. The
/// connection is tried again after a backoff, as one to a broker that is down; other errors of a mechanism are final.
#[derive(Debug)]
pub struct Transient(pub BoxError);

impl Transient {
    /// Wraps a trouble that may pass.
    pub fn new(trouble: impl Into<BoxError>) -> Self {
        Self(trouble.into())
    }
}

impl fmt::Display for Transient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl std::error::Error for Transient {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}
