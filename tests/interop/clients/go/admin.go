// Topics and what belongs to them.
package main

import (
	"context"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func administer(ctx context.Context) {
	metadata := get(admin.Metadata(ctx))
	controls := false
	for _, broker := range metadata.Brokers {
		controls = controls || broker.NodeID == metadata.Controller
	}
	check(controls, "controller %d is one of the brokers", metadata.Controller)

	topic := topic(ctx, "admin", 2, map[string]string{"retention.ms": "3600000"})
	create := func(partitions int32, name string, configs map[string]*string) error {
		_, err := admin.CreateTopic(ctx, partitions, -1, configs, name)
		return err
	}
	refused(kerr.TopicAlreadyExists, create(2, topic, nil), "a topic that exists")
	refused(kerr.InvalidConfig, create(1, topic+"-other", map[string]*string{"retention.ms": kadm.StringPtr("long")}), "a bad value")
	refused(kerr.InvalidTopicException, create(1, "not a name", nil), "a bad name")
	refused(kerr.InvalidPartitions, create(0, topic+"-other", nil), "no partitions")
	check(get(admin.ListTopics(ctx)).Has(topic), "the topic is listed")
	equal("3600000", config(ctx, topic, "retention.ms"), "retention.ms as created")
	equal("delete", config(ctx, topic, "cleanup.policy"), "cleanup.policy by default")

	alter := func(op kadm.IncrementalOp, name, value string) error {
		altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: op, Name: name, Value: &value}}, topic)
		must(err)
		return get(altered.On(topic, nil)).Err
	}
	becomes := func(name, value string) {
		eventually(name+" becomes "+value, func() (bool, error) { return config(ctx, topic, name) == value, nil })
	}
	must(alter(kadm.SetConfig, "retention.ms", "7200000"))
	becomes("retention.ms", "7200000")
	refused(kerr.InvalidConfig, alter(kadm.SetConfig, "retention.ms", "long"), "a bad value")
	must(alter(kadm.AppendConfig, "cleanup.policy", "compact"))
	becomes("cleanup.policy", "delete,compact")
	must(alter(kadm.SubtractConfig, "cleanup.policy", "delete"))
	becomes("cleanup.policy", "compact")
	equal("7200000", config(ctx, topic, "retention.ms"), "retention.ms after edits of another")
	must(alter(kadm.DeleteConfig, "retention.ms", ""))
	becomes("retention.ms", "604800000")

	must(get(admin.UpdatePartitions(ctx, 5, topic)).Error())
	eventually("it has five partitions", func() (bool, error) {
		count, err := led(ctx, topic)
		return count == 5, err
	})
	refused(kerr.InvalidPartitions, get(admin.UpdatePartitions(ctx, 3, topic)).Error(), "fewer partitions")

	get(admin.DeleteTopic(ctx, topic))
	eventually("the topic is gone", func() (bool, error) {
		topics, err := admin.ListTopics(ctx)
		return !topics.Has(topic), err
	})
	_, err := led(ctx, topic)
	refused(kerr.UnknownTopicOrPartition, err, "describing a deleted topic")
	_, err = admin.DeleteTopic(ctx, topic)
	refused(kerr.UnknownTopicOrPartition, err, "deleting a deleted topic")
}

func config(ctx context.Context, topic, name string) string {
	described := get(get(admin.DescribeTopicConfigs(ctx, topic)).On(topic, nil))
	must(described.Err)
	for _, config := range described.Configs {
		if config.Key == name {
			return config.MaybeValue()
		}
	}
	fail("%s is not described", name)
	return ""
}

// ends are the first and the end offset of a partition.
func ends(ctx context.Context, topic string, partition int32) [2]int64 {
	first, _ := get(admin.ListStartOffsets(ctx, topic)).Lookup(topic, partition)
	must(first.Err)
	end, _ := get(admin.ListEndOffsets(ctx, topic)).Lookup(topic, partition)
	must(end.Err)
	return [2]int64{first.Offset, end.Offset}
}

func deleteRecords(ctx context.Context) {
	topic := topic(ctx, "delete-records", 1, nil)
	must(produce(ctx, numbered(topic, 0, 100, 1)))
	before := func(offset int64) kadm.DeleteRecordsResponse {
		offsets := kadm.Offsets{}
		offsets.AddOffset(topic, 0, offset, -1)
		response, _ := get(admin.DeleteRecords(ctx, offsets)).Lookup(topic, 0)
		return response
	}
	deleted := before(30)
	must(deleted.Err)
	equal(30, deleted.LowWatermark, "low watermark")
	refused(kerr.OffsetOutOfRange, before(101).Err, "an offset after the end")
	equal([2]int64{30, 100}, ends(ctx, topic, 0), "first and end offset")

	resets := client(from(topic, kgo.NewOffset().At(10)), kgo.ConsumeResetOffset(start()))
	defer resets.Close()
	equal(numbers(30, 100, 1), values(get(poll(ctx, resets, 70))), "reset to the first")
	fails := client(from(topic, kgo.NewOffset().At(10)), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	defer fails.Close()
	_, err := poll(ctx, fails, 1)
	refused(kerr.OffsetOutOfRange, err, "no reset")

	all := before(-1)
	must(all.Err)
	equal(100, all.LowWatermark, "low watermark when all is deleted")
	equal([2]int64{100, 100}, ends(ctx, topic, 0), "first and end offset of the emptied partition")
}
