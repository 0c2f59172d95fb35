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
    private final List<TopicPartition> partitions;

    Reader(Options options) {
        this.options = options;
        this.partitions = IntStream.range(0, (int) options.number("partitions"))
            .mapToObj(index -> new TopicPartition(options.text("topic"), index))
            .toList();
    }

    Report run() {
        long all = options.number("records");
        return all == 0 ? endless() : all(all);
    }

    /** For so long, by a consumer that has read before. */
    private Report endless() {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            Tally tally = tally();
            read(consumer, tally, Long.MAX_VALUE, System.nanoTime() + options.nanos("warmup"));
            long records = tally.records();
            long bytes = tally.bytes();
            long requests = Report.requests(consumer.metrics());
            Usage start = Usage.beforeWindow();
            read(consumer, tally, Long.MAX_VALUE, System.nanoTime() + options.nanos("seconds"));
            Report report = new Report(options, start);
            tally.into(report);
            report.records -= records;
            report.bytes -= bytes;
            report.requests = String.valueOf(Report.requests(consumer.metrics()) - requests);
            return report;
        }
    }

    /**
     * The whole of a topic by a new consumer. The window begins before it is made: what it fetches ahead must not be had
     * for nothing.
     */
    private Report all(long all) {
        long misplaced = warmUp(all);
        Tally tally = tally();
        Usage start = Usage.beforeWindow();
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            // However long it takes: whoever started this has a deadline.
            read(consumer, tally, all, System.nanoTime() + Long.MAX_VALUE / 2);
            Report report = new Report(options, start);
            tally.into(report);
            report.errors += misplaced;
            report.requests = String.valueOf(Report.requests(consumer.metrics()));
            return report;
        }
    }

    /** Reads the topic again and again, so that the JVM has compiled what there is to compile; gives what was misplaced. */
    private long warmUp(long all) {
        long misplaced = 0;
        long end = System.nanoTime() + options.nanos("warmup");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            while (System.nanoTime() - end < 0) {
                Tally tally = tally();
                read(consumer, tally, all, end);
                misplaced += tally.misplaced();
                consumer.seekToBeginning(partitions);
            }
        }
        return misplaced;
    }

    private Tally tally() {
        return new Tally(partitions.size());
    }

    private KafkaConsumer<byte[], byte[]> consumer() {
        KafkaConsumer<byte[], byte[]> consumer = new KafkaConsumer<>(options.consumer());
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        return consumer;
    }

    /** Reads until there were so many records, or until the moment given. */
    private static void read(KafkaConsumer<byte[], byte[]> consumer, Tally tally, long until, long end) {
        while (tally.records() < until && System.nanoTime() - end < 0) {
            ConsumerRecords<byte[], byte[]> polled = consumer.poll(POLL);
            for (ConsumerRecord<byte[], byte[]> record : polled) {
                tally.take(record);
            }
        }
    }
}
