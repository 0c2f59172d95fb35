import java.util.HashMap;
import java.util.Map;
import java.util.Properties;

/** The command line that every driver has, in every language. */
final class Options {
    /** What all clients may keep of records that are not acknowledged. */
    private static final String BUFFER_BYTES = String.valueOf(32 << 20);

    final String mode;
    private final Map<String, String> values = new HashMap<>();

    Options(String[] arguments) {
        String[] names = {
            "client", "bootstrap", "topic", "partitions", "settings", "linger-us", "batch-bytes", "codec", "in-flight",
            "size", "key", "rate", "tasks", "warmup", "seconds", "records", "epoch-ns"
        };
        String[] defaults = {
            "java", null, null, "1", "defaults", "5000", "16384", "none", "5", "100", "16", "0", "1", "1", "5", "0", null
        };
        for (int i = 0; i < names.length; i++) {
            values.put(names[i], defaults[i]);
        }
        String word = null;
        for (int i = 0; i < arguments.length; i++) {
            String argument = arguments[i];
            if (!argument.startsWith("--")) {
                if (word != null) {
                    throw new IllegalArgumentException("unexpected argument " + argument);
                }
                word = argument;
                continue;
            }
            String[] parts = argument.substring(2).split("=", 2);
            if (!values.containsKey(parts[0])) {
                throw new IllegalArgumentException("unknown option --" + parts[0]);
            }
            if (parts.length == 1 && i + 1 == arguments.length) {
                throw new IllegalArgumentException("--" + parts[0] + " has no value");
            }
            values.put(parts[0], parts.length == 2 ? parts[1] : arguments[++i]);
        }
        if (word == null) {
            throw new IllegalArgumentException("no mode: produce, latency, consume, start, memory");
        }
        mode = word;
    }

    String text(String name) {
        String value = values.get(name);
        if (value == null) {
            throw new IllegalArgumentException("--" + name + " is missing");
        }
        return value;
    }

    long number(String name) {
        return Long.parseLong(text(name));
    }

    long nanos(String name) {
        return (long) (Double.parseDouble(text(name)) * 1e9);
    }

    boolean equal() {
        return text("settings").equals("equal");
    }

    /** What the producer is told: nothing but the address, or the settings that all clients share. */
    Properties producer() {
        Properties properties = client("serializer", "org.apache.kafka.common.serialization.ByteArraySerializer");
        if (equal()) {
            // Whole milliseconds are the finest it knows.
            properties.put("linger.ms", String.valueOf((number("linger-us") + 999) / 1000));
            properties.put("batch.size", text("batch-bytes"));
            properties.put("compression.type", text("codec"));
            properties.put("max.in.flight.requests.per.connection", text("in-flight"));
            properties.put("acks", "all");
            properties.put("enable.idempotence", "true");
            properties.put("buffer.memory", BUFFER_BYTES);
            // By default a request holds 1 MiB in all, so that a batch of that size never fills.
            properties.put("max.request.size", BUFFER_BYTES);
        }
        return properties;
    }

    Properties consumer() {
        Properties properties = client("deserializer", "org.apache.kafka.common.serialization.ByteArrayDeserializer");
        properties.put("auto.offset.reset", "earliest");
        if (equal()) {
            properties.put("max.poll.records", "10000");
        }
        return properties;
    }

    private Properties client(String serde, String name) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", text("bootstrap"));
        properties.put("key." + serde, name);
        properties.put("value." + serde, name);
        return properties;
    }
}
