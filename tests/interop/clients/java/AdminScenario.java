// Topics and configs: create, describe, alter, grow, list, delete, and what is refused.

import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigOp.OpType;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.ConfigEntry.ConfigSource;
import org.apache.kafka.clients.admin.CreateTopicsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicCollection;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.ElectionNotNeededException;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;

final class AdminScenario {
    static void run() throws Exception {
        var name = Support.name("admin");
        create(name);
        describeCluster();
        alterConfigs(name);
        grow(name);
        maintain(name);
        delete(name);
    }

    private static NewTopic topic(String name, int partitions) {
        return new NewTopic(name, Optional.of(partitions), Optional.empty());
    }

    private static void create(String name) throws Exception {
        var admin = Support.admin();
        var asked = topic(name, 3).configs(Map.of("retention.ms", "3600000", "cleanup.policy", "compact"));
        admin.createTopics(List.of(asked), new CreateTopicsOptions().validateOnly(true)).all().get();
        Report.check(!admin.listTopics().names().get().contains(name), "validating creates nothing");

        var created = admin.createTopics(List.of(asked));
        Report.equal(3, created.numPartitions(name).get(), "partitions in the answer");
        Report.equal("3600000", created.config(name).get().get("retention.ms").value(), "config in the answer");
        var id = created.topicId(name).get();

        Report.fails(TopicExistsException.class, () -> admin.createTopics(List.of(topic(name, 3))).all().get());
        Report.fails(InvalidPartitionsException.class, () -> admin.createTopics(List.of(topic(name + "-x", 0))).all().get());
        Report.fails(InvalidTopicException.class, () -> admin.createTopics(List.of(topic("not a name", 1))).all().get());
        var wide = new NewTopic(name + "-x", 1, (short) 99);
        Report.fails(InvalidReplicationFactorException.class, () -> admin.createTopics(List.of(wide)).all().get());
        var wrong = topic(name + "-x", 1).configs(Map.of("retention.ms", "soon"));
        Report.fails(InvalidConfigurationException.class, () -> admin.createTopics(List.of(wrong)).all().get());

        Report.eventually("the topic is listed", () -> admin.listTopics().names().get().contains(name));
        var described = admin.describeTopics(List.of(name)).allTopicNames().get().get(name);
        Report.equal(id, described.topicId(), "topic id");
        Report.equal(3, described.partitions().size(), "partitions");
        for (var partition : described.partitions()) {
            Report.check(partition.leader() != null && !partition.replicas().isEmpty(), partition + " has a leader");
            Report.equal(partition.replicas().size(), partition.isr().size(), "replicas in sync");
        }
        var byId = admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get();
        Report.equal(name, byId.get(id).name(), "name by topic id");
    }

    private static void describeCluster() throws Exception {
        var admin = Support.admin();
        var cluster = admin.describeCluster();
        Report.check(cluster.nodes().get().contains(cluster.controller().get()), "the controller is one of the nodes");
        Report.equal(22, cluster.clusterId().get().length(), "length of the cluster id");
        var node = new ConfigResource(ConfigResource.Type.BROKER, cluster.nodes().get().iterator().next().idString());
        var config = admin.describeConfigs(List.of(node)).all().get().get(node);
        Report.check(config.get("num.partitions") != null, "a broker's configs have num.partitions");
        Report.check(config.get("num.partitions").isReadOnly(), "num.partitions is read-only");

        var features = admin.describeFeatures().featureMetadata().get();
        Report.check(features.finalizedFeatures().containsKey("metadata.version"), "metadata.version is a feature");

        var set = new AlterConfigOp(new ConfigEntry("log.retention.ms", "604800001"), OpType.SET);
        admin.incrementalAlterConfigs(Map.of(node, List.of(set))).all().get();
        Report.eventually("a broker's dynamic config is described", () -> {
            var entry = admin.describeConfigs(List.of(node)).all().get().get(node).get("log.retention.ms");
            return entry.value().equals("604800001") && entry.source() == ConfigSource.DYNAMIC_BROKER_CONFIG;
        });
        var unset = new AlterConfigOp(new ConfigEntry("log.retention.ms", null), OpType.DELETE);
        admin.incrementalAlterConfigs(Map.of(node, List.of(unset))).all().get();
    }

