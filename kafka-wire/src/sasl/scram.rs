//! SCRAM (RFC 5802, RFC 7677) with SHA-256 and SHA-512: its four messages, and what proves each side to the other.
//!
//! ```text
//! client                                                              server
//!   ClientFirst   n,,n=user,r=nonce                            ─────►
//!   ServerFirst   r=nonce+more,s=salt,i=iterations             ◄─────
//!   ClientFinal   c=biws,r=nonce+more,p=proof                  ─────►   knows the password?
//!   ServerFinal   v=signature                                  ◄─────   knows it too?
//! ```
//!
//! Passwords and user names are taken as UTF-8 as they are, without SASLprep, like Kafka does.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{SaslError, shown};

/// The fewest iterations that are accepted, as in Kafka.
pub const MIN_ITERATIONS: u32 = 4096;
/// The most iterations that are accepted: about a second of one core. Kafka has no such limit, so a hostile server could
/// keep its client's cores busy.
pub const MAX_ITERATIONS: u32 = 1_000_000;
/// The most bytes of a salt that is accepted.
pub const MAX_SALT: usize = 1024;
/// The most bytes of a message that is read.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// Iterations between two looks at whether anybody still wants the result.
const SLICE: u32 = 1024;

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScramHash {
    /// SCRAM-SHA-256
    Sha256,
    /// SCRAM-SHA-512
    Sha512,
}

impl ScramHash {
    /// The mechanism's name.
    pub const fn mechanism(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The hash of the mechanism with this name.
    pub fn from_mechanism(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha512].into_iter().find(|hash| hash.mechanism() == name)
    }

    /// The bytes of a hash, and so of every key, proof and signature.
    pub const fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }

    fn hmac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => keyed::<Hmac<Sha256>>(key).chain_update(data).finalize().into_bytes().to_vec(),
            Self::Sha512 => keyed::<Hmac<Sha512>>(key).chain_update(data).finalize().into_bytes().to_vec(),
        }
    }
}

#[expect(clippy::expect_used, reason = "HMAC is defined for keys of every length")]
fn keyed<M: KeyInit>(key: &[u8]) -> M {
    M::new_from_slice(key).expect("HMAC takes every key")
}

/// What stands for a password from then on (PBKDF2). Takes a core for as long as the iterations last: up to a second for
/// [`MAX_ITERATIONS`].
pub fn salted_password(hash: ScramHash, password: &str, salt: &[u8], iterations: u32) -> Zeroizing<Vec<u8>> {
    let mut salted = Zeroizing::new(vec![0; hash.size()]);
    stretch(hash, password, salt, iterations, &mut salted, || true);
    salted
}

/// As [`salted_password`], given up once `wanted` says no; it is asked every thousand iterations or so.
pub fn salted_password_while(
    hash: ScramHash,
    password: &str,
    salt: &[u8],
    iterations: u32,
    wanted: impl FnMut() -> bool,
) -> Option<Zeroizing<Vec<u8>>> {
    let mut salted = Zeroizing::new(vec![0; hash.size()]);
    stretch(hash, password, salt, iterations, &mut salted, wanted).then_some(salted)
}

/// Fills `salted`, unless `wanted` says no first; says which.
fn stretch(
    hash: ScramHash,
    password: &str,
    salt: &[u8],
    iterations: u32,
    salted: &mut [u8],
    wanted: impl FnMut() -> bool,
) -> bool {
    let password = password.as_bytes();
    match hash {
        ScramHash::Sha256 => iterate::<Hmac<Sha256>>(keyed(password), salt, iterations, salted, wanted),
        ScramHash::Sha512 => iterate::<Hmac<Sha512>>(keyed(password), salt, iterations, salted, wanted),
    }
}

/// `Hi` of RFC 5802: PBKDF2's first block, which is all that SCRAM uses. By hand, since it must be possible to stop.
fn iterate<M: Mac + Clone>(
    keyed: M,
    salt: &[u8],
    iterations: u32,
    salted: &mut [u8],
    mut wanted: impl FnMut() -> bool,
) -> bool {
    let mut last = keyed.clone().chain_update(salt).chain_update(1_u32.to_be_bytes()).finalize().into_bytes();
    salted.copy_from_slice(&last);
    for iteration in 1..iterations {
        if iteration % SLICE == 0 && !wanted() {
            return false;
        }
        last = keyed.clone().chain_update(&last).finalize().into_bytes();
        salted.iter_mut().zip(&last).for_each(|(sum, byte)| *sum ^= byte);
    }
    true
}

