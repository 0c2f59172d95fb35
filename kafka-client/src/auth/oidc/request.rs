//! Writes what is asked of a token endpoint: the grant, and who is asking.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::auth::{Secret, percent};

/// How the client is named to the endpoint.
#[derive(Clone)]
pub(super) enum Client {
    /// An id and a secret in the `Authorization` header, percent-encoded first or not.
    Header { id: String, secret: Secret, encoded: bool },
    /// An id and a secret in the body.
    Body { id: String, secret: Secret },
    /// An assertion instead of a secret (RFC 7523, 2.2); the id need not be told, as it is in there.
    Assertion { id: Option<String> },
    /// By the assertion that is the grant (RFC 7523, 2.1).
    Grant,
}

impl Client {
    pub(super) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::Header { secret, .. } | Self::Body { secret, .. } => Some(secret),
            Self::Assertion { .. } | Self::Grant => None,
        }
    }
}

/// How the `Authorization` header begins.
const BASIC: &str = "Basic ";

/// One request's changing and unchanging parts.
pub(super) struct Request {
    pub(super) body: Zeroizing<String>,
    pub(super) authorization: Option<Zeroizing<String>>,
}

impl Request {
    /// `assertion` is there if the client is named by one.
    pub(super) fn new(
        client: &Client,
        scope: Option<&str>,
        parameters: &[(String, Secret)],
        assertion: Option<&Secret>,
    ) -> Self {
        let assertion = assertion.map_or("", Secret::expose);
        let mut pairs: Vec<(&str, &str)> = match client {
            Client::Header { .. } => vec![("grant_type", "client_credentials")],
            Client::Body { id, secret } => vec![
                ("grant_type", "client_credentials"),
                ("client_id", id),
                ("client_secret", secret.expose()),
            ],
            Client::Assertion { id } => {
                let mut pairs = vec![
                    ("grant_type", "client_credentials"),
                    ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
                    ("client_assertion", assertion),
                ];
                pairs.extend(id.as_deref().map(|id| ("client_id", id)));
                pairs
            }
            Client::Grant => {
                vec![("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"), ("assertion", assertion)]
            }
        };
        pairs.extend(scope.map(|scope| ("scope", scope)));
        pairs.extend(parameters.iter().map(|(name, value)| (name.as_str(), value.expose())));
        // Room for all at once, so that growing leaves no copy of a secret behind.
        let room = pairs.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
        let mut body = Zeroizing::new(String::with_capacity(room));
        for (name, value) in pairs {
            percent::pair_into(&mut body, name, value);
        }
        let authorization = match client {
            Client::Header { id, secret, encoded } => Some(basic(id, secret.expose(), *encoded)),
            _ => None,
        };
        Self { body, authorization }
    }

    /// Id and secret as they stand in the header, which is no more than base64.
    pub(super) fn credentials(&self) -> Option<Secret> {
        self.authorization.as_ref().and_then(|header| header.strip_prefix(BASIC)).map(Secret::from)
    }
}

/// RFC 6749, 2.3.1 wants both percent-encoded; where neither has a character to encode, it makes no difference.
fn basic(id: &str, secret: &str, encoded: bool) -> Zeroizing<String> {
    let mut pair = Zeroizing::new(String::with_capacity(3 * (id.len() + secret.len()) + 1));
    if encoded {
        percent::encode_into(&mut pair, id);
        pair.push(':');
        percent::encode_into(&mut pair, secret);
    } else {
        pair.push_str(id);
        pair.push(':');
        pair.push_str(secret);
    }
    let mut header = Zeroizing::new(String::with_capacity(BASIC.len() + pair.len().div_ceil(3) * 4));
    header.push_str(BASIC);
    STANDARD.encode_string(pair.as_bytes(), &mut header);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(client: &Client, scope: Option<&str>, parameters: &[(&str, &str)]) -> Request {
        let parameters: Vec<_> =
            parameters.iter().map(|(name, value)| ((*name).to_owned(), Secret::from(*value))).collect();
        Request::new(client, scope, &parameters, Some(&Secret::from("e30.e30.c2ln")))
    }

    fn header(encoded: bool) -> String {
        let client = Client::Header { id: "my id".into(), secret: "p:w+d".into(), encoded };
        let header = request(&client, None, &[]).authorization.unwrap();
        String::from_utf8(STANDARD.decode(header.strip_prefix("Basic ").unwrap()).unwrap()).unwrap()
    }

    #[test]
    fn the_header_has_id_and_secret_percent_encoded_or_as_they_are() {
        assert_eq!(header(true), "my%20id:p%3Aw%2Bd");
        assert_eq!(header(false), "my id:p:w+d");
        let client = Client::Header { id: "id".into(), secret: "secret".into(), encoded: true };
        let request = request(&client, Some("kafka read"), &[("audience", "https://kafka")]);
        assert_eq!(
            *request.body,
            "grant_type=client_credentials&scope=kafka%20read&audience=https%3A%2F%2Fkafka"
        );
    }

    #[test]
    fn the_body_has_id_and_secret_where_that_is_wanted() {
        let request = request(&Client::Body { id: "id".into(), secret: "s&t".into() }, None, &[]);
        assert_eq!(*request.body, "grant_type=client_credentials&client_id=id&client_secret=s%26t");
        assert!(request.authorization.is_none());
    }

    #[test]
    fn an_assertion_is_the_grant_or_stands_for_the_secret() {
        let grant = request(&Client::Grant, None, &[]);
        assert_eq!(
            *grant.body,
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=e30.e30.c2ln"
        );
        let client = request(&Client::Assertion { id: Some("id".into()) }, None, &[]);
        assert_eq!(
            *client.body,
            "grant_type=client_credentials&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth\
             %3Aclient-assertion-type%3Ajwt-bearer&client_assertion=e30.e30.c2ln&client_id=id"
        );
        assert!(grant.authorization.is_none() && client.authorization.is_none());
    }
}
