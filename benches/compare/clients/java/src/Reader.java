import java.time.Duration;
import java.util.List;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;

/** Reads a topic from its beginning: a warm-up, then the window. */
final class Reader {
    private static final Duration POLL = Duration.ofMillis(100);

    private final Options options;
    /** The offset that each partition's next record must have. */
    private final long[] expected;
    private long records;
    private long bytes;
    private long firstBytes;
    private long misplaced;

    Reader(Options options) {
        this.options = options;
        this.expected = new long[(int) options.number("partitions")];
    }

    Report run() {
        long all = options.number("records") == 0 ? Long.MAX_VALUE : options.number("records");
        boolean endless = all == Long.MAX_VALUE;
        try (KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(options.consumer())) {
            String topic = options.text("topic");
            List<TopicPartition> partitions =
                IntStream.range(0, expected.length).mapToObj(index -> new TopicPartition(topic, index)).toList();
            consumer.assign(partitions);
            consumer.seekToBeginning(partitions);
            read(consumer, all / 10, System.nanoTime() + options.nanos("warmup"));
            long recordsBefore = records;
            long bytesBefore = bytes;
            long requests = Report.requests(consumer.metrics());
            Usage start = Usage.beforeWindow();
            read(consumer, all, System.nanoTime() + (endless ? options.nanos("seconds") : Long.MAX_VALUE / 2));
            Report report = new Report(options, start);
            if (firstBytes == 0 && bytes > 0) {
                throw new IllegalStateException("no value has a byte that is not null");
            }
            report.records = records - recordsBefore;
            report.bytes = bytes - bytesBefore;
            report.errors = misplaced;
            report.ackedTotal = records;
            report.requests = String.valueOf(Report.requests(consumer.metrics()) - requests);
            return report;
        }
    }

    /** Reads until there were so many records, or until the moment given. */
    private void read(KafkaConsumer<byte[], byte[]> consumer, long until, long end) {
        while (records < until && System.nanoTime() - end < 0) {
            ConsumerRecords<byte[], byte[]> polled = consumer.poll(POLL);
            for (ConsumerRecord<byte[], byte[]> record : polled) {
                take(record);
            }
        }
    }

    private void take(ConsumerRecord<byte[], byte[]> record) {
        byte[] key = record.key();
        byte[] value = record.value();
        records++;
        bytes += (key == null ? 0 : key.length) + (value == null ? 0 : value.length);
        if (value != null && value.length > 0) {
            firstBytes += value[0];
        }
        int partition = record.partition();
        if (record.offset() != expected[partition]) {
            misplaced++;
            if (misplaced <= 3) {
                System.err.printf(
                    "error: partition %d gave offset %d instead of %d%n", partition, record.offset(), expected[partition]);
            }
        }
        expected[partition] = record.offset() + 1;
    }
}
