// Positions: by time, by seek, below the beginning, and the way Spark asks for them.

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;

final class OffsetScenarios {
    static void offsetsForTimes() throws Exception {
        var topic = Support.topic("times", 2);
        var base = System.currentTimeMillis() - 3_600_000;
        // Ten milliseconds apart in partition 0, with the newest in the middle; partition 1 stays empty.
        Support.produce(topic, 0, 100, number -> {
            var timestamp = number == 70 ? base + 5000 : base + number * 10L;
            return new ProducerRecord<>(topic, 0, timestamp, null, Support.bytes("" + number));
        });
        var full = new TopicPartition(topic, 0);
        var empty = new TopicPartition(topic, 1);
        try (var consumer = Support.consumer(Map.of())) {
            var found = consumer.offsetsForTimes(Map.of(full, base + 495, empty, base));
            Report.equal(50L, found.get(full).offset(), "first offset at or after the time");
            Report.equal(base + 500, found.get(full).timestamp(), "its timestamp");
            Report.check(found.get(full).leaderEpoch().isPresent(), "its leader epoch is known");
            Report.check(found.get(empty) == null, "nothing is found in an empty partition");
            Report.equal(0L, consumer.offsetsForTimes(Map.of(full, 0L)).get(full).offset(), "before all");
            Report.equal(70L, consumer.offsetsForTimes(Map.of(full, base + 1000)).get(full).offset(), "the one that is newer");
            Report.check(consumer.offsetsForTimes(Map.of(full, base + 5001)).get(full) == null, "after all");
            Report.equal(Map.of(full, 0L, empty, 0L), consumer.beginningOffsets(List.of(full, empty)), "beginnings");
            Report.equal(Map.of(full, 100L, empty, 0L), consumer.endOffsets(List.of(full, empty)), "ends");
        }
        Report.equal(0L, listed(full, OffsetSpec.earliest()).offset(), "earliest");
        Report.equal(100L, listed(full, OffsetSpec.latest()).offset(), "latest");
        Report.equal(50L, listed(full, OffsetSpec.forTimestamp(base + 500)).offset(), "by time");
        Report.equal(-1L, listed(full, OffsetSpec.forTimestamp(base + 5001)).offset(), "after all, by the admin");
        Report.equal(70L, listed(full, OffsetSpec.maxTimestamp()).offset(), "newest record");
        Report.equal(-1L, listed(empty, OffsetSpec.maxTimestamp()).offset(), "newest of none");
    }

    private static ListOffsetsResultInfo listed(TopicPartition partition, OffsetSpec spec) throws Exception {
        return Support.admin().listOffsets(Map.of(partition, spec)).partitionResult(partition).get();
    }

    static void seek() throws Exception {
        var topic = Support.topic("seek", 2);
        Support.produce(topic, 2, 0, 200);
        var zero = new TopicPartition(topic, 0);
        var one = new TopicPartition(topic, 1);
        try (var consumer = Support.consumer(Map.of("max.poll.records", 10))) {
            consumer.assign(List.of(zero, one));
            consumer.pause(List.of(one));
            consumer.seek(zero, 50);
            Report.equal("100", first(consumer.poll(Support.POLL), () -> Support.poll(consumer, 1)), "from the middle");
            consumer.seekToBeginning(List.of(zero));
            Report.equal(0L, consumer.position(zero), "position at the beginning");
            Report.equal("0", Support.values(Support.poll(consumer, 10)).get(0), "from the beginning");
            Report.equal(10L, consumer.position(zero), "position after ten records");
            consumer.seekToEnd(List.of(zero));
            Report.equal(100L, consumer.position(zero), "position at the end");
            Report.equal(0, consumer.poll(Support.POLL).count(), "records at the end, the other partition paused");
            consumer.resume(List.of(one));
            var resumed = Support.poll(consumer, 100);
            Report.equal(100, resumed.size(), "records of the resumed partition");
            Report.check(resumed.stream().allMatch(record -> record.partition() == 1), "only the resumed partition is read");
            Support.produce(topic, 2, 200, 202);
            Report.equal(List.of("200", "201"), Support.values(Support.poll(consumer, 2)).stream().sorted().collect(Collectors.toList()), "new records");
        }
    }

    private interface More {
        Iterable<org.apache.kafka.clients.consumer.ConsumerRecord<byte[], byte[]>> get();
    }

    private static String first(Iterable<org.apache.kafka.clients.consumer.ConsumerRecord<byte[], byte[]>> now, More later) {
        var values = Support.values(now);
        return values.isEmpty() ? Support.values(later.get()).get(0) : values.get(0);
    }