/// What a server keeps of a password: enough to verify one who knows it, not enough to pass for it.
#[derive(Clone)]
pub struct ScramKeys {
    /// Which mechanism they are for.
    pub hash: ScramHash,
    /// The hash of the key with which clients prove themselves.
    pub stored_key: Zeroizing<Vec<u8>>,
    /// The key with which the server proves itself.
    pub server_key: Zeroizing<Vec<u8>>,
}

impl ScramKeys {
    /// The keys that belong to a salted password.
    pub fn from_salted_password(hash: ScramHash, salted_password: &[u8]) -> Self {
        let stored_key = Zeroizing::new(hash.digest(&client_key(hash, salted_password)));
        Self { hash, stored_key, server_key: server_key(hash, salted_password) }
    }

    /// Whether both are the same keys, in a time that does not tell where they differ.
    pub fn same_as(&self, other: &Self) -> bool {
        let same = self.stored_key.ct_eq(&other.stored_key) & self.server_key.ct_eq(&other.server_key);
        self.hash == other.hash && same.into()
    }
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramKeys").field("hash", &self.hash).finish_non_exhaustive()
    }
}

fn client_key(hash: ScramHash, salted_password: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(hash.hmac(salted_password, b"Client Key"))
}

fn server_key(hash: ScramHash, salted_password: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(hash.hmac(salted_password, b"Server Key"))
}

/// The first message: who the client says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFirst {
    /// Whom the client wants to act as; empty for the user itself.
    pub authorization_id: String,
    /// Who the client says it is.
    pub user: String,
    /// The client's nonce.
    pub nonce: String,
    /// What else it says, such as Kafka's `tokenauth=true` for delegation tokens.
    pub extensions: Vec<(String, String)>,
    /// Everything before the bare message, with its last comma; the client repeats it in its last message.
    gs2_header: String,
    /// The message without that, which both sides sign.
    bare: String,
}

impl ClientFirst {
    /// The message of a client that acts as itself. The nonce is random printable ASCII without commas, 18 bytes of
    /// randomness or more. Extensions have names of letters and values without commas.
    ///
    /// # Errors
    /// [`Unsayable`](SaslError::Unsayable): an empty user, a NUL, or a nonce or extension that is not as described.
    pub fn new(user: &str, nonce: &str, extensions: &[(&str, &str)]) -> Result<Self, SaslError> {
        if user.is_empty() || user.contains('\0') {
            return Err(SaslError::Unsayable("SCRAM needs a user name, without NUL"));
        }
        if !is_printable(nonce) {
            return Err(SaslError::Unsayable("a SCRAM nonce is printable and has no comma"));
        }
        let mut bare = format!("n={},r={nonce}", escape(user));
        for (name, value) in extensions {
            if !is_extension_name(name) || !is_value(value) {
                return Err(SaslError::Unsayable("a SCRAM extension has a name of letters, and no comma"));
            }
            bare.extend([",", name, "=", value]);
        }
        Ok(Self {
            authorization_id: String::new(),
            user: user.to_owned(),
            nonce: nonce.to_owned(),
            extensions: extensions.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            gs2_header: "n,,".to_owned(),
            bare,
        })
    }

