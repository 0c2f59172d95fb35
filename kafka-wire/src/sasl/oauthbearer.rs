//! OAUTHBEARER (RFC 7628): the client's one message with a bearer token and extensions (KIP-342), and the server's
//! refusal in JSON.

use std::fmt;

use zeroize::Zeroizing;

use super::{SaslError, shown};

/// The mechanism's name.
pub const NAME: &str = "OAUTHBEARER";
/// The most bytes of a client's message: what Kafka's brokers read before authentication.
pub const MAX_MESSAGE: usize = 512 * 1024;
/// The most bytes of a refusal that are read.
pub const MAX_REFUSAL: usize = 64 * 1024;
/// What a client answers to a refusal, upon which the server ends the exchange.
pub const GIVE_UP: &[u8] = b"\x01";

/// The most members of a refusal that are read.
const MOST_MEMBERS: usize = 64;
const MALFORMED: SaslError = SaslError::Malformed("the OAUTHBEARER message is malformed");

/// What a client's message says.
#[derive(Clone, PartialEq, Eq)]
pub struct Bearer<'a> {
    /// Whom the client wants to act as; empty for whom the token is of.
    pub authorization_id: String,
    /// The token.
    pub token: &'a str,
    /// What else it says, in its order.
    pub extensions: Vec<(&'a str, &'a str)>,
}

impl fmt::Debug for Bearer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bearer")
            .field("authorization_id", &self.authorization_id)
            .field("token", &"***")
            .field("extensions", &self.extensions)
            .finish()
    }
}

/// The message of a client with this token and these extensions.
///
/// # Errors
/// [`Unsayable`](SaslError::Unsayable): the token is not one that HTTP would carry, or an extension has a name other
/// than letters, the name `auth`, or a value that is empty or not printable.
pub fn encode(token: &str, extensions: &[(&str, &str)]) -> Result<Zeroizing<Vec<u8>>, SaslError> {
    if !is_token(token) {
        return Err(SaslError::Unsayable("a bearer token has only letters, digits and -._~+/ before its ="));
    }
    const AUTH: &[u8] = b"n,,\x01auth=Bearer ";
    let length = extensions.iter().map(|(name, value)| name.len() + value.len() + 2).sum::<usize>();
    // As long as it will be: growing would leave copies of the token behind.
    let mut message = Zeroizing::new(Vec::with_capacity(AUTH.len() + token.len() + 2 + length));
    message.extend_from_slice(AUTH);
    message.extend_from_slice(token.as_bytes());
    message.push(1);
    for (name, value) in extensions {
        if !is_name(name) || *name == "auth" || !is_value(value) {
            return Err(SaslError::Unsayable(
                "an OAUTHBEARER extension has a name of letters other than auth, and a printable value",
            ));
        }
        message.extend_from_slice(name.as_bytes());
        message.push(b'=');
        message.extend_from_slice(value.as_bytes());
        message.push(1);
    }
    message.push(1);
    Ok(message)
}

/// Reads a client's message.
///
/// # Errors
/// It is too long or not such a message, has no token or two, or repeats an extension.
pub fn decode(message: &[u8]) -> Result<Bearer<'_>, SaslError> {
    if message.len() > MAX_MESSAGE {
        return Err(SaslError::TooLong { length: message.len(), limit: MAX_MESSAGE });
    }
    let text = str::from_utf8(message).map_err(|_| MALFORMED)?;
    let text = text.strip_suffix("\x01\x01").ok_or(MALFORMED)?;
    let mut parts = text.split('\x01');
    let header = parts.next().and_then(|header| header.strip_prefix("n,")?.strip_suffix(','));
    let authorization_id = match header.ok_or(MALFORMED)? {
        "" => String::new(),
        named => super::scram::unescape(named.strip_prefix("a=").ok_or(MALFORMED)?)
            .filter(|name| !name.is_empty() && !name.contains(','))
            .ok_or(MALFORMED)?,
    };
    let (mut token, mut extensions) = (None, Vec::new());
    for part in parts {
        let (name, value) = part.split_once('=').ok_or(MALFORMED)?;
        if !is_name(name) || !is_value(value) {
            return Err(MALFORMED);
        }
        if name != "auth" {
            extensions.push((name, value));
            continue;
        }
        let (scheme, bearer) = value.split_once(' ').ok_or(MALFORMED)?;
        let bearer = bearer.trim_start_matches(' ');
        if !scheme.eq_ignore_ascii_case("bearer") || !is_token(bearer) || token.replace(bearer).is_some() {
            return Err(MALFORMED);
        }
    }
    let mut names: Vec<_> = extensions.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    if names.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(MALFORMED);
    }
    Ok(Bearer { authorization_id, token: token.ok_or(MALFORMED)?, extensions })
}

