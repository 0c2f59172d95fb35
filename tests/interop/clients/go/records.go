// Records: how they are written, and where reading starts.
package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func codecs(ctx context.Context) {
	for name, codec := range map[string]kgo.CompressionCodec{
		"none":   kgo.NoCompression(),
		"gzip":   kgo.GzipCompression(),
		"snappy": kgo.SnappyCompression(),
		"lz4":    kgo.Lz4Compression(),
		"zstd":   kgo.ZstdCompression(),
	} {
		topic := topic(ctx, "codec-"+name, 1, nil)
		var written []*kgo.Record
		for i := range 200 {
			// Long and alike, so that even a batch of one record becomes shorter: it is sent plain otherwise.
			value := bytes.Repeat(fmt.Appendf(nil, "record %d of many that are all alike ", i), 10)
			written = append(written, &kgo.Record{Topic: topic, Value: value})
		}
		must(produce(ctx, written, kgo.ProducerBatchCompression(codec)))
		equal(values(written), values(read(ctx, topic, 200, 1)), "records with codec %s", name)
	}
}

func idempotent(ctx context.Context) {
	topic := topic(ctx, "idempotent", 3, nil)
	must(produce(ctx, numbered(topic, 0, 1200, 3)))
	found := [3][]string{}
	for _, record := range read(ctx, topic, 1200, 3) {
		found[record.Partition] = append(found[record.Partition], string(record.Value))
	}
	for partition := range 3 {
		equal(numbers(partition, 1200, 3), found[partition], "partition %d", partition)
	}
}

func offsetsForTimes(ctx context.Context) {
	topic := topic(ctx, "times", 1, nil)
	began := time.Now().Add(-time.Minute).Truncate(time.Millisecond)
	after := func(milliseconds int) time.Time { return began.Add(time.Duration(milliseconds) * time.Millisecond) }
	var written []*kgo.Record
	for i := range 10 {
		written = append(written, &kgo.Record{Topic: topic, Value: fmt.Append(nil, i), Timestamp: after(i * 1000)})
	}
	must(produce(ctx, written))
	for milliseconds, expected := range map[int]int64{-5000: 0, 0: 0, 4500: 5, 5000: 5, 9000: 9, 9001: 10} {
		listed, _ := get(admin.ListOffsetsAfterMilli(ctx, after(milliseconds).UnixMilli(), topic)).Lookup(topic, 0)
		must(listed.Err)
		// The end offset where no record is as late.
		equal(expected, listed.Offset, "offset %d ms after the first", milliseconds)
		equal(expected == 10, listed.Timestamp == -1, "timestamp %d ms after the first", milliseconds)
	}
	consumer := client(from(topic, kgo.NewOffset().AfterMilli(after(4500).UnixMilli())))
	defer consumer.Close()
	records := get(poll(ctx, consumer, 5))
	equal(numbers(5, 10, 1), values(records), "read from a time on")
	equal(after(5000).UnixMilli(), records[0].Timestamp.UnixMilli(), "timestamp")
}

func headers(ctx context.Context) {
	topic := topic(ctx, "headers", 1, nil)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	written := []*kgo.Record{
		{Topic: topic, Key: []byte("k"), Value: []byte("v"), Headers: []kgo.RecordHeader{
			{Key: "b", Value: []byte("1")}, {Key: "a", Value: []byte("2")}, {Key: "b", Value: []byte("3")},
			{Key: "empty", Value: []byte{}}, {Key: "null", Value: nil}, {Key: "bytes", Value: every},
		}},
		{Topic: topic, Key: []byte("tombstone"), Value: nil},
		{Topic: topic, Key: nil, Value: []byte{}, Headers: []kgo.RecordHeader{{Key: "only", Value: []byte("x")}}},
		{Topic: topic, Key: []byte{}, Value: []byte{}},
	}
	must(produce(ctx, written))
	for i, record := range read(ctx, topic, len(written), 1) {
		equal(written[i].Key, record.Key, "key %d", i)
		equal(written[i].Value, record.Value, "value %d", i)
		equal(written[i].Headers, record.Headers, "headers %d", i)
	}
}

