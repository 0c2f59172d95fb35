//! Delegation tokens: made by one who is authenticated, for others who then are authenticated by them (KIP-48, KIP-373).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use kafka_client::auth::Secret;
use kafka_client::raw::Route;
use kafka_client::raw::wire::messages::create_delegation_token_request::CreatableRenewers;
use kafka_client::raw::wire::messages::describe_delegation_token_request::DescribeDelegationTokenOwner;
use kafka_client::raw::wire::messages::describe_delegation_token_response::DescribedDelegationToken;
use kafka_client::raw::wire::messages::{
    CreateDelegationTokenRequest, CreateDelegationTokenResponse, DescribeDelegationTokenRequest,
    DescribeDelegationTokenResponse, ExpireDelegationTokenRequest, ExpireDelegationTokenResponse,
    RenewDelegationTokenRequest, RenewDelegationTokenResponse, StrBytes,
};
use kafka_client::{Error, ErrorCode, Result, VersionRange};

use crate::admin::Admin;
use crate::topics::text;

/// From this version on one may make tokens for others.
const OWNERS: VersionRange = VersionRange { min: 3, max: 3 };

/// Stands for "as long as the broker allows" and for "at once".
const UNSET: i64 = -1;

/// Who somebody is to Kafka, such as `User:alice`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub struct KafkaPrincipal {
    /// The type, `User` unless brokers have a principal builder of their own.
    pub principal_type: String,
    /// The name.
    pub name: String,
}

impl KafkaPrincipal {
    /// A user.
    pub fn user(name: impl Into<String>) -> Self {
        Self { principal_type: "User".to_owned(), name: name.into() }
    }

    fn from_wire(principal_type: &StrBytes, name: &StrBytes) -> Self {
        Self { principal_type: principal_type.to_string(), name: name.to_string() }
    }
}

impl fmt::Display for KafkaPrincipal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.principal_type, self.name)
    }
}

/// Reads `User:alice`.
impl FromStr for KafkaPrincipal {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (principal_type, name) = text
            .split_once(':')
            .filter(|(principal_type, _)| !principal_type.is_empty())
            .ok_or_else(|| Error::config("principal", text, "give a type and a name, such as User:alice"))?;
        Ok(Self { principal_type: principal_type.to_owned(), name: name.to_owned() })
    }
}

/// A delegation token to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct NewDelegationToken {
    owner: Option<KafkaPrincipal>,
    renewers: Vec<KafkaPrincipal>,
    max_lifetime: Option<Duration>,
}

impl NewDelegationToken {
    /// A token for the one who asks, that only the owner can renew.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whom the token is for; the one who asks by default. Needs Kafka 3.3, and `CreateTokens` on that user.
    pub fn owner(mut self, owner: KafkaPrincipal) -> Self {
        self.owner = Some(owner);
        self
    }

    /// One more who can renew it and let it expire.
    pub fn renewer(mut self, renewer: KafkaPrincipal) -> Self {
        self.renewers.push(renewer);
        self
    }

    /// How long it can be renewed for; the brokers' `delegation.token.max.lifetime.ms` by default and at most.
    pub fn max_lifetime(mut self, lifetime: Duration) -> Self {
        self.max_lifetime = Some(lifetime);
        self
    }

    fn to_wire(&self, version: i16) -> CreateDelegationTokenRequest {
        let renewer = |renewer: &KafkaPrincipal| {
            CreatableRenewers::default()
                .with_principal_type(text(&renewer.principal_type))
                .with_principal_name(text(&renewer.name))
        };
        let request = CreateDelegationTokenRequest::default()
            .with_renewers(self.renewers.iter().map(renewer).collect())
            .with_max_lifetime_ms(milliseconds(self.max_lifetime));
        if version < OWNERS.min {
            return request;
        }
        request
            .with_owner_principal_type(self.owner.as_ref().map(|owner| text(&owner.principal_type)))
            .with_owner_principal_name(self.owner.as_ref().map(|owner| text(&owner.name)))
    }
}

/// A delegation token. Clients prove that they have it by SCRAM with its id as user name and its HMAC as password.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DelegationToken {
    /// What it is.
    pub info: TokenInformation,
    /// Its HMAC in base64, which is what gives access.
    pub hmac: Secret,
}

