//! Every property name that Kafka's Java client 4.x and librdkafka 2.x know, by the role that reads it.

use super::Role;

const JAVA: &[(&[Role], &[&str])] = &[
    (
        &[Role::Client],
        &[
            "auto.include.jmx.reporter",
            "bootstrap.controllers",
            "bootstrap.resolve.timeout.ms",
            "bootstrap.servers",
            "client.dns.lookup",
            "client.id",
            "config.providers",
            "connections.max.idle.ms",
            "default.api.timeout.ms",
            "enable.metrics.push",
            "metadata.cluster.check.enable",
            "metadata.max.age.ms",
            "metadata.recovery.rebootstrap.trigger.ms",
            "metadata.recovery.strategy",
            "metric.reporters",
            "metrics.num.samples",
            "metrics.recording.level",
            "metrics.sample.window.ms",
            "receive.buffer.bytes",
            "reconnect.backoff.max.ms",
            "reconnect.backoff.ms",
            "request.timeout.ms",
            "retry.backoff.max.ms",
            "retry.backoff.ms",
            "sasl.client.callback.handler.class",
            "sasl.jaas.config",
            "sasl.kerberos.kinit.cmd",
            "sasl.kerberos.min.time.before.relogin",
            "sasl.kerberos.service.name",
            "sasl.kerberos.ticket.renew.jitter",
            "sasl.kerberos.ticket.renew.window.factor",
            "sasl.login.callback.handler.class",
            "sasl.login.class",
            "sasl.login.connect.timeout.ms",
            "sasl.login.read.timeout.ms",
            "sasl.login.refresh.buffer.seconds",
            "sasl.login.refresh.min.period.seconds",
            "sasl.login.refresh.window.factor",
            "sasl.login.refresh.window.jitter",
            "sasl.login.retry.backoff.max.ms",
            "sasl.login.retry.backoff.ms",
            "sasl.mechanism",
            "sasl.oauthbearer.assertion.algorithm",
            "sasl.oauthbearer.assertion.claim.aud",
            "sasl.oauthbearer.assertion.claim.exp.seconds",
            "sasl.oauthbearer.assertion.claim.iss",
            "sasl.oauthbearer.assertion.claim.jti.include",
            "sasl.oauthbearer.assertion.claim.nbf.seconds",
            "sasl.oauthbearer.assertion.claim.sub",
            "sasl.oauthbearer.assertion.file",
            "sasl.oauthbearer.assertion.private.key.file",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.template.file",
            "sasl.oauthbearer.client.credentials.client.id",
            "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.clock.skew.seconds",
            "sasl.oauthbearer.expected.audience",
            "sasl.oauthbearer.expected.issuer",
            "sasl.oauthbearer.header.urlencode",
            "sasl.oauthbearer.jwks.endpoint.refresh.ms",
            "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms",
            "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms",
            "sasl.oauthbearer.jwks.endpoint.url",
            "sasl.oauthbearer.jwt.retriever.class",
            "sasl.oauthbearer.jwt.validator.class",
            "sasl.oauthbearer.scope",
            "sasl.oauthbearer.scope.claim.name",
            "sasl.oauthbearer.sub.claim.name",
            "sasl.oauthbearer.token.endpoint.url",
            "security.protocol",
            "security.providers",
            "send.buffer.bytes",
            "socket.connection.setup.timeout.max.ms",
            "socket.connection.setup.timeout.ms",
            "ssl.cipher.suites",
            "ssl.enabled.protocols",
            "ssl.endpoint.identification.algorithm",
            "ssl.engine.factory.class",
            "ssl.key.password",
            "ssl.keymanager.algorithm",
            "ssl.keystore.certificate.chain",
            "ssl.keystore.key",
            "ssl.keystore.location",
            "ssl.keystore.password",
            "ssl.keystore.type",
            "ssl.protocol",
            "ssl.provider",
            "ssl.secure.random.implementation",
            "ssl.trustmanager.algorithm",
            "ssl.truststore.certificates",
            "ssl.truststore.location",
            "ssl.truststore.password",
            "ssl.truststore.type",
        ],
    ),
    (
        &[Role::Producer],
        &[
            "acks",
            "batch.size",
            "buffer.memory",
            "compression.gzip.level",
            "compression.lz4.level",
            "compression.type",
            "compression.zstd.level",
            "delivery.timeout.ms",
            "enable.idempotence",
            "key.serializer",
            "linger.ms",
            "max.block.ms",
            "max.in.flight.requests.per.connection",
            "max.request.size",
            "metadata.max.idle.ms",
            "partitioner.adaptive.partitioning.enable",
            "partitioner.availability.timeout.ms",
            "partitioner.class",
            "partitioner.ignore.keys",
            "partitioner.rack.aware",
            "transaction.timeout.ms",
            "transaction.two.phase.commit.enable",
            "transactional.id",
            "value.serializer",
        ],
    ),
    (&[Role::Producer, Role::Admin], &["retries"]),
    (&[Role::Producer, Role::Consumer], &["interceptor.classes"]),
    (&[Role::Consumer, Role::Producer], &["client.rack"]),
    (
        &[Role::Consumer],
        &[
            "allow.auto.create.topics",
            "auto.commit.interval.ms",
            "auto.offset.reset",
            "check.crcs",
            "enable.auto.commit",
            "exclude.internal.topics",
            "fetch.max.bytes",
            "fetch.max.wait.ms",
            "fetch.min.bytes",
            "group.id",
            "group.instance.id",
            "group.protocol",
            "group.remote.assignor",
            "heartbeat.interval.ms",
            "isolation.level",
            "key.deserializer",
            "max.partition.fetch.bytes",
            "max.poll.interval.ms",
            "max.poll.records",
            "partition.assignment.strategy",
            "session.timeout.ms",
            "share.acknowledgement.mode",
            "share.acquire.mode",
            "value.deserializer",
        ],
    ),
];