    /// Reads a client's message.
    ///
    /// # Errors
    /// It is not such a message, or asks for channel binding or mandatory extensions, which Kafka does not have.
    pub fn parse(message: &[u8]) -> Result<Self, SaslError> {
        let text = text(message)?;
        let malformed = SaslError::Malformed;
        let mut commas = text.match_indices(',').map(|(place, _)| place);
        let (Some(first), Some(second)) = (commas.next(), commas.next()) else {
            return Err(malformed("the client's first message has no GS2 header"));
        };
        match &text[..first] {
            // "y": it could, and thinks that we cannot, which is right.
            "n" | "y" => {}
            binding if binding.starts_with("p=") => {
                return Err(malformed("channel binding is not supported"));
            }
            _ => return Err(malformed("the client's first message has no GS2 header")),
        }
        let authorization_id = match &text[first + 1..second] {
            "" => String::new(),
            named => match named.strip_prefix("a=").and_then(unescape) {
                Some(name) if !name.is_empty() => name,
                _ => return Err(malformed("the client's first message has a bad authorization id")),
            },
        };
        let bare = &text[second + 1..];
        let mut attributes = bare.split(',');
        let user = attributes.next().and_then(|attribute| attribute.strip_prefix("n=")).and_then(unescape);
        let Some(user) = user.filter(|user| !user.is_empty()) else {
            return Err(malformed("the client's first message names no user, or needs an extension"));
        };
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        let Some(nonce) = nonce.filter(|nonce| is_printable(nonce)) else {
            return Err(malformed("the client's first message has no nonce"));
        };
        let extensions = extensions(attributes)?;
        Ok(Self {
            authorization_id,
            user,
            nonce: nonce.to_owned(),
            extensions,
            gs2_header: text[..=second].to_owned(),
            bare: bare.to_owned(),
        })
    }

    /// The bytes of the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        [self.gs2_header.as_bytes(), self.bare.as_bytes()].concat()
    }
}

/// The second message: how the server keeps the password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFirst {
    /// The client's nonce, extended by the server's.
    pub nonce: String,
    /// The salt of the password.
    pub salt: Vec<u8>,
    /// How often the password was hashed.
    pub iterations: u32,
    /// The whole message, which both sides sign.
    text: String,
}

impl ServerFirst {
    /// The answer to a client's first message. `nonce` is the server's part, random and printable as the client's.
    ///
    /// # Errors
    /// The nonce is not printable, the salt is empty or too long, or the iterations are out of bounds.
    pub fn new(client: &ClientFirst, nonce: &str, salt: &[u8], iterations: u32) -> Result<Self, SaslError> {
        if !is_printable(nonce) {
            return Err(SaslError::Unsayable("a SCRAM nonce is printable and has no comma"));
        }
        if salt.is_empty() || salt.len() > MAX_SALT {
            return Err(SaslError::Unsayable("a SCRAM salt has 1 to 1024 bytes"));
        }
        check_iterations(iterations.into())?;
        let nonce = format!("{}{nonce}", client.nonce);
        let text = format!("r={nonce},s={},i={iterations}", STANDARD.encode(salt));
        Ok(Self { nonce, salt: salt.to_owned(), iterations, text })
    }

    /// Reads a server's answer to `client`.
    ///
    /// # Errors
    /// It is not such a message, its nonce does not extend the client's, or its salt or iterations are out of bounds.
    pub fn parse(message: &[u8], client: &ClientFirst) -> Result<Self, SaslError> {
        let text = text(message)?;
        let malformed = SaslError::Malformed;
        if let Some(error) = text.strip_prefix("e=") {
            return Err(SaslError::ServerError(shown(error)));
        }
        let mut attributes = text.split(',');
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        let Some(nonce) = nonce.filter(|nonce| is_printable(nonce)) else {
            return Err(malformed("the server's first message has no nonce, or needs an extension"));
        };
        // Extended: a server that adds nothing of its own leaves itself open to replays.
        if nonce.strip_prefix(client.nonce.as_str()).is_none_or(str::is_empty) {
            return Err(SaslError::Nonce);
        }
        let Some(salt) = attributes.next().and_then(|attribute| attribute.strip_prefix("s=")) else {
            return Err(malformed("the server's first message has no salt"));
        };
        // The length of the text first, so that nothing large is decoded.
        let salt = (salt.len() <= MAX_SALT.div_ceil(3) * 4).then(|| STANDARD.decode(salt).ok()).flatten();
        let Some(salt) = salt.filter(|salt| (1..=MAX_SALT).contains(&salt.len())) else {
            return Err(malformed("the server's salt is not base64 of 1 to 1024 bytes"));
        };
        let iterations = attributes.next().and_then(|attribute| attribute.strip_prefix("i="));
        let digits = |text: &&str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let Some(iterations) = iterations.filter(digits) else {
            return Err(malformed("the server's first message has no iteration count"));
        };
        let iterations = check_iterations(iterations.parse().unwrap_or(u64::MAX))?;
        extensions(attributes)?;
        Ok(Self { nonce: nonce.to_owned(), salt, iterations, text: text.to_owned() })
    }

