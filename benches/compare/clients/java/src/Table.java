import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Locale;
import java.util.SplittableRandom;

/** The records that are produced: built once, cycled through. The text is like that of the Rust drivers. */
final class Table {
    static final int RECORDS = 1024;

    private static final String[] NAMES = {"orderId", "customer", "status", "amount", "createdAt", "warehouse"};
    private static final String[] STATES = {"created", "shipped", "delivered", "cancelled"};

    final byte[][] keys = new byte[RECORDS][];
    final byte[][] values = new byte[RECORDS][];

    Table(int size, int key) {
        SplittableRandom random = new SplittableRandom(6);
        for (int index = 0; index < RECORDS; index++) {
            keys[index] = key(key, index);
            values[index] = value(size, index, random);
        }
    }

    /** Bytes of keys and values of so many records. All have the same size. */
    long bytes(long records) {
        return (keys[0].length + values[0].length) * records;
    }

    private static byte[] key(int size, int index) {
        byte[] key = new byte[size];
        Arrays.fill(key, (byte) '0');
        for (int at = size - 1; at >= 0; at--, index /= 10) {
            key[at] = (byte) ('0' + index % 10);
        }
        return key;
    }

    /** Text as applications write it: names repeat, half of the characters are new. */
    private static byte[] value(int size, int index, SplittableRandom random) {
        StringBuilder text = new StringBuilder("{\"id\":").append(index);
        while (text.length() < size) {
            text.append(",\"").append(NAMES[random.nextInt(NAMES.length)]).append("\":");
            switch (random.nextInt(4)) {
                case 0 -> text.append(random.nextInt(1_000_000));
                case 1 -> text.append('"').append(STATES[random.nextInt(STATES.length)]).append('"');
                case 2 -> text.append(String.format(Locale.ROOT, "\"%012x\"", random.nextLong(1L << 48)));
                default -> text.append(
                    String.format(Locale.ROOT, "{\"total\":%d.%02d}", random.nextInt(1000), random.nextInt(100)));
            }
        }
        text.setLength(size);
        if (size > 1) {
            text.setCharAt(size - 1, '}');
        }
        return text.toString().getBytes(StandardCharsets.US_ASCII);
    }
}
