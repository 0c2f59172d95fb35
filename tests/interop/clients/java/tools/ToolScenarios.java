// Runs every scenario with Kafka's command line tools against the cluster at BOOTSTRAP, one line on stdout for each.

import static java.util.stream.Collectors.toList;
import static java.util.stream.Collectors.toMap;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.stream.IntStream;
import java.util.stream.Stream;

public final class ToolScenarios {
    static final String CONSOLE_CONSUMER = "consumer.ConsoleConsumer";
    private static final String GROUPS = "consumer.group.ConsumerGroupCommand";
    private static final String CONFIGS = "kafka.admin.ConfigCommand";
    private static String bootstrap;
    static String prefix;
    static Path directory;

    public static void main(String[] arguments) throws Exception {
        directory = Path.of(arguments[0]);
        bootstrap = arguments[1];
        prefix = arguments[2];
        Tool.install();
        var only = List.of(arguments).subList(3, arguments.length);
        for (var scenario : scenarios()) {
            if (only.isEmpty() || only.contains(scenario.getKey())) Report.run(scenario.getKey(), scenario.getValue());
        }
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    private static List<Map.Entry<String, Report.Body>> scenarios() {
        return List.of(
                Map.entry("admin", ToolScenarios::admin),
                Map.entry("codecs", ToolScenarios::codecs),
                Map.entry("idempotent", ToolScenarios::idempotent),
                Map.entry("group", () -> group("group", "partition.assignment.strategy=org.apache.kafka.clients.consumer.RangeAssignor")),
                Map.entry("cooperative", () -> group("cooperative", "partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor")),
                Map.entry("commit-resume", ToolScenarios::commitAndResume),
                Map.entry("offsets-for-times", ToolScenarios::offsetsForTimes),
                Map.entry("headers", ToolScenarios::headers),
                Map.entry("large", ToolScenarios::large),
                Map.entry("seek", ToolScenarios::seek),
                Map.entry("delete-records", ToolScenarios::deleteRecords),
                Map.entry("spark-pattern", ToolScenarios::absent),
                Map.entry("transactions", ToolScenarios::transactions),
                Map.entry("kip-848", () -> served(() -> group("kip-848", "group.protocol=consumer"))),
                Map.entry("sasl", SecureToolScenarios::sasl),
                Map.entry("tls", SecureToolScenarios::tls),
                Map.entry("acls", SecureToolScenarios::acls),
                Map.entry("share-groups", ToolScenarios::shareGroups));
    }

    private static void admin() throws Exception {
        var topic = prefix + "-admin";
        topics("--create", "--topic", topic, "--partitions", "3", "--config", "retention.ms=3600000");
        var again = Tool.run("TopicCommand", with("--create", "--topic", topic));
        Report.check(again.status() == 1 && again.out().contains("already exists"), "a second creation fails: " + again.out());
        topics("--create", "--topic", topic, "--if-not-exists");
        Report.check(topics("--list").lines().anyMatch(topic::equals), "the topic is listed");
        contains(topics("--describe", "--topic", topic), "PartitionCount: 3", "retention.ms=3600000");
        equal(3, topics("--describe", "--topic", topic).lines().filter(line -> line.contains("Leader: ")).count(), "partitions");
        equal("", topics("--describe", "--topic", topic, "--unavailable-partitions"), "unavailable partitions");
        equal("", topics("--describe", "--topic", topic, "--under-replicated-partitions"), "under-replicated partitions");

        configs("--alter", "--topic", topic, "--add-config", "retention.ms=7200000,cleanup.policy=[compact,delete]");
        eventually(() -> configs("--describe", "--topic", topic), "retention.ms=7200000", "cleanup.policy=compact,delete");
        configs("--alter", "--topic", topic, "--delete-config", "retention.ms");
        Report.eventually("retention.ms is gone", () -> !configs("--describe", "--topic", topic).contains("retention.ms"));
        contains(configs("--describe", "--topic", topic, "--all"), "retention.ms=604800000", "DEFAULT_CONFIG", "flush.ms=9223372036854775807");
        var wrong = Tool.run(CONFIGS, with("--alter", "--topic", topic, "--add-config", "retention.ms=soon"));
        Report.check(wrong.status() == 1, "a wrong value is refused");
        contains(wrong.err(), "Invalid value soon");
        var broker = "1";
        contains(configs("--describe", "--broker", broker, "--all"), "num.partitions=", "log.retention.ms=");
        configs("--alter", "--broker", broker, "--add-config", "log.retention.ms=604800001");
        eventually(() -> configs("--describe", "--broker", broker), "log.retention.ms=604800001", "DYNAMIC_BROKER_CONFIG");
        configs("--alter", "--broker", broker, "--delete-config", "log.retention.ms");

        topics("--alter", "--topic", topic, "--partitions", "5");
        eventually(() -> topics("--describe", "--topic", topic), "PartitionCount: 5");
        var fewer = Tool.run("TopicCommand", with("--alter", "--topic", topic, "--partitions", "4"));
        Report.check(fewer.status() == 1, "fewer partitions are refused: " + fewer.out());

        contains(tool("BrokerApiVersionsCommand"), "Produce(0): 0 to ", "Fetch(1): 4 to ");
        equal(22, tool("ClusterTool", "cluster-id").strip().replace("Cluster ID: ", "").length(), "length of the cluster id");
        contains(tool("LogDirsCommand", "--describe", "--topic-list", topic), "\"" + topic + "-0\"");
        contains(tool("LeaderElectionCommand", "--election-type", "PREFERRED", "--topic", topic, "--partition", "0"), "Valid replica already elected");

        topics("--delete", "--topic", topic);
        Report.eventually("the topic is no longer listed", () -> topics("--list").lines().noneMatch(topic::equals));
        var gone = Tool.run("TopicCommand", with("--describe", "--topic", topic));
        Report.check(gone.status() == 1 && gone.out().contains("does not exist"), "describing it fails: " + gone.out());
    }

    private static void codecs() throws Exception {
        for (var codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            var topic = create("codec-" + codec, 1);
            var lines = lines(0, 200, "a record that compresses well, well, well with " + codec + ", number ");
            produce(topic, lines, "--compression-codec", codec);
            equal(lines, consume(200, "--topic", topic, "--from-beginning"), "records of " + codec);
        }
    }

    /** The producers of both tools are idempotent, which is their default. */
    private static void idempotent() throws Exception {
        var topic = create("idempotent", 3);
        var said = Tool.spawned("VerifiableProducer", with("--topic", topic, "--max-messages", "1500", "--acks", "-1"));
        equal(1500, said.lines().filter(line -> line.contains("\"name\":\"producer_send_success\"")).count(), "acknowledgements");
        for (var partition = 0; partition < 3; partition++) {
            var ends = tool("GetOffsetShell", "--topic-partitions", topic + ":" + partition, "--time", "latest").strip();
            var end = Integer.parseInt(ends.substring(ends.lastIndexOf(':') + 1));
            if (end == 0) continue;
            var numbers = consume(end, "--topic", topic, "--partition", "" + partition, "--offset", "earliest").stream()
                    .map(Integer::parseInt).collect(toList());
            equal(numbers.stream().sorted().collect(toList()), numbers, "order in partition " + partition);
        }
        equal(new TreeSet<>(lines(0, 1500, "")), new TreeSet<>(consume(1500, "--topic", topic, "--from-beginning")), "all records");

        var fast = create("performance", 3);
        var measured = tool("ProducerPerformance", "--topic", fast, "--num-records", "5000", "--record-size", "100", "--throughput", "-1",
                "--command-property", "compression.type=lz4", "batch.size=4096");
        contains(measured, "5000 records sent");
        equal(5000, consume(5000, "--topic", fast, "--from-beginning").size(), "records of the performance test");
        equal(true, tool("GetOffsetShell", "--topic", fast).lines().mapToInt(ToolScenarios::offset).sum() == 5000, "no record is there twice");
    }

    private static int offset(String line) {
        return Integer.parseInt(line.substring(line.lastIndexOf(':') + 1));
    }

    /** Two console consumers share a topic, one is interrupted, a third comes. */
    private static void group(String name, String protocol) throws Exception {
        var topic = create(name, 4);
        var group = prefix + "-" + name;
        var member = new ArrayList<>(List.of("--topic", topic, "--group", group, "--from-beginning", "--command-property", protocol));
        if (!protocol.startsWith("group.protocol")) member.addAll(List.of("--command-property", "heartbeat.interval.ms=100"));
        member.addAll(List.of("--command-property", "auto.commit.interval.ms=100"));
        var first = Tool.start(CONSOLE_CONSUMER, with(member.toArray(new String[0])));
        Tool second = null;
        Tool third = null;
        try {
            members(group, List.of(first), 4);
            produce(topic, lines(0, 200, ""), "--command-property", "batch.size=16");
            awaitLines(200, first);
            second = Tool.start(CONSOLE_CONSUMER, with(member.toArray(new String[0])));
            members(group, List.of(first, second), 2, 2);
            var refused = Tool.run(GROUPS, with("--delete", "--group", group));
            Report.check(refused.out().contains("GroupNotEmptyException"), "a group with members stays: " + refused.out());
            produce(topic, lines(200, 400, ""), "--command-property", "batch.size=16");
            awaitLines(400, first, second);
            first.close();
            members(group, List.of(second), 4);
            third = Tool.start(CONSOLE_CONSUMER, with(member.toArray(new String[0])));
            members(group, List.of(second, third), 2, 2);
            produce(topic, lines(400, 600, ""), "--command-property", "batch.size=16");
            awaitLines(600, first, second, third);
        } finally {
            for (var tool : new Tool[] {first, second, third}) if (tool != null) tool.close();
        }
        var read = Stream.of(first, second, third).flatMap(tool -> tool.out().lines()).sorted().collect(toList());
        equal(lines(0, 600, "").stream().sorted().collect(toList()), read, "records, each once");
        eventually(() -> tool(GROUPS, "--describe", "--group", group, "--state"), "Empty");
        var offsets = tool(GROUPS, "--describe", "--group", group, "--offsets");
        equal(600, rows(offsets, topic).mapToInt(row -> Integer.parseInt(row[3])).sum(), "committed offsets");
        equal(0, rows(offsets, topic).mapToInt(row -> Integer.parseInt(row[5])).sum(), "lag");
        contains(tool(GROUPS, "--delete", "--group", group), "was successful");
    }

    /** Waits until the group's members have these numbers of partitions. */
    private static void members(String group, List<Tool> running, Integer... partitions) throws Exception {
        var wanted = List.of(partitions);
        Report.eventually("members of " + group + " with " + wanted + " partitions", () -> {
            for (var tool : running) tool.runs();
            var listed = tool(GROUPS, "--describe", "--group", group, "--members");
            return rows(listed, group).map(row -> Integer.parseInt(row[row.length - 1])).collect(toList()).equals(wanted);
        });
    }

    /** The columns of the lines of a table that are about this. */
    private static Stream<String[]> rows(String table, String about) {
        return table.lines().filter(line -> List.of(line.split("\\s+")).contains(about)).map(line -> line.split("\\s+"));
    }

    private static void awaitLines(long count, Tool... tools) throws Exception {
        Report.eventually(count + " records are read", () -> Stream.of(tools).mapToLong(tool -> tool.out().lines().count()).sum() >= count);
    }

    private static void commitAndResume() throws Exception {
        var topic = create("commit-resume", 1);
        var group = prefix + "-commit-resume";
        produce(topic, lines(0, 100, ""));
        String[] member = {"--topic", topic, "--group", group, "--from-beginning"};
        equal(lines(0, 40, ""), consume(40, member), "the first 40");
        equal(lines(40, 80, ""), consume(40, member), "the next 40");
        contains(tool(GROUPS, "--list"), group);
        var described = rows(tool(GROUPS, "--describe", "--group", group), topic).findFirst().orElseThrow();
        equal(List.of("80", "100", "20"), List.of(described[3], described[4], described[5]), "offset, end and lag");
        tool(GROUPS, "--reset-offsets", "--group", group, "--topic", topic, "--to-offset", "10", "--execute");
        equal("10", consume(1, member).get(0), "where a reset group resumes");
        contains(tool(GROUPS, "--delete-offsets", "--group", group, "--topic", topic), "Successful");
        contains(tool(GROUPS, "--delete", "--group", group), "was successful");
        Report.check(!tool(GROUPS, "--list").contains(group), "the group is gone");
    }

    private static void offsetsForTimes() throws Exception {
        var topic = create("times", 2);
        produce(topic, lines(0, 50, ""));
        Report.eventually("the clock has moved on", () -> System.currentTimeMillis() > newest(topic) + 5);
        var between = newest(topic) + 1;
        produce(topic, lines(50, 60, ""));
        equal(60, offsets(topic, "latest"), "latest");
        equal(0, offsets(topic, "earliest"), "earliest");
        equal(50, offsets(topic, "" + between), "by time");
        contains(tool("GetOffsetShell", "--topic", topic, "--time", "max-timestamp"), topic + ":");
    }

    /** The newest timestamp, as the console consumer prints it. */
    private static long newest(String topic) throws Exception {
        var printed = consume(50, "--topic", topic, "--from-beginning", "--formatter-property", "print.timestamp=true");
        return printed.stream().mapToLong(line -> Long.parseLong(line.split("\t")[0].replace("CreateTime:", ""))).max().orElseThrow();
    }

    /** The sum over the partitions; one without an answer has all its records before the time. */
    private static int offsets(String topic, String time) throws Exception {
        var found = byPartition(topic, time);
        var latest = byPartition(topic, "latest");
        return latest.keySet().stream().mapToInt(partition -> found.getOrDefault(partition, latest.get(partition))).sum();
    }

    private static Map<String, Integer> byPartition(String topic, String time) throws Exception {
        return tool("GetOffsetShell", "--topic", topic, "--time", time).lines()
                .filter(line -> !line.endsWith(":"))
                .collect(toMap(line -> line.substring(0, line.lastIndexOf(':')), ToolScenarios::offset));
    }

    private static void headers() throws Exception {
        var topic = create("headers", 1);
        var lines = List.of("a:1,b:2,a:3\tkey\tvalue", "a:1\tNULL\tvalue", "a:1\tkey\tNULL");
        produce(topic, lines, "--reader-property", "parse.headers=true", "--reader-property", "parse.key=true",
                "--reader-property", "null.marker=NULL");
        var read = consume(3, "--topic", topic, "--from-beginning", "--formatter-property", "print.headers=true",
                "--formatter-property", "print.key=true", "--formatter-property", "null.literal=NULL");
        equal(lines, read, "headers, keys and values");
    }

    private static void large() throws Exception {
        var topic = create("large", 1);
        performance(topic, 900_000, true);
        performance(topic, 3_000_000, false);
        configs("--alter", "--topic", topic, "--add-config", "max.message.bytes=4000000");
        eventually(() -> configs("--describe", "--topic", topic), "max.message.bytes=4000000");
        performance(topic, 3_000_000, true);
        var sizes = consume(2, "--topic", topic, "--from-beginning").stream().map(String::length).collect(toList());
        equal(List.of(900_000, 3_000_000), sizes, "sizes");
    }

    private static void performance(String topic, int size, boolean fits) throws Exception {
        var run = Tool.run("ProducerPerformance", with("--topic", topic, "--num-records", "1", "--record-size", "" + size,
                "--throughput", "-1", "--command-property", "max.request.size=16000000"));
        var refused = (run.out() + run.err()).contains("RecordTooLargeException");
        equal(!fits, refused, size + " bytes are refused");
    }

    private static void seek() throws Exception {
        var topic = create("seek", 1);
        produce(topic, lines(0, 100, ""));
        String[] partition = {"--topic", topic, "--partition", "0", "--offset"};
        equal(lines(50, 60, ""), consume(10, and(partition, "50")), "from the middle");
        equal(lines(0, 10, ""), consume(10, and(partition, "earliest")), "from the beginning");
        var end = Tool.run(CONSOLE_CONSUMER, with(and(partition, "latest", "--timeout-ms", "500")));
        equal("", end.out(), "records after the end");
    }

    private static void deleteRecords() throws Exception {
        var topic = create("delete-records", 1);
        produce(topic, lines(0, 100, ""));
        var file = directory.resolve("offsets.json");
        Files.writeString(file, "{\"partitions\": [{\"topic\": \"" + topic + "\", \"partition\": 0, \"offset\": 40}], \"version\": 1}");
        contains(tool("DeleteRecordsCommand", "--offset-json-file", file.toString()), "low_watermark: 40");
        equal(topic + ":0:40", tool("GetOffsetShell", "--topic", topic, "--time", "earliest").strip(), "earliest");
        equal(lines(40, 100, ""), consume(60, "--topic", topic, "--from-beginning"), "what is left");
        var below = consume(60, "--topic", topic, "--partition", "0", "--offset", "10", "--command-property", "auto.offset.reset=earliest");
        equal(lines(40, 100, ""), below, "what is left, from below the beginning");
    }

    private static void transactions() throws Exception {
        var topic = create("transactions", 1);
        served(() -> {
            var said = Tool.run("ProducerPerformance", with("--topic", topic, "--num-records", "500", "--record-size", "10",
                    "--throughput", "2000", "--transactional-id", prefix, "--transaction-duration-ms", "50"));
            refused(said, "this broker coordinates groups only");
            contains(said.succeeded(), "500 records sent");
            equal(500, consume(500, "--topic", topic, "--from-beginning", "--isolation-level", "read_committed").size(), "committed");
            contains(Tool.succeeds("TransactionsCommand", "--bootstrap-server", bootstrap, "list"), prefix);
        });
    }

    private static void shareGroups() throws Exception {
        var topic = create("share", 1);
        served(() -> {
            var said = Tool.run("consumer.ConsoleShareConsumer", with("--topic", topic, "--group", prefix + "-share", "--timeout-ms", "1000"));
            refused(said, "UnsupportedVersionException");
            said.succeeded();
            contains(tool("consumer.group.ShareGroupCommand", "--list"), prefix + "-share");
        });
    }

    private static void absent() {
        throw new Report.Skipped("the tools have nothing of their own for it");
    }

    /** Fails with what the broker said if the tool ended because of that. */
    private static void refused(Tool tool, String... refusals) {
        for (var line : (tool.out() + tool.err()).lines().collect(toList())) {
            for (var refusal : refusals) if (line.contains(refusal)) throw new Report.NotServed(new IllegalStateException(line));
        }
    }

    private static void served(Report.Body body) throws Exception {
        try {
            body.run();
        } catch (AssertionError failure) {
            var said = String.valueOf(failure.getMessage());
            if (said.contains("UnsupportedVersionException")) throw new Report.NotServed(failure);
            throw failure;
        }
    }

    static String create(String name, int partitions) throws Exception {
        var topic = prefix + "-" + name;
        topics("--create", "--topic", topic, "--partitions", "" + partitions);
        return topic;
    }

    private static void produce(String topic, List<String> lines, String... more) throws Exception {
        Tool.feed(String.join("\n", lines) + "\n", "ConsoleProducer", with(and(new String[] {"--topic", topic}, more)));
    }

    private static List<String> consume(int count, String... more) throws Exception {
        var read = Tool.run(CONSOLE_CONSUMER, with(and(more, "--max-messages", "" + count, "--timeout-ms", "15000")));
        return read.succeeded().lines().collect(toList());
    }

    private static String topics(String... arguments) throws Exception {
        return tool("TopicCommand", arguments);
    }

    private static String configs(String... arguments) throws Exception {
        return tool(CONFIGS, arguments);
    }

    private static String tool(String type, String... arguments) throws Exception {
        return Tool.succeeds(type, with(arguments));
    }

    private static String[] with(String... arguments) {
        return and(arguments, "--bootstrap-server", bootstrap);
    }

    static String[] and(String[] some, String... more) {
        return Stream.of(some, more).flatMap(Stream::of).toArray(String[]::new);
    }

    static List<String> lines(int from, int to, String before) {
        return IntStream.range(from, to).mapToObj(number -> before + number).collect(toList());
    }

    static void contains(String text, String... parts) {
        for (var part : parts) Report.check(text.contains(part), "no " + part + " in: " + text);
    }

    private interface Text {
        String get() throws Exception;
    }

    private static void eventually(Text text, String... parts) throws Exception {
        Report.eventually(String.join(" and ", parts), () -> {
            var now = text.get();
            return Stream.of(parts).allMatch(now::contains);
        });
    }

    private static void equal(Object expected, Object actual, String what) {
        if (expected instanceof Integer && actual instanceof Long) Report.equal(((Integer) expected).longValue(), actual, what);
        else Report.equal(expected, actual, what);
    }

    private ToolScenarios() {}
}
