//! SCRAM: proves that both sides know the password without telling it, and keeps what is costly to compute.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use kafka_wire::sasl::SaslError;
use kafka_wire::sasl::scram::{
    ClientFinal, ClientFirst, ScramHash, ServerFinal, ServerFirst, ServerSignature, salted_password_while,
};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::mechanism::{BoxFuture, BrokerIdentity, Exchange, Mechanism, Step};
use super::secret::Secret;
use crate::serde::BoxError;

/// Random bytes in a nonce.
const NONCE: usize = 24;

/// A user and a password, and whether these are of a delegation token.
pub(super) struct Scram(Arc<Shared>);

struct Shared {
    hash: ScramHash,
    user: String,
    password: Secret,
    /// Whether the user is a delegation token's id, and the password its HMAC (KIP-48).
    is_token: bool,
    /// Held while the password is stretched, so that many connections opened at once compute it once.
    stretched: Mutex<Option<Stretched>>,
}

/// What a password was stretched to: the same on every connection, since all brokers share the salt.
struct Stretched {
    salt: Vec<u8>,
    iterations: u32,
    password: Zeroizing<Vec<u8>>,
}

impl Scram {
    pub(super) fn new(hash: ScramHash, user: String, password: Secret, is_token: bool) -> Self {
        Self(Arc::new(Shared { hash, user, password, is_token, stretched: Mutex::new(None) }))
    }
}

impl Mechanism for Scram {
    fn name(&self) -> &str {
        self.0.hash.mechanism()
    }

    fn start<'a>(&'a self, _: &'a BrokerIdentity) -> BoxFuture<'a, Result<Box<dyn Exchange>, BoxError>> {
        let exchange = ScramExchange { shared: self.0.clone(), state: State::Fresh };
        Box::pin(std::future::ready(Ok(Box::new(exchange) as Box<dyn Exchange>)))
    }
}

struct ScramExchange {
    shared: Arc<Shared>,
    state: State,
}

/// What was sent last.
enum State {
    Fresh,
    First(ClientFirst),
    Final(ServerSignature),
    Done,
}

impl Exchange for ScramExchange {
    fn step<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Step, BoxError>> {
        Box::pin(async move {
            match (std::mem::replace(&mut self.state, State::Done), challenge) {
                (State::Fresh, None) => {
                    let extensions: &[_] = if self.shared.is_token { &[("tokenauth", "true")] } else { &[] };
                    let first = ClientFirst::new(&self.shared.user, &nonce()?, extensions)?;
                    let message = first.to_bytes();
                    self.state = State::First(first);
                    Ok(Step::Send(message))
                }
                (State::First(first), Some(challenge)) => {
                    let server = ServerFirst::parse(challenge, &first)?;
                    let salted = self.shared.stretch(&server).await?;
                    let (proof, expected) = ClientFinal::prove(self.shared.hash, &salted, &first, &server);
                    self.state = State::Final(expected);
                    Ok(Step::Send(proof.to_bytes()))
                }
                (State::Final(expected), Some(challenge)) => {
                    ServerFinal::parse(challenge)?.verify(&expected)?;
                    Ok(Step::Done)
                }
                _ => Err(SaslError::Malformed("a SCRAM message where none was due").into()),
            }
        })
    }
}

impl Shared {
    /// The password, stretched as the server says: from memory, or on a thread where it may block.
    async fn stretch(self: &Arc<Self>, server: &ServerFirst) -> Result<Zeroizing<Vec<u8>>, BoxError> {
        let mut stretched = self.stretched.lock().await;
        if let Some(known) = &*stretched
            && (&known.salt, known.iterations) == (&server.salt, server.iterations)
        {
            return Ok(known.password.clone());
        }
        let (shared, salt, iterations) = (self.clone(), server.salt.clone(), server.iterations);
        let unwanted = StopOnDrop(Arc::default());
        let stop = unwanted.0.clone();
        let password = spawn_blocking(move || {
            let wanted = || !stop.load(Ordering::Relaxed);
            salted_password_while(shared.hash, shared.password.expose(), &salt, iterations, wanted)
        });
        let password = password.await?.ok_or("nobody waited for the password to be stretched")?;
        let salt = server.salt.clone();
        *stretched = Some(Stretched { salt, iterations, password: password.clone() });
        Ok(password)
    }
}

/// Tells a computation that nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn nonce() -> Result<String, BoxError> {
    let mut random = [0; NONCE];
    getrandom::fill(&mut random).map_err(|error| format!("the system has no randomness: {error}"))?;
    let mut nonce = String::with_capacity(2 * NONCE);
    for byte in random {
        write!(nonce, "{byte:02x}")?;
    }
    Ok(nonce)
}

#[cfg(test)]
mod tests {
    use kafka_wire::sasl::scram::{ScramKeys, salted_password};

