package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	// The distance of the bursts in which a rate is kept.
	bursts = 10 * time.Millisecond
	// The distance of the moments at which the records of mode latency are due.
	moments = time.Millisecond
)

// Counts what was acknowledged and what failed. Promises are kept one after the other, and before a flush ends.
type outcomes struct {
	acked, failed atomic.Int64
}

func (o *outcomes) count(_ *kgo.Record, err error) {
	if err == nil {
		o.acked.Add(1)
	} else if o.failed.Add(1) <= 3 {
		fmt.Fprintln(os.Stderr, "error:", err)
	}
}

// What one goroutine produces: the records of the table in turn, to each partition in turn if the client does not choose.
type lane struct {
	client     *kgo.Client
	table      *table
	partitions int32
	rate       int
	next       int
	partition  int32
	// Records in one piece of memory.
	fresh []kgo.Record
}

// Hands the next record to the client.
func (l *lane) send(promise func(*kgo.Record, error)) {
	if len(l.fresh) == 0 {
		l.fresh = make([]kgo.Record, 64)
	}
	record := &l.fresh[0]
	l.fresh = l.fresh[1:]
	record.Key, record.Value, record.Partition = l.table.keys[l.next], l.table.values[l.next], l.partition
	l.step()
	if l.next++; l.next == len(l.table.keys) {
		l.next = 0
		// Lest a partition gets the same few records in each pass of the table.
		l.step()
	}
	l.client.Produce(context.Background(), record, promise)
}

func (l *lane) step() {
	if l.partition++; l.partition == l.partitions {
		l.partition = 0
	}
}

// Sends as fast as the client takes records, and looks at the clock once for each pass of the table.
func (l *lane) saturate(during time.Duration, promise func(*kgo.Record, error)) {
	for end := time.Now().Add(during); time.Now().Before(end); {
		for range tableRecords {
			l.send(promise)
		}
	}
}

// Sends at the rate, as much as is due every so often; what was missed is caught up.
func (l *lane) keepRate(during, interval time.Duration, dueAt func(time.Time) func(*kgo.Record, error)) error {
	ticks, err := startTicks(interval)
	if err != nil {
		return err
	}
	defer ticks.close()
	due := func(ticks int64) int64 { return int64(float64(l.rate) * float64(ticks) * interval.Seconds()) }
	for tick, end := int64(0), int64(during/interval); tick < end; {
		passed, err := ticks.wait()
		if err != nil {
			return err
		}
		for ; tick < min(passed, end); tick++ {
			promise := dueAt(ticks.due(tick))
			for range due(tick+1) - due(tick) {
				l.send(promise)
			}
		}
	}
	return nil
}

func produce(o *options) (*report, error) {
	counter := &requests{}
	client, err := o.producer(counter)
	if err != nil {
		return nil, err
	}
	if o.rate != 0 && o.rate < o.tasks {
		return nil, errors.New("a rate below one record a second for each task")
	}
	table, outcomes := newTable(o.size, o.key, tableRecords), &outcomes{}
	lanes := make([]*lane, o.tasks)
	for task := range lanes {
		lanes[task] = &lane{client: client, table: table, partitions: int32(o.partitions), rate: o.rate / o.tasks}
		if task < o.rate%o.tasks {
			lanes[task].rate++
		}
	}
	phase := func(during time.Duration) error {
		var all sync.WaitGroup
		failures := make([]error, len(lanes))
		for task, lane := range lanes {
			all.Go(func() {
				if o.rate == 0 {
					lane.saturate(during, outcomes.count)
				} else {
					promise := func(time.Time) func(*kgo.Record, error) { return outcomes.count }
					failures[task] = lane.keepRate(during, bursts, promise)
				}
			})
		}
		all.Wait()
		return errors.Join(append(failures, client.Flush(context.Background()))...)
	}
	if err := phase(o.warmup); err != nil {
		return nil, err
	}
	before := outcomes.acked.Load()
	start, err := read(counter)
	if err != nil {
		return nil, err
	}
	if err := phase(o.seconds); err != nil {
		return nil, err
	}
	return o.produced(counter, start, outcomes, before, table)
}

func (o *options) produced(
	counter *requests, start reading, outcomes *outcomes, before int64, table *table,
) (*report, error) {
	report, err := o.report(counter, start)
	if err != nil {
		return nil, err
	}
	report.AckedTotal, report.Errors = outcomes.acked.Load(), outcomes.failed.Load()
	report.Records = report.AckedTotal - before
	report.Bytes = table.bytes(report.Records)
	return report, nil
}

func latency(o *options) (*report, error) {
	if o.rate == 0 {
		return nil, errors.New("latency needs a --rate")
	}
	counter := &requests{}
	client, err := o.producer(counter)
	if err != nil {
		return nil, err
	}
	table, outcomes := newTable(o.size, o.key, tableRecords), &outcomes{}
	lane := &lane{client: client, table: table, partitions: int32(o.partitions), rate: o.rate}
	phase := func(during time.Duration) (*histogram, error) {
		histogram := newHistogram()
		err := lane.keepRate(during, moments, func(moment time.Time) func(*kgo.Record, error) {
			return func(record *kgo.Record, err error) {
				if err == nil {
					histogram.record(int64(time.Since(moment)))
				}
				outcomes.count(record, err)
			}
		})
		return histogram, errors.Join(err, client.Flush(context.Background()))
	}
	if _, err := phase(o.warmup); err != nil {
		return nil, err
	}
	before := outcomes.acked.Load()
	start, err := read(counter)
	if err != nil {
		return nil, err
	}
	histogram, err := phase(o.seconds)
	if err != nil {
		return nil, err
	}
	report, err := o.produced(counter, start, outcomes, before, table)
	if err == nil {
		report.Latency = histogram.latencies()
	}
	return report, err
}