/// What is known of a delegation token, but its HMAC. Times are in milliseconds since 1970, by the brokers' clocks.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenInformation {
    /// Its id.
    pub token_id: String,
    /// As whom its bearers are authenticated.
    pub owner: KafkaPrincipal,
    /// Who made it; `None` from brokers before Kafka 3.3.
    pub requester: Option<KafkaPrincipal>,
    /// Who can renew it besides the owner.
    pub renewers: Vec<KafkaPrincipal>,
    /// When it was made.
    pub issue_timestamp: i64,
    /// When it ends unless it is renewed.
    pub expiry_timestamp: i64,
    /// When it ends however often it is renewed.
    pub max_timestamp: i64,
}

impl Admin {
    /// Makes a delegation token. The connection must be authenticated, and not by a token. It may take a moment for every
    /// broker to know it.
    ///
    /// # Errors
    /// `DELEGATION_TOKEN_AUTH_DISABLED` where brokers have no secret key for tokens,
    /// `DELEGATION_TOKEN_REQUEST_NOT_ALLOWED` where the connection is not authenticated. After an answer was lost, a
    /// token may be there that nobody got.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn create_delegation_token(&self, token: NewDelegationToken) -> Result<DelegationToken> {
        let mut call = self.request(Route::Any);
        if token.owner.is_some() {
            call = call.versions(OWNERS, "a delegation token for another user");
        }
        let code = |answer: &CreateDelegationTokenResponse| ErrorCode(answer.error_code);
        let answer = call.send_checked(|version| Ok(token.to_wire(version)), code).await?;
        let (version, created) = (answer.version, answer.response);
        let requester = KafkaPrincipal::from_wire(
            &created.token_requester_principal_type,
            &created.token_requester_principal_name,
        );
        let info = TokenInformation {
            token_id: created.token_id.to_string(),
            owner: KafkaPrincipal::from_wire(&created.principal_type, &created.principal_name),
            requester: (version >= OWNERS.min).then_some(requester),
            renewers: token.renewers,
            issue_timestamp: created.issue_timestamp_ms,
            expiry_timestamp: created.expiry_timestamp_ms,
            max_timestamp: created.max_timestamp_ms,
        };
        Ok(DelegationToken { info, hmac: encoded(&created.hmac) })
    }

    /// Has a delegation token expire later: a `period` from now, or the brokers' `delegation.token.expiry.time.ms` without
    /// one. Gives the time, in milliseconds since 1970, at which it expires then.
    ///
    /// # Errors
    /// `DELEGATION_TOKEN_NOT_FOUND`, `DELEGATION_TOKEN_EXPIRED`, `DELEGATION_TOKEN_OWNER_MISMATCH` for one who is neither
    /// its owner nor a renewer; the HMAC is not base64.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn renew_delegation_token(&self, hmac: &Secret, period: Option<Duration>) -> Result<i64> {
        let request = RenewDelegationTokenRequest::default()
            .with_hmac(decoded(hmac)?)
            .with_renew_period_ms(milliseconds(period));
        let code = |answer: &RenewDelegationTokenResponse| ErrorCode(answer.error_code);
        let answer = self.request(Route::Any).send_checked(|_| Ok(request.clone()), code).await?;
        Ok(answer.response.expiry_timestamp_ms)
    }

    /// Has a delegation token expire: a `period` from now, or at once without one. Gives the time, in milliseconds since
    /// 1970, at which it expires then.
    ///
    /// # Errors
    /// As [`renew_delegation_token`](Self::renew_delegation_token); after an answer was lost, that may be
    /// `DELEGATION_TOKEN_NOT_FOUND` for one that this call let expire.
    ///
    /// # Cancel safety
    /// A request that was sent is carried out.
    pub async fn expire_delegation_token(&self, hmac: &Secret, period: Option<Duration>) -> Result<i64> {
        let request = ExpireDelegationTokenRequest::default()
            .with_hmac(decoded(hmac)?)
            .with_expiry_time_period_ms(milliseconds(period));
        let code = |answer: &ExpireDelegationTokenResponse| ErrorCode(answer.error_code);
        let answer = self.request(Route::Any).send_checked(|_| Ok(request.clone()), code).await?;
        Ok(answer.response.expiry_timestamp_ms)
    }

    /// Describes the delegation tokens that this client may see: those that it owns, can renew, or has `Describe` on.
    ///
    /// # Errors
    /// As [`create_delegation_token`](Self::create_delegation_token).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_delegation_tokens(&self) -> Result<Vec<DelegationToken>> {
        self.delegation_tokens(None).await
    }

    /// Describes the delegation tokens of these owners, as far as this client may see them.
    ///
    /// # Errors
    /// As [`create_delegation_token`](Self::create_delegation_token).
    ///
    /// # Cancel safety
    /// Dropping it changes nothing.
    pub async fn describe_delegation_tokens_of(
        &self,
        owners: impl IntoIterator<Item = KafkaPrincipal>,
    ) -> Result<Vec<DelegationToken>> {
        let owner = |owner: KafkaPrincipal| {
            DescribeDelegationTokenOwner::default()
                .with_principal_type(text(&owner.principal_type))
                .with_principal_name(text(&owner.name))
        };
        self.delegation_tokens(Some(owners.into_iter().map(owner).collect())).await
    }

    async fn delegation_tokens(
        &self,
        owners: Option<Vec<DescribeDelegationTokenOwner>>,
    ) -> Result<Vec<DelegationToken>> {
        let request = DescribeDelegationTokenRequest::default().with_owners(owners);
        let code = |answer: &DescribeDelegationTokenResponse| ErrorCode(answer.error_code);
        let answer = self.request(Route::Any).send_checked(|_| Ok(request.clone()), code).await?;
        let (version, tokens) = (answer.version, answer.response.tokens);
        Ok(tokens.into_iter().map(|token| DelegationToken::from_wire(token, version)).collect())
    }
}