/// Names that Java's client does not have: one of them shows for whom the properties were written.
const LIBRDKAFKA: &[(&[Role], &[&str])] = &[
    (
        &[Role::Client],
        &[
            "api.version.fallback.ms",
            "api.version.request",
            "api.version.request.timeout.ms",
            "broker.address.family",
            "broker.address.ttl",
            "broker.version.fallback",
            "builtin.features",
            "debug",
            "enable.random.seed",
            "enable.sasl.oauthbearer.unsecure.jwt",
            "enable.ssl.certificate.verification",
            "https.ca.location",
            "https.ca.pem",
            "internal.termination.signal",
            "log.connection.close",
            "log.queue",
            "log.thread.name",
            "log_level",
            "metadata.broker.list",
            "plugin.library.paths",
            "receive.message.max.bytes",
            "reconnect.backoff.jitter.ms",
            "sasl.kerberos.keytab",
            "sasl.kerberos.principal",
            "sasl.mechanisms",
            "sasl.oauthbearer.assertion.jwt.template.file",
            "sasl.oauthbearer.assertion.private.key.pem",
            "sasl.oauthbearer.client.id",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.config",
            "sasl.oauthbearer.extensions",
            "sasl.oauthbearer.grant.type",
            "sasl.oauthbearer.metadata.authentication.type",
            "sasl.oauthbearer.method",
            "sasl.password",
            "sasl.username",
            "socket.blocking.max.ms",
            "socket.keepalive.enable",
            "socket.max.fails",
            "socket.nagle.disable",
            "socket.receive.buffer.bytes",
            "socket.send.buffer.bytes",
            "socket.timeout.ms",
            "ssl.ca.certificate.stores",
            "ssl.ca.location",
            "ssl.ca.pem",
            "ssl.certificate.location",
            "ssl.certificate.pem",
            "ssl.crl.location",
            "ssl.curves.list",
            "ssl.engine.id",
            "ssl.engine.location",
            "ssl.key.location",
            "ssl.key.pem",
            "ssl.providers",
            "ssl.sigalgs.list",
            "statistics.interval.ms",
            "topic.blacklist",
            "topic.metadata.propagation.max.ms",
            "topic.metadata.refresh.fast.cnt",
            "topic.metadata.refresh.fast.interval.ms",
            "topic.metadata.refresh.interval.ms",
            "topic.metadata.refresh.sparse",
        ],
    ),
    (
        &[Role::Producer],
        &[
            "batch.num.messages",
            "compression.codec",
            "compression.level",
            "delivery.report.only.error",
            "enable.gapless.guarantee",
            "max.in.flight",
            "message.copy.max.bytes",
            "message.max.bytes",
            "message.send.max.retries",
            "message.timeout.ms",
            "partitioner",
            "produce.offset.report",
            "queue.buffering.backpressure.threshold",
            "queue.buffering.max.kbytes",
            "queue.buffering.max.messages",
            "queue.buffering.max.ms",
            "queuing.strategy",
            "request.required.acks",
            "sticky.partitioning.linger.ms",
        ],
    ),
    (
        &[Role::Consumer],
        &[
            "auto.commit.enable",
            "consume.callback.max.messages",
            "coordinator.query.interval.ms",
            "enable.auto.offset.store",
            "enable.partition.eof",
            "fetch.error.backoff.ms",
            "fetch.message.max.bytes",
            "fetch.queue.backoff.ms",
            "fetch.wait.max.ms",
            "group.protocol.type",
            "offset.store.method",
            "offset.store.path",
            "offset.store.sync.interval.ms",
            "queued.max.messages.kbytes",
            "queued.min.messages",
        ],
    ),
];

