import java.util.Map;

/** Fails unless the records are those of the drivers in every language. */
final class TableTest {
    public static void main(String[] arguments) {
        Map.of(10, 0x37da857a464641abL, 100, 0x1f347cc99d82d5dfL, 1024, 0xc0cfb3c0187b0a3fL).forEach((size, expected) -> {
            Table table = new Table(size, 16, Table.RECORDS);
            long hash = 0xcbf29ce484222325L;
            for (int index = 0; index < Table.RECORDS; index++) {
                hash = fnv1a(fnv1a(hash, table.keys[index]), table.values[index]);
            }
            if (hash != expected) {
                throw new AssertionError(String.format("values of %d bytes: %x instead of %x", size, hash, expected));
            }
        });
    }

    private static long fnv1a(long hash, byte[] bytes) {
        for (byte next : bytes) {
            hash = (hash ^ next & 0xff) * 0x100000001b3L;
        }
        return hash;
    }
}
