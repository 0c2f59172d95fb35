// What is written is what is read: codecs, idempotence, headers and nulls, sizes.

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Future;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.RecordTooLargeException;

final class ProduceScenarios {
    static void codecs() throws Exception {
        for (var codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            var topic = Support.topic("codec-" + codec, 1);
            try (var producer = Support.producer(Map.of("compression.type", codec, "linger.ms", 20))) {
                for (var number = 0; number < 200; number++) {
                    producer.send(new ProducerRecord<>(topic, Support.bytes(value(codec, number))));
                }
            }
            var read = Support.values(Support.readAll(Support.partitions(topic, 1), Map.of()));
            var expected = new ArrayList<String>();
            for (var number = 0; number < 200; number++) expected.add(value(codec, number));
            Report.equal(expected, read, "records of " + codec);
        }
    }

    private static String value(String codec, int number) {
        return "a record that compresses well, well, well with " + codec + ", number " + number;
    }

    /** Small batches, five of them under way for each partition: sequence numbers keep their order. */
    static void idempotent() throws Exception {
        var topic = Support.topic("idempotent", 3);
        var settings = Map.<String, Object>of(
                "enable.idempotence", true, "acks", "all", "batch.size", 512, "max.in.flight.requests.per.connection", 5);
        try (var producer = Support.producer(settings)) {
            var sent = new ArrayList<Future<RecordMetadata>>();
            for (var number = 0; number < 3000; number++) {
                sent.add(producer.send(new ProducerRecord<>(topic, number % 3, null, Support.bytes("" + number))));
            }
            for (var number = 0; number < 3000; number++) {
                Report.equal((long) number / 3, sent.get(number).get().offset(), "offset of record " + number);
            }
        }
        for (var partition : Support.partitions(topic, 3)) {
            var expected = Support.numbers(0, 3000).stream()
                    .filter(number -> Integer.parseInt(number) % 3 == partition.partition())
                    .collect(Collectors.toList());
            Report.equal(expected, Support.values(Support.readAll(List.of(partition), Map.of())), "records of " + partition);
            var producers = Support.admin().describeProducers(List.of(partition)).partitionResult(partition).get();
            Report.equal(1, producers.activeProducers().size(), "producers that the broker knows for " + partition);
            Report.equal(999, producers.activeProducers().get(0).lastSequence(), "last sequence of " + partition);
        }
    }

    static void headers() throws Exception {
        var topic = Support.topic("headers", 1);
        Support.produce(topic, 0, 4, number -> {
            var record = new ProducerRecord<>(
                    topic, 0, number == 1 ? null : Support.bytes("key"), number == 2 ? null : Support.bytes("value"));
            if (number == 3) return record;
            record.headers().add("a", Support.bytes("1")).add("b", null).add("a", Support.bytes("2")).add("", new byte[0]);
            return record;
        });
        var read = Support.readAll(Support.partitions(topic, 1), Map.of());
        Report.equal(4, read.size(), "records");
        Report.check(read.get(1).key() == null, "a null key stays null");
        Report.check(read.get(2).value() == null, "a null value stays null");
        Report.equal(0, read.get(3).headers().toArray().length, "headers of a record without them");
        var headers = new ArrayList<String>();
        for (var header : read.get(0).headers()) headers.add(header.key() + "=" + Support.text(header.value()));
        Report.equal(List.of("a=1", "b=null", "a=2", "="), headers, "headers, in order");
        Report.equal("2", Support.text(read.get(0).headers().lastHeader("a").value()), "last of the duplicates");
    }

    static void large() throws Exception {
        var topic = Support.topic("large", 1);
        var patient = Map.<String, Object>of("max.request.size", 16_000_000);
        try (var producer = Support.producer(Map.of()); var bigger = Support.producer(patient)) {
            producer.send(new ProducerRecord<>(topic, noise(900_000))).get();
            Report.fails(RecordTooLargeException.class, () -> producer.send(new ProducerRecord<>(topic, noise(2_000_000))).get());
            // The producer's own limit is out of the way: now it is the broker that refuses.
            Report.fails(RecordTooLargeException.class, () -> bigger.send(new ProducerRecord<>(topic, noise(2_000_000))).get());

            var resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
            var raise = new AlterConfigOp(new ConfigEntry("max.message.bytes", "4000000"), AlterConfigOp.OpType.SET);
            Support.admin().incrementalAlterConfigs(Map.of(resource, List.of(raise))).all().get();
            Report.eventually("the raised limit accepts 3 MB", () ->
                    bigger.send(new ProducerRecord<>(topic, noise(3_000_000))).get().hasOffset());
        }
        // The consumer's limits are lower than the record: it comes nevertheless, alone.
        var read = Support.readAll(Support.partitions(topic, 1), Map.of("max.partition.fetch.bytes", 100_000, "fetch.max.bytes", 100_000));
        Report.equal(2, read.size(), "records");
        Report.check(Arrays.equals(noise(900_000), read.get(0).value()), "900 KB come back as they were");
        Report.check(Arrays.equals(noise(3_000_000), read.get(1).value()), "3 MB come back as they were");
    }

    /** Bytes that no codec makes smaller, the same in each call. */
    private static byte[] noise(int length) {
        var bytes = new byte[length];
        new Random(length).nextBytes(bytes);
        return bytes;
    }

    private ProduceScenarios() {}
}
