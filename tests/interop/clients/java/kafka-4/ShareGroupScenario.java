// A share group hands out every record once to two consumers; needs a client of Kafka 4.

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.consumer.KafkaShareConsumer;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public final class ShareGroupScenario implements Report.Body {
    @Override
    public void run() throws Exception {
        var topic = Support.topic("share", 1);
        var group = Support.name("share");
        try (var one = consumer(group); var other = consumer(group)) {
            one.subscribe(List.of(topic));
            other.subscribe(List.of(topic));
            // The first poll is refused where share groups are not served.
            one.poll(Support.POLL);
            var earliest = new AlterConfigOp(new ConfigEntry("share.auto.offset.reset", "earliest"), AlterConfigOp.OpType.SET);
            var resource = new ConfigResource(ConfigResource.Type.GROUP, group);
            Support.admin().incrementalAlterConfigs(Map.of(resource, List.of(earliest))).all().get();
            Support.produce(topic, 1, 0, 100);
            var read = new TreeSet<String>();
            var handedOut = 0;
            var deadline = System.nanoTime() + Duration.ofSeconds(30).toNanos();
            while (read.size() < 100 && System.nanoTime() < deadline) {
                for (var consumer : List.of(one, other)) {
                    var records = consumer.poll(Support.POLL);
                    handedOut += records.count();
                    read.addAll(Support.values(records));
                }
            }
            Report.equal(new TreeSet<>(Support.numbers(0, 100)), read, "records");
            Report.equal(100, handedOut, "records handed out");
        }
    }

    private static KafkaShareConsumer<byte[], byte[]> consumer(String group) {
        var settings = new HashMap<String, Object>(Map.of("bootstrap.servers", Support.bootstrap, "group.id", group));
        return new KafkaShareConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }
}
