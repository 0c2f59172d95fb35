//! What a [`Client`](crate::Client) can be told: typed settings with Java's names and defaults, checked at build.

use std::time::Duration;

use kafka_wire::address::NodeAddress;

use crate::auth::Sasl;
use crate::clock::FOREVER;
use crate::error::{Error, Result};
use crate::properties::{Setting, value};
use crate::tls::Tls;

/// The settings of a client, as they stand after [`ClientBuilder`](crate::ClientBuilder) checked them.
///
/// Defaults are those of the Java client 4.x, except where a field says otherwise.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// `bootstrap.servers`: where to learn of the cluster's brokers. At least one address.
    pub bootstrap: Vec<NodeAddress>,
    /// `client.id`: the name under which brokers log and throttle this client. Empty by default.
    pub client_id: String,
    /// `request.timeout.ms`: how long an answer may take before its connection is closed. 30 s.
    pub request_timeout: Duration,
    /// `default.api.timeout.ms`: how long a call may take with all its attempts. 60 s.
    pub default_api_timeout: Duration,
    /// `socket.connection.setup.timeout.ms`: how long a first attempt at a connection may take until the broker is
    /// ready for requests; doubles with every failure. 10 s.
    pub connection_setup_timeout: Duration,
    /// `socket.connection.setup.timeout.max.ms`: where that doubling ends. 30 s.
    pub connection_setup_timeout_max: Duration,
    /// `reconnect.backoff.ms`: the wait after a first failed connection; doubles with every failure. 50 ms.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`: where that doubling ends. 1 s.
    pub reconnect_backoff_max: Duration,
    /// `retry.backoff.ms`: the wait after a first failed request; doubles with every failure. 100 ms.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`: where that doubling ends. 1 s.
    pub retry_backoff_max: Duration,
    /// `connections.max.idle.ms`: how long an unused connection stays open; `None` for ever. 9 min.
    pub connections_max_idle: Option<Duration>,
    /// `metadata.max.age.ms`: how old the view of the cluster may become before it is refreshed unasked. 5 min.
    pub metadata_max_age: Duration,
    /// `metadata.recovery.strategy`: what to do when no known broker can be reached.
    pub metadata_recovery: MetadataRecovery,
    /// `metadata.recovery.rebootstrap.trigger.ms`: how long metadata may be unobtainable before the bootstrap
    /// addresses are used again. 5 min.
    pub rebootstrap_trigger: Duration,
    /// The largest answer that is accepted, in bytes. 100 MiB.
    pub max_response_bytes: usize,
    /// `send.buffer.bytes`: the size of the socket's send buffer. By default the operating system decides, which
    /// on today's systems is faster than Java's 128 KiB.
    pub send_buffer_bytes: Option<usize>,
    /// `receive.buffer.bytes`: the size of the socket's receive buffer. By default the operating system decides.
    pub receive_buffer_bytes: Option<usize>,
    /// `sasl.mechanism` and what it needs: how to prove to brokers who the client is. Nothing by default.
    pub sasl: Option<Sasl>,
    /// `security.protocol` and `ssl.*`: how connections are encrypted. Not at all by default.
    pub tls: Option<Tls>,
    /// The seed of every random choice, such as jitter, so that a test can repeat a run. Random by default.
    pub seed: Option<u64>,
}

/// What a client does when none of the brokers it knows can be reached (KIP-899).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataRecovery {
    /// Resolve the bootstrap addresses anew and learn of the cluster from them.
    #[default]
    Rebootstrap,
    /// Keep trying the known brokers.
    None,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            client_id: String::new(),
            request_timeout: Duration::from_secs(30),
            default_api_timeout: Duration::from_secs(60),
            connection_setup_timeout: Duration::from_secs(10),
            connection_setup_timeout_max: Duration::from_secs(30),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            connections_max_idle: Some(Duration::from_secs(540)),
            metadata_max_age: Duration::from_secs(300),
            metadata_recovery: MetadataRecovery::Rebootstrap,
            rebootstrap_trigger: Duration::from_secs(300),
            max_response_bytes: 100 * 1024 * 1024,
            send_buffer_bytes: None,
            receive_buffer_bytes: None,
            sasl: None,
            tls: None,
            seed: None,
        }
    }
}

