// What a broker may not serve: each must work, or be refused at once with an error that says so.

import java.util.Map;
import java.util.TreeSet;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.UnsupportedVersionException;

final class LaterScenarios {
    /** The client has no error of its own for a broker without transactions; it repeats the broker's words. */
    private static final String NO_TRANSACTIONS = "this broker coordinates groups only";

    private static void served(Report.Body body) throws Exception {
        try {
            body.run();
        } catch (Exception | AssertionError failure) {
            for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
                var named = cause instanceof UnsupportedVersionException;
                if (named || String.valueOf(cause.getMessage()).contains(NO_TRANSACTIONS)) throw new Report.NotServed(cause);
            }
            throw failure;
        }
    }

    static void transactions() throws Exception {
        var input = Support.topic("transactions-in", 1);
        var output = Support.topic("transactions-out", 2);
        var group = Support.name("transactions");
        Support.produce(input, 1, 0, 90);
        var settings = Map.<String, Object>of("transactional.id", Support.name("copier"), "max.block.ms", 10_000);
        served(() -> {
            try (var producer = Support.producer(settings);
                    var consumer = Support.consumer(Map.of("group.id", group, "max.poll.records", 10))) {
                producer.initTransactions();
                consumer.assign(Support.partitions(input, 1));
                var aborted = new TreeSet<Long>();
                for (long next = 0; next < 90; ) {
                    producer.beginTransaction();
                    consumer.seek(new TopicPartition(input, 0), next);
                    var records = Support.poll(consumer, 10);
                    for (var record : records) producer.send(new ProducerRecord<>(output, record.key(), record.value()));
                    var end = records.get(records.size() - 1).offset() + 1;
                    var commit = Map.of(new TopicPartition(input, 0), new OffsetAndMetadata(end));
                    producer.sendOffsetsToTransaction(commit, consumer.groupMetadata());
                    producer.flush();
                    // Every third transaction is aborted the first time, and tried again from the same offset.
                    if (next / 10 % 3 == 2 && aborted.add(next)) producer.abortTransaction();
                    else {
                        producer.commitTransaction();
                        next = end;
                    }
                }
            }
        });
        var committed = Support.readAll(Support.partitions(output, 2), Map.of("isolation.level", "read_committed"));
        var all = Support.readAll(Support.partitions(output, 2), Map.of("isolation.level", "read_uncommitted"));
        Report.equal(new TreeSet<>(Support.numbers(0, 90)), new TreeSet<>(Support.values(committed)), "committed records");
        Report.equal(90, committed.size(), "committed records, each once");
        Report.equal(120, all.size(), "records with the aborted ones");
        var offsets = Support.admin().listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        Report.equal(90L, offsets.get(new TopicPartition(input, 0)).offset(), "offset committed by transactions");
    }

    static void consumerProtocol() throws Exception {
        served(() -> GroupScenarios.rebalances("kip-848", Map.of("group.protocol", "consumer")));
    }

    /** The share consumer is not in every client: its scenario is compiled where it is. */
    static void shareGroups() throws Exception {
        Class<?> scenario;
        try {
            scenario = Class.forName("ShareGroupScenario");
        } catch (ClassNotFoundException absent) {
            throw new Report.Skipped("this client has no share consumer");
        }
        served(() -> ((Report.Body) scenario.getDeclaredConstructor().newInstance()).run());
    }

    private LaterScenarios() {}
}
