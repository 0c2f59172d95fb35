//! Makes of `security.protocol`, `ssl.*` and `sasl.*` how a client encrypts and who it is. These settings only mean
//! something together, so they are read once all of them are known.

use std::path::PathBuf;

use super::jaas::LoginModule;
use super::{BadValue, Properties, known};
use crate::auth::{Sasl, ScramHash, Secret};
use crate::tls::{Source, Tls, TlsVersion};

/// What the settings ask for; `None` where they ask for nothing.
#[derive(Default)]
pub(crate) struct Security {
    pub(crate) tls: Option<Result<Tls, BadValue>>,
    pub(crate) sasl: Option<Result<Sasl, BadValue>>,
}

impl Security {
    pub(crate) fn read(properties: &Properties) -> Self {
        let settings = Settings(properties);
        let (tls, sasl) = settings.protocol();
        Self { tls: tls.then(|| tls_of(&settings)), sasl: sasl.then(|| sasl_of(&settings)) }
    }
}

/// Whether a setting means nothing because `security.protocol` does not ask for what it belongs to.
pub(super) fn is_idle(properties: &Properties, key: &str) -> bool {
    let (tls, sasl) = Settings(properties).protocol();
    (!tls && (key.starts_with("ssl.") || key == VERIFICATION)) || (!sasl && key.starts_with("sasl."))
}

/// Whether a name of Java's that is no setting of ours decides something all the same.
pub(super) fn is_heeded(properties: &Properties, key: &str) -> bool {
    key == LOGIN_HANDLER && !is_idle(properties, key) && Settings(properties).is_amazons_handler()
}

const LOGIN_HANDLER: &str = "sasl.login.callback.handler.class";
const VERIFICATION: &str = "enable.ssl.certificate.verification";
const ENDPOINT: &str = "ssl.endpoint.identification.algorithm";

#[derive(Clone, Copy)]
pub(super) struct Settings<'a>(&'a Properties);

impl<'a> Settings<'a> {
    /// Whether TLS and SASL are spoken.
    fn protocol(self) -> (bool, bool) {
        match self.get("security.protocol").map(str::to_ascii_uppercase).as_deref() {
            Some("SSL") => (true, false),
            Some("SASL_PLAINTEXT") => (false, true),
            Some("SASL_SSL") => (true, true),
            _ => (false, false),
        }
    }

    /// What Java's users of Amazon MSK set so that tokens are signed for it.
    fn is_amazons_handler(self) -> bool {
        self.get(LOGIN_HANDLER).is_some_and(|class| class.ends_with("IAMOAuthBearerLoginCallbackHandler"))
    }

    /// A setting that is there and not empty.
    pub(super) fn get(self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(str::trim).filter(|value| !value.is_empty())
    }