impl ClientConfig {
    /// Checks every setting, alone and beside the others.
    ///
    /// # Errors
    /// The first one that cannot work, by name, with its value and a remedy.
    pub fn validate(&self) -> Result<()> {
        if self.bootstrap.is_empty() {
            return Err(Error::config("bootstrap.servers", "", "name at least one broker as host:port"));
        }
        if self.client_id.len() > i16::MAX as usize {
            let shown = self.client_id.chars().take(32).collect::<String>() + "…";
            return Err(Error::config("client.id", shown, "give at most 32767 bytes"));
        }
        for (name, value) in [
            ("request.timeout.ms", self.request_timeout),
            ("default.api.timeout.ms", self.default_api_timeout),
            ("socket.connection.setup.timeout.ms", self.connection_setup_timeout),
            ("metadata.max.age.ms", self.metadata_max_age),
            ("connections.max.idle.ms", self.connections_max_idle.unwrap_or(Duration::MAX)),
        ] {
            at_least(name, value, Duration::from_millis(1), "1 ms")?;
        }
        at_least(
            "default.api.timeout.ms",
            self.default_api_timeout,
            self.request_timeout,
            "request.timeout.ms, so that one whole attempt fits",
        )?;
        at_least(
            "socket.connection.setup.timeout.max.ms",
            self.connection_setup_timeout_max,
            self.connection_setup_timeout,
            "socket.connection.setup.timeout.ms",
        )?;
        at_least(
            "reconnect.backoff.max.ms",
            self.reconnect_backoff_max,
            self.reconnect_backoff,
            "reconnect.backoff.ms",
        )?;
        at_least("retry.backoff.max.ms", self.retry_backoff_max, self.retry_backoff, "retry.backoff.ms")?;
        if !(1024..=i32::MAX as usize).contains(&self.max_response_bytes) {
            let remedy = "give between 1024 and 2147483647 bytes";
            return Err(Error::config("receive.message.max.bytes", self.max_response_bytes, remedy));
        }
        for (name, bytes) in [
            ("send.buffer.bytes", self.send_buffer_bytes),
            ("receive.buffer.bytes", self.receive_buffer_bytes),
        ] {
            if let Some(bytes) = bytes
                && !(1..=i32::MAX as usize).contains(&bytes)
            {
                let remedy = "give between 1 and 2147483647 bytes, or nothing to let the system decide";
                return Err(Error::config(name, bytes, remedy));
            }
        }
        self.sasl.as_ref().map_or(Ok(()), Sasl::validate)
    }

    /// Lowers durations that mean "for ever" to what can be added to any point in time.
    pub(crate) fn bounded(mut self) -> Self {
        for duration in [
            &mut self.request_timeout,
            &mut self.default_api_timeout,
            &mut self.connection_setup_timeout,
            &mut self.connection_setup_timeout_max,
            &mut self.reconnect_backoff,
            &mut self.reconnect_backoff_max,
            &mut self.retry_backoff,
            &mut self.retry_backoff_max,
            &mut self.metadata_max_age,
            &mut self.rebootstrap_trigger,
        ] {
            *duration = (*duration).min(FOREVER);
        }
        self.connections_max_idle = self.connections_max_idle.filter(|idle| *idle < FOREVER);
        self
    }