    private static void alterConfigs(String name) throws Exception {
        var admin = Support.admin();
        var resource = new ConfigResource(ConfigResource.Type.TOPIC, name);
        alter(resource, "retention.ms", "7200000", OpType.SET);
        alter(resource, "cleanup.policy", "delete", OpType.APPEND);
        Report.eventually("set and append are described", () ->
                value(resource, "retention.ms").equals("7200000") && value(resource, "cleanup.policy").equals("compact,delete"));
        alter(resource, "cleanup.policy", "compact", OpType.SUBTRACT);
        alter(resource, "retention.ms", null, OpType.DELETE);
        Report.eventually("subtract and delete are described", () ->
                value(resource, "retention.ms").equals("604800000") && value(resource, "cleanup.policy").equals("delete"));
        var config = describe(resource);
        Report.equal(ConfigSource.DYNAMIC_TOPIC_CONFIG, config.get("cleanup.policy").source(), "source of what was set");
        Report.equal(ConfigSource.DEFAULT_CONFIG, config.get("flush.ms").source(), "source of what was not");
        Report.fails(InvalidConfigurationException.class, () -> alter(resource, "retention.ms", "soon", OpType.SET));
        Report.fails(InvalidConfigurationException.class, () -> alter(resource, "no.such.setting", "1", OpType.SET));
        var missing = new ConfigResource(ConfigResource.Type.TOPIC, name + "-none");
        Report.fails(UnknownTopicOrPartitionException.class, () -> describe(missing));
        Report.fails(UnknownTopicOrPartitionException.class, () -> alter(missing, "retention.ms", "1", OpType.SET));
    }

    private static void alter(ConfigResource resource, String key, String value, OpType type) throws Exception {
        var operation = new AlterConfigOp(new ConfigEntry(key, value), type);
        Support.admin().incrementalAlterConfigs(Map.of(resource, List.of(operation))).all().get();
    }

    private static Config describe(ConfigResource resource) throws Exception {
        return Support.admin().describeConfigs(List.of(resource)).all().get().get(resource);
    }

    private static String value(ConfigResource resource, String key) throws Exception {
        return describe(resource).get(key).value();
    }

    private static void grow(String name) throws Exception {
        var admin = Support.admin();
        admin.createPartitions(Map.of(name, NewPartitions.increaseTo(5))).all().get();
        Report.eventually("five partitions with leaders", () -> {
            var partitions = admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions();
            return partitions.size() == 5 && partitions.stream().allMatch(partition -> partition.leader() != null);
        });
        Report.fails(InvalidPartitionsException.class, () ->
                admin.createPartitions(Map.of(name, NewPartitions.increaseTo(4))).all().get());
        Report.fails(UnknownTopicOrPartitionException.class, () ->
                admin.createPartitions(Map.of(name + "-none", NewPartitions.increaseTo(4))).all().get());
    }

    private static void maintain(String name) throws Exception {
        var admin = Support.admin();
        var partition = new TopicPartition(name, 0);
        var elected = admin.electLeaders(ElectionType.PREFERRED, Set.of(partition)).partitions().get().get(partition);
        Report.check(elected.orElseThrow() instanceof ElectionNotNeededException, "the preferred leader leads: " + elected);
        Report.check(admin.listPartitionReassignments().reassignments().get().isEmpty(), "nothing is being reassigned");
        var leader = admin.describeTopics(List.of(name)).allTopicNames().get().get(name).partitions().get(0).leader();
        var directories = admin.describeLogDirs(List.of(leader.id())).allDescriptions().get().get(leader.id());
        var held = directories.values().stream().anyMatch(directory -> directory.replicaInfos().containsKey(partition));
        Report.check(held, "the leader's directories hold " + partition);
    }

    private static void delete(String name) throws Exception {
        var admin = Support.admin();
        admin.deleteTopics(List.of(name)).all().get();
        Report.eventually("the topic is no longer listed", () -> !admin.listTopics().names().get().contains(name));
        Report.fails(UnknownTopicOrPartitionException.class, () -> admin.describeTopics(List.of(name)).allTopicNames().get());
        Report.fails(UnknownTopicOrPartitionException.class, () -> admin.deleteTopics(List.of(name)).all().get());
    }

    private AdminScenario() {}
}