    static void deleteRecords() throws Exception {
        var topic = Support.topic("delete-records", 1);
        var partition = new TopicPartition(topic, 0);
        Support.produce(topic, 1, 0, 100);
        var admin = Support.admin();
        var deleted = admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(40)));
        Report.equal(40L, deleted.lowWatermarks().get(partition).get().lowWatermark(), "low watermark");
        Report.equal(40L, listed(partition, OffsetSpec.earliest()).offset(), "earliest");
        Report.fails(org.apache.kafka.common.errors.OffsetOutOfRangeException.class, () ->
                admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(101))).all().get());

        try (var consumer = Support.consumer(Map.of("auto.offset.reset", "earliest"))) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 10);
            Report.equal(Support.numbers(40, 100), Support.values(Support.poll(consumer, 60)), "what is left");
        }
        try (var consumer = Support.consumer(Map.of("auto.offset.reset", "none"))) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, 10);
            var outOfRange = Report.fails(OffsetOutOfRangeException.class, () -> Support.poll(consumer, 1));
            Report.equal(Map.of(partition, 10L), outOfRange.offsetOutOfRangePartitions(), "what is out of range");
        }
        admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(-1))).all().get();
        Report.equal(100L, listed(partition, OffsetSpec.earliest()).offset(), "earliest after deleting all");
    }

    /** The driver plans ranges by the admin client, executors read each range by assign, seek and poll. */
    static void sparkPattern() throws Exception {
        var topic = Support.topic("spark", 3);
        var base = System.currentTimeMillis() - 3_600_000;
        Support.produce(topic, 0, 300, number ->
                new ProducerRecord<>(topic, number % 3, base + number, null, Support.bytes("" + number)));
        var admin = Support.admin();
        var described = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions();
        var partitions = described.stream()
                .map(info -> new TopicPartition(topic, info.partition()))
                .collect(Collectors.toList());
        Report.equal(Support.partitions(topic, 3), partitions, "partitions");
        var earliest = offsets(partitions, partition -> OffsetSpec.earliest());
        var latest = offsets(partitions, partition -> OffsetSpec.latest());
        var since = offsets(partitions, partition -> OffsetSpec.forTimestamp(base + 150));
        Report.equal(List.of(0L, 0L, 0L), values(partitions, earliest), "earliest");
        Report.equal(List.of(100L, 100L, 100L), values(partitions, latest), "latest");
        Report.equal(List.of(50L, 50L, 50L), values(partitions, since), "since");

        var read = new ArrayList<String>();
        for (var partition : partitions) {
            try (var executor = Support.consumer(Map.of("group.id", Support.name("spark-executor"), "auto.offset.reset", "none"))) {
                executor.assign(List.of(partition));
                executor.seek(partition, since.get(partition));
                while (executor.position(partition) < latest.get(partition)) read.addAll(Support.values(executor.poll(Support.POLL)));
                executor.seekToBeginning(List.of(partition));
                Report.equal(0L, executor.position(partition), "position at the beginning");
                executor.seekToEnd(List.of(partition));
                Report.equal(100L, executor.position(partition), "position at the end");
                OffsetAndTimestamp found = executor.offsetsForTimes(Map.of(partition, base + 150)).get(partition);
                Report.equal(50L, found.offset(), "offset by time");
            }
        }
        read.sort((one, other) -> Integer.parseInt(one) - Integer.parseInt(other));
        Report.equal(Support.numbers(150, 300), read, "records of the ranges");

        // Retention overtakes a planned range: the executor is told, rather than given something else.
        var first = partitions.get(0);
        admin.deleteRecords(Map.of(first, RecordsToDelete.beforeOffset(80))).all().get();
        try (var executor = Support.consumer(Map.of("auto.offset.reset", "none"))) {
            executor.assign(List.of(first));
            executor.seek(first, 50);
            Report.fails(OffsetOutOfRangeException.class, () -> Support.poll(executor, 1));
        }
    }

    private static Map<TopicPartition, Long> offsets(
            List<TopicPartition> partitions, Function<TopicPartition, OffsetSpec> spec) throws Exception {
        var asked = partitions.stream().collect(Collectors.toMap(partition -> partition, spec));
        var found = new HashMap<TopicPartition, Long>();
        Support.admin().listOffsets(asked).all().get().forEach((partition, result) -> found.put(partition, result.offset()));
        return found;
    }

    private static List<Long> values(List<TopicPartition> partitions, Map<TopicPartition, Long> offsets) {
        return partitions.stream().map(offsets::get).collect(Collectors.toList());
    }

    private OffsetScenarios() {}
}