impl DelegationToken {
    fn from_wire(token: DescribedDelegationToken, version: i16) -> Self {
        let requester = KafkaPrincipal::from_wire(
            &token.token_requester_principal_type,
            &token.token_requester_principal_name,
        );
        let renewers = token
            .renewers
            .iter()
            .map(|renewer| KafkaPrincipal::from_wire(&renewer.principal_type, &renewer.principal_name));
        let info = TokenInformation {
            token_id: token.token_id.to_string(),
            owner: KafkaPrincipal::from_wire(&token.principal_type, &token.principal_name),
            requester: (version >= OWNERS.min).then_some(requester),
            renewers: renewers.collect(),
            issue_timestamp: token.issue_timestamp,
            expiry_timestamp: token.expiry_timestamp,
            max_timestamp: token.max_timestamp,
        };
        Self { info, hmac: encoded(&token.hmac) }
    }
}

fn milliseconds(duration: Option<Duration>) -> i64 {
    duration.map_or(UNSET, |duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

fn encoded(hmac: &[u8]) -> Secret {
    STANDARD.encode(hmac).into()
}

fn decoded(hmac: &Secret) -> Result<Bytes> {
    let bytes = STANDARD.decode(hmac.expose()).map(Bytes::from);
    bytes.map_err(|_| Error::config("hmac", hmac, "give the token's HMAC in base64, as it came"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_shows_its_id_and_not_its_hmac() {
        let token = DescribedDelegationToken::default()
            .with_token_id(StrBytes::from_static_str("the-id"))
            .with_hmac(Bytes::from_static(b"the hmac"));
        let token = DelegationToken::from_wire(token, 3);
        let shown = format!("{token:?}");
        assert!(shown.contains("the-id") && !shown.contains("dGhlIGhtYWM="), "{shown}");
        assert_eq!(token.hmac.expose(), "dGhlIGhtYWM=");
        assert_eq!(decoded(&token.hmac).unwrap(), &b"the hmac"[..]);
    }

    #[test]
    fn an_hmac_that_is_none_is_refused_without_being_shown() {
        let error = decoded(&"no base64!".into()).unwrap_err();
        assert_eq!(error.to_string(), r#"hmac = "***": give the token's HMAC in base64, as it came"#);
    }

    #[test]
    fn principals_are_read_and_written_with_their_type() {
        let alice: KafkaPrincipal = "User:CN=alice:1,O=x".parse().unwrap();
        assert_eq!((alice.principal_type.as_str(), alice.name.as_str()), ("User", "CN=alice:1,O=x"));
        assert_eq!(alice.to_string(), "User:CN=alice:1,O=x");
        assert!("alice".parse::<KafkaPrincipal>().is_err());
        assert!(":alice".parse::<KafkaPrincipal>().is_err());
    }
}
