import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.HexFormat;

/** The records that are produced: built once, cycled through. Byte for byte those of the drivers in other languages. */
final class Table {
    static final int RECORDS = 1024;

    private static final String[] NAMES = {"orderId", "customer", "status", "amount", "createdAt", "warehouse"};
    private static final String[] STATES = {"created", "shipped", "delivered", "cancelled"};

    final byte[][] keys;
    final byte[][] values;

    /** The first of the records, all of which have keys and values of these sizes. */
    Table(int size, int key, int records) {
        keys = new byte[records][];
        values = new byte[records][];
        SplitMix random = new SplitMix();
        for (int index = 0; index < records; index++) {
            keys[index] = key(key, index);
            values[index] = value(size, index, random);
        }
    }

    /** Bytes of keys and values of so many records. */
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
    private static byte[] value(int size, int index, SplitMix random) {
        StringBuilder text = new StringBuilder("{\"id\":").append(index);
        while (text.length() < size) {
            text.append(",\"").append(NAMES[random.below(NAMES.length)]).append("\":");
            switch (random.below(4)) {
                case 0 -> text.append(random.below(1_000_000));
                case 1 -> text.append('"').append(STATES[random.below(STATES.length)]).append('"');
                case 2 -> text.append('"').append(HexFormat.of().toHexDigits((int) (random.next() >>> 32))).append('"');
                default -> {
                    text.append("{\"total\":").append(random.below(1000)).append('.');
                    int cents = random.below(100);
                    text.append(cents / 10).append(cents % 10).append('}');
                }
            }
        }
        text.setLength(size);
        if (size > 1) {
            text.setCharAt(size - 1, '}');
        }
        return text.toString().getBytes(StandardCharsets.US_ASCII);
    }

    /** splitmix64, which is quick to write in every language. */
    private static final class SplitMix {
        private long state = 6;

        long next() {
            state += 0x9e3779b97f4a7c15L;
            long z = state;
            z = (z ^ z >>> 30) * 0xbf58476d1ce4e5b9L;
            z = (z ^ z >>> 27) * 0x94d049bb133111ebL;
            return z ^ z >>> 31;
        }

        int below(int bound) {
            return (int) ((next() >>> 33) % bound);
        }
    }
}
