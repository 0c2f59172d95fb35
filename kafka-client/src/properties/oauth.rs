//! Makes of `sasl.oauthbearer.*`, and of the options of Java's login module, where tokens come from.

use std::time::Duration;

use super::BadValue;
use super::jaas::LoginModule;
use super::security::Settings;
use super::value;
use crate::auth::oidc::{Assertion, JwtAlgorithm, Oidc, OidcBuilder, SignedAssertion};
use crate::auth::{Sasl, Secret};
use crate::error::{Error, ErrorKind};
use crate::tls::Tls;

const URL: &str = "sasl.oauthbearer.token.endpoint.url";
const RETRIEVER: &str = "sasl.oauthbearer.jwt.retriever.class";
const GRANT: &str = "sasl.oauthbearer.grant.type";
const METHOD: &str = "sasl.oauthbearer.method";
const ID: [&str; 2] = ["sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"];
const SECRET: [&str; 2] =
    ["sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"];
const JAAS: &str = "sasl.jaas.config";
const FILE: &str = "sasl.oauthbearer.assertion.file";
const KEY: [&str; 2] =
    ["sasl.oauthbearer.assertion.private.key.file", "sasl.oauthbearer.assertion.private.key.pem"];

/// OAUTHBEARER with tokens from the endpoint that the settings name.
pub(super) fn oauth_bearer(settings: Settings<'_>, module: Option<&LoginModule>) -> Result<Sasl, BadValue> {
    let Some(url) = settings.get(URL) else {
        return Err(settings.bad(URL, "give the token endpoint, such as https://login.example/oauth2/token"));
    };
    if settings.get(METHOD).is_some_and(|method| !method.eq_ignore_ascii_case("oidc")) {
        return Err(settings.bad(METHOD, "give oidc"));
    }
    let option = |name| module.and_then(|module| module.option(name)).map(Secret::expose);
    let mut builder = grant(settings, url, &option)?;
    if let Some(scope) = settings.get("sasl.oauthbearer.scope").or_else(|| option("scope")) {
        builder = builder.scope(scope);
    }
    for (name, text) in module.into_iter().flat_map(LoginModule::options) {
        if let Some(name) = name.strip_prefix("extension_") {
            builder = builder.extension(name, text.expose());
        }
    }
    let extensions = "sasl.oauthbearer.extensions";
    for pair in settings.get(extensions).into_iter().flat_map(|list| list.split(',')) {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| settings.bad(extensions, "give name=value, several with commas between them"))?;
        builder = builder.extension(name.trim(), value.trim());
    }
    let encode = "sasl.oauthbearer.header.urlencode";
    if let Some(text) = settings.get(encode) {
        builder =
            builder.header_urlencode(value::boolean(text).map_err(|remedy| settings.bad(encode, remedy))?);
    }
    builder = patience(settings, builder)?;
    builder = match settings.one_of(&["https.ca.location", "https.ca.pem"])? {
        None | Some(("https.ca.location", "probe")) => builder,
        Some(("https.ca.location", path)) => builder.tls(Tls::roots_pem_file(path)),
        Some((_, pem)) => builder.tls(Tls::roots_pem(pem)),
    };
    builder.build().map(Sasl::oauth_bearer).map_err(bad_value)
}

/// Which grant, and who asks for it.
fn grant<'a>(
    settings: Settings<'a>,
    url: &str,
    option: &dyn Fn(&'static str) -> Option<&'a str>,
) -> Result<OidcBuilder, BadValue> {
    let is_bearer = match (settings.get(RETRIEVER), settings.get(GRANT)) {
        (Some(class), _) => match class.rsplit('.').next() {
            Some("JwtBearerJwtRetriever") => true,
            Some("DefaultJwtRetriever" | "ClientCredentialsJwtRetriever") => false,
            _ => {
                let remedy = "give ClientCredentialsJwtRetriever or JwtBearerJwtRetriever, or a TokenProvider of \
                              your own by Sasl::oauth_bearer";
                return Err(settings.bad(RETRIEVER, remedy));
            }
        },
        (None, Some("urn:ietf:params:oauth:grant-type:jwt-bearer")) => true,
        (None, None | Some("client_credentials")) => false,
        (None, Some(_)) => {
            let remedy = "give client_credentials or urn:ietf:params:oauth:grant-type:jwt-bearer";
            return Err(settings.bad(GRANT, remedy));
        }
    };
    let assertion = assertion(settings)?;
    let id = settings.one_of(&ID)?.map(|(_, id)| id).or_else(|| option("clientId"));
    let secret = settings.one_of(&SECRET)?.map(|(_, secret)| secret).or_else(|| option("clientSecret"));
    match (is_bearer, assertion, id, secret) {
        (true, Some(assertion), ..) => Ok(Oidc::jwt_bearer(url, assertion)),
        (true, None, ..) => {
            Err(settings.bad(KEY[0], format!("give it, or {FILE}: the grant needs an assertion")))
        }
        (false, _, Some(id), Some(secret)) => Ok(Oidc::client_credentials(url, id, secret)),
        (false, Some(assertion), id, None) => {
            let builder = Oidc::client_assertion(url, assertion);
            Ok(match id {
                Some(id) => builder.client_id(id),
                None => builder,
            })
        }
        (false, _, None, _) => Err(settings.bad(ID[0], format!("give it, or clientId=\"…\" in {JAAS}"))),
        (false, None, Some(_), None) => {
            Err(settings.bad(SECRET[0], format!("give it, or clientSecret=\"…\" in {JAAS}, or an assertion")))
        }
    }
}