    /// The bytes of the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.text.as_bytes().to_owned()
    }
}

/// The third message: the client's proof.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientFinal {
    channel_binding: Vec<u8>,
    nonce: String,
    proof: Vec<u8>,
    /// The message up to the proof, which both sides sign.
    without_proof: String,
}

impl ClientFinal {
    /// The proof that a client knows the password, and how the server has to prove the same.
    pub fn prove(
        hash: ScramHash,
        salted_password: &[u8],
        client: &ClientFirst,
        server: &ServerFirst,
    ) -> (Self, ServerSignature) {
        let without_proof = format!("c={},r={}", STANDARD.encode(&client.gs2_header), server.nonce);
        let signed = signed(client, server, &without_proof);
        let client_key = client_key(hash, salted_password);
        let signature = hash.hmac(&hash.digest(&client_key), signed.as_bytes());
        let proof = client_key.iter().zip(&signature).map(|(key, sign)| key ^ sign).collect();
        let expected = hash.hmac(&server_key(hash, salted_password), signed.as_bytes());
        let message = Self {
            channel_binding: client.gs2_header.as_bytes().to_owned(),
            nonce: server.nonce.clone(),
            proof,
            without_proof,
        };
        (message, ServerSignature(expected))
    }

    /// Reads a client's message.
    ///
    /// # Errors
    /// It is not such a message.
    pub fn parse(message: &[u8]) -> Result<Self, SaslError> {
        let text = text(message)?;
        let malformed = SaslError::Malformed;
        let Some((without_proof, proof)) = text.rsplit_once(",p=") else {
            return Err(malformed("the client's final message has no proof"));
        };
        let Ok(proof) = STANDARD.decode(proof) else {
            return Err(malformed("the client's proof is not base64"));
        };
        let mut attributes = without_proof.split(',');
        let binding = attributes.next().and_then(|attribute| attribute.strip_prefix("c="));
        let Some(channel_binding) = binding.and_then(|binding| STANDARD.decode(binding).ok()) else {
            return Err(malformed("the client's final message has no channel binding"));
        };
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        let Some(nonce) = nonce.filter(|nonce| is_printable(nonce)) else {
            return Err(malformed("the client's final message has no nonce"));
        };
        let nonce = nonce.to_owned();
        extensions(attributes)?;
        Ok(Self { channel_binding, nonce, proof, without_proof: without_proof.to_owned() })
    }

    /// Whether the client knows the password that `keys` are of, after these two messages; and the server's own proof.
    ///
    /// # Errors
    /// The nonce or the repeated header is not what was sent before, or the proof is wrong.
    pub fn verify(
        &self,
        keys: &ScramKeys,
        client: &ClientFirst,
        server: &ServerFirst,
    ) -> Result<ServerFinal, SaslError> {
        if self.nonce != server.nonce {
            return Err(SaslError::Nonce);
        }
        if self.channel_binding != client.gs2_header.as_bytes() {
            return Err(SaslError::Malformed("the client repeats another header than it sent"));
        }
        let signed = signed(client, server, &self.without_proof);
        let signature = keys.hash.hmac(&keys.stored_key, signed.as_bytes());
        if self.proof.len() != signature.len() {
            return Err(SaslError::ClientProof);
        }
        let client_key: Zeroizing<Vec<u8>> =
            Zeroizing::new(self.proof.iter().zip(&signature).map(|(proof, sign)| proof ^ sign).collect());
        if !bool::from(keys.hash.digest(&client_key).ct_eq(&keys.stored_key)) {
            return Err(SaslError::ClientProof);
        }
        let signature = keys.hash.hmac(&keys.server_key, signed.as_bytes());
        Ok(ServerFinal::Signature(ServerSignature(signature)))
    }

    /// The bytes of the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        format!("{},p={}", self.without_proof, STANDARD.encode(&self.proof)).into_bytes()
    }
}

impl fmt::Debug for ClientFinal {
    /// Without the proof, from which passwords can be guessed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientFinal").field("nonce", &self.nonce).finish_non_exhaustive()
    }
}

/// What a server that knows the password signs with.
#[derive(Clone)]
pub struct ServerSignature(Vec<u8>);

impl fmt::Debug for ServerSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerSignature(***)")
    }
}