    /// A source of randomness for the roles: the seeded one if a seed was set; `purpose` keeps the streams of two users
    /// apart.
    #[doc(hidden)]
    pub fn random(&self, purpose: u64) -> fastrand::Rng {
        match self.seed {
            Some(seed) => fastrand::Rng::with_seed(seed ^ purpose.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            None => fastrand::Rng::new(),
        }
    }
}

fn at_least(name: &str, value: Duration, minimum: Duration, what: &str) -> Result<()> {
    if value >= minimum {
        return Ok(());
    }
    let remedy = if minimum == Duration::from_millis(1) {
        format!("give at least {what}")
    } else {
        format!("give at least {} ms, which is {what}", minimum.as_millis())
    };
    Err(Error::config(name, value.as_millis(), remedy))
}

/// The client's property names: Java's first, librdkafka's as aliases.
pub const SETTINGS: &[Setting<ClientConfig>] = &[
    Key::new("bootstrap.servers", "", |config, text| {
        config.bootstrap = NodeAddress::parse_list(text).map_err(|error| error.to_string())?;
        Ok(())
    })
    .aliases(&["metadata.broker.list"]),
    Key::new("client.id", "", |config, text| {
        config.client_id = text.to_owned();
        Ok(())
    })
    .librdkafka("rdkafka"),
    Key::new("request.timeout.ms", "30000", |config, text| {
        value::milliseconds(text).map(|value| config.request_timeout = value)
    })
    .aliases(&["socket.timeout.ms"])
    .librdkafka("60000"),
    Key::new("default.api.timeout.ms", "60000", |config, text| {
        value::milliseconds(text).map(|value| config.default_api_timeout = value)
    }),
    Key::new("socket.connection.setup.timeout.ms", "10000", |config, text| {
        config.connection_setup_timeout = value::milliseconds(text)?;
        config.connection_setup_timeout_max =
            config.connection_setup_timeout_max.max(config.connection_setup_timeout);
        Ok(())
    })
    .librdkafka("30000"),
    Key::new("socket.connection.setup.timeout.max.ms", "30000", |config, text| {
        value::milliseconds(text).map(|value| config.connection_setup_timeout_max = value)
    }),
    Key::new("reconnect.backoff.ms", "50", |config, text| {
        config.reconnect_backoff = value::milliseconds(text)?;
        config.reconnect_backoff_max = config.reconnect_backoff_max.max(config.reconnect_backoff);
        Ok(())
    })
    .librdkafka("100"),
    Key::new("reconnect.backoff.max.ms", "1000", |config, text| {
        value::milliseconds(text).map(|value| config.reconnect_backoff_max = value)
    })
    .librdkafka("10000"),
    Key::new("retry.backoff.ms", "100", |config, text| {
        config.retry_backoff = value::milliseconds(text)?;
        config.retry_backoff_max = config.retry_backoff_max.max(config.retry_backoff);
        Ok(())
    }),
    Key::new("retry.backoff.max.ms", "1000", |config, text| {
        value::milliseconds(text).map(|value| config.retry_backoff_max = value)
    }),
    Key::new("connections.max.idle.ms", "540000", |config, text| {
        // Java says "never" with a negative number, librdkafka with 0.
        config.connections_max_idle = match text {
            "-1" | "0" => None,
            _ => Some(value::milliseconds(text)?),
        };
        Ok(())
    })
    .librdkafka("0"),
    Key::new("metadata.max.age.ms", "300000", |config, text| {
        value::milliseconds(text).map(|value| config.metadata_max_age = value)
    })
    .librdkafka("900000"),
    Key::new("metadata.recovery.strategy", "rebootstrap", |config, text| {
        config.metadata_recovery = value::one_of(
            text,
            &[("rebootstrap", MetadataRecovery::Rebootstrap), ("none", MetadataRecovery::None)],
        )?;
        Ok(())
    }),
    Key::new("metadata.recovery.rebootstrap.trigger.ms", "300000", |config, text| {
        value::milliseconds(text).map(|value| config.rebootstrap_trigger = value)
    }),
    Key::new("receive.message.max.bytes", "104857600", |config, text| {
        value::bytes(text).map(|value| config.max_response_bytes = value)
    })
    .librdkafka("100000000")
    .not_in_java(),
    Key::new("send.buffer.bytes", "-1", |config, text| {
        value::optional_bytes(text).map(|value| config.send_buffer_bytes = value)
    })
    .aliases(&["socket.send.buffer.bytes"])
    .java("131072"),
    Key::new("receive.buffer.bytes", "-1", |config, text| {
        value::optional_bytes(text).map(|value| config.receive_buffer_bytes = value)
    })
    .aliases(&["socket.receive.buffer.bytes"])
    .java("65536"),
    Key::new("security.protocol", "PLAINTEXT", |_, text| {
        value::one_of(text, &["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"].map(|word| (word, ())))
    }),
    // What follows only means something together: `properties::security` reads it.
    Key::new("ssl.truststore.type", "JKS", with_others).not_in_librdkafka(),
    Key::new("ssl.truststore.location", "", with_others).not_in_librdkafka(),
    Key::new("ssl.truststore.certificates", "", with_others).not_in_librdkafka(),
    Key::new("ssl.keystore.type", "JKS", with_others).not_in_librdkafka(),
    Key::new("ssl.keystore.location", "", with_others),
    Key::new("ssl.keystore.certificate.chain", "", with_others).not_in_librdkafka(),
    Key::new("ssl.keystore.key", "", with_others).not_in_librdkafka(),
    Key::new("ssl.key.password", "", with_others),
    Key::new("ssl.endpoint.identification.algorithm", "https", with_others),
    Key::new("ssl.enabled.protocols", "TLSv1.2,TLSv1.3", with_others).not_in_librdkafka(),
    Key::new("ssl.protocol", "TLSv1.3", with_others).not_in_librdkafka(),
    Key::new("ssl.ca.location", "", with_others).not_in_java(),
    Key::new("ssl.ca.pem", "", with_others).not_in_java(),
    Key::new("ssl.certificate.location", "", with_others).not_in_java(),
    Key::new("ssl.certificate.pem", "", with_others).not_in_java(),
    Key::new("ssl.key.location", "", with_others).not_in_java(),
    Key::new("ssl.key.pem", "", with_others).not_in_java(),
    Key::new("ssl.crl.location", "", with_others).not_in_java(),
    Key::new("enable.ssl.certificate.verification", "true", |_, text| value::boolean(text).map(|_| ()))
        .not_in_java(),
    Key::new("sasl.mechanism", "GSSAPI", with_others).aliases(&["sasl.mechanisms"]),
    Key::new("sasl.jaas.config", "", with_others).not_in_librdkafka(),
    Key::new("sasl.username", "", with_others).not_in_java(),
    Key::new("sasl.password", "", with_others).not_in_java(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.token.endpoint.url", "", with_others),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.client.credentials.client.id", "", with_others)
        .aliases(&["sasl.oauthbearer.client.id"]),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.client.credentials.client.secret", "", with_others)
        .aliases(&["sasl.oauthbearer.client.secret"]),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.scope", "", with_others),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.extensions", "", with_others).not_in_java(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.method", "oidc", with_others).not_in_java(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.grant.type", "client_credentials", with_others).not_in_java(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.jwt.retriever.class", "", with_others).not_in_librdkafka(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.header.urlencode", "true", with_others).java("false").not_in_librdkafka(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.assertion.file", "", with_others),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.assertion.private.key.file", "", with_others),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.assertion.private.key.pem", "", with_others).not_in_java(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.assertion.private.key.passphrase", "", with_others),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.assertion.template.file", "", with_others).not_in_librdkafka(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.assertion.jwt.template.file", "", with_others).not_in_java(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.assertion.algorithm", "", with_others),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.assertion.claim.iss", "", with_others),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.assertion.claim.sub", "", with_others),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.assertion.claim.aud", "", with_others),
    #[cfg(feature = "oidc")]
    Key::new("sasl.oauthbearer.assertion.claim.exp.seconds", "300", with_others),
    #[cfg(feature = "oidc")]
    Key::new("sasl.login.retry.backoff.ms", "100", with_others).not_in_librdkafka(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.login.retry.backoff.max.ms", "10000", with_others).not_in_librdkafka(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.login.connect.timeout.ms", "", with_others).not_in_librdkafka(),
    #[cfg(feature = "oidc")]
    Key::new("sasl.login.read.timeout.ms", "", with_others).not_in_librdkafka(),
    #[cfg(feature = "oidc")]
    Key::new("https.ca.location", "", with_others).not_in_java(),
    #[cfg(feature = "oidc")]
    Key::new("https.ca.pem", "", with_others).not_in_java(),
    Key::new("client.dns.lookup", "use_all_dns_ips", |_, text| {
        value::one_of(text, &[("use_all_dns_ips", ())])
    }),
];

