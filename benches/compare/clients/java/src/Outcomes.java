import org.HdrHistogram.Histogram;
import org.apache.kafka.clients.producer.Callback;
import org.apache.kafka.clients.producer.RecordMetadata;

/**
 * Counts what was acknowledged and what failed.
 *
 * <p>Acknowledgements come on the producer's one thread, before the flush that waits for them returns: only failures, which
 * may come on any, need a lock.
 */
final class Outcomes implements Callback {
    /** From due to acknowledged, in ns; made anew for the window. */
    Histogram latencies = histogram();
    private long acked;
    private long failed;

    static Histogram histogram() {
        return new Histogram(1, 120_000_000_000L, 3);
    }

    /** As of the last flush. */
    long acked() {
        return acked;
    }

    synchronized long failed() {
        return failed;
    }

    @Override
    public void onCompletion(RecordMetadata metadata, Exception error) {
        if (error == null) {
            acked++;
        } else {
            fail(error);
        }
    }

    /** For a record that was due at this moment, by {@link System#nanoTime}. */
    Callback dueAt(long due) {
        return (metadata, error) -> {
            if (error == null) {
                latencies.recordValue(Math.min(System.nanoTime() - due, latencies.getHighestTrackableValue()));
            }
            onCompletion(metadata, error);
        };
    }

    private synchronized void fail(Exception error) {
        failed++;
        if (failed <= 3) {
            System.err.println("error: " + error);
        }
    }
}
