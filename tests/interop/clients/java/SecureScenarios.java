// Where the cluster demands to know who asks. SECURED names a folder with its certificates (ca.pem, alice.pem, alice.key, and of an
// authority that it does not know other/), its `users` (name=password) and its `listeners` (name=host:port,…).

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.CertificateException;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.DescribeTopicsOptions;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AccessControlEntryFilter;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.errors.GroupAuthorizationException;
import org.apache.kafka.common.errors.SaslAuthenticationException;
import org.apache.kafka.common.errors.SslAuthenticationException;
import org.apache.kafka.common.errors.TopicAuthorizationException;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourcePatternFilter;
import org.apache.kafka.common.resource.ResourceType;

final class SecureScenarios {
    private static final String SCRAM = "SCRAM-SHA-512";
    private static Path files;

    /** Leaves the scenario out where the cluster has no such listeners. */
    static void demand() {
        var secured = System.getenv("SECURED");
        if (secured == null) throw new Report.Skipped("SECURED names no folder of a secured cluster");
        files = Path.of(secured);
    }

    static void sasl() throws Exception {
        demand();
        for (var mechanism : List.of("PLAIN", "SCRAM-SHA-256", SCRAM)) roundTrip("sasl-" + mechanism, login(mechanism, "alice"));
        for (var mechanism : List.of("PLAIN", SCRAM)) {
            var wrong = login(mechanism, "alice", password("bob"));
            var refused = Report.fails(SaslAuthenticationException.class, () -> connect(wrong));
            Report.check(refused.getMessage().startsWith("Authentication failed"), refused.getMessage());
        }
        var stranger = Report.fails(SaslAuthenticationException.class, () -> connect(login(SCRAM, "nobody", "secret")));
        Report.check(stranger.getMessage().startsWith("Authentication failed"), stranger.getMessage());
        mistrusted(login(SCRAM, "alice"));
    }

    static void tls() throws Exception {
        demand();
        var mutual = tls("MTLS");
        roundTrip("tls-mutual", and(mutual, identity("")));
        roundTrip("tls", tls("SSL"));
        Report.fails(SslAuthenticationException.class, () -> connect(mutual));
        Report.fails(SslAuthenticationException.class, () -> connect(and(mutual, identity("other/"))));
        mistrusted(tls("SSL"));
    }

    static void acls() throws Exception {
        demand();
        var alice = login(SCRAM, "alice");
        var bob = login(SCRAM, "bob");
        var topic = Support.topic("acls", 1);
        var open = Support.topic("acls-open", 1);
        var group = Support.name("acls");
        var bindings = new HashSet<>(List.of(
                allow("User:alice", ResourceType.TOPIC, topic, AclOperation.WRITE),
                allow("User:alice", ResourceType.TOPIC, topic, AclOperation.READ),
                allow("User:alice", ResourceType.TOPIC, topic, AclOperation.DESCRIBE),
                allow("User:CN=alice", ResourceType.TOPIC, topic, AclOperation.READ),
                allow("User:alice", ResourceType.GROUP, group, AclOperation.READ)));
        // Topic and group have one name.
        var pattern = new ResourcePatternFilter(ResourceType.ANY, topic, PatternType.LITERAL);
        var about = new AclBindingFilter(pattern, AccessControlEntryFilter.ANY);
        try (var admin = Support.admin(login(SCRAM, "admin"))) {
            admin.createAcls(bindings).all().get();
            Report.eventually("the ACLs are described", () -> Set.copyOf(admin.describeAcls(about).values().get()).equals(bindings));

            write(topic, alice);
            Report.equal(Support.numbers(0, 20), read(topic, alice), "what alice reads");
            Report.equal(Support.numbers(0, 20), read(topic, and(tls("MTLS"), identity(""))), "what alice reads by her certificate");
            var operations = Set.of(AclOperation.WRITE, AclOperation.READ, AclOperation.DESCRIBE);
            Report.equal(operations, operations(topic, alice), "what alice may do");
            try (var consumer = Support.consumer(and(alice, Map.of("group.id", group)))) {
                consumer.subscribe(List.of(topic));
                Report.equal(20, Support.poll(consumer, 20).size(), "records of alice's group");
            }

            var refused = Report.fails(TopicAuthorizationException.class, () -> write(topic, bob));
            Report.equal(Set.of(topic), refused.unauthorizedTopics(), "topics that bob may not write");
            Report.fails(TopicAuthorizationException.class, () -> read(topic, bob));
            Report.fails(TopicAuthorizationException.class, () -> operations(topic, bob));
            try (var user = Support.admin(bob)) {
                var listed = user.listTopics().names().get();
                Report.check(listed.contains(open) && !listed.contains(topic), "bob is told of what he may know: " + listed);
            }
            try (var consumer = Support.consumer(and(bob, Map.of("group.id", group)))) {
                consumer.subscribe(List.of(open));
                var member = Report.fails(GroupAuthorizationException.class, () -> Support.poll(consumer, 1));
                Report.equal(group, member.groupId(), "the group that bob may not join");
            }

            // He may know of it now, and what he asks of its leader is refused.
            var known = allow("User:bob", ResourceType.TOPIC, topic, AclOperation.DESCRIBE);
            admin.createAcls(List.of(known)).all().get();
            Report.eventually("bob may know the topic", () -> operations(topic, bob).equals(Set.of(AclOperation.DESCRIBE)));
            Report.fails(TopicAuthorizationException.class, () -> write(topic, bob));
            Report.fails(TopicAuthorizationException.class, () -> read(topic, bob));
            bindings.add(known);

            Report.equal(bindings, Set.copyOf(admin.deleteAcls(List.of(about)).all().get()), "deleted ACLs");
            Report.eventually("the ACLs are gone", () -> admin.describeAcls(about).values().get().isEmpty());
            write(topic, bob);
        }
    }

