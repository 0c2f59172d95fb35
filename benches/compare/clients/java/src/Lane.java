import java.util.concurrent.Future;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.Producer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;

/** What one thread produces: the records of the table in turn, to each partition in turn or to where the client chooses. */
final class Lane {
    /** The distance of the bursts in which a rate is kept. */
    static final long BURSTS = 10_000_000;
    /** The distance of the moments at which the records of mode latency are due. */
    static final long MOMENTS = 1_000_000;

    private final Producer<byte[], byte[]> producer;
    private final Table table;
    private final String topic;
    private final int partitions;
    private final boolean choosesPartition;
    private final long rate;
    private int next;
    private int partition;

    Lane(Options options, Producer<byte[], byte[]> producer, Table table, long rate) {
        this.producer = producer;
        this.table = table;
        this.topic = options.text("topic");
        this.partitions = (int) options.number("partitions");
        this.choosesPartition = !options.equal();
        this.rate = rate;
    }

    /** Sends the next record. */
    Future<RecordMetadata> send(Callback callback) {
        Integer to = null;
        if (!choosesPartition) {
            to = partition;
            step();
            if (next + 1 == table.keys.length) {
                // Lest a partition gets the same few records in each pass of the table.
                step();
            }
        }
        return send(to, callback);
    }

    private void step() {
        partition = partition + 1 < partitions ? partition + 1 : 0;
    }

    /** Sends the next record to this partition. */
    Future<RecordMetadata> send(Integer to, Callback callback) {
        int record = next;
        next = next + 1 < table.keys.length ? next + 1 : 0;
        return producer.send(new ProducerRecord<>(topic, to, table.keys[record], table.values[record]), callback);
    }

    /** Sends as fast as the client takes records, and looks at the clock once for each pass of the table. */
    void saturate(long nanos, Callback callback) {
        long end = System.nanoTime() + nanos;
        while (System.nanoTime() - end < 0) {
            for (int i = 0; i < Table.RECORDS; i++) {
                send(callback);
            }
        }
    }

    /** What a record that is due at this moment is given. */
    interface Callbacks {
        Callback dueAt(long moment);
    }

    /** Sends at the rate, as much as is due every so often; what was missed is caught up. */
    void keepRate(long nanos, long interval, Callbacks callbacks) {
        long first = System.nanoTime() + interval;
        for (long tick = 0; tick < nanos / interval; tick++) {
            long moment = first + tick * interval;
            for (long now = System.nanoTime(); now - moment < 0; now = System.nanoTime()) {
                LockSupport.parkNanos(moment - now);
            }
            Callback callback = callbacks.dueAt(moment);
            for (long due = due(tick + 1, interval) - due(tick, interval); due > 0; due--) {
                send(callback);
            }
        }
    }

    private long due(long ticks, long interval) {
        return (long) ((double) rate * ticks * interval / 1e9);
    }

    /** The rate of this lane; 0 is as much as possible. */
    long rate() {
        return rate;
    }
}