/// Why a server refuses a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// An error of RFC 6750, such as `invalid_token`.
    pub status: String,
    /// The scope that a token needs, where the server says.
    pub scope: Option<String>,
    /// Where to learn how to get one, where the server says.
    pub openid_configuration: Option<String>,
}

impl Refusal {
    /// Reads a server's refusal: a JSON object with a `status`. Members that are not known are passed over.
    ///
    /// # Errors
    /// It is too long or not such an object.
    pub fn parse(message: &[u8]) -> Result<Self, SaslError> {
        const MALFORMED: SaslError =
            SaslError::Malformed("the server's refusal is not a JSON object with a status");
        if message.len() > MAX_REFUSAL {
            return Err(SaslError::TooLong { length: message.len(), limit: MAX_REFUSAL });
        }
        let text = str::from_utf8(message).map_err(|_| MALFORMED)?;
        let mut refusal = Self::default();
        for (name, value) in members(text).ok_or(MALFORMED)? {
            let Some(value) = value else { continue };
            match name.as_str() {
                "status" => refusal.status = shown(&value),
                "scope" => refusal.scope = Some(shown(&value)),
                "openid-configuration" => refusal.openid_configuration = Some(shown(&value)),
                _ => {}
            }
        }
        if refusal.status.is_empty() { Err(MALFORMED) } else { Ok(refusal) }
    }

    /// The bytes of the refusal.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text = String::from("{\"status\":");
        quote(&self.status, &mut text);
        for (name, value) in [("scope", &self.scope), ("openid-configuration", &self.openid_configuration)] {
            if let Some(value) = value {
                text.push(',');
                quote(name, &mut text);
                text.push(':');
                quote(value, &mut text);
            }
        }
        text.push('}');
        text.into_bytes()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.status)?;
        if let Some(scope) = &self.scope {
            write!(f, ", the scope {scope:?} is needed")?;
        }
        if let Some(configuration) = &self.openid_configuration {
            write!(f, ", see {configuration}")?;
        }
        Ok(())
    }
}

/// RFC 6750's `b64token`.
fn is_token(token: &str) -> bool {
    let unpadded = token.trim_end_matches('=');
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
    !unpadded.is_empty() && unpadded.bytes().all(allowed)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic())
}

fn is_value(value: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() || b" \t\r\n".contains(&byte);
    !value.is_empty() && value.bytes().all(allowed)
}

fn quote(value: &str, text: &mut String) {
    text.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            control if control < ' ' => text.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => text.push(other),
        }
    }
    text.push('"');
}