    private static AclBinding allow(String principal, ResourceType type, String name, AclOperation operation) {
        var entry = new AccessControlEntry(principal, "*", operation, AclPermissionType.ALLOW);
        return new AclBinding(new ResourcePattern(type, name, PatternType.LITERAL), entry);
    }

    private static Set<AclOperation> operations(String topic, Map<String, Object> access) throws Exception {
        try (var admin = Support.admin(access)) {
            var asked = new DescribeTopicsOptions().includeAuthorizedOperations(true);
            return admin.describeTopics(List.of(topic), asked).allTopicNames().get().get(topic).authorizedOperations();
        }
    }

    /** What the client says of a broker whose certificate is of an authority that it does not know. */
    private static void mistrusted(Map<String, Object> access) throws Exception {
        var unknown = and(access, trust("other/"));
        var refused = Report.fails(SslAuthenticationException.class, () -> connect(unknown));
        Throwable cause = refused;
        while (cause != null && !(cause instanceof CertificateException)) cause = cause.getCause();
        Report.check(cause != null, "the certificate is why: " + Report.describe(refused));
    }

    private static void connect(Map<String, Object> access) throws Exception {
        try (var admin = Support.admin(and(access, Map.of("default.api.timeout.ms", 10_000, "request.timeout.ms", 10_000)))) {
            Report.check(!admin.describeCluster().nodes().get().isEmpty(), "nodes");
        }
    }

    private static void roundTrip(String name, Map<String, Object> access) throws Exception {
        var topic = Support.topic(name, 1);
        write(topic, access);
        Report.equal(Support.numbers(0, 20), read(topic, access), "what is read over " + name);
    }

    private static void write(String topic, Map<String, Object> access) throws Exception {
        try (var producer = Support.producer(access)) {
            for (var number : Support.numbers(0, 20)) producer.send(new ProducerRecord<>(topic, Support.bytes(number))).get();
        }
    }

    private static List<String> read(String topic, Map<String, Object> access) {
        return Support.values(Support.readAll(Support.partitions(topic, 1), access));
    }

    private static Map<String, Object> login(String mechanism, String user) throws IOException {
        return login(mechanism, user, password(user));
    }

    private static Map<String, Object> login(String mechanism, String user, String password) throws IOException {
        var module = mechanism.equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule";
        var login = "org.apache.kafka.common.security.%s required username=\"%s\" password=\"%s\";";
        return and(tls("SASL_SSL"), Map.of(
                "security.protocol", "SASL_SSL",
                "sasl.mechanism", mechanism,
                "sasl.jaas.config", String.format(login, module, user, password)));
    }

    private static Map<String, Object> tls(String listener) throws IOException {
        return and(trust(""), Map.of("security.protocol", "SSL", "bootstrap.servers", named("listeners", listener)));
    }

    private static Map<String, Object> trust(String folder) {
        return Map.of("ssl.truststore.type", "PEM", "ssl.truststore.location", files.resolve(folder + "ca.pem").toString());
    }

    private static Map<String, Object> identity(String folder) throws IOException {
        return Map.of(
                "ssl.keystore.type", "PEM",
                "ssl.keystore.certificate.chain", Files.readString(files.resolve(folder + "alice.pem")),
                "ssl.keystore.key", Files.readString(files.resolve(folder + "alice.key")));
    }

    private static String password(String user) throws IOException {
        return named("users", user);
    }

    /** The value of a name in a file of lines name=value. */
    private static String named(String file, String name) throws IOException {
        return Files.readAllLines(files.resolve(file)).stream()
                .filter(line -> line.startsWith(name + "="))
                .map(line -> line.substring(name.length() + 1))
                .findFirst().orElseThrow();
    }

    private static Map<String, Object> and(Map<String, Object> some, Map<String, Object> more) {
        var all = new HashMap<>(some);
        all.putAll(more);
        return all;
    }

    private SecureScenarios() {}
}