    /// The first of these that is set, if only one is.
    pub(super) fn one_of(self, keys: &[&'static str]) -> Result<Option<(&'static str, &'a str)>, BadValue> {
        let mut set = keys.iter().filter_map(|key| Some((*key, self.get(key)?)));
        let first = set.next();
        match (first, set.next()) {
            (Some((first, _)), Some((second, _))) => {
                Err(self.bad(second, format!("leave it out, or {first}: only one of them can be used")))
            }
            _ => Ok(first),
        }
    }

    /// A value that cannot be used, and what to give instead.
    pub(super) fn bad(self, key: &str, remedy: impl Into<String>) -> BadValue {
        let value = if known::is_secret(key) { "***" } else { self.0.get(key).unwrap_or_default() };
        BadValue { key: key.to_owned(), value: value.to_owned(), remedy: remedy.into() }
    }
}

fn tls_of(settings: &Settings<'_>) -> Result<Tls, BadValue> {
    if settings.get(VERIFICATION).is_some_and(|value| !value.eq_ignore_ascii_case("true")) {
        let remedy = "certificates are always verified; trust the broker's authority by ssl.ca.location instead. \
                      Only Tls::dangerous_accept_any_certificate goes without";
        return Err(settings.bad(VERIFICATION, remedy));
    }
    // Empty means "do not check", so it is looked at as it is.
    if settings.0.get(ENDPOINT).is_some_and(|value| !value.trim().eq_ignore_ascii_case("https")) {
        let remedy = "give https: names are always verified. If brokers are dialled under other names than their \
                      certificates', Tls::server_name says which to expect; only \
                      Tls::dangerous_accept_any_server_name goes without";
        return Err(settings.bad(ENDPOINT, remedy));
    }
    if settings.get("ssl.crl.location").is_some() {
        let remedy = "revocation lists need a rustls configuration of your own: Tls::with_rustls";
        return Err(settings.bad("ssl.crl.location", remedy));
    }
    let mut tls = trust(*settings)?;
    if let Some((chain, key)) = identity(*settings)? {
        tls = tls.identity(chain, key);
    }
    if let Some(password) = settings.get("ssl.key.password") {
        tls = tls.key_password(password);
    }
    Ok(match versions(*settings)? {
        Some(versions) => tls.versions(versions),
        None => tls,
    })
}

fn trust(settings: Settings<'_>) -> Result<Tls, BadValue> {
    let keys = ["ssl.truststore.location", "ssl.truststore.certificates", "ssl.ca.location", "ssl.ca.pem"];
    Ok(match settings.one_of(&keys)? {
        None | Some(("ssl.ca.location", "probe")) => Tls::platform_roots(),
        Some(("ssl.truststore.location", path)) => {
            pem_store(settings, "ssl.truststore.type", path, |path| {
                format!("keytool -list -rfc -keystore {path} > {path}.pem")
            })?;
            Tls::roots_pem_file(path)
        }
        Some(("ssl.ca.location", path)) => Tls::roots_pem_file(path),
        Some((_, pem)) => Tls::roots_pem(pem),
    })
}

/// Where the certificate chain and the key are.
fn identity(settings: Settings<'_>) -> Result<Option<(Source, Source)>, BadValue> {
    let source = |(key, value): (&str, &str)| {
        let is_file = key.ends_with(".location");
        if is_file { Source::File(PathBuf::from(value)) } else { Source::given(value.into()) }
    };
    let chains = [
        "ssl.keystore.location",
        "ssl.keystore.certificate.chain",
        "ssl.certificate.location",
        "ssl.certificate.pem",
    ];
    let chain = settings.one_of(&chains)?;
    let key = settings.one_of(&["ssl.keystore.key", "ssl.key.location", "ssl.key.pem"])?;
    match (chain, key) {
        (None, None) => Ok(None),
        (Some(("ssl.keystore.location", path)), None) => {
            pem_store(settings, "ssl.keystore.type", path, |path| {
                format!(
                    "keytool -importkeystore -srckeystore {path} -destkeystore {path}.p12 -deststoretype PKCS12 && \
                     openssl pkcs12 -in {path}.p12 -nodes -out {path}.pem"
                )
            })?;
            Ok(Some((Source::File(path.into()), Source::File(path.into()))))
        }
        (Some(("ssl.keystore.location", _)), Some((key, _))) => {
            Err(settings.bad(key, "leave it out, or ssl.keystore.location, which has a key of its own"))
        }
        (Some(chain), Some(key)) => Ok(Some((source(chain), source(key)))),
        (Some((chain, _)), None) => {
            Err(settings.bad(chain, "give its key too: ssl.keystore.key, ssl.key.location or ssl.key.pem"))
        }
        (None, Some((key, _))) => {
            let remedy = "give its certificate too: ssl.keystore.certificate.chain, ssl.certificate.location or \
                          ssl.certificate.pem";
            Err(settings.bad(key, remedy))
        }
    }
}

/// Accepts a store only in PEM, and says by which command to convert one that is not.
fn pem_store(
    settings: Settings<'_>,
    kind: &'static str,
    path: &str,
    command: impl Fn(&str) -> String,
) -> Result<(), BadValue> {
    if settings.get(kind).is_some_and(|value| value.eq_ignore_ascii_case("PEM")) {
        return Ok(());
    }
    let place = kind.replace(".type", ".location");
    let remedy = format!(
        "only PEM is read (Java's default is JKS). Convert the store once: {}; then set {kind}=PEM and \
         {place}={path}.pem",
        command(path)
    );
    let key = if settings.get(kind).is_some() { kind } else { place.as_str() };
    Err(settings.bad(key, remedy))
}

fn versions(settings: Settings<'_>) -> Result<Option<Vec<TlsVersion>>, BadValue> {
    let (enabled, protocol) = ("ssl.enabled.protocols", "ssl.protocol");
    let mut versions = None;
    if let Some(list) = settings.get(enabled) {
        let read = list.split(',').map(|word| match word.trim() {
            "TLSv1.2" => Ok(TlsVersion::Tls12),
            "TLSv1.3" => Ok(TlsVersion::Tls13),
            _ => Err(settings.bad(enabled, "give TLSv1.2, TLSv1.3 or both; older ones are not secure")),
        });
        versions = Some(read.collect::<Result<Vec<_>, _>>()?);
    }
    match settings.get(protocol) {
        // In Java these bring all versions up to 1.3.
        None | Some("TLS" | "TLSv1.3") => Ok(versions),
        Some("TLSv1.2") => match versions {
            Some(versions) if !versions.contains(&TlsVersion::Tls12) => {
                Err(settings.bad(protocol, format!("give TLSv1.3, the only one in {enabled}")))
            }
            _ => Ok(Some(vec![TlsVersion::Tls12])),
        },
        Some(_) => Err(settings.bad(protocol, "give TLSv1.3 or TLSv1.2; older ones are not secure")),
    }
}

/// Where a mechanism cannot be had from settings.
const IN_CODE: &str = "give it by ClientBuilder::sasl";

fn sasl_of(settings: &Settings<'_>) -> Result<Sasl, BadValue> {
    let Some((key, mechanism)) = settings.one_of(&["sasl.mechanism", "sasl.mechanisms"])? else {
        let remedy = format!(
            "give PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER (the default, GSSAPI, is not built in), or \
             {IN_CODE}"
        );
        return Err(settings.bad("sasl.mechanism", remedy));
    };
    let module = match settings.get(JAAS) {
        Some(line) => {
            let module: LoginModule = line.parse().map_err(|error| settings.bad(JAAS, format!("{error}")))?;
            Some(module)
        }
        None => None,
    };
    match mechanism {
        "PLAIN" => {
            let (user, password, _) = credentials(*settings, module, "PlainLoginModule")?;
            Ok(Sasl::plain(user, password))
        }
        "SCRAM-SHA-256" => scram(*settings, module, ScramHash::Sha256),
        "SCRAM-SHA-512" => scram(*settings, module, ScramHash::Sha512),
        "OAUTHBEARER" => oauth_bearer(*settings, key, module.as_ref()),
        "AWS_MSK_IAM" => aws_msk_iam(*settings, key, module.as_ref()),
        "GSSAPI" => {
            let remedy = "Kerberos is not built in: implement auth::Mechanism";
            Err(settings.bad(key, format!("{remedy}, and {IN_CODE}")))
        }
        _ => Err(settings
            .bad(key, format!("give PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER, or {IN_CODE}"))),
    }
}

const JAAS: &str = "sasl.jaas.config";

fn oauth_bearer(settings: Settings<'_>, key: &str, module: Option<&LoginModule>) -> Result<Sasl, BadValue> {
    if settings.is_amazons_handler() {
        return amazon(settings, key, module, true);
    }
    #[cfg(feature = "oidc")]
    return super::oauth::oauth_bearer(settings, module);
    #[cfg(not(feature = "oidc"))]
    {
        let remedy =
            "turn on kafka-client's feature `oidc`, or give a provider of tokens: Sasl::oauth_bearer";
        Err(settings.bad(key, format!("{remedy}, and {IN_CODE}")))
    }
}

fn aws_msk_iam(settings: Settings<'_>, key: &str, module: Option<&LoginModule>) -> Result<Sasl, BadValue> {
    amazon(settings, key, module, false)
}

/// With the keys in the environment, which are all that can be had from settings.
fn amazon(
    settings: Settings<'_>,
    key: &str,
    module: Option<&LoginModule>,
    as_token: bool,
) -> Result<Sasl, BadValue> {
    if module.is_some_and(|module| module.options().next().is_some()) {
        let remedy =
            "keys are taken from the environment only; give a provider of others: auth::aws_msk::AwsMsk";
        return Err(settings.bad(JAAS, format!("{remedy}, and {IN_CODE}")));
    }
    #[cfg(feature = "aws-msk")]
    {
        let _ = key;
        let msk = crate::auth::aws_msk::AwsMsk::from_environment();
        Ok(if as_token { Sasl::oauth_bearer(msk) } else { Sasl::mechanism(msk) })
    }
    #[cfg(not(feature = "aws-msk"))]
    {
        let _ = as_token;
        Err(settings.bad(key, format!("turn on kafka-client's feature `aws-msk`, or {IN_CODE}")))
    }
}

fn scram(settings: Settings<'_>, module: Option<LoginModule>, hash: ScramHash) -> Result<Sasl, BadValue> {
    let (user, password, is_token) = credentials(settings, module, "ScramLoginModule")?;
    Ok(if is_token {
        Sasl::delegation_token(hash, user, password)
    } else {
        Sasl::scram(hash, user, password)
    })
}

/// User, password, and whether they are a delegation token's: of the JAAS line, or of librdkafka's settings.
fn credentials(
    settings: Settings<'_>,
    module: Option<LoginModule>,
    expected: &str,
) -> Result<(String, Secret, bool), BadValue> {
    let Some(module) = module else {
        let (user, password) = ("sasl.username", "sasl.password");
        return match (settings.get(user), settings.0.get(password)) {
            (Some(name), Some(secret)) => Ok((name.to_owned(), Secret::from(secret), false)),
            (Some(_), None) => Err(settings.bad(password, format!("give it beside {user}"))),
            (None, _) => {
                let remedy = format!(
                    "give a line such as …{expected} required username=\"…\" password=\"…\"; \
                     or {user} and {password}"
                );
                Err(settings.bad(JAAS, remedy))
            }
        };
    };
    if module.name() != expected {
        return Err(
            settings.bad(JAAS, format!("give {expected}, the login module of the mechanism that is set"))
        );
    }
    let option = |name| module.option(name).map(Secret::expose);
    let (Some(user), Some(password)) = (option("username"), option("password")) else {
        return Err(settings.bad(JAAS, "give the login module a username=\"…\" and a password=\"…\""));
    };
    let is_token = option("tokenauth").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    Ok((user.to_owned(), Secret::from(password), is_token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Client, Error};

    const CA: &str = "-----BEGIN CERTIFICATE-----";

    /// Reads settings, one on each line, and builds nothing.
    fn read(lines: &str) -> Security {
        let pairs = lines.lines().map(|line| line.trim().split_once('=').unwrap());
        Security::read(&pairs.collect::<Properties>())
    }

    fn refused<T>(outcome: Option<Result<T, BadValue>>) -> (String, String) {
        let bad = outcome.unwrap().err().unwrap();
        (bad.key, bad.remedy)
    }

    fn shown(lines: &str) -> String {
        format!("{:?}", read(lines).tls.unwrap().unwrap())
    }

    #[test]
    fn the_protocol_says_what_is_spoken() {
        for (protocol, tls, sasl) in [
            ("PLAINTEXT", false, false),
            ("ssl", true, false),
            ("SASL_PLAINTEXT", false, true),
            ("sasl_ssl", true, true),
        ] {
            let read = read(&format!("security.protocol={protocol}"));
            assert_eq!((read.tls.is_some(), read.sasl.is_some()), (tls, sasl), "{protocol}");
        }
        let report = Client::from_properties(&"security.protocol=TLS".parse().unwrap()).1;
        assert_eq!(report.bad_values()[0].remedy, "give one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL");
    }

    #[test]
    fn settings_that_the_protocol_does_not_ask_for_are_told_to_have_no_effect() {
        let text = "ssl.ca.location=/ca.pem\nsasl.username=alice\nbootstrap.servers=a:1";
        let (builder, report) = Client::from_properties(&text.parse().unwrap());
        assert_eq!(report.without_effect(), ["ssl.ca.location", "sasl.username"]);
        assert!(builder.build().unwrap().config().tls.is_none());
    }

    #[test]
    fn a_callback_handler_is_told_to_have_no_effect_unless_it_has_one() {
        let told = |handler: &str| {
            let text =
                format!("security.protocol=SASL_SSL\nsasl.mechanism=OAUTHBEARER\n{LOGIN_HANDLER}={handler}");
            Client::from_properties(&text.parse().unwrap()).1.without_effect().to_vec()
        };
        assert!(told("software.amazon.msk.auth.iam.IAMOAuthBearerLoginCallbackHandler").is_empty());
        assert_eq!(told("com.acme.Handler"), [LOGIN_HANDLER]);
    }

    #[test]
    fn stores_in_pem_are_read_under_both_clients_names() {
        assert!(shown("security.protocol=SSL").contains("platform"));
        assert!(shown("security.protocol=SSL\nssl.ca.location=probe").contains("platform"));
        let java = "security.protocol=SSL\nssl.truststore.type=PEM\nssl.truststore.location=/ca.pem\n\
                    ssl.keystore.type=pem\nssl.keystore.location=/me.pem\nssl.key.password=hunter2\n\
                    ssl.enabled.protocols=TLSv1.3\nssl.endpoint.identification.algorithm=HTTPS";
        let shown_java = shown(java);
        assert!(shown_java.contains("/ca.pem") && shown_java.contains("/me.pem"), "{shown_java}");
        assert!(shown_java.contains("Tls13") && !shown_java.contains("hunter2"), "{shown_java}");
        let inline = format!(
            "security.protocol=SSL\nssl.truststore.certificates={CA}\nssl.keystore.key=k\n\
                              ssl.keystore.certificate.chain=c"
        );
        assert!(shown(&inline).contains("27 bytes of PEM"));
        let librdkafka = "security.protocol=ssl\nssl.ca.location=/ca.pem\nssl.certificate.pem=c\n\
                          ssl.key.location=/key.pem\nenable.ssl.certificate.verification=true";
        assert!(shown(librdkafka).contains("/key.pem"));
        for (protocol, versions) in [("TLS", ""), ("TLSv1.3", ""), ("TLSv1.2", "versions: [Tls12]")] {
            assert!(shown(&format!("security.protocol=SSL\nssl.protocol={protocol}")).contains(versions));
        }
    }

    #[test]
    fn what_cannot_be_had_is_refused_with_what_to_do_instead() {
        for (lines, key, hint) in [
            (
                "ssl.truststore.location=/t.jks",
                "ssl.truststore.location",
                "keytool -list -rfc -keystore /t.jks",
            ),
            (
                "ssl.truststore.location=/t\nssl.truststore.type=PKCS12",
                "ssl.truststore.type",
                "-keystore /t >",
            ),
            ("ssl.keystore.location=/k.jks", "ssl.keystore.location", "openssl pkcs12 -in /k.jks.p12 -nodes"),
            ("ssl.ca.pem=x\nssl.ca.location=/x", "ssl.ca.pem", "only one"),
            ("ssl.key.location=/k", "ssl.key.location", "ssl.certificate.location"),
            ("ssl.certificate.location=/c", "ssl.certificate.location", "ssl.key.location"),
            ("ssl.endpoint.identification.algorithm=", ENDPOINT, "dangerous_accept_any_server_name"),
            ("ssl.endpoint.identification.algorithm=none", ENDPOINT, "dangerous_accept_any_server_name"),
            ("enable.ssl.certificate.verification=false", VERIFICATION, "dangerous_accept_any_certificate"),
            ("ssl.enabled.protocols=TLSv1.2,TLSv1.1", "ssl.enabled.protocols", "not secure"),
            ("ssl.enabled.protocols=TLSv1.3\nssl.protocol=TLSv1.2", "ssl.protocol", "TLSv1.3"),
            ("ssl.protocol=SSLv3", "ssl.protocol", "not secure"),
            ("ssl.crl.location=/crl", "ssl.crl.location", "with_rustls"),
        ] {
            let (refused, remedy) = refused(read(&format!("security.protocol=SSL\n{lines}")).tls);
            assert_eq!(refused, key, "{lines}");
            assert!(remedy.contains(hint), "{remedy}");
        }
    }

    #[test]
    fn users_and_passwords_are_read_from_jaas_lines_and_from_librdkafkas_settings() {
        let jaas = |module: &str, more: &str| {
            format!(
                "sasl.jaas.config=org.apache.kafka.{module} required username=\"alice\" password=\"a=\\\"b\" {more};"
            )
        };
        for (mechanism, credentials) in [
            ("sasl.mechanism=PLAIN", jaas("PlainLoginModule", "")),
            ("sasl.mechanism=SCRAM-SHA-256", jaas("ScramLoginModule", "")),
            ("sasl.mechanism=SCRAM-SHA-512", jaas("ScramLoginModule", "tokenauth=true")),
            ("sasl.mechanisms=PLAIN", "sasl.username=alice\nsasl.password=pencil".to_owned()),
            ("sasl.mechanism=SCRAM-SHA-512", "sasl.username=alice\nsasl.password=pencil".to_owned()),
        ] {
            let sasl = read(&format!("security.protocol=SASL_SSL\n{mechanism}\n{credentials}"))
                .sasl
                .unwrap()
                .unwrap();
            assert_eq!(Some(sasl.name()), mechanism.split('=').nth(1));
            sasl.validate().unwrap();
        }
    }

    #[test]
    fn credentials_that_are_missing_broken_or_of_another_mechanism_are_refused() {
        let plain = "sasl.jaas.config=PlainLoginModule required username=\"alice\" password=\"hunter2\";";
        for (lines, key, hint) in [
            ("sasl.username=alice".to_owned(), "sasl.mechanism", "GSSAPI, is not built in"),
            ("sasl.mechanism=GSSAPI".to_owned(), "sasl.mechanism", "auth::Mechanism"),
            (
                "sasl.mechanism=AWS_MSK_IAM\nsasl.jaas.config=IAMLoginModule required awsRoleArn=\"r\";"
                    .to_owned(),
                JAAS,
                "AwsMsk",
            ),
            ("sasl.mechanism=DIGEST".to_owned(), "sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.mechanism=PLAIN".to_owned(), JAAS, "PlainLoginModule"),
            ("sasl.mechanism=PLAIN\nsasl.username=alice".to_owned(), "sasl.password", "sasl.username"),
            (format!("sasl.mechanism=SCRAM-SHA-256\n{plain}"), JAAS, "ScramLoginModule"),
            (format!("sasl.mechanism=PLAIN\n{}", plain.replace(';', "")), JAAS, "semicolon"),
            (format!("sasl.mechanism=PLAIN\n{}", plain.replace("username", "user")), JAAS, "username"),
        ] {
            let (refused, remedy) = refused(read(&format!("security.protocol=SASL_SSL\n{lines}")).sasl);
            assert_eq!(refused, key, "{lines}");
            assert!(remedy.contains(hint) && !remedy.contains("hunter2"), "{remedy}");
        }
    }

    fn built(text: &str) -> (Result<Client, Error>, String) {
        let (builder, report) = Client::from_properties(&text.parse().unwrap());
        let shown = format!(
            "{builder:?}\n{report:?}\n{report}\n{:?}",
            report.check().map_err(|error| error.to_string())
        );
        (builder.build(), shown)
    }

    #[test]
    fn secrets_are_shown_nowhere() {
        for text in [
            "bootstrap.servers=a:1\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
             sasl.jaas.config=PlainLoginModule required username=\"alice\" password=\"hunter2;",
            "bootstrap.servers=a:1\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
             sasl.username=alice\nsasl.password=hunter2\nsasl.passwrod=hunter2",
            "bootstrap.servers=a:1\nsecurity.protocol=SSL\nssl.keystore.key=hunter2",
            "bootstrap.servers=a:1\nsecurity.protocol=SSL\nssl.key.pem=hunter2\nssl.keystore.location=/x",
        ] {
            let (built, shown) = built(text);
            assert!(!shown.contains("hunter2"), "{shown}");
            if let Err(error) = built {
                assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
            }
        }
    }

    #[test]
    fn what_settings_cannot_say_can_be_given_to_the_builder() {
        let text = "bootstrap.servers=a:1\nsecurity.protocol=SASL_SSL\nssl.truststore.location=/t.jks\n\
                    sasl.mechanism=GSSAPI";
        let properties: Properties = text.parse().unwrap();
        let error = Client::from_properties(&properties).0.build().unwrap_err().to_string();
        assert!(error.starts_with("ssl.truststore.location"), "{error}");
        let (builder, report) = Client::from_properties(&properties);
        assert_eq!(report.bad_values().len(), 2);
        let error = builder.tls(Tls::dangerous_accept_any_certificate()).build().unwrap_err().to_string();
        assert!(error.starts_with("sasl.mechanism"), "{error}");
        let (builder, _) = Client::from_properties(&properties);
        let builder = builder.tls(Tls::dangerous_accept_any_certificate());
        builder.sasl(Sasl::plain("alice", "pencil")).build().unwrap();
    }
}