    use super::*;

    /// A server that knows this password.
    struct Server {
        hash: ScramHash,
        password: &'static str,
        iterations: u32,
    }

    impl Server {
        /// Goes through an exchange; the server's last message is `last` if there is one.
        async fn authenticate(&self, scram: &Scram, last: Option<&[u8]>) -> Result<ClientFirst, BoxError> {
            let mut exchange = scram.start(&BrokerIdentity::new("broker", 9092)).await?;
            let Step::Send(message) = exchange.step(None).await? else { panic!("done at once") };
            let client = ClientFirst::parse(&message)?;
            let server = ServerFirst::new(&client, "server", b"salt", self.iterations)?;
            let Step::Send(message) = exchange.step(Some(&server.to_bytes())).await? else {
                panic!("done without a proof")
            };
            let salted = salted_password(self.hash, self.password, b"salt", self.iterations);
            let keys = ScramKeys::from_salted_password(self.hash, &salted);
            let answer = ClientFinal::parse(&message)?.verify(&keys, &client, &server)?;
            let answer = answer.to_bytes();
            assert_eq!(exchange.step(Some(last.unwrap_or(&answer))).await?, Step::Done);
            // An exchange that is over takes nothing more.
            assert!(exchange.step(Some(&answer)).await.is_err());
            Ok(client)
        }
    }

    fn scram(hash: ScramHash, password: &str) -> Scram {
        Scram::new(hash, "alice,=".into(), password.into(), false)
    }

    #[tokio::test]
    async fn both_sides_prove_that_they_know_the_password() {
        for hash in [ScramHash::Sha256, ScramHash::Sha512] {
            let server = Server { hash, password: "pencil", iterations: 4096 };
            let client = server.authenticate(&scram(hash, "pencil"), None).await.unwrap();
            assert_eq!(client.user, "alice,=");
            let error = server.authenticate(&scram(hash, "crayon"), None).await.unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&SaslError::ClientProof));
        }
    }

    #[tokio::test]
    async fn a_server_that_does_not_know_the_password_is_refused() {
        let server = Server { hash: ScramHash::Sha256, password: "pencil", iterations: 4096 };
        for last in [&b"v=AAAA"[..], b"v="] {
            let error =
                server.authenticate(&scram(ScramHash::Sha256, "pencil"), Some(last)).await.unwrap_err();
            assert_eq!(error.downcast_ref(), Some(&SaslError::ServerSignature));
        }
        let error = server.authenticate(&scram(ScramHash::Sha256, "pencil"), Some(b"")).await.unwrap_err();
        assert!(matches!(error.downcast_ref(), Some(SaslError::Malformed(_))), "{error}");
    }

    #[tokio::test]
    async fn every_exchange_has_a_nonce_of_its_own_and_a_token_says_that_it_is_one() {
        let server = Server { hash: ScramHash::Sha256, password: "pencil", iterations: 4096 };
        let token = Scram::new(ScramHash::Sha256, "id".into(), "pencil".into(), true);
        let first = server.authenticate(&token, None).await.unwrap();
        let second = server.authenticate(&token, None).await.unwrap();
        assert_ne!(first.nonce, second.nonce);
        assert_eq!(first.extensions, [("tokenauth".into(), "true".into())]);
    }

    #[tokio::test]
    async fn a_password_is_stretched_once_for_all_connections_and_anew_when_the_salt_changes() {
        let scram = scram(ScramHash::Sha256, "pencil");
        let server = Server { hash: ScramHash::Sha256, password: "pencil", iterations: 4096 };
        server.authenticate(&scram, None).await.unwrap();
        // Were it computed again, this would show.
        scram.0.stretched.lock().await.as_mut().unwrap().password = Zeroizing::new(vec![0; 32]);
        server.authenticate(&scram, None).await.unwrap_err();
        let server = Server { iterations: 4097, ..server };
        server.authenticate(&scram, None).await.unwrap();
    }

    #[tokio::test]
    async fn stretching_stops_when_the_connection_is_given_up_and_does_not_hold_up_the_next_one() {
        let scram = scram(ScramHash::Sha512, "pencil");
        let first = ClientFirst::new("alice", "abc", &[]).unwrap();
        let server = |iterations| ServerFirst::new(&first, "def", b"salt", iterations).unwrap();
        let slow = server(1_000_000);
        let mut stretching = Box::pin(scram.0.stretch(&slow));
        let polled_once = tokio::time::timeout(std::time::Duration::ZERO, &mut stretching).await;
        assert!(polled_once.is_err());
        drop(stretching);
        scram.0.stretch(&server(4096)).await.unwrap();
        let known = scram.0.stretched.lock().await.as_ref().map(|known| known.iterations);
        assert_eq!(known, Some(4096));
    }
}
