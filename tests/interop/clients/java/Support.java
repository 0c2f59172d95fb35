// Clients with the settings that all scenarios share, and what several scenarios do with them.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Future;
import java.util.function.Function;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

final class Support {
    static final Duration POLL = Duration.ofMillis(100);
    static String bootstrap;
    static String prefix;
    private static Admin shared;

    static synchronized Admin admin() {
        if (shared == null) shared = admin(Map.of());
        return shared;
    }

    static Admin admin(Map<String, Object> settings) {
        return Admin.create(with(settings));
    }

    static synchronized void closeAdmin() {
        if (shared != null) shared.close(Duration.ofSeconds(5));
    }

    static Producer<byte[], byte[]> producer(Map<String, Object> settings) {
        return new KafkaProducer<>(with(settings), new ByteArraySerializer(), new ByteArraySerializer());
    }

    static Consumer<byte[], byte[]> consumer(Map<String, Object> settings) {
        var all = with(Map.of("auto.offset.reset", "earliest", "enable.auto.commit", "false"));
        all.putAll(settings);
        return new KafkaConsumer<>(all, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    private static Map<String, Object> with(Map<String, Object> settings) {
        var all = new HashMap<String, Object>(Map.of("bootstrap.servers", bootstrap));
        all.putAll(settings);
        return all;
    }

    static String name(String of) {
        return prefix + "-" + of;
    }

    /** Creates a topic with the cluster's own replication factor and returns its name. */
    static String topic(String of, int partitions) throws Exception {
        var topic = new NewTopic(name(of), Optional.of(partitions), Optional.empty());
        admin().createTopics(List.of(topic)).all().get();
        return topic.name();
    }

    static List<TopicPartition> partitions(String topic, int count) {
        var partitions = new ArrayList<TopicPartition>();
        for (var partition = 0; partition < count; partition++) partitions.add(new TopicPartition(topic, partition));
        return partitions;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] bytes) {
        return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
    }

    /** Writes numbered records from..to, spread over the partitions in turn, and waits for their acknowledgements. */
    static List<RecordMetadata> produce(String topic, int partitions, int from, int to) throws Exception {
        return produce(topic, from, to, number ->
                new ProducerRecord<>(topic, number % partitions, null, bytes("key-" + number), bytes("" + number)));
    }

    static List<RecordMetadata> produce(
            String topic, int from, int to, Function<Integer, ProducerRecord<byte[], byte[]>> record) throws Exception {
        try (var producer = producer(Map.of("linger.ms", 20))) {
            var sent = new ArrayList<Future<RecordMetadata>>();
            for (var number = from; number < to; number++) sent.add(producer.send(record.apply(number)));
            var written = new ArrayList<RecordMetadata>();
            for (var delivery : sent) written.add(delivery.get());
            return written;
        }
    }

    /** Polls until this many records have come or 20 s have passed; returns what came. */
    static List<ConsumerRecord<byte[], byte[]>> poll(Consumer<byte[], byte[]> consumer, int count) {
        var records = new ArrayList<ConsumerRecord<byte[], byte[]>>();
        var deadline = System.nanoTime() + Duration.ofSeconds(20).toNanos();
        while (records.size() < count && System.nanoTime() < deadline) consumer.poll(POLL).forEach(records::add);
        return records;
    }

    /** Reads whole partitions from their beginnings up to their ends. */
    static List<ConsumerRecord<byte[], byte[]>> readAll(Collection<TopicPartition> partitions, Map<String, Object> settings) {
        try (var consumer = consumer(settings)) {
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            var ends = consumer.endOffsets(partitions);
            var records = new ArrayList<ConsumerRecord<byte[], byte[]>>();
            var deadline = System.nanoTime() + Duration.ofSeconds(20).toNanos();
            while (!partitions.stream().allMatch(partition -> consumer.position(partition) >= ends.get(partition))) {
                Report.check(System.nanoTime() < deadline, "the ends of " + partitions + " are reached within 20 s");
                consumer.poll(POLL).forEach(records::add);
            }
            return records;
        }
    }

    static List<String> values(Iterable<ConsumerRecord<byte[], byte[]>> records) {
        var values = new ArrayList<String>();
        records.forEach(record -> values.add(text(record.value())));
        return values;
    }

    /** "from".."to", the last left out. */
    static List<String> numbers(int from, int to) {
        var numbers = new ArrayList<String>();
        for (var number = from; number < to; number++) numbers.add("" + number);
        return numbers;
    }

    private Support() {}
}
