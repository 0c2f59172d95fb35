//! Amazon MSK with an AWS identity: the mechanism AWS_MSK_IAM, and tokens for OAUTHBEARER with the same signature.
//!
//! ```
//! use kafka_client::Client;
//! use kafka_client::auth::Sasl;
//! use kafka_client::auth::aws_msk::{AwsCredentials, AwsMsk};
//! use kafka_client::tls::Tls;
//!
//! # fn main() -> kafka_client::Result<()> {
//! // The keys and the region of the environment.
//! let sasl = Sasl::mechanism(AwsMsk::from_environment());
//! // Or keys, or a provider, of your own.
//! let keys = AwsCredentials::new("AKIDEXAMPLE", "a secret");
//! let sasl = Sasl::mechanism(AwsMsk::new(keys.clone()));
//! // Or as a token, as clients in most other languages do it.
//! let sasl = Sasl::oauth_bearer(AwsMsk::new(keys).region("eu-west-1"));
//! let broker = "b-1.orders.c2.kafka.eu-west-1.amazonaws.com:9098";
//! let client = Client::builder(broker).tls(Tls::platform_roots()).sasl(sasl).build()?;
//! # Ok(())
//! # }
//! ```

mod credentials;
pub(crate) mod response;
mod sigv4;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

pub use self::credentials::{AwsCredentials, AwsCredentialsProvider, AwsEnvironment};
pub use self::response::AwsMskError;
use self::response::{VERSION, request_id};
use self::sigv4::{ALGORITHM, Presign, SIGNED_HEADERS};
use super::{BoxFuture, BrokerIdentity, Exchange, Mechanism, Secret, Step, Token, TokenProvider, percent};
use crate::serde::BoxError;

const ACTION: &str = "kafka-cluster:Connect";
const SERVICE: &str = "kafka-cluster";
/// How long a signature is valid, in seconds: as long as in AWS's own libraries.
const EXPIRES: u64 = 900;
const USER_AGENT: &str = concat!("kafka-client-rust/", env!("CARGO_PKG_VERSION"));

/// Signs in to Amazon MSK with an AWS identity: given to [`Sasl::mechanism`](super::Sasl::mechanism) as the mechanism
/// `AWS_MSK_IAM`, or to [`Sasl::oauth_bearer`](super::Sasl::oauth_bearer) as a provider of tokens.
///
/// The region is the one given, else, for the mechanism, the one in the broker's host name, else that of `AWS_REGION` or
/// `AWS_DEFAULT_REGION`. A signature is good for 15 minutes, and made anew for each connection and re-authentication.
#[derive(Clone)]
pub struct AwsMsk {
    credentials: Arc<dyn AwsCredentialsProvider>,
    region: Option<String>,
}

impl AwsMsk {
    /// Signs with these keys: [`AwsCredentials`], [`AwsEnvironment`] or a provider of your own.
    pub fn new(credentials: impl AwsCredentialsProvider) -> Self {
        Self { credentials: Arc::new(credentials), region: None }
    }

    /// Signs with the keys in the environment.
    pub fn from_environment() -> Self {
        Self::new(AwsEnvironment)
    }

    /// The cluster's region, such as `eu-west-1`; needed where neither a broker's name nor the environment tells it.
    #[must_use]
    pub fn region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// The region; `host` is the broker's, where it is known.
    fn region_for(&self, host: Option<&str>) -> Result<String, BoxError> {
        let region = self.region.clone().or_else(|| region_of_host(host?)).or_else(credentials::region);
        region.ok_or_else(|| match host {
            Some(host) => {
                format!("no AWS region: {host} names none, nor does AWS_REGION; give AwsMsk::region").into()
            }
            None => "no AWS region: give AwsMsk::region, or set AWS_REGION".into(),
        })
    }
}

impl Mechanism for AwsMsk {
    fn name(&self) -> &str {
        "AWS_MSK_IAM"
    }

    fn start<'a>(&'a self, broker: &'a BrokerIdentity) -> BoxFuture<'a, Result<Box<dyn Exchange>, BoxError>> {
        Box::pin(async move {
            let region = self.region_for(Some(&broker.host))?;
            let keys = self.credentials.credentials().await?;
            let message = payload(&broker.host, &region, &keys, SystemTime::now())?;
            Ok(Box::new(SignedExchange { message: Some(message) }) as Box<dyn Exchange>)
        })
    }
}

impl TokenProvider for AwsMsk {
    fn token(&self) -> BoxFuture<'_, Result<Token, BoxError>> {
        Box::pin(async move {
            let region = self.region_for(None)?;
            let keys = self.credentials.credentials().await?;
            let (token, expires) = bearer_token(&region, &keys, SystemTime::now());
            Ok(Token::new(token).expires(expires))
        })
    }
}

