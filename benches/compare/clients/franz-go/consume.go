package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What was read, and whether it was all there and in order.
type tally struct {
	records, bytes, firstBytes, misplaced int64
	// The offset that each partition's next record must have.
	expected []int64
}

func newTally(o *options) *tally { return &tally{expected: make([]int64, o.partitions)} }

func (t *tally) count(partition kgo.FetchTopicPartition) {
	if len(partition.Records) == 0 {
		// Errors come as a partition that does not exist.
		return
	}
	expected := t.expected[partition.Partition]
	for _, record := range partition.Records {
		t.records++
		t.bytes += int64(len(record.Key) + len(record.Value))
		if len(record.Value) > 0 {
			t.firstBytes += int64(record.Value[0])
		}
		if record.Offset != expected {
			if t.misplaced++; t.misplaced <= 3 {
				fmt.Fprintf(os.Stderr, "error: partition %d gave offset %d instead of %d\n",
					record.Partition, record.Offset, expected)
			}
		}
		expected = record.Offset + 1
	}
	t.expected[partition.Partition] = expected
}

// Reads until there were so many records, or for so long.
func (t *tally) read(client *kgo.Client, until int64, during time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), during)
	defer cancel()
	for end := time.Now().Add(during); t.records < until && time.Now().Before(end); {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		fetches.EachPartition(t.count)
	}
	return nil
}

func consume(o *options) (*report, error) {
	if o.records == 0 {
		return consumeEndless(o)
	}
	return consumeAll(o)
}

// For so long, by a consumer that has read before.
func consumeEndless(o *options) (*report, error) {
	counter, tally := &requests{}, newTally(o)
	client, err := o.consumer(counter)
	if err != nil {
		return nil, err
	}
	if err := tally.read(client, math.MaxInt64, o.warmup); err != nil {
		return nil, err
	}
	records, bytes := tally.records, tally.bytes
	start, err := read(counter)
	if err != nil {
		return nil, err
	}
	if err := tally.read(client, math.MaxInt64, o.seconds); err != nil {
		return nil, err
	}
	report, err := o.consumed(counter, start, tally)
	if err == nil {
		report.Records, report.Bytes = tally.records-records, tally.bytes-bytes
	}
	return report, err
}

// The whole of a topic by a new consumer, after another has warmed up on its beginning. The window begins before
// that consumer is made: what it fetches ahead must not be had for nothing.
func consumeAll(o *options) (*report, error) {
	client, err := o.consumer(&requests{})
	if err != nil {
		return nil, err
	}
	warmup := newTally(o)
	if err := warmup.read(client, o.records/10, o.warmup); err != nil {
		return nil, err
	}
	client.Close()
	counter, tally := &requests{}, newTally(o)
	start, err := read(counter)
	if err != nil {
		return nil, err
	}
	if client, err = o.consumer(counter); err != nil {
		return nil, err
	}
	// However long it takes: whoever started this has a deadline.
	if err := tally.read(client, o.records, 24*time.Hour); err != nil {
		return nil, err
	}
	report, err := o.consumed(counter, start, tally)
	if err == nil {
		report.Errors += warmup.misplaced
	}
	return report, err
}

// Everything that was read so far.
func (o *options) consumed(counter *requests, start reading, tally *tally) (*report, error) {
	report, err := o.report(counter, start)
	if err != nil {
		return nil, err
	}
	if tally.bytes > 0 && tally.firstBytes == 0 {
		return nil, errors.New("no value has a byte that is not null")
	}
	report.Records, report.Bytes = tally.records, tally.bytes
	report.Errors, report.AckedTotal = tally.misplaced, tally.records
	return report, nil
}
