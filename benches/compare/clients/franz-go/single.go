package main

import (
	"context"
	"errors"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// How long a client idles before its memory is read.
const idle = 2 * time.Second

func start(o *options) (*report, error) {
	if o.epochNs == 0 {
		return nil, errors.New("start needs --epoch-ns")
	}
	counter := &requests{}
	begin, err := read(counter)
	if err != nil {
		return nil, err
	}
	client, err := o.producer(counter)
	if err != nil {
		return nil, err
	}
	table, outcomes := newTable(o.size, o.key, 1), &outcomes{}
	err = client.ProduceSync(context.Background(), &kgo.Record{Key: table.keys[0], Value: table.values[0]}).FirstErr()
	firstAckUs := (time.Now().UnixNano() - o.epochNs) / 1000
	if err != nil {
		return nil, err
	}
	outcomes.count(nil, nil)
	report, err := o.produced(counter, begin, outcomes, 0, table)
	if err == nil {
		report.FirstAckUs = &firstAckUs
	}
	return report, err
}

// A first record makes the client know the topic.
func memory(o *options) (*report, error) {
	counter := &requests{}
	begin, err := read(counter)
	if err != nil {
		return nil, err
	}
	client, err := o.producer(counter)
	if err != nil {
		return nil, err
	}
	table, outcomes, use := newTable(o.size, o.key, tableRecords), &outcomes{}, &memoryUse{}
	lane := &lane{client: client, table: table, partitions: int32(o.partitions)}
	for partition := range o.partitions {
		lane.partition = int32(partition)
		lane.send(outcomes.count)
		if partition == 0 {
			if use.IdleRss, err = settled(client); err != nil {
				return nil, err
			}
		}
	}
	if use.WrittenRss, err = settled(client); err != nil {
		return nil, err
	}
	report, err := o.produced(counter, begin, outcomes, 0, table)
	if err == nil {
		report.Memory = use
	}
	return report, err
}

// Resident memory once all is acknowledged and the client idles.
func settled(client *kgo.Client) (int64, error) {
	if err := client.Flush(context.Background()); err != nil {
		return 0, err
	}
	time.Sleep(idle)
	return kib("/proc/self/smaps_rollup", "Rss:")
}
