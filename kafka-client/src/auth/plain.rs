//! PLAIN: the password, as it is, so only over TLS.

use kafka_wire::sasl::plain;

use super::mechanism::{BoxFuture, BrokerIdentity, Exchange, Mechanism, Step};
use super::secret::Secret;
use crate::serde::BoxError;

/// A user and a password.
pub(super) struct Plain {
    pub(super) user: String,
    pub(super) password: Secret,
}

impl Mechanism for Plain {
    fn name(&self) -> &str {
        plain::NAME
    }

    fn start<'a>(&'a self, _: &'a BrokerIdentity) -> BoxFuture<'a, Result<Box<dyn Exchange>, BoxError>> {
        let exchange = PlainExchange { user: self.user.clone(), password: self.password.clone() };
        Box::pin(std::future::ready(Ok(Box::new(exchange) as Box<dyn Exchange>)))
    }
}

struct PlainExchange {
    user: String,
    password: Secret,
}

impl Exchange for PlainExchange {
    fn step<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Step, BoxError>> {
        let step = match challenge {
            None => plain::encode(&self.user, self.password.expose())
                .map(|mut message| Step::Send(std::mem::take(&mut *message)))
                .map_err(Into::into),
            // The broker has nothing to prove. What it says beside its consent is of no account.
            Some(_) => Ok(Step::Done),
        };
        Box::pin(std::future::ready(step))
    }
}