/// The members of a flat JSON object: their names, and their values where these are strings. Nothing, where it is not
/// JSON, or has arrays or objects inside, which refusals have not.
fn members(text: &str) -> Option<Vec<(String, Option<String>)>> {
    let mut rest = text.trim_matches(BLANK).strip_prefix('{')?.strip_suffix('}')?;
    let mut members = Vec::new();
    if rest.trim_start_matches(BLANK).is_empty() {
        return Some(members);
    }
    while members.len() < MOST_MEMBERS {
        let name = string(&mut rest)?;
        rest = rest.trim_start_matches(BLANK).strip_prefix(':')?;
        let value = if rest.trim_start_matches(BLANK).starts_with('"') {
            Some(string(&mut rest)?)
        } else {
            let (literal, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            let literal = literal.trim_matches(BLANK);
            if !matches!(literal, "true" | "false" | "null") && !is_number(literal) {
                return None;
            }
            rest = after;
            None
        };
        members.push((name, value));
        rest = rest.trim_start_matches(BLANK);
        if rest.is_empty() {
            return Some(members);
        }
        rest = rest.strip_prefix(',')?;
    }
    None
}

const BLANK: [char; 4] = [' ', '\t', '\r', '\n'];

fn is_number(literal: &str) -> bool {
    literal.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && literal.parse::<f64>().is_ok()
}

/// Takes a JSON string off the front.
fn string(rest: &mut &str) -> Option<String> {
    let text = rest.trim_start_matches(BLANK).strip_prefix('"')?;
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        let character = match characters.next()? {
            '"' => {
                *rest = characters.as_str();
                return Some(value);
            }
            '\\' => match characters.next()? {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'u' => escaped(&mut characters)?,
                same @ ('"' | '\\' | '/') => same,
                _ => return None,
            },
            control if control < ' ' => return None,
            other => other,
        };
        value.push(character);
    }
}

/// What follows `\u`: four digits, and for a surrogate pair as many again.
fn escaped(characters: &mut std::str::Chars<'_>) -> Option<char> {
    let first = unit(characters)?;
    if !(0xd800..0xdc00).contains(&first) {
        // Half of a pair, without the other half before it, is no character.
        return char::from_u32(first.into());
    }
    if (characters.next()?, characters.next()?) != ('\\', 'u') {
        return None;
    }
    char::decode_utf16([first, unit(characters)?]).next()?.ok()
}

