// Writes transactions to partition 0 of a topic with the Java client: rounds of 10 records, every third one aborted, one
// committed round in each codec, and last one that stays open until standard input ends.
//
//   java -cp "LIBS/*" Transactions.java BOOTSTRAP TOPIC

import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringSerializer;

public class Transactions {
    public static void main(String[] arguments) throws Exception {
        String bootstrap = arguments[0], topic = arguments[1];
        int round = 0;
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            Map<String, Object> settings = Map.of(
                "bootstrap.servers", bootstrap, "transactional.id", topic + "-" + codec, "compression.type", codec);
            try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
                producer.initTransactions();
                for (int end = round + 6; round < end; round++) {
                    boolean commit = round % 3 != 2;
                    producer.beginTransaction();
                    for (int n = 0; n < 10; n++) {
                        producer.send(new ProducerRecord<>(topic, 0, null, (commit ? "committed-" : "aborted-") + round + "-" + n));
                    }
                    producer.flush();
                    if (commit) producer.commitTransaction(); else producer.abortTransaction();
                }
            }
        }
        Map<String, Object> settings = Map.of("bootstrap.servers", bootstrap, "transactional.id", topic + "-open");
        var open = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
        open.initTransactions();
        open.beginTransaction();
        open.send(new ProducerRecord<>(topic, 0, null, "open")).get();
        System.out.println("rounds " + round);
        while (System.in.read() >= 0) { }
        open.abortTransaction();
        open.close();
    }
}