fn assertion(settings: Settings<'_>) -> Result<Option<Assertion>, BadValue> {
    for template in
        ["sasl.oauthbearer.assertion.template.file", "sasl.oauthbearer.assertion.jwt.template.file"]
    {
        if settings.get(template).is_some() {
            let remedy = "templates are not read: give claims by SignedAssertion::claim, in code";
            return Err(settings.bad(template, remedy));
        }
    }
    if let Some(path) = settings.get(FILE) {
        return Ok(Some(Assertion::file(path)));
    }
    let mut signed = match settings.one_of(&KEY)? {
        None => return Ok(None),
        Some((key, path)) if key == KEY[0] => SignedAssertion::with_pem_file(path),
        Some((_, pem)) => SignedAssertion::with_pem(pem),
    };
    if let Some(password) = settings.get("sasl.oauthbearer.assertion.private.key.passphrase") {
        signed = signed.key_password(password);
    }
    let algorithm = "sasl.oauthbearer.assertion.algorithm";
    signed = match settings.get(algorithm) {
        None => signed,
        Some("RS256") => signed.algorithm(JwtAlgorithm::Rs256),
        Some("ES256") => signed.algorithm(JwtAlgorithm::Es256),
        Some(_) => return Err(settings.bad(algorithm, "give RS256 or ES256")),
    };
    for (key, claim) in [
        ("sasl.oauthbearer.assertion.claim.iss", "iss"),
        ("sasl.oauthbearer.assertion.claim.sub", "sub"),
        ("sasl.oauthbearer.assertion.claim.aud", "aud"),
    ] {
        if let Some(text) = settings.get(key) {
            signed = signed.claim(claim, text);
        }
    }
    let expiry = "sasl.oauthbearer.assertion.claim.exp.seconds";
    if let Some(text) = settings.get(expiry) {
        let seconds = text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
        let seconds = seconds.ok_or_else(|| settings.bad(expiry, "give 1 to 86400 seconds"))?;
        signed = signed.lifetime(Duration::from_secs(seconds));
    }
    Ok(Some(signed.into()))
}

fn patience(settings: Settings<'_>, mut builder: OidcBuilder) -> Result<OidcBuilder, BadValue> {
    let milliseconds = |key: &'static str| match settings.get(key) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(value) => Ok(Some(Duration::from_millis(value))),
            Err(_) => Err(settings.bad(key, "give whole milliseconds")),
        },
    };
    if let Some(backoff) = milliseconds("sasl.login.retry.backoff.ms")? {
        builder = builder.retry_backoff(backoff);
    }
    if let Some(most) = milliseconds("sasl.login.retry.backoff.max.ms")? {
        builder = builder.retry_backoff_max(most);
    }
    // Java bounds connecting and reading each by itself.
    let connect = milliseconds("sasl.login.connect.timeout.ms")?;
    let read = milliseconds("sasl.login.read.timeout.ms")?;
    if let Some(timeout) =
        connect.zip(read).map(|(connect, read)| connect.saturating_add(read)).or(connect).or(read)
    {
        builder = builder.request_timeout(timeout);
    }
    Ok(builder)
}

