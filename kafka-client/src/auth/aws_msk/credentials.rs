//! Whose AWS identity signs: given, taken from the environment, or from a provider of the user's.

use std::env;
use std::time::SystemTime;

use crate::auth::{BoxFuture, Secret};
use crate::serde::BoxError;

/// The keys of an AWS identity. Its `Debug` shows the access key's id and nothing that is secret.
#[derive(Clone, Debug)]
pub struct AwsCredentials {
    access_key_id: String,
    secret_access_key: Secret,
    session_token: Option<Secret>,
    expires: Option<SystemTime>,
}

impl AwsCredentials {
    /// A long-lived key.
    pub fn new(access_key_id: impl Into<String>, secret_access_key: impl Into<Secret>) -> Self {
        Self {
            access_key_id: access_key_id.into(),
            secret_access_key: secret_access_key.into(),
            session_token: None,
            expires: None,
        }
    }

    /// The session token that goes with temporary keys.
    #[must_use]
    pub fn with_session_token(mut self, token: impl Into<Secret>) -> Self {
        self.session_token = Some(token.into());
        self
    }

    /// When the keys end. A token for OAUTHBEARER that is signed with them says that it ends no later.
    #[must_use]
    pub fn with_expiry(mut self, expires: SystemTime) -> Self {
        self.expires = Some(expires);
        self
    }

    /// The access key's id, which is not secret.
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    pub(super) fn secret_access_key(&self) -> &Secret {
        &self.secret_access_key
    }

    pub(super) fn session_token(&self) -> Option<&Secret> {
        self.session_token.as_ref()
    }

    pub(super) fn expires(&self) -> Option<SystemTime> {
        self.expires
    }
}

/// Where keys come from. It is asked at every authentication, so one whose keys are dear keeps them itself.
///
/// One over the crate `aws-config` is a few lines: ask its `ProvideCredentials`, and hand over what it answers.
pub trait AwsCredentialsProvider: Send + Sync + 'static {
    /// The keys to sign with now.
    ///
    /// # Errors
    /// Why there are none. Wrap what may pass in [`Transient`](crate::auth::Transient).
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials, BoxError>>;
}

impl AwsCredentialsProvider for AwsCredentials {
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials, BoxError>> {
        Box::pin(std::future::ready(Ok(self.clone())))
    }
}

/// Keys from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, if it is set, `AWS_SESSION_TOKEN`, read at every
/// authentication.
#[derive(Clone, Copy, Debug, Default)]
pub struct AwsEnvironment;

impl AwsCredentialsProvider for AwsEnvironment {
    fn credentials(&self) -> BoxFuture<'_, Result<AwsCredentials, BoxError>> {
        Box::pin(std::future::ready(credentials(|name| env::var(name).ok())))
    }
}

fn credentials(variable: impl Fn(&str) -> Option<String>) -> Result<AwsCredentials, BoxError> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty());
    let needed = |name: &str| set(name).ok_or_else(|| format!("the environment has no {name}"));
    let keys = AwsCredentials::new(needed("AWS_ACCESS_KEY_ID")?, needed("AWS_SECRET_ACCESS_KEY")?);
    Ok(match set("AWS_SESSION_TOKEN") {
        Some(token) => keys.with_session_token(token),
        None => keys,
    })
}

/// The region that the environment names, if it does.
pub(super) fn region() -> Option<String> {
    ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .iter()
        .find_map(|name| env::var(name).ok().filter(|region| !region.is_empty()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn from(variables: &[(&str, &str)]) -> Result<AwsCredentials, String> {
        let variables: HashMap<_, _> = variables.iter().copied().collect();
        credentials(|name| variables.get(name).map(|it| (*it).to_owned())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_names_what_it_lacks() {
        let error = from(&[("AWS_SECRET_ACCESS_KEY", "s")]).unwrap_err();
        assert_eq!(error, "the environment has no AWS_ACCESS_KEY_ID");
        let error = from(&[("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "")]).unwrap_err();
        assert_eq!(error, "the environment has no AWS_SECRET_ACCESS_KEY");
    }

    #[test]
    fn a_session_token_is_taken_where_there_is_one() {
        let keys = [("AWS_ACCESS_KEY_ID", "a"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t")];
        assert!(from(&keys[..2]).unwrap().session_token().is_none());
        let credentials = from(&keys).unwrap();
        assert_eq!(credentials.access_key_id(), "a");
        assert_eq!(credentials.secret_access_key().expose(), "s");
        assert_eq!(credentials.session_token().unwrap().expose(), "t");
    }

    #[test]
    fn keys_are_not_shown() {
        let shown = format!("{:?}", AwsCredentials::new("AKID", "hunter2").with_session_token("hunter3"));
        assert!(shown.contains("AKID") && !shown.contains("hunter"), "{shown}");
    }
}