/// The fourth message: the server's proof, or why there is none.
#[derive(Clone, Debug)]
pub enum ServerFinal {
    /// It knows the password too, if the signature is right.
    Signature(ServerSignature),
    /// It refuses, for the reason that it gives.
    Error(String),
}

impl ServerFinal {
    /// Reads a server's message.
    ///
    /// # Errors
    /// It is not such a message.
    pub fn parse(message: &[u8]) -> Result<Self, SaslError> {
        let text = text(message)?;
        let mut attributes = text.split(',');
        let first = attributes.next().unwrap_or_default();
        let parsed = if let Some(error) = first.strip_prefix("e=") {
            Self::Error(shown(error))
        } else if let Some(signature) = first.strip_prefix("v=") {
            let Ok(signature) = STANDARD.decode(signature) else {
                return Err(SaslError::Malformed("the server's signature is not base64"));
            };
            Self::Signature(ServerSignature(signature))
        } else {
            return Err(SaslError::Malformed("the server's final message has no signature"));
        };
        extensions(attributes)?;
        Ok(parsed)
    }

    /// Whether the server has proved that it knows the password, in a time that tells nothing.
    ///
    /// # Errors
    /// The signature is wrong, or the message is the server's error.
    pub fn verify(&self, expected: &ServerSignature) -> Result<(), SaslError> {
        match self {
            Self::Signature(signature) if signature.0.ct_eq(&expected.0).into() => Ok(()),
            Self::Signature(_) => Err(SaslError::ServerSignature),
            Self::Error(error) => Err(SaslError::ServerError(error.clone())),
        }
    }

    /// The bytes of the message.
    pub fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Signature(signature) => format!("v={}", STANDARD.encode(&signature.0)).into_bytes(),
            Self::Error(error) => format!("e={error}").into_bytes(),
        }
    }
}

/// What both sides sign: the messages up to the proof.
fn signed(client: &ClientFirst, server: &ServerFirst, without_proof: &str) -> String {
    format!("{},{},{without_proof}", client.bare, server.text)
}

fn text(message: &[u8]) -> Result<&str, SaslError> {
    if message.len() > MAX_MESSAGE {
        return Err(SaslError::TooLong { length: message.len(), limit: MAX_MESSAGE });
    }
    str::from_utf8(message).map_err(|_| SaslError::Malformed("the SCRAM message is not UTF-8"))
}

fn check_iterations(iterations: u64) -> Result<u32, SaslError> {
    let checked = u32::try_from(iterations).ok();
    checked
        .filter(|count| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(count))
        .ok_or(SaslError::Iterations { iterations })
}

/// The attributes after those that a message must have.
fn extensions<'a>(attributes: impl Iterator<Item = &'a str>) -> Result<Vec<(String, String)>, SaslError> {
    let mut extensions = Vec::new();
    for attribute in attributes {
        match attribute.split_once('=') {
            Some((name, value)) if is_extension_name(name) && is_value(value) => {
                extensions.push((name.to_owned(), value.to_owned()));
            }
            _ => return Err(SaslError::Malformed("a SCRAM message has a malformed extension")),
        }
    }
    Ok(extensions)
}

/// Longer than Kafka's grammar (a letter) because Kafka's own extension is called `tokenauth`. `m`, which is mandatory
/// to understand, is not among what we understand.
fn is_extension_name(name: &str) -> bool {
    !name.is_empty() && name != "m" && name.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_value(value: &str) -> bool {
    !value.is_empty() && !value.contains([',', '\0'])
}

fn is_printable(nonce: &str) -> bool {
    !nonce.is_empty() && nonce.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// A user name, as a message says it.
fn escape(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}

/// The user name that a message says; nothing, where it is not escaped as it must be.
pub(super) fn unescape(name: &str) -> Option<String> {
    if name.contains('\0') {
        return None;
    }
    let mut pieces = name.split('=');
    let mut plain = pieces.next()?.to_owned();
    for piece in pieces {
        let (escaped, rest) = piece.split_at_checked(2)?;
        plain.push(match escaped {
            "2C" => ',',
            "3D" => '=',
            _ => return None,
        });
        plain.push_str(rest);
    }
    Some(plain)
}

#[cfg(test)]
mod tests;