fn unit(characters: &mut std::str::Chars<'_>) -> Option<u16> {
    let (digits, after) = characters.as_str().split_at_checked(4)?;
    // Of hexadecimal digits only: the conversion would take a sign.
    let digits = Some(digits).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
    *characters = after.chars();
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_of_rfc_7628_is_read() {
        let message = b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01\
                        auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01";
        let bearer = decode(message).unwrap();
        assert_eq!(bearer.authorization_id, "user@example.com");
        assert_eq!(bearer.token, "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==");
        assert_eq!(bearer.extensions, [("host", "server.example.com"), ("port", "143")]);
    }

    #[test]
    fn a_token_and_its_extensions_come_through() {
        let extensions = [("logicalCluster", "lkc-1"), ("identityPoolId", "pool 1=a,b")];
        let message = encode("a.b-c_d", &extensions).unwrap();
        let expected =
            "n,,\x01auth=Bearer a.b-c_d\x01logicalCluster=lkc-1\x01identityPoolId=pool 1=a,b\x01\x01";
        assert_eq!(str::from_utf8(&message).unwrap(), expected);
        let bearer = decode(&message).unwrap();
        assert_eq!((bearer.token, bearer.extensions.as_slice()), ("a.b-c_d", &extensions[..]));
        assert_eq!(**encode("a", &[]).unwrap(), *b"n,,\x01auth=Bearer a\x01\x01");
    }

    #[test]
    fn a_token_or_extension_that_could_smuggle_something_in_is_not_sent() {
        for token in ["", "a b", "a\x01", "a\n", "tökén", "=", "a=b"] {
            assert!(matches!(encode(token, &[]), Err(SaslError::Unsayable(_))), "{token:?}");
        }
        for extension in [("", "a"), ("a", ""), ("auth", "a"), ("a1", "a"), ("a", "b\x01auth=x"), ("a", "ö")]
        {
            assert!(matches!(encode("t", &[extension]), Err(SaslError::Unsayable(_))), "{extension:?}");
        }
    }

    #[test]
    fn messages_that_are_not_as_they_must_be_are_refused() {
        for message in [
            "",
            "\x01",
            "n,,\x01\x01",
            "n,,\x01auth=Bearer t\x01",
            "n,,auth=Bearer t\x01\x01",
            "y,,\x01auth=Bearer t\x01\x01",
            "n,b,\x01auth=Bearer t\x01\x01",
            "n,a=,\x01auth=Bearer t\x01\x01",
            "n,a=x,y,\x01auth=Bearer t\x01\x01",
            "n,,\x01auth=Basic t\x01\x01",
            "n,,\x01auth=Bearer\x01\x01",
            "n,,\x01auth=Bearer \x01\x01",
            "n,,\x01auth=Bearer t\x01auth=Bearer u\x01\x01",
            "n,,\x01auth=Bearer t\x01a=1\x01a=2\x01\x01",
            "n,,\x01auth=Bearer t\x01a\x01\x01",
            "n,,\x01auth=Bearer t\x01\x01\x01",
        ] {
            assert_eq!(decode(message.as_bytes()), Err(MALFORMED), "{message:?}");
        }
        assert!(decode(b"n,,\x01auth=bearer  t\x01\x01").is_ok());
        let huge = vec![b'a'; MAX_MESSAGE + 1];
        assert!(matches!(decode(&huge), Err(SaslError::TooLong { .. })));
    }

    #[test]
    fn the_refusal_of_rfc_7628_is_read() {
        let refusal = Refusal::parse(
            br#"{"status":"invalid_token", "scope":"example_scope",
                 "openid-configuration":"https://example.com/.well-known/openid-configuration"}"#,
        );
        let expected = Refusal {
            status: "invalid_token".into(),
            scope: Some("example_scope".into()),
            openid_configuration: Some("https://example.com/.well-known/openid-configuration".into()),
        };
        assert_eq!(refusal, Ok(expected.clone()));
        assert_eq!(Refusal::parse(&expected.to_bytes()), Ok(expected));
    }

    #[test]
    fn a_refusal_may_hold_what_we_do_not_know_but_must_be_json() {
        let status = |text: &str| Refusal::parse(text.as_bytes()).map(|refusal| refusal.status);
        assert_eq!(
            status(r#" { "x" : null , "n":-1.5e3,"b":true, "status" : "a\"\\\u00e9\ud83d\ude00" } "#)
                .unwrap(),
            "a\"\\é😀"
        );
        for text in [
            "",
            "{",
            "{}",
            "{ }",
            "[]",
            "null",
            r#"{"status":""}"#,
            r#"{"status":"a",}"#,
            r#"{"status":"a"}}"#,
            r#"{"status":"a" "scope":"b"}"#,
            r#"{"status":a}"#,
            r#"{"status":["a"]}"#,
            r#"{"status":{"a":"b"}}"#,
            r#"{"status":"\ud83d"}"#,
            r#"{"status":"\ude00"}"#,
            r#"{"status":"\x41"}"#,
            r#"{"status":"\u+041"}"#,
            "{\"status\":\"a\nb\"}",
        ] {
            assert!(matches!(status(text), Err(SaslError::Malformed(_))), "{text}");
        }
        let many = format!("{{{}\"status\":\"a\"}}", "\"a\":1,".repeat(MOST_MEMBERS));
        assert!(status(&many).is_err());
        assert!(matches!(Refusal::parse(&[b' '; MAX_REFUSAL + 1]), Err(SaslError::TooLong { .. })));
        let odd = Refusal { status: "a\"\\\n\u{1}".into(), ..Refusal::default() };
        assert_eq!(Refusal::parse(&odd.to_bytes()), Ok(odd));
    }

    #[test]
    fn a_refusal_reads_as_a_sentence() {
        let refusal =
            Refusal { status: "invalid_token".into(), scope: Some("kafka".into()), ..Refusal::default() };
        assert_eq!(refusal.to_string(), r#"invalid_token, the scope "kafka" is needed"#);
    }
}
