// Where the cluster demands to know who asks. SECURED names a folder with its certificates (ca.pem, alice.pem, alice.key, and of an
// authority that it does not know other/), its users (name=password) and its listeners (name=host:port,…).

import static java.util.stream.Collectors.toList;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;

final class SecureToolScenarios {
    private static final String ACLS = "AclCommand";
    private static final String SCRAM = "SCRAM-SHA-512";
    private static final String MISTRUSTED = "SslAuthenticationException: SSL handshake failed";

    /** The arguments by which a tool gets in: an address, and a file of settings. */
    private static final class Access {
        final String[] arguments;

        Access(String name, String listener, Stream<String> some, Stream<String> more) throws IOException {
            var file = ToolScenarios.directory.resolve(name + ".properties");
            Files.write(file, Stream.concat(some, more).collect(toList()));
            arguments = new String[] {"--bootstrap-server", line("listeners", listener), "--command-config", file.toString()};
        }

        Tool run(String type, String... more) throws Exception {
            return Tool.run(type, ToolScenarios.and(more, arguments));
        }

        String succeeds(String type, String... more) throws Exception {
            return run(type, more).succeeded();
        }

        void write(String topic) throws Exception {
            Tool.feed(String.join("\n", NUMBERS) + "\n", "ConsoleProducer", ToolScenarios.and(arguments, "--topic", topic));
        }

        Tool read(String topic, String... more) throws Exception {
            String[] all = {"--topic", topic, "--from-beginning", "--max-messages", "20", "--timeout-ms", "10000"};
            return run(ToolScenarios.CONSOLE_CONSUMER, ToolScenarios.and(all, more));
        }

        List<String> records(String topic, String... more) throws Exception {
            return read(topic, more).succeeded().lines().collect(toList());
        }
    }

    private static final List<String> NUMBERS = ToolScenarios.lines(0, 20, "");

    static void sasl() throws Exception {
        for (var mechanism : List.of("PLAIN", "SCRAM-SHA-256", SCRAM)) {
            roundTrip("sasl-" + mechanism, login(mechanism, "alice", password("alice"), "."));
            refused("SaslAuthenticationException: Authentication failed", login(mechanism, "alice", "wrong", "."));
        }
        refused(MISTRUSTED, login(SCRAM, "alice", password("alice"), "other"));
    }

    static void tls() throws Exception {
        roundTrip("tls-mutual", tls("MTLS", trust("."), identity(".")));
        roundTrip("tls", tls("SSL", trust(".")));
        refused("SslAuthenticationException", tls("MTLS", trust(".")));
        refused("SslAuthenticationException", tls("MTLS", trust("."), identity("other")));
        refused(MISTRUSTED, tls("SSL", trust("other")));
    }

    static void acls() throws Exception {
        var admin = user("admin");
        var alice = user("alice");
        var bob = user("bob");
        var topic = ToolScenarios.create("acls", 1);
        var open = ToolScenarios.create("acls-open", 1);
        var group = ToolScenarios.prefix + "-acls";
        admin.succeeds(ACLS, "--add", "--allow-principal", "User:alice", "--producer", "--topic", topic);
        admin.succeeds(ACLS, "--add", "--allow-principal", "User:alice", "--consumer", "--topic", topic, "--group", group);
        var allowed = "(principal=User:alice, host=*, operation=%s, permissionType=ALLOW)";
        Report.eventually("the ACLs are listed", () -> {
            var listed = admin.succeeds(ACLS, "--list", "--topic", topic);
            return Stream.of("READ", "WRITE", "DESCRIBE", "CREATE").allMatch(operation -> listed.contains(String.format(allowed, operation)));
        });

        alice.write(topic);
        Report.equal(NUMBERS, alice.records(topic, "--group", group), "what alice reads");
        Report.check(alice.succeeds("TopicCommand", "--list").lines().anyMatch(topic::equals), "alice is told of the topic");
        String[] one = {"--topic", topic, "--num-records", "1", "--record-size", "10", "--throughput", "-1"};
        denied(bob.run("ProducerPerformance", one), "TopicAuthorizationException");
        denied(bob.read(topic), "TopicAuthorizationException");
        denied(bob.read(open, "--group", group), "GroupAuthorizationException");
        Report.check(bob.succeeds("TopicCommand", "--list").lines().noneMatch(topic::equals), "bob is not told of the topic");

        admin.succeeds(ACLS, "--remove", "--force", "--topic", topic);
        admin.succeeds(ACLS, "--remove", "--force", "--group", group);
        Report.eventually("the ACLs are gone", () -> !admin.succeeds(ACLS, "--list").contains(topic));
        Report.equal(NUMBERS, bob.records(topic), "what bob reads then");
    }

    private static void denied(Tool tool, String error) {
        ToolScenarios.contains(tool.out() + tool.err(), error);
    }

    private static void refused(String error, Access access) throws Exception {
        var listed = access.run("TopicCommand", "--list");
        Report.check(listed.status() != 0, "the tool fails: " + listed.out());
        ToolScenarios.contains(listed.out() + listed.err(), error);
    }

    private static void roundTrip(String name, Access access) throws Exception {
        var topic = ToolScenarios.create(name, 1);
        access.write(topic);
        Report.equal(NUMBERS, access.records(topic), "what is read over " + name);
    }

    private static Access user(String name) throws IOException {
        return login(SCRAM, name, password(name), ".");
    }

    private static Access login(String mechanism, String user, String password, String authority) throws IOException {
        var module = mechanism.equals("PLAIN") ? "plain.PlainLoginModule" : "scram.ScramLoginModule";
        var login = "sasl.jaas.config=org.apache.kafka.common.security.%s required username=\"%s\" password=\"%s\";";
        var sasl = Stream.of("security.protocol=SASL_SSL", "sasl.mechanism=" + mechanism, String.format(login, module, user, password));
        return new Access(user, "SASL_SSL", sasl, trust(authority));
    }

    @SafeVarargs
    private static Access tls(String listener, Stream<String>... settings) throws IOException {
        return new Access(listener, listener, Stream.of("security.protocol=SSL"), Stream.of(settings).flatMap(all -> all));
    }

    private static Stream<String> trust(String folder) {
        return Stream.of("ssl.truststore.type=PEM", "ssl.truststore.location=" + files().resolve(folder).resolve("ca.pem"));
    }

    /** One file with the key and the certificate, as Java reads it. */
    private static Stream<String> identity(String folder) throws IOException {
        var from = files().resolve(folder);
        var both = ToolScenarios.directory.resolve("identity-" + folder + ".pem");
        Files.writeString(both, Files.readString(from.resolve("alice.key")) + Files.readString(from.resolve("alice.pem")));
        return Stream.of("ssl.keystore.type=PEM", "ssl.keystore.location=" + both);
    }

    private static String password(String user) throws IOException {
        return line("users", user);
    }

    /** The value of a name in a file of lines name=value. */
    private static String line(String file, String name) throws IOException {
        return Files.readAllLines(files().resolve(file)).stream()
                .filter(line -> line.startsWith(name + "="))
                .map(line -> line.substring(name.length() + 1))
                .findFirst().orElseThrow();
    }

    private static Path files() {
        var secured = System.getenv("SECURED");
        if (secured == null) throw new Report.Skipped("SECURED names no folder of a secured cluster");
        return Path.of(secured);
    }

    private SecureToolScenarios() {}
}
