import java.time.Instant;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.producer.KafkaProducer;

/** Drives Kafka's Java client for the comparison: one mode, one line of results. */
final class Driver {
    /** How long a client idles before its memory is read. */
    private static final long IDLE_MS = 2000;

    private final Options options;

    private Driver(Options options) {
        this.options = options;
    }

    public static void main(String[] arguments) {
        int code = 0;
        try {
            Options options = new Options(arguments);
            System.out.println(new Driver(options).run());
        } catch (Exception error) {
            System.err.println(error);
            code = 1;
        }
        // What is sent is acknowledged: closing would only take its time.
        Runtime.getRuntime().halt(code);
    }

    private Report run() throws Exception {
        return switch (options.mode) {
            case "produce" -> produce();
            case "latency" -> latency();
            case "consume" -> new Reader(options).run();
            case "start" -> start();
            case "memory" -> memory();
            default -> throw new IllegalArgumentException("unknown mode " + options.mode);
        };
    }

    private KafkaProducer<byte[], byte[]> producer() {
        return new KafkaProducer<>(options.producer());
    }

    private Table table(int records) {
        return new Table((int) options.number("size"), (int) options.number("key"), records);
    }

    private Report produce() throws InterruptedException {
        KafkaProducer<byte[], byte[]> producer = producer();
        Table table = table(Table.RECORDS);
        Outcomes outcomes = new Outcomes();
        long tasks = Math.max(1, options.number("tasks"));
        long rate = options.number("rate");
        if (rate != 0 && rate < tasks) {
            throw new IllegalArgumentException("a rate below one record a second for each task");
        }
        List<Lane> lanes = new ArrayList<>();
        for (long task = 0; task < tasks; task++) {
            lanes.add(new Lane(options, producer, table, rate / tasks + (task < rate % tasks ? 1 : 0)));
        }
        phase(lanes, outcomes, options.nanos("warmup"));
        producer.flush();
        long before = outcomes.acked();
        long requests = Report.requests(producer.metrics());
        Usage start = Usage.beforeWindow();
        phase(lanes, outcomes, options.nanos("seconds"));
        producer.flush();
        Report report = new Report(options, start);
        report.records = outcomes.acked() - before;
        report.bytes = table.bytes(report.records);
        report.errors = outcomes.failed();
        report.ackedTotal = outcomes.acked();
        report.requests = String.valueOf(Report.requests(producer.metrics()) - requests);
        return report;
    }

    /** Runs all lanes for a while; a single one needs no thread of its own. */
    private static void phase(List<Lane> lanes, Outcomes outcomes, long nanos) throws InterruptedException {
        List<Thread> threads = new ArrayList<>();
        for (Lane lane : lanes) {
            Runnable phase = () -> {
                if (lane.rate() == 0) {
                    lane.saturate(nanos, outcomes);
                } else {
                    lane.keepRate(nanos, Lane.BURSTS, moment -> outcomes);
                }
            };
            if (lanes.size() == 1) {
                phase.run();
            } else {
                threads.add(new Thread(phase));
            }
        }
        threads.forEach(Thread::start);
        for (Thread thread : threads) {
            thread.join();
        }
    }

    private Report latency() {
        long rate = options.number("rate");
        if (rate == 0) {
            throw new IllegalArgumentException("latency needs a --rate");
        }
        KafkaProducer<byte[], byte[]> producer = producer();
        Table table = table(Table.RECORDS);
        Outcomes outcomes = new Outcomes();
        Lane lane = new Lane(options, producer, table, rate);
        lane.keepRate(options.nanos("warmup"), Lane.MOMENTS, outcomes::dueAt);
        producer.flush();
        long before = outcomes.acked();
        outcomes.latencies = Outcomes.histogram();
        Usage start = Usage.beforeWindow();
        lane.keepRate(options.nanos("seconds"), Lane.MOMENTS, outcomes::dueAt);
        producer.flush();
        Report report = new Report(options, start);
        report.records = outcomes.acked() - before;
        report.bytes = table.bytes(report.records);
        report.errors = outcomes.failed();
        report.ackedTotal = outcomes.acked();
        report.latency(outcomes.latencies);
        return report;
    }

    private Report start() throws ExecutionException, InterruptedException {
        Usage start = Usage.none();
        long spawned = options.number("epoch-ns");
        KafkaProducer<byte[], byte[]> producer = producer();
        Table table = table(1);
        Outcomes outcomes = new Outcomes();
        // Not by a flush, which would cut the linger short.
        new Lane(options, producer, table, 0).send(outcomes).get();
        Instant now = Instant.now();
        long nanos = now.getEpochSecond() * 1_000_000_000 + now.getNano() - spawned;
        Report report = single(outcomes, table, start);
        report.firstAckUs = String.valueOf(nanos / 1000);
        return report;
    }

    /** A first record makes the client know the topic. */
    private Report memory() throws InterruptedException {
        Usage start = Usage.none();
        KafkaProducer<byte[], byte[]> producer = producer();
        Table table = table(Table.RECORDS);
        Outcomes outcomes = new Outcomes();
        Lane lane = new Lane(options, producer, table, 0);
        long idle = 0;
        for (int partition = 0; partition < options.number("partitions"); partition++) {
            lane.send(partition, outcomes);
            if (partition == 0) {
                producer.flush();
                Thread.sleep(IDLE_MS);
                idle = Usage.rssKib();
            }
        }
        producer.flush();
        Thread.sleep(IDLE_MS);
        String memory = "{\"idle_rss_kib\":" + idle + ",\"written_rss_kib\":" + Usage.rssKib() + "}";
        Report report = single(outcomes, table, start);
        report.memory = memory;
        return report;
    }

    private Report single(Outcomes outcomes, Table table, Usage start) {
        Report report = new Report(options, start);
        report.records = outcomes.acked();
        report.bytes = table.bytes(report.records);
        report.errors = outcomes.failed();
        report.ackedTotal = outcomes.acked();
        return report;
    }
}
