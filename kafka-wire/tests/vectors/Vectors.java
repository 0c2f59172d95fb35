// Writes the batches in this folder with Kafka's own Java code, or reads batches that we wrote. Not run by the tests.
//   CP=kafka-clients-4.3.1.jar:lz4-java-1.10.2.jar:snappy-java-1.1.10.7.jar:zstd-jni-1.5.6-10.jar:slf4j-api-1.7.36.jar
//   java -cp $CP Vectors.java write .        java -cp $CP Vectors.java read FILE...
import java.nio.ByteBuffer;
import java.nio.file.*;
import java.util.zip.CRC32;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.*;
import org.apache.kafka.common.record.internal.*;
import org.apache.kafka.common.record.internal.Record;

public class Vectors {
    public static void main(String[] args) throws Exception {
        if (args[0].equals("write")) {
            Path folder = Path.of(args[1]);
            for (CompressionType type : CompressionType.values())
                save(folder, "java-" + type.name, batch(type, TimestampType.CREATE_TIME, false, type == CompressionType.NONE ? 40 : 300));
            save(folder, "java-log-append-time", batch(CompressionType.LZ4, TimestampType.LOG_APPEND_TIME, false, 40));
            save(folder, "java-transactional", batch(CompressionType.NONE, TimestampType.CREATE_TIME, true, 40));
            save(folder, "java-commit", MemoryRecords.withEndTransactionMarker(1_700_000_000_000L, 4711L, (short) 3,
                new EndTransactionMarker(ControlRecordType.COMMIT, 9)));
        } else {
            for (int i = 1; i < args.length; i++) read(args[i]);
        }
    }

    static MemoryRecords batch(CompressionType type, TimestampType timestamps, boolean transactional, int records) {
        boolean append = timestamps == TimestampType.LOG_APPEND_TIME;
        MemoryRecordsBuilder builder = MemoryRecords.builder(ByteBuffer.allocate(1 << 20), RecordBatch.MAGIC_VALUE_V2,
            Compression.of(type).build(), timestamps, 1000L, append ? 1_800_000_000_000L : -1L,
            transactional ? 4711L : -1L, (short) (transactional ? 3 : -1), transactional ? 77 : -1, transactional, 5);
        for (int i = 0; i < records; i++) {
            byte[] key = i % 7 == 0 ? null : ("key-" + i % 17).getBytes();
            byte[] value = i % 11 == 0 ? null : ("value " + i + ";").repeat(i % 130).getBytes();
            Header[] headers = new Header[i % 3];
            for (int h = 0; h < headers.length; h++)
                headers[h] = new RecordHeader("header", i % 5 == 0 ? null : ("h" + h).getBytes());
            builder.append(1_700_000_000_000L + i * 37 % 1000, key, value, headers);
        }
        return builder.build();
    }

    static void save(Path folder, String name, MemoryRecords records) throws Exception {
        byte[] bytes = new byte[records.buffer().remaining()];
        records.buffer().duplicate().get(bytes);
        Files.write(folder.resolve(name + ".bin"), bytes);
    }

    // Prints one line a batch, with a CRC-32 over all its records.
    static void read(String file) throws Exception {
        MemoryRecords records = MemoryRecords.readableRecords(ByteBuffer.wrap(Files.readAllBytes(Path.of(file))));
        for (MutableRecordBatch batch : records.batches()) {
            batch.ensureValid();
            CRC32 crc = new CRC32();
            int count = 0;
            for (Record record : batch) {
                record.ensureValid();
                crc.update((record.offset() + " " + record.timestamp()).getBytes());
                if (record.hasKey()) crc.update(record.key());
                if (record.hasValue()) crc.update(record.value());
                for (Header header : record.headers()) {
                    crc.update(header.key().getBytes());
                    if (header.value() != null) crc.update(header.value());
                }
                count++;
            }
            System.out.println(file + " " + batch.compressionType() + " " + count + " " + crc.getValue());
        }
    }
}
