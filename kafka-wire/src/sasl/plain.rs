//! The one message of PLAIN (RFC 4616): who wants to be whom, and the password, as it is.

use std::fmt;

use zeroize::Zeroizing;

use super::SaslError;

/// The mechanism's name.
pub const NAME: &str = "PLAIN";
/// The most bytes of a message that is read.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// What the message says.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain<'a> {
    /// Whom the client wants to act as; empty for the user itself.
    pub authorization_id: &'a str,
    /// Who the client says it is.
    pub user: &'a str,
    /// What is to prove it.
    pub password: &'a str,
}

impl fmt::Debug for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plain")
            .field("authorization_id", &self.authorization_id)
            .field("user", &self.user)
            .field("password", &"***")
            .finish()
    }
}

/// The message of a client that acts as itself.
///
/// # Errors
/// [`Unsayable`](SaslError::Unsayable): the user or the password is empty or holds a NUL.
pub fn encode(user: &str, password: &str) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    if user.is_empty() || password.is_empty() {
        return Err(SaslError::Unsayable("PLAIN needs a user name and a password"));
    }
    if user.contains('\0') || password.contains('\0') {
        return Err(SaslError::Unsayable("PLAIN has no way to say a NUL in a user name or password"));
    }
    // As long as it will be: growing would leave copies of the password behind.
    let mut message = Zeroizing::new(Vec::with_capacity(user.len() + password.len() + 2));
    message.push(0);
    message.extend_from_slice(user.as_bytes());
    message.push(0);
    message.extend_from_slice(password.as_bytes());
    Ok(message)
}

/// Reads a client's message.
///
/// # Errors
/// It is too long, is not UTF-8, has not exactly three parts, or names no user or password.
pub fn decode(message: &[u8]) -> Result<Plain<'_>, SaslError> {
    if message.len() > MAX_MESSAGE {
        return Err(SaslError::TooLong { length: message.len(), limit: MAX_MESSAGE });
    }
    let text = str::from_utf8(message).map_err(|_| SaslError::Malformed("the PLAIN message is not UTF-8"))?;
    let mut parts = text.split('\0');
    let (Some(authorization_id), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SaslError::Malformed("the PLAIN message has not three parts"));
    };
    if user.is_empty() || password.is_empty() {
        return Err(SaslError::Malformed("the PLAIN message names no user or no password"));
    }
    Ok(Plain { authorization_id, user, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_rfc_4616_is_read_and_written() {
        assert_eq!(**encode("tim", "tanstaaftanstaaf").unwrap(), *b"\0tim\0tanstaaftanstaaf");
        let plain = decode(b"Ursel\0Kurt\0xipj3plmq").unwrap();
        assert_eq!(plain, Plain { authorization_id: "Ursel", user: "Kurt", password: "xipj3plmq" });
        let (user, password) = ("jürgen,=", "pä$$ wörd");
        let message = encode(user, password).unwrap();
        assert_eq!(decode(&message).unwrap(), Plain { authorization_id: "", user, password });
    }

    #[test]
    fn a_message_with_fewer_or_more_parts_is_refused() {
        for message in [&b""[..], b"\0", b"\0tim", b"\0tim\0", b"\0\0secret", b"\0tim\0a\0b", b"\0t\0\xff"] {
            assert!(matches!(decode(message), Err(SaslError::Malformed(_))), "{message:?}");
        }
        assert!(matches!(decode(&[b'a'; MAX_MESSAGE + 1]), Err(SaslError::TooLong { .. })));
    }

    #[test]
    fn what_plain_cannot_say_is_told_before_it_is_sent() {
        for (user, password) in [("", "a"), ("a", ""), ("a\0", "b"), ("a", "b\0")] {
            assert!(matches!(encode(user, password), Err(SaslError::Unsayable(_))), "{user:?}");
        }
    }

    #[test]
    fn debug_shows_no_password() {
        let shown = format!("{:?}", decode(b"\0tim\0hunter2").unwrap());
        assert!(shown.contains("tim") && !shown.contains("hunter2"), "{shown}");
    }
}
