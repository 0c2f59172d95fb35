//! Who may authenticate: passwords for PLAIN, and what SCRAM keeps of passwords. Part of the image, so that every broker
//! sees a change at once.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kafka_wire::sasl::scram::{MIN_ITERATIONS, ScramHash, ScramKeys, salted_password};
use ring::hmac;

/// The bytes of a salt.
const SALT: usize = 24;

/// Every user's credentials.
#[derive(Clone)]
pub(crate) struct Credentials {
    /// Of this cluster alone; no password is kept, only what this key makes of it.
    key: hmac::Key,
    plain: BTreeMap<Arc<str>, hmac::Tag>,
    /// At most one for each hash.
    scram: BTreeMap<Arc<str>, Vec<Arc<ScramCredential>>>,
}

/// What a broker keeps of a password for SCRAM.
#[derive(Debug)]
pub(crate) struct ScramCredential {
    pub(crate) salt: Vec<u8>,
    pub(crate) iterations: u32,
    pub(crate) keys: ScramKeys,
}

impl Credentials {
    /// Nobody may authenticate.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Ok(Self { key, plain: BTreeMap::new(), scram: BTreeMap::new() })
    }

    /// Lets a user in by PLAIN and by both kinds of SCRAM.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(crate) fn add_user(&mut self, user: &str, password: &str) -> Result<(), getrandom::Error> {
        let user: Arc<str> = user.into();
        self.plain.insert(Arc::clone(&user), hmac::sign(&self.key, password.as_bytes()));
        for hash in [ScramHash::Sha256, ScramHash::Sha512] {
            let mut salt = vec![0; SALT];
            getrandom::fill(&mut salt)?;
            let salted = salted_password(hash, password, &salt, MIN_ITERATIONS);
            let keys = ScramKeys::from_salted_password(hash, &salted);
            self.set_scram(&user, ScramCredential { salt, iterations: MIN_ITERATIONS, keys });
        }
        Ok(())
    }

    /// Whether this is the user's password, in a time that does not tell whether there is such a user.
    pub(crate) fn is_password(&self, user: &str, password: &str) -> bool {
        let given = hmac::sign(&self.key, password.as_bytes());
        let known = self.plain.get(user);
        // HMAC once more makes the comparison take the same time wherever the two differ.
        let expected = known.unwrap_or(&given);
        let again = hmac::sign(&self.key, given.as_ref());
        hmac::verify(&self.key, expected.as_ref(), again.as_ref()).is_ok() && known.is_some()
    }

    /// A user's credential, if there is one.
    pub(crate) fn scram(&self, user: &str, hash: ScramHash) -> Option<&Arc<ScramCredential>> {
        self.scram.get(user)?.iter().find(|credential| credential.keys.hash == hash)
    }

    /// As [`scram`](Self::scram); a user that does not exist has one that no password fits, always the same one, so that
    /// nobody can tell.
    pub(crate) fn scram_or_decoy(&self, user: &str, hash: ScramHash) -> Arc<ScramCredential> {
        let known = self.scram(user, hash).cloned();
        let made =
            |what: &str| hmac::sign(&self.key, format!("{what} {} {user}", hash.mechanism()).as_bytes());
        let decoy = Arc::new(ScramCredential {
            salt: made("salt").as_ref().iter().copied().take(SALT).collect(),
            iterations: MIN_ITERATIONS,
            keys: ScramKeys::from_salted_password(hash, made("keys").as_ref()),
        });
        known.unwrap_or(decoy)
    }

    pub(crate) fn set_scram(&mut self, user: &Arc<str>, credential: ScramCredential) {
        let all = self.scram.entry(Arc::clone(user)).or_default();
        all.retain(|known| known.keys.hash != credential.keys.hash);
        all.push(Arc::new(credential));
        all.sort_by_key(|known| known.keys.hash.size());
    }

    pub(crate) fn remove_scram(&mut self, user: &str, hash: ScramHash) {
        if let Some(all) = self.scram.get_mut(user) {
            all.retain(|known| known.keys.hash != hash);
            if all.is_empty() {
                self.scram.remove(user);
            }
        }
    }

    /// The users with credentials for SCRAM.
    pub(crate) fn scram_users(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.scram.keys()
    }

    /// Whether the user is one of them.
    pub(crate) fn has_scram(&self, user: &str) -> bool {
        self.scram.contains_key(user)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let users: Vec<_> = self.plain.keys().collect();
        f.debug_struct("Credentials").field("plain", &users).field("scram", &self.scram.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_known_by_what_the_key_makes_of_them() {
        let mut credentials = Credentials::new().unwrap();
        credentials.add_user("alice", "secret").unwrap();
        assert!(credentials.is_password("alice", "secret"));
        for (user, password) in [("alice", "Secret"), ("alice", ""), ("bob", "secret"), ("", "")] {
            assert!(!credentials.is_password(user, password), "{user} {password}");
        }
        let shown = format!("{credentials:?}");
        assert!(shown.contains("alice") && !shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_user_that_does_not_exist_has_always_the_same_salt() {
        let mut credentials = Credentials::new().unwrap();
        let decoy = |credentials: &Credentials, user| {
            let decoy = credentials.scram_or_decoy(user, ScramHash::Sha256);
            (decoy.salt.clone(), decoy.iterations)
        };
        let before = decoy(&credentials, "bob");
        assert_eq!(decoy(&credentials, "bob"), before);
        assert_ne!(decoy(&credentials, "eve"), before);
        credentials.add_user("bob", "secret").unwrap();
        let real = decoy(&credentials, "bob");
        assert_eq!((real.0.len(), real.1), (before.0.len(), before.1), "of the same shape");
        assert_ne!(real, before);
    }
}
