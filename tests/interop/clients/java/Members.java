// Members of one group, each with its thread: poll, note what came, commit it, until told to leave.

import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;

final class Members implements AutoCloseable {
    private static final Map<String, List<String>> HISTORY = new ConcurrentHashMap<>();

    private final String group;
    private final String topic;
    private final Map<String, Object> settings;
    private final List<Member> members = new ArrayList<>();
    private final List<String> read = new CopyOnWriteArrayList<>();

    Members(String group, String topic, Map<String, Object> settings) {
        this.group = group;
        this.topic = topic;
        this.settings = new HashMap<>(settings);
        this.settings.put("group.id", group);
        // Members learn of a rebalance by their heartbeat; a group of the consumer protocol takes the broker's interval.
        if (!"consumer".equals(settings.get("group.protocol"))) this.settings.put("heartbeat.interval.ms", 100);
    }

    /** What all members of the group have read in all their lives. */
    static List<String> history(String group) {
        return HISTORY.getOrDefault(group, List.of());
    }

    /** What these members have read. */
    List<String> read() {
        for (var member : members) member.check();
        return read;
    }

    Member join() {
        var member = new Member();
        members.add(member);
        member.thread.start();
        return member;
    }

    void leave(Member member) throws Exception {
        member.leaving = true;
        member.thread.join();
        member.check();
    }

    @Override
    public void close() throws Exception {
        for (var member : members) member.leaving = true;
        for (var member : members) leave(member);
    }

    final class Member implements ConsumerRebalanceListener {
        private final Thread thread = new Thread(this::live);
        private final Map<TopicPartition, OffsetAndMetadata> uncommitted = new HashMap<>();
        private Consumer<byte[], byte[]> consumer;
        private volatile Set<TopicPartition> assignment = Set.of();
        private final AtomicInteger rebalances = new AtomicInteger();
        private volatile boolean leaving;
        private volatile Exception failure;

        private Member() {
            thread.setDaemon(true);
        }

        Set<TopicPartition> assignment() {
            check();
            return assignment;
        }

        /** How often it has been given partitions. */
        int rebalances() {
            return rebalances.get();
        }

        private void check() {
            if (failure != null) throw new AssertionError("a member failed: " + Report.describe(failure), failure);
        }

        private void live() {
            try (var own = Support.consumer(settings)) {
                consumer = own;
                own.subscribe(List.of(topic), this);
                while (!leaving) {
                    for (var record : own.poll(Support.POLL)) {
                        read.add(Support.text(record.value()));
                        HISTORY.computeIfAbsent(group, name -> new CopyOnWriteArrayList<>()).add(Support.text(record.value()));
                        var partition = new TopicPartition(record.topic(), record.partition());
                        uncommitted.put(partition, new OffsetAndMetadata(record.offset() + 1));
                    }
                    commit();
                    assignment = Set.copyOf(own.assignment());
                }
            } catch (Exception error) {
                failure = error;
            }
        }

        private void commit() {
            if (uncommitted.isEmpty()) return;
            try {
                consumer.commitSync(Map.copyOf(uncommitted));
                uncommitted.clear();
            } catch (RebalanceInProgressException later) {
                // Once the member has joined again in a poll, the commit is taken.
            }
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            commit();
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            rebalances.incrementAndGet();
        }
    }
}