type Key = Setting<ClientConfig>;

/// Leaves a setting to be read together with others.
fn with_others(_: &mut ClientConfig, _: &str) -> Result<(), String> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::properties::{self, Properties, Role};

    fn valid() -> ClientConfig {
        ClientConfig {
            bootstrap: NodeAddress::parse_list("localhost:9092").unwrap(),
            ..ClientConfig::default()
        }
    }

    fn setting_of(error: &Error) -> &str {
        match error.kind() {
            ErrorKind::Config { setting, .. } => setting,
            other => panic!("not a configuration error: {other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        valid().validate().unwrap();
    }

    #[test]
    fn a_setting_that_cannot_work_is_named_with_its_value() {
        type Spoil = fn(&mut ClientConfig);
        let cases: [(&str, Spoil); 8] = [
            ("bootstrap.servers", |config| config.bootstrap.clear()),
            ("request.timeout.ms", |config| config.request_timeout = Duration::ZERO),
            ("default.api.timeout.ms", |config| config.default_api_timeout = Duration::from_secs(1)),
            ("socket.connection.setup.timeout.max.ms", |config| {
                config.connection_setup_timeout_max = Duration::from_secs(1);
            }),
            ("retry.backoff.max.ms", |config| config.retry_backoff_max = Duration::ZERO),
            ("receive.message.max.bytes", |config| config.max_response_bytes = 10),
            ("send.buffer.bytes", |config| config.send_buffer_bytes = Some(0)),
            ("client.id", |config| config.client_id = "x".repeat(40_000)),
        ];
        for (setting, spoil) in cases {
            let mut config = valid();
            spoil(&mut config);
            assert_eq!(setting_of(&config.validate().unwrap_err()), setting);
        }
    }

    #[test]
    fn every_default_in_the_table_is_the_default_of_the_struct() {
        let mut from_table = valid();
        for setting in SETTINGS.iter().filter(|setting| setting.name() != "bootstrap.servers") {
            properties::apply(
                std::slice::from_ref(setting),
                Role::Client,
                &[(setting.name(), setting.default_value())].into_iter().collect::<Properties>(),
                &mut from_table,
            )
            .check()
            .unwrap();
        }
        assert_eq!(format!("{from_table:?}"), format!("{:?}", valid()));
    }
}