fn bad_value(error: Error) -> BadValue {
    match error.kind() {
        ErrorKind::Config { setting, value, remedy } => {
            BadValue { key: setting.clone(), value: value.clone(), remedy: remedy.clone() }
        }
        _ => BadValue { key: URL.to_owned(), value: "***".to_owned(), remedy: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use crate::properties::Properties;
    use crate::properties::security::Security;

    /// The mechanism's name, or the setting that is refused and its remedy.
    fn read(lines: &str) -> Result<String, (String, String)> {
        let all = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n\
             sasl.oauthbearer.token.endpoint.url=https://login.example/token\n{lines}"
        );
        let properties: Properties = all.parse().unwrap();
        let sasl = Security::read(&properties).sasl.unwrap();
        sasl.map(|sasl| sasl.name().to_owned()).map_err(|bad| {
            assert!(!format!("{bad:?}").contains("hunter2"), "{bad:?}");
            (bad.key, bad.remedy)
        })
    }

    #[test]
    fn each_way_to_a_token_is_read() {
        for lines in [
            "sasl.oauthbearer.client.credentials.client.id=a\n\
             sasl.oauthbearer.client.credentials.client.secret=hunter2\n\
             sasl.oauthbearer.header.urlencode=false\nsasl.login.retry.backoff.ms=50\n\
             sasl.login.retry.backoff.max.ms=5000\nsasl.login.connect.timeout.ms=1000\n\
             sasl.login.read.timeout.ms=2000",
            "sasl.jaas.config=OAuthBearerLoginModule required clientId=\"a\" clientSecret=\"hunter2\" scope=\"s\";",
            "sasl.oauthbearer.jwt.retriever.class=org.apache.kafka.JwtBearerJwtRetriever\n\
             sasl.oauthbearer.assertion.private.key.file=/key.pem\nsasl.oauthbearer.assertion.algorithm=ES256\n\
             sasl.oauthbearer.assertion.claim.iss=a\nsasl.oauthbearer.assertion.claim.exp.seconds=60",
            "sasl.oauthbearer.grant.type=urn:ietf:params:oauth:grant-type:jwt-bearer\n\
             sasl.oauthbearer.assertion.private.key.pem=hunter2",
            "sasl.oauthbearer.assertion.file=/assertion",
            "sasl.oauthbearer.method=OIDC\nsasl.oauthbearer.client.id=a\nsasl.oauthbearer.client.secret=hunter2",
        ] {
            assert_eq!(read(lines).as_deref(), Ok("OAUTHBEARER"), "{lines}");
        }
    }

    #[test]
    fn what_is_missing_or_cannot_be_had_is_named() {
        let id = "sasl.oauthbearer.client.id=a\nsasl.oauthbearer.client.secret=hunter2";
        for (lines, key, hint) in [
            ("".to_owned(), super::ID[0], "clientId"),
            ("sasl.oauthbearer.client.id=a".to_owned(), super::SECRET[0], "clientSecret"),
            (format!("{id}\nsasl.oauthbearer.method=default"), super::METHOD, "oidc"),
            (format!("{id}\nsasl.oauthbearer.grant.type=password"), super::GRANT, "client_credentials"),
            (
                format!("{id}\nsasl.oauthbearer.jwt.retriever.class=com.acme.Mine"),
                super::RETRIEVER,
                "TokenProvider",
            ),
            (
                "sasl.oauthbearer.jwt.retriever.class=JwtBearerJwtRetriever".to_owned(),
                super::KEY[0],
                "assertion.file",
            ),
            (format!("{id}\nsasl.oauthbearer.extensions=lkc"), "sasl.oauthbearer.extensions", "name=value"),
            (
                format!("{id}\nsasl.login.retry.backoff.ms=soon"),
                "sasl.login.retry.backoff.ms",
                "milliseconds",
            ),
            (
                format!("{id}\nsasl.oauthbearer.token.endpoint.url=http://login.example"),
                super::URL,
                "dangerous_plaintext_http",
            ),
            (format!("{id}\nsasl.oauthbearer.token.endpoint.url=file:///token"), super::URL, "https://"),
            (
                format!("{}\nsasl.oauthbearer.assertion.template.file=/t", "sasl.oauthbearer.client.id=a"),
                "sasl.oauthbearer.assertion.template.file",
                "SignedAssertion::claim",
            ),
        ] {
            let (refused, remedy) = read(&lines).unwrap_err();
            assert_eq!(refused, key, "{lines}");
            assert!(remedy.contains(hint), "{remedy}");
        }
    }
}
