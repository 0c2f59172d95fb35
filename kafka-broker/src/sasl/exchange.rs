//! One exchange of a mechanism: what a client says, what it is answered, and who it is in the end. Never waits.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use kafka_wire::sasl::scram::{ClientFinal, ClientFirst, ScramHash, ScramKeys, ServerFirst};
use kafka_wire::sasl::{SaslError, oauthbearer, plain};

use super::credentials::Credentials;
use super::tokens::TokenVerifier;
use crate::listener::SaslMechanism;

/// The bytes of randomness in a nonce.
const NONCE: usize = 24;
const OTHER_USER: &str =
    "Authentication failed: Client requested an authorization id that is different from username";

/// Who authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Authenticated {
    pub(crate) user: String,
    /// When the credential itself ends, in milliseconds since the Unix epoch.
    pub(crate) expires_ms: Option<i64>,
}

/// What a client's message leads to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is answered, and its next message awaited.
    Continue(Vec<u8>),
    /// It is answered, and known.
    Done(Vec<u8>, Authenticated),
}

/// Why an exchange fails.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// What Kafka tells the client.
    Told(String),
    /// Kafka tells nothing beyond the mechanism; this is for the log.
    Hidden(String),
}

/// What an exchange is checked against.
pub(crate) struct Against<'a> {
    pub(crate) credentials: &'a Credentials,
    pub(crate) tokens: Option<&'a TokenVerifier>,
    pub(crate) wall_ms: i64,
}

/// An exchange that goes on.
#[derive(Debug)]
pub(crate) enum Exchange {
    Plain,
    Scram(ScramHash),
    ScramFinal(Box<ScramFinal>),
    /// With the refusal that the client has to acknowledge, if its last token was refused.
    Oauth(Option<String>),
}

#[derive(Debug)]
pub(crate) struct ScramFinal {
    client: ClientFirst,
    server: ServerFirst,
    keys: ScramKeys,
    /// Not so for the credential of a user that does not exist.
    is_real: bool,
}

impl Exchange {
    pub(crate) fn new(mechanism: SaslMechanism) -> Self {
        match mechanism {
            SaslMechanism::Plain => Self::Plain,
            SaslMechanism::ScramSha256 => Self::Scram(ScramHash::Sha256),
            SaslMechanism::ScramSha512 => Self::Scram(ScramHash::Sha512),
            SaslMechanism::OauthBearer => Self::Oauth(None),
        }
    }

    /// Takes the client's next message.
    pub(crate) fn step(&mut self, message: &[u8], against: &Against<'_>) -> Result<Step, Failure> {
        match self {
            Self::Plain => by_password(message, against.credentials),
            Self::Scram(hash) => {
                let (answer, next) = scram_first(*hash, message, against.credentials)?;
                *self = Self::ScramFinal(Box::new(next));
                Ok(Step::Continue(answer))
            }
            Self::ScramFinal(state) => state.finish(message),
            Self::Oauth(refusal) => {
                if let Some(refusal) = refusal.take().filter(|_| message == oauthbearer::GIVE_UP) {
                    return Err(Failure::Told(refusal));
                }
                by_token(message, against, refusal)
            }
        }
    }
}

fn by_password(message: &[u8], credentials: &Credentials) -> Result<Step, Failure> {
    let told = |why: &str| Err(Failure::Told(why.to_owned()));
    let Ok(plain) = plain::decode(message) else {
        let parts: Vec<&[u8]> = message.split(|byte| *byte == 0).take(4).collect();
        return match parts[..] {
            [_, [], _] => told("Authentication failed: username not specified"),
            [_, _, []] => told("Authentication failed: password not specified"),
            [_, _, _] => told("Authentication failed: Invalid username or password"),
            _ => told(&format!("Invalid SASL/PLAIN response: expected 3 tokens, got {}", parts.len())),
        };
    };
    if !credentials.is_password(plain.user, plain.password) {
        return told("Authentication failed: Invalid username or password");
    }
    if !plain.authorization_id.is_empty() && plain.authorization_id != plain.user {
        return told(OTHER_USER);
    }
    Ok(Step::Done(Vec::new(), Authenticated { user: plain.user.to_owned(), expires_ms: None }))
}

fn scram_first(
    hash: ScramHash,
    message: &[u8],
    credentials: &Credentials,
) -> Result<(Vec<u8>, ScramFinal), Failure> {
    let hidden = |why: &dyn std::fmt::Display| Failure::Hidden(why.to_string());
    let client = ClientFirst::parse(message).map_err(|error| hidden(&error))?;
    if client.extensions.iter().any(|(name, value)| name == "tokenauth" && value.eq_ignore_ascii_case("true"))
    {
        return Err(hidden(&"this broker has no delegation tokens"));
    }
    let credential = credentials.scram_or_decoy(&client.user, hash);
    let is_real = credentials.scram(&client.user, hash).is_some();
    if !client.authorization_id.is_empty() && client.authorization_id != client.user {
        return Err(Failure::Told(OTHER_USER.to_owned()));
    }
    let mut random = [0; NONCE];
    getrandom::fill(&mut random).map_err(|error| hidden(&error))?;
    let nonce = STANDARD_NO_PAD.encode(random);
    let server = ServerFirst::new(&client, &nonce, &credential.salt, credential.iterations)
        .map_err(|error| hidden(&error))?;
    let answer = server.to_bytes();
    Ok((answer, ScramFinal { client, server, keys: credential.keys.clone(), is_real }))
}

impl ScramFinal {
    fn finish(&self, message: &[u8]) -> Result<Step, Failure> {
        let hidden = |error: SaslError| Failure::Hidden(error.to_string());
        // The nonce must be ours to its last character (CVE-2024-56128), which `verify` sees to.
        let proof = ClientFinal::parse(message).map_err(hidden)?;
        let answer = proof.verify(&self.keys, &self.client, &self.server).map_err(|error| match error {
            SaslError::Nonce => {
                let why = "the client repeats another nonce than it was sent, as old librdkafka does and Kafka refuses too";
                Failure::Hidden(why.to_owned())
            }
            error => hidden(error),
        })?;
        if !self.is_real {
            return Err(Failure::Hidden("there is no such user".to_owned()));
        }
        let user = self.client.user.clone();
        Ok(Step::Done(answer.to_bytes(), Authenticated { user, expires_ms: None }))
    }
}

fn by_token(message: &[u8], against: &Against<'_>, refusal: &mut Option<String>) -> Result<Step, Failure> {
    let bearer = oauthbearer::decode(message).map_err(|error| Failure::Hidden(error.to_string()))?;
    let verified = match against.tokens {
        Some(tokens) => tokens.verify(bearer.token, against.wall_ms),
        None => Err("this broker has no keys to verify tokens with"),
    };
    let verified = match verified {
        Ok(verified) => verified,
        Err(why) => {
            tracing::debug!("token refused: {why}");
            // Kafka's words; why it is refused is not for the client to know.
            let challenge = "{\"status\":\"invalid_token\"}".to_owned();
            *refusal = Some(challenge.clone());
            return Ok(Step::Continue(challenge.into_bytes()));
        }
    };
    if !bearer.authorization_id.is_empty() && bearer.authorization_id != verified.user {
        return Err(Failure::Told(format!(
            "Authentication failed: Client requested an authorization id ({}) that is different from the token's principal \
             name ({})",
            bearer.authorization_id, verified.user
        )));
    }
    Ok(Step::Done(Vec::new(), verified))
}
