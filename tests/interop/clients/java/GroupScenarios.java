// Groups of the classic protocol: members that come, go and come back, and commits that survive them.

import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;

final class GroupScenarios {
    static void classic() throws Exception {
        rebalances("group", Map.of("partition.assignment.strategy", RangeAssignor.class.getName()));
        staticMember();
        pattern();
    }

    /** A static member that is gone for a moment finds its partitions again, and nobody else notices. */
    private static void staticMember() throws Exception {
        var topic = Support.topic("static", 4);
        var group = Support.name("static");
        try (var others = new Members(group, topic, Map.of("group.instance.id", "other"));
                var own = new Members(group, topic, Map.of("group.instance.id", "own"))) {
            var other = others.join();
            var before = own.join();
            Report.eventually("two static members share", () -> shared(other, before));
            var partitions = before.assignment();
            var rebalances = other.rebalances();
            own.leave(before);
            var after = own.join();
            Report.eventually("the member has its partitions again", () -> after.assignment().equals(partitions));
            Support.produce(topic, 4, 0, 40);
            Report.eventually("both go on", () -> own.read().size() + others.read().size() == 40);
            Report.equal(rebalances, other.rebalances(), "rebalances of the other member");
        }
    }

    /** A topic that is created later is found by a pattern. */
    private static void pattern() throws Exception {
        var settings = Map.<String, Object>of("group.id", Support.name("pattern"), "metadata.max.age.ms", 200);
        try (var consumer = Support.consumer(settings)) {
            consumer.subscribe(Pattern.compile(Pattern.quote(Support.name("pattern-")) + "\\d"));
            Support.produce(Support.topic("pattern-1", 1), 1, 0, 10);
            Report.equal(Support.numbers(0, 10), Support.values(Support.poll(consumer, 10)), "records of the first topic");
            consumer.commitSync();
            Support.topic("pattern-other", 1);
            Support.produce(Support.topic("pattern-2", 1), 1, 10, 20);
            Report.equal(Support.numbers(10, 20), Support.values(Support.poll(consumer, 10)), "records of the second topic");
            Report.equal(Set.of(Support.name("pattern-1"), Support.name("pattern-2")),
                    consumer.assignment().stream().map(TopicPartition::topic).collect(Collectors.toSet()), "topics");
        }
    }

    static void cooperative() throws Exception {
        rebalances("cooperative", Map.of("partition.assignment.strategy", CooperativeStickyAssignor.class.getName()));
    }

    /** Two members share four partitions, one leaves, a third joins; every record is handed out once overall. */
    static void rebalances(String name, Map<String, Object> protocol) throws Exception {
        var topic = Support.topic(name, 4);
        var group = Support.name(name);
        Support.produce(topic, 4, 0, 200);
        try (var members = new Members(group, topic, protocol)) {
            var first = members.join();
            Report.eventually("the first member has all", () -> first.assignment().size() == 4);
            var second = members.join();
            Report.eventually("two members share", () -> shared(first, second));
            Support.produce(topic, 4, 200, 400);
            Report.eventually("400 records are read", () -> members.read().size() >= 400);
            var described = Support.admin().describeConsumerGroups(List.of(group)).all().get().get(group);
            Report.equal(2, described.members().size(), "members described");
            Report.fails(GroupNotEmptyException.class, () -> Support.admin().deleteConsumerGroups(List.of(group)).all().get());

            members.leave(first);
            Report.eventually("the second member has all", () -> second.assignment().size() == 4);
            Support.produce(topic, 4, 400, 600);
            Report.eventually("600 records are read", () -> members.read().size() >= 600);

            var third = members.join();
            Report.eventually("a third member shares", () -> shared(second, third));
            Support.produce(topic, 4, 600, 800);
            Report.eventually("800 records are read", () -> members.read().size() >= 800);
        }
        try (var members = new Members(group, topic, protocol)) {
            // Whoever comes later finds everything committed; a record of its own shows that it has read.
            var last = members.join();
            Report.eventually("the last member has all", () -> last.assignment().size() == 4);
            Support.produce(topic, 4, 800, 801);
            Report.eventually("a new record is read", () -> members.read().size() >= 1);
            Report.equal(List.of("800"), members.read(), "what is left after the commits");
        }
        var expected = new TreeSet<>(Support.numbers(0, 801));
        Report.equal(expected, new TreeSet<>(Members.history(group)), "all records");
        Report.equal(expected.size(), Members.history(group).size(), "records handed out");
        deleted(Support.admin(), group);
    }

    private static boolean shared(Members.Member one, Members.Member other) {
        Set<TopicPartition> both = new TreeSet<>((a, b) -> a.toString().compareTo(b.toString()));
        both.addAll(one.assignment());
        both.addAll(other.assignment());
        return one.assignment().size() == 2 && other.assignment().size() == 2 && both.size() == 4;
    }

    private static void deleted(Admin admin, String group) throws Exception {
        Report.eventually("the group is empty and can be deleted", () -> {
            admin.deleteConsumerGroups(List.of(group)).all().get();
            return true;
        });
        Report.fails(GroupIdNotFoundException.class, () -> admin.deleteConsumerGroups(List.of(group)).all().get());
    }

    static void commitAndResume() throws Exception {
        var topic = Support.topic("commit-resume", 1);
        var group = Support.name("commit-resume");
        var partition = new TopicPartition(topic, 0);
        var settings = Map.<String, Object>of("group.id", group, "max.poll.records", 40);
        Support.produce(topic, 1, 0, 100);
        try (var consumer = Support.consumer(settings)) {
            consumer.subscribe(List.of(topic));
            Report.equal(Support.numbers(0, 40), Support.values(Support.poll(consumer, 40)), "the first 40");
            consumer.commitSync(Map.of(partition, new OffsetAndMetadata(40, "forty")));
        }
        try (var consumer = Support.consumer(settings)) {
            consumer.subscribe(List.of(topic));
            Report.equal(Support.numbers(40, 80), Support.values(Support.poll(consumer, 40)), "the next 40");
            Report.equal("forty", consumer.committed(Set.of(partition)).get(partition).metadata(), "metadata of the commit");
            consumer.commitAsync();
        }
        var admin = Support.admin();
        Report.equal(80L, admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partition).offset(), "commit");
        var listed = admin.listConsumerGroups().all().get().stream().anyMatch(listing -> listing.groupId().equals(group));
        Report.check(listed, "the group is listed");
        admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(10))).all().get();
        try (var consumer = Support.consumer(settings)) {
            consumer.subscribe(List.of(topic));
            Report.equal("10", Support.values(Support.poll(consumer, 1)).get(0), "where a reset group resumes");
        }
        admin.deleteConsumerGroupOffsets(group, Set.of(partition)).all().get();
        Report.check(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partition) == null, "deleted");
        deleted(admin, group);
    }

    private GroupScenarios() {}
}
