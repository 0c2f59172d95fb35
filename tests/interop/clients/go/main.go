// franz-go's scenarios: `interop BOOTSTRAP PREFIX [SCENARIO…]`.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Where the scenarios run, and an admin client for them.
var (
	bootstrap []string
	prefix    string
	admin     *kadm.Client
)

func main() {
	bootstrap, prefix = strings.Split(os.Args[1], ","), os.Args[2]
	admin = kadm.NewClient(client())
	admin.SetTimeoutMillis(int32(patience.Milliseconds()))
	report([]scenario{
		{"admin", administer},
		{"codecs", codecs},
		{"idempotent", idempotent},
		{"group", group},
		{"cooperative", cooperative},
		{"commit-resume", commitAndResume},
		{"offsets-for-times", offsetsForTimes},
		{"headers", headers},
		{"large", large},
		{"seek", seek},
		{"delete-records", deleteRecords},
		{"spark-pattern", sparkPattern},
		{"transactions", transactions},
		{"kip-848", consumerProtocol},
		{"sasl", overSASL},
		{"tls", overTLS},
		{"acls", acls},
		{"share-groups", shareGroups},
	}, os.Args[3:])
}

func client(options ...kgo.Opt) *kgo.Client {
	common := []kgo.Opt{
		kgo.SeedBrokers(bootstrap...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RetryTimeout(patience),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.FetchMaxWait(500 * time.Millisecond),
	}
	return get(kgo.NewClient(append(common, options...)...))
}

func named(name string) string { return prefix + "-" + name }

// topic creates a topic and waits until all its partitions have leaders.
func topic(ctx context.Context, name string, partitions int32, configs map[string]string) string {
	name = named(name)
	pointers := map[string]*string{}
	for key, value := range configs {
		pointers[key] = &value
	}
	get(admin.CreateTopic(ctx, partitions, -1, pointers, name))
	eventually(name+" has leaders", func() (bool, error) {
		count, err := led(ctx, name)
		return count == int(partitions), err
	})
	return name
}

// led counts the partitions of a topic that have a leader.
func led(ctx context.Context, topic string) (int, error) {
	topics, err := admin.ListTopics(ctx, topic)
	if err != nil {
		return 0, err
	}
	count := 0
	for _, partition := range topics[topic].Partitions {
		if partition.Err == nil && partition.Leader >= 0 {
			count++
		}
	}
	return count, topics[topic].Err
}

// numbered are records from first to end-1 that carry their number, spread over the partitions in turn.
func numbered(topic string, first, end int, partitions int32) (records []*kgo.Record) {
	for i := first; i < end; i++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i) % partitions, Value: []byte(strconv.Itoa(i))})
	}
	return
}

// produce waits until every record is acknowledged, and gives the first error.
func produce(ctx context.Context, records []*kgo.Record, options ...kgo.Opt) error {
	producer := client(options...)
	defer producer.Close()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return producer.ProduceSync(ctx, records...).FirstErr()
}

func values(records []*kgo.Record) (found []string) {
	for _, record := range records {
		found = append(found, string(record.Value))
	}
	return
}

func numbers(first, end, step int) (found []string) {
	for i := first; i < end; i += step {
		found = append(found, strconv.Itoa(i))
	}
	return
}

// from is where each of a topic's first partitions is read from.
func from(topic string, offsets ...kgo.Offset) kgo.Opt {
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: partitioned(offsets)})
}

func partitioned(offsets []kgo.Offset) map[int32]kgo.Offset {
	found := map[int32]kgo.Offset{}
	for partition, offset := range offsets {
		found[int32(partition)] = offset
	}
	return found
}

func start() kgo.Offset { return kgo.NewOffset().AtStart() }

// poll reads that many records; the first error of a partition ends it.
func poll(ctx context.Context, consumer *kgo.Client, count int) ([]*kgo.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var records []*kgo.Record
	for len(records) < count {
		fetches := consumer.PollRecords(ctx, count-len(records))
		if err := fetches.Err(); err != nil {
			return records, fmt.Errorf("%d of %d records: %w", len(records), count, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records, nil
}

// read reads that many records from the start of the topic's first partitions.
func read(ctx context.Context, topic string, count, partitions int, options ...kgo.Opt) []*kgo.Record {
	offsets := make([]kgo.Offset, partitions)
	for partition := range offsets {
		offsets[partition] = start()
	}
	consumer := client(append(options, from(topic, offsets...))...)
	defer consumer.Close()
	return get(poll(ctx, consumer, count))
}