/// One message, one answer.
struct SignedExchange {
    message: Option<Zeroizing<Vec<u8>>>,
}

impl SignedExchange {
    fn next(&mut self, challenge: Option<&[u8]>) -> Result<Step, BoxError> {
        match (self.message.take(), challenge) {
            (Some(mut message), None) => Ok(Step::Send(std::mem::take(&mut *message))),
            (None, Some(answer)) => {
                let request_id = request_id(answer)?;
                tracing::debug!(request_id, "signed in to Amazon MSK");
                Ok(Step::Done)
            }
            _ => Err("an AWS_MSK_IAM message where none was due".into()),
        }
    }
}

impl Exchange for SignedExchange {
    fn step<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Step, BoxError>> {
        Box::pin(std::future::ready(self.next(challenge)))
    }
}

impl fmt::Debug for AwsMsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsMsk").field("region", &self.region).finish_non_exhaustive()
    }
}

/// The client's message.
fn payload(
    host: &str,
    region: &str,
    keys: &AwsCredentials,
    now: SystemTime,
) -> Result<Zeroizing<Vec<u8>>, BoxError> {
    let presign = Presign { host, region, service: SERVICE, expires: EXPIRES, query: &[("Action", ACTION)] };
    let signed = presign.sign(keys, now);
    let expires = EXPIRES.to_string();
    let mut fields = vec![
        ("version", VERSION),
        ("host", host),
        ("user-agent", USER_AGENT),
        ("action", ACTION),
        ("x-amz-algorithm", ALGORITHM),
        ("x-amz-credential", &signed.credential),
        ("x-amz-date", &signed.date),
        ("x-amz-signedheaders", SIGNED_HEADERS),
        ("x-amz-expires", &expires),
        ("x-amz-signature", &signed.signature),
    ];
    fields.extend(keys.session_token().map(|token| ("x-amz-security-token", token.expose())));
    // Room for all at once (an escape is six bytes), so that growing leaves no copy of the token behind.
    let room = fields.iter().map(|(name, value)| 6 * (name.len() + value.len()) + 6).sum::<usize>() + 2;
    let mut json = Zeroizing::new(Vec::with_capacity(room));
    let mut separator = b'{';
    for (name, value) in fields {
        json.push(separator);
        serde_json::to_writer(&mut *json, name)?;
        json.push(b':');
        serde_json::to_writer(&mut *json, value)?;
        separator = b',';
    }
    json.push(b'}');
    Ok(json)
}

/// The token for OAUTHBEARER, and when it ends: a presigned URL in base64, as AWS's `aws-msk-iam-sasl-signer` libraries
/// make it.
fn bearer_token(region: &str, keys: &AwsCredentials, now: SystemTime) -> (Secret, SystemTime) {
    let host = format!("kafka.{region}.amazonaws.com");
    let query = [("Action", ACTION)];
    let signed =
        Presign { host: &host, region, service: SERVICE, expires: EXPIRES, query: &query }.sign(keys, now);
    // The user agent is added after signing, as there.
    let mut agent = String::new();
    percent::pair_into(&mut agent, "User-Agent", USER_AGENT);
    let url = Zeroizing::new(format!(
        "https://{host}/?{}&X-Amz-Signature={}&{agent}",
        *signed.query, signed.signature
    ));
    let expires = now + Duration::from_secs(EXPIRES);
    let expires = keys.expires().map_or(expires, |keys| keys.min(expires));
    (Secret::from(URL_SAFE_NO_PAD.encode(url.as_bytes())), expires)
}

/// The region in names such as `b-1.orders.c2.kafka.eu-west-1.amazonaws.com`: the last label that has the shape of one,
/// because a cluster's own name may have it too.
fn region_of_host(host: &str) -> Option<String> {
    host.split('.').rfind(|label| is_region(label)).map(str::to_ascii_lowercase)
}

