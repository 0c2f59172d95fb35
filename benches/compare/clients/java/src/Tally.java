import org.apache.kafka.clients.consumer.ConsumerRecord;

/** What was read of a topic, and whether it was all there and in order. */
final class Tally {
    /** The offset that each partition's next record must have. */
    private final long[] expected;
    private long records;
    private long bytes;
    private long firstBytes;
    private long misplaced;

    Tally(int partitions) {
        expected = new long[partitions];
    }

    long records() {
        return records;
    }

    long bytes() {
        return bytes;
    }

    long misplaced() {
        return misplaced;
    }

    /** Takes note of the next record. */
    void take(ConsumerRecord<byte[], byte[]> record) {
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

    /** Tells the report of everything that was read. */
    void into(Report report) {
        if (firstBytes == 0 && bytes > 0) {
            throw new IllegalStateException("no value has a byte that is not null");
        }
        report.records = records;
        report.bytes = bytes;
        report.errors = misplaced;
        report.ackedTotal = records;
    }
}