func large(ctx context.Context) {
	small, big := topic(ctx, "large", 1, nil), topic(ctx, "larger", 1, map[string]string{"max.message.bytes": "4000000"})
	fits, beyond := make([]byte, 900_000), make([]byte, 3_000_000)
	rand.Read(fits)
	rand.Read(beyond)
	limit := kgo.ProducerBatchMaxBytes(5_000_000)
	must(produce(ctx, []*kgo.Record{{Topic: small, Value: fits}}, limit))
	refused(kerr.MessageTooLarge, produce(ctx, []*kgo.Record{{Topic: small, Value: beyond}}, limit), "3 MB")
	must(produce(ctx, []*kgo.Record{{Topic: big, Value: beyond}}, limit))
	check(bytes.Equal(fits, read(ctx, small, 1, 1)[0].Value), "900 kB come back as they were")
	check(bytes.Equal(beyond, read(ctx, big, 1, 1)[0].Value), "3 MB come back as they were")
}

func seek(ctx context.Context) {
	topic := topic(ctx, "seek", 2, nil)
	must(produce(ctx, numbered(topic, 0, 100, 1)))
	consumer := client(from(topic, kgo.NewOffset().At(50), start()))
	defer consumer.Close()
	to := func(offset kgo.Offset) {
		consumer.RemoveConsumePartitions(map[string][]int32{topic: {0}})
		consumer.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: offset}})
	}
	next := func(count int) []string { return values(get(poll(ctx, consumer, count))) }
	equal(numbers(50, 60, 1), next(10), "from the middle")
	to(start())
	equal(numbers(0, 100, 1), next(100), "from the beginning")
	consumer.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: 20}}})
	equal(numbers(20, 100, 1), next(80), "from an offset that is set")
	to(kgo.NewOffset().AtEnd().Relative(-1))
	equal([]string{"99"}, next(1), "the last one")
	must(produce(ctx, []*kgo.Record{{Topic: topic, Value: []byte("new")}}))
	equal([]string{"new"}, next(1), "from the end")
	consumer.PauseFetchPartitions(map[string][]int32{topic: {0}})
	must(produce(ctx, []*kgo.Record{{Topic: topic, Value: []byte("held")}}))
	must(produce(ctx, []*kgo.Record{{Topic: topic, Partition: 1, Value: []byte("passes")}}))
	equal([]string{"passes"}, next(1), "while partition 0 is paused")
	consumer.ResumeFetchPartitions(map[string][]int32{topic: {0}})
	equal([]string{"held"}, next(1), "after it is resumed")
}

func sparkPattern(ctx context.Context) {
	topic := topic(ctx, "spark", 2, nil)
	began := time.Now().Add(-time.Minute)
	written := numbered(topic, 0, 40, 2)
	for i, record := range written {
		record.Timestamp = began.Add(time.Duration(i) * time.Second)
	}
	must(produce(ctx, written))
	equal(2, get(led(ctx, topic)), "partitions")
	for partition := range int32(2) {
		equal([2]int64{0, 20}, ends(ctx, topic, partition), "first and end offset of partition %d", partition)
	}
	listed, _ := get(admin.ListOffsetsAfterMilli(ctx, began.Add(20*time.Second).UnixMilli(), topic)).Lookup(topic, 0)
	equal(10, listed.Offset, "offset by time")
	for _, planned := range []struct{ partition, first, end int }{{0, 0, 10}, {1, 0, 10}, {0, 10, 20}, {1, 10, 20}} {
		offset := kgo.NewOffset().At(int64(planned.first))
		ranges := map[string]map[int32]kgo.Offset{topic: {int32(planned.partition): offset}}
		consumer := client(kgo.ConsumePartitions(ranges))
		records := get(poll(ctx, consumer, planned.end-planned.first))
		consumer.Close()
		expected := numbers(planned.first*2+planned.partition, planned.end*2+planned.partition, 2)
		equal(expected, values(records), "range %v", planned)
	}
}