/// `us-east-1`, `us-gov-west-1`, `ap-southeast-2`: an area, where in it, a number.
fn is_region(label: &str) -> bool {
    const DIRECTIONS: [&str; 9] =
        ["north", "south", "east", "west", "central", "northeast", "northwest", "southeast", "southwest"];
    let mut parts = label.rsplit('-');
    let number = parts.next().is_some_and(|it| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit()));
    let direction =
        parts.next().is_some_and(|it| DIRECTIONS.iter().any(|known| known.eq_ignore_ascii_case(it)));
    let area =
        parts.next_back().is_some_and(|it| it.len() == 2 && it.bytes().all(|it| it.is_ascii_alphabetic()));
    number && direction && area
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const HOST: &str = "b-3.unit-test.abcdef.kafka.us-west-2.amazonaws.com";

    fn keys() -> AwsCredentials {
        AwsCredentials::new("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_440_938_160)
    }

    #[test]
    fn the_region_is_read_from_the_hosts_of_msk() {
        for (host, region) in [
            (HOST, Some("us-west-2")),
            ("b-1.my-cluster-1.abc123.c2.kafka.us-east-1.amazonaws.com", Some("us-east-1")),
            ("boot-x.c2.kafka-serverless.eu-central-1.amazonaws.com", Some("eu-central-1")),
            ("b-1.x.c2.kafka.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
            ("b-1.x.c2.kafka.us-gov-west-1.amazonaws.com", Some("us-gov-west-1")),
            ("kafka.example.com", None),
            ("10.0.0.1", None),
            ("kafka.ap-southeast-2.corp.example", Some("ap-southeast-2")),
            ("my-cluster-1", None),
        ] {
            assert_eq!(region_of_host(host).as_deref(), region, "{host}");
        }
        assert_eq!(AwsMsk::new(keys()).region("eu-west-1").region_for(Some(HOST)).unwrap(), "eu-west-1");
    }

    #[tokio::test]
    async fn the_exchange_is_one_message_and_one_answer() {
        let mechanism = AwsMsk::new(keys());
        let mut exchange = mechanism.start(&BrokerIdentity::new(HOST, 9098)).await.unwrap();
        let Step::Send(message) = exchange.step(None).await.unwrap() else { panic!("done at once") };
        let json: serde_json::Value = serde_json::from_slice(&message).unwrap();
        assert_eq!(json["host"], HOST);
        let answer = br#"{"version":"2020_10_22","request-id":"1"}"#;
        assert_eq!(exchange.step(Some(answer)).await.unwrap(), Step::Done);
        assert!(exchange.step(None).await.is_err());

        let mut refused = mechanism.start(&BrokerIdentity::new(HOST, 9098)).await.unwrap();
        refused.step(None).await.unwrap();
        assert!(refused.step(Some(b"")).await.is_err());
    }

    #[tokio::test]
    async fn a_provider_of_tokens_needs_a_region_and_tells_when_the_token_ends() {
        let token = AwsMsk::new(keys()).region("eu-west-1").token().await.unwrap();
        let left = token.expires.unwrap().duration_since(SystemTime::now()).unwrap();
        assert!((890..=900).contains(&left.as_secs()), "{left:?}");
    }

    #[test]
    fn the_message_has_every_field_and_its_signature_is_of_those_fields() {
        let json = payload(HOST, "us-west-2", &keys().with_session_token("to\"ken"), now()).unwrap();
        let json: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&json).unwrap();
        let text = |name: &str| json[name].as_str().unwrap();
        assert_eq!(json.len(), 11);
        assert_eq!(text("version"), "2020_10_22");
        assert_eq!(text("host"), HOST);
        assert!(text("user-agent").starts_with("kafka-client-rust/"));
        assert_eq!(text("action"), "kafka-cluster:Connect");
        assert_eq!(text("x-amz-algorithm"), "AWS4-HMAC-SHA256");
        assert_eq!(text("x-amz-credential"), "AKIDEXAMPLE/20150830/us-west-2/kafka-cluster/aws4_request");
        assert_eq!(text("x-amz-date"), "20150830T123600Z");
        assert_eq!(text("x-amz-security-token"), "to\"ken");
        assert_eq!(text("x-amz-signedheaders"), "host");
        assert_eq!(text("x-amz-expires"), "900");
        // Computed by other means: Python's hashlib and urllib.
        assert_eq!(
            text("x-amz-signature"),
            "9aea2f1fc66ab4fc713d77a70385d2430a6c88d705f42715703b3f2daa3adba6"
        );
    }

    #[test]
    fn a_token_is_the_signed_url_and_ends_with_its_signature_or_its_keys() {
        let (token, expires) = bearer_token("us-west-2", &keys(), now());
        assert_eq!(expires, now() + Duration::from_secs(900));
        let url = String::from_utf8(URL_SAFE_NO_PAD.decode(token.expose()).unwrap()).unwrap();
        assert!(
            url.starts_with(
                "https://kafka.us-west-2.amazonaws.com/?Action=kafka-cluster%3AConnect\
                 &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-west-2\
                 %2Fkafka-cluster%2Faws4_request&X-Amz-Date=20150830T123600Z&X-Amz-Expires=900\
                 &X-Amz-SignedHeaders=host&X-Amz-Signature="
            ),
            "{url}"
        );
        let end = "&X-Amz-Signature=2c973e9d100edda2e1a67fdf713430733a1cf411f2d934b92e799a208550d79f&User-Agent=kafka-client-rust%2F";
        assert!(url.contains(end), "{url}");
        let soon = now() + Duration::from_secs(60);
        assert_eq!(bearer_token("us-west-2", &keys().with_expiry(soon), now()).1, soon);
    }
}
