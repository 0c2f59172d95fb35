//! OAUTHBEARER: a bearer token from a provider, asked for each time that a connection has to prove who the client is.

use std::future::Future;
use std::sync::Arc;
use std::time::SystemTime;

use kafka_wire::sasl::SaslError;
use kafka_wire::sasl::oauthbearer::{self, GIVE_UP, Refusal};

use super::mechanism::{BoxFuture, BrokerIdentity, Exchange, Mechanism, Step};
use super::secret::Secret;
use crate::serde::BoxError;

/// A bearer token.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Token {
    /// What the broker is shown.
    pub value: Secret,
    /// When it is of no more use, where that is known. For providers that keep it; the broker looks for itself.
    pub expires: Option<SystemTime>,
    /// What else the broker is told (KIP-342), such as `logicalCluster`. Names are letters.
    pub extensions: Vec<(String, String)>,
}

impl Token {
    /// A token that is not known to expire, without extensions.
    pub fn new(value: impl Into<Secret>) -> Self {
        Self { value: value.into(), expires: None, extensions: Vec::new() }
    }

    /// Says when the token is of no more use.
    #[must_use]
    pub fn expires(mut self, at: SystemTime) -> Self {
        self.expires = Some(at);
        self
    }

    /// Tells the broker one more thing.
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }
}

/// Where bearer tokens come from. It is asked for each connection and each re-authentication, so what is costly to get
/// should be kept. An async closure without arguments is one, and so is a [`Token`] that is always the same.
pub trait TokenProvider: Send + Sync + 'static {
    /// A token that is good for some time yet. Dropped when the connection's time to become ready is over.
    ///
    /// # Errors
    /// Why there is none. Wrap what may pass in [`Transient`](super::Transient): the connection is then tried again after
    /// a backoff. Anything else is told to the caller at once, as a refusal by the broker would be.
    fn token(&self) -> BoxFuture<'_, Result<Token, BoxError>>;
}

impl TokenProvider for Token {
    fn token(&self) -> BoxFuture<'_, Result<Token, BoxError>> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

impl<F, T, E> TokenProvider for F
where
    F: Fn() -> T + Send + Sync + 'static,
    T: Future<Output = Result<Token, E>> + Send + 'static,
    E: Into<BoxError>,
{
    fn token(&self) -> BoxFuture<'_, Result<Token, BoxError>> {
        let token = self();
        Box::pin(async move { token.await.map_err(Into::into) })
    }
}

impl<P: TokenProvider + ?Sized> TokenProvider for Arc<P> {
    fn token(&self) -> BoxFuture<'_, Result<Token, BoxError>> {
        (**self).token()
    }
}

pub(super) struct OauthBearer<P>(pub(super) P);

impl<P: TokenProvider> Mechanism for OauthBearer<P> {
    fn name(&self) -> &str {
        oauthbearer::NAME
    }

    fn start<'a>(&'a self, _: &'a BrokerIdentity) -> BoxFuture<'a, Result<Box<dyn Exchange>, BoxError>> {
        Box::pin(async {
            let token = self.0.token().await?;
            Ok(Box::new(BearerExchange::Fresh(token)) as Box<dyn Exchange>)
        })
    }
}

enum BearerExchange {
    Fresh(Token),
    Sent,
    /// The broker has refused; its answer to our giving up tells no more than this does.
    Refused(String),
}

impl Exchange for BearerExchange {
    fn step<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Step, BoxError>> {
        Box::pin(std::future::ready(self.next(challenge)))
    }
}

impl BearerExchange {
    fn next(&mut self, challenge: Option<&[u8]>) -> Result<Step, BoxError> {
        match (std::mem::replace(self, Self::Sent), challenge) {
            (Self::Fresh(token), None) => {
                let extensions: Vec<_> =
                    token.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
                let mut message = oauthbearer::encode(token.value.expose(), &extensions)?;
                Ok(Step::Send(std::mem::take(&mut *message)))
            }
            (Self::Sent, Some([])) => Ok(Step::Done),
            // RFC 7628, 3.2.3: the broker says no only after the client has said that it read why.
            (Self::Sent, Some(refusal)) => {
                let refusal = Refusal::parse(refusal)?;
                *self = Self::Refused(refusal.to_string());
                Ok(Step::Send(GIVE_UP.to_owned()))
            }
            (Self::Refused(why), Some(_)) => Err(format!("the token was refused: {why}").into()),
            _ => Err(SaslError::Malformed("an OAUTHBEARER message where none was due").into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn exchange(provider: impl TokenProvider) -> Result<Box<dyn Exchange>, BoxError> {
        OauthBearer(provider).start(&BrokerIdentity::new("broker", 9092)).await
    }

    #[tokio::test]
    async fn the_token_is_sent_with_its_extensions_and_an_empty_answer_is_consent() {
        let token = Token::new("abc.def").extension("logicalCluster", "lkc-1");
        let mut exchange = exchange(token).await.unwrap();
        let Step::Send(message) = exchange.step(None).await.unwrap() else { panic!("done at once") };
        let bearer = oauthbearer::decode(&message).unwrap();
        assert_eq!((bearer.token, &*bearer.extensions), ("abc.def", &[("logicalCluster", "lkc-1")][..]));
        assert_eq!(exchange.step(Some(b"")).await.unwrap(), Step::Done);
    }

    #[tokio::test]
    async fn a_refusal_is_acknowledged_and_told() {
        let mut exchange = exchange(async || Ok::<_, BoxError>(Token::new("abc"))).await.unwrap();
        exchange.step(None).await.unwrap();
        let refusal = br#"{"status":"invalid_token","scope":"kafka"}"#;
        assert_eq!(exchange.step(Some(refusal)).await.unwrap(), Step::Send(GIVE_UP.to_owned()));
        let error = exchange.step(Some(b"")).await.unwrap_err();
        assert_eq!(error.to_string(), r#"the token was refused: invalid_token, the scope "kafka" is needed"#);
    }

    #[tokio::test]
    async fn an_answer_that_is_neither_consent_nor_refusal_is_an_error() {
        let mut exchange = exchange(Token::new("abc")).await.unwrap();
        exchange.step(None).await.unwrap();
        assert!(exchange.step(Some(b"welcome")).await.is_err());
    }

    #[tokio::test]
    async fn a_provider_that_fails_ends_the_exchange_before_it_begins() {
        let failing = async || Err::<Token, _>("no such client");
        assert_eq!(exchange(failing).await.err().unwrap().to_string(), "no such client");
        let mut unsayable = exchange(Token::new("a b")).await.unwrap();
        assert!(unsayable.step(None).await.is_err());
    }
}