/// The roles that read a key, if any client of Kafka's knows it.
pub(super) fn roles(key: &str) -> Option<&'static [Role]> {
    let listed = JAVA.iter().chain(LIBRDKAFKA).find(|(_, keys)| keys.contains(&key));
    listed.map(|(roles, _)| *roles)
}

/// Whether what stands under this name must not be shown: a password, a key, or something that may have one in it.
/// Misspelt names count as well.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let secret = [
        "passw",
        "passphrase",
        "secret",
        "credential",
        "jaas",
        "keystore.key",
        "key.pem",
        "oauthbearer.config",
    ];
    secret.iter().any(|word| key.contains(word)) && !key.ends_with("client.id")
}

/// Whether librdkafka has this name and Java's client has not.
pub(super) fn only_in_librdkafka(key: &str) -> bool {
    LIBRDKAFKA.iter().any(|(_, keys)| keys.contains(&key))
}

/// The known name that is nearest to `key`, if few changes make one of the other.
pub(super) fn nearest(key: &str, settings: impl Iterator<Item = &'static str>) -> Option<&'static str> {
    let known = JAVA.iter().chain(LIBRDKAFKA).flat_map(|(_, keys)| keys.iter().copied());
    let allowed = (key.len() / 4).clamp(1, 5);
    settings
        .chain(known)
        .map(|name| (edits(key, name), name))
        .filter(|(edits, _)| *edits <= allowed)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, name)| name)
}

/// Levenshtein's distance: how many characters to insert, delete or replace.
fn edits(a: &str, b: &str) -> usize {
    // A key as long as a novel is nobody's misspelling, and would cost as much as it is long.
    if a.len().abs_diff(b.len()) > 5 {
        return usize::MAX;
    }
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (line, from) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(!from.eq_ignore_ascii_case(&to));
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_listed_once() {
        let mut names: Vec<&str> =
            JAVA.iter().chain(LIBRDKAFKA).flat_map(|(_, keys)| keys.iter().copied()).collect();
        names.sort_unstable();
        let listed = names.len();
        names.dedup();
        assert_eq!(names.len(), listed);
    }

    #[test]
    fn the_nearest_name_is_few_changes_away() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(nearest("bootstrap.server", std::iter::empty()), Some("bootstrap.servers"));
        assert_eq!(nearest("Linger.Ms", std::iter::empty()), Some("linger.ms"));
        assert_eq!(nearest("group_id", std::iter::empty()), Some("group.id"));
        assert_eq!(nearest("favourite.colour", std::iter::empty()), None);
    }

    #[test]
    fn every_key_of_tls_and_sasl_belongs_to_the_client() {
        assert_eq!(roles("ssl.truststore.location"), Some(&[Role::Client][..]));
        assert_eq!(roles("sasl.jaas.config"), Some(&[Role::Client][..]));
        assert_eq!(roles("ssl.truststore.locatoin"), None);
        assert_eq!(nearest("ssl.truststore.locatoin", std::iter::empty()), Some("ssl.truststore.location"));
        assert_eq!(roles("colour"), None);
    }

    #[test]
    fn names_of_secrets_are_known_as_such() {
        for key in [
            "sasl.password",
            "sasl.jaas.config",
            "ssl.key.password",
            "ssl.keystore.key",
            "ssl.key.pem",
            "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
            "Sasl.Passwd",
        ] {
            assert!(is_secret(key), "{key}");
        }
        for key in [
            "sasl.username",
            "ssl.key.location",
            "ssl.ca.pem",
            "sasl.oauthbearer.client.credentials.client.id",
        ] {
            assert!(!is_secret(key), "{key}");
        }
    }
}
