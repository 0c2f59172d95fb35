// What a broker may not serve: each must work, or be refused with an error that says so.
package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// served fails, unless err is a refusal that says so; some features have words of their own for it.
func served(err error, words ...string) {
	if err == nil {
		return
	}
	if errors.Is(err, kerr.UnsupportedVersion) {
		panic(notServed{err})
	}
	for _, said := range append(words, "broker is too old") {
		if strings.Contains(err.Error(), said) {
			panic(notServed{err})
		}
	}
	must(err)
}

// advertised fails unless the broker serves the API: the client would wait for it, or do without in silence.
func advertised(ctx context.Context, api kmsg.Key, version int16) {
	response, err := admin.ApiVersions(ctx)
	must(err)
	for _, broker := range response {
		must(broker.Err)
		if highest, ok := broker.KeyMaxVersion(api.Int16()); !ok || highest < version {
			panic(notServed{errors.New(api.Name() + " " + strconv.Itoa(int(version)) + " is not advertised")})
		}
	}
}

func transactions(ctx context.Context) {
	source, output := topic(ctx, "transactions-in", 1, nil), topic(ctx, "transactions-out", 2, nil)
	group := named("transactions")
	must(produce(ctx, numbered(source, 0, 90, 1)))
	session := get(kgo.NewGroupTransactSession(
		kgo.SeedBrokers(bootstrap...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.TransactionalID(named("copier")),
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(source),
		kgo.ConsumeResetOffset(start()),
		kgo.RequireStableFetchOffsets(),
	))
	defer session.Close()
	aborted := map[int64]bool{}
	for next := int64(0); next < 90; {
		deadline, cancel := context.WithTimeout(ctx, patience)
		fetches := session.PollRecords(deadline, 10)
		cancel()
		must(fetches.Err())
		// A broker's answer to who asks for a kind of coordinator that it does not know; the client keeps only its words.
		served(session.Begin(), "INVALID_REQUEST")
		var copies []*kgo.Record
		for _, record := range fetches.Records() {
			copies = append(copies, &kgo.Record{Topic: output, Partition: int32(record.Offset % 2), Value: record.Value})
		}
		must(session.ProduceSync(ctx, copies...).FirstErr())
		// Every third transaction is aborted the first time; the session goes back to where it began.
		abort := next/10%3 == 2 && !aborted[next]
		aborted[next] = abort
		committed, err := session.End(ctx, kgo.TransactionEndTry(!abort))
		must(err)
		equal(!abort, committed, "whether the transaction at %d is committed", next)
		if !abort {
			next += int64(len(copies))
		}
	}
	committed := values(read(ctx, output, 90, 2, kgo.FetchIsolationLevel(kgo.ReadCommitted())))
	slices.SortFunc(committed, func(one, other string) int { return get(strconv.Atoi(one)) - get(strconv.Atoi(other)) })
	equal(numbers(0, 90, 1), committed, "committed records")
	read(ctx, output, 120, 2)
	fetched, _ := get(admin.FetchOffsets(ctx, group)).Lookup(source, 0)
	equal(90, fetched.At, "offset committed by transactions")
}

func consumerProtocol(ctx context.Context) {
	advertised(ctx, kmsg.ConsumerGroupHeartbeat, 1)
	rebalances(ctx, "kip-848", kgo.ServerSideBalancer(), kgo.Balancers(kgo.RangeBalancer()))
}

func shareGroups(ctx context.Context) {
	advertised(ctx, kmsg.ShareGroupHeartbeat, 1)
	topic, group := topic(ctx, "share-groups", 1, nil), named("share-groups")
	must(produce(ctx, numbered(topic, 0, 20, 1)))
	// A share group starts at the end unless it is told otherwise.
	earliest := kmsg.NewPtrIncrementalAlterConfigsRequest()
	resource := kmsg.NewIncrementalAlterConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = kmsg.ConfigResourceTypeGroupConfig, group
	entry := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
	entry.Name, entry.Value = "share.auto.offset.reset", kmsg.StringPtr("earliest")
	resource.Configs = append(resource.Configs, entry)
	earliest.Resources = append(earliest.Resources, resource)
	consumer := client(kgo.ShareGroup(group), kgo.ConsumeTopics(topic))
	defer consumer.Close()
	must(kerr.ErrorForCode(get(earliest.RequestWith(ctx, consumer)).Resources[0].ErrorCode))
	equal(numbers(0, 20, 1), values(get(poll(ctx, consumer, 20))), "records of a share group")
}
