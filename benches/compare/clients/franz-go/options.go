package main

import (
	"flag"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The command line that every driver has, in every language.
type options struct {
	mode, client, bootstrap, topic, settings, codec string
	partitions, lingerUs, batchBytes, inFlight      int
	size, key, rate, tasks                          int
	warmup, seconds                                 time.Duration
	records, epochNs                                int64
}

func parse(arguments []string) (*options, error) {
	o := &options{}
	if len(arguments) > 0 {
		o.mode, arguments = arguments[0], arguments[1:]
	}
	flags := flag.NewFlagSet("driver", flag.ContinueOnError)
	flags.StringVar(&o.client, "client", "franz-go", "")
	flags.StringVar(&o.bootstrap, "bootstrap", "", "")
	flags.StringVar(&o.topic, "topic", "", "")
	flags.StringVar(&o.settings, "settings", "defaults", "")
	flags.StringVar(&o.codec, "codec", "none", "")
	flags.IntVar(&o.partitions, "partitions", 1, "")
	flags.IntVar(&o.lingerUs, "linger-us", 5000, "")
	flags.IntVar(&o.batchBytes, "batch-bytes", 16384, "")
	flags.IntVar(&o.inFlight, "in-flight", 5, "")
	flags.IntVar(&o.size, "size", 100, "")
	flags.IntVar(&o.key, "key", 16, "")
	flags.IntVar(&o.rate, "rate", 0, "")
	flags.IntVar(&o.tasks, "tasks", 1, "")
	warmup := flags.Float64("warmup", 1, "")
	seconds := flags.Float64("seconds", 5, "")
	flags.Int64Var(&o.records, "records", 0, "")
	flags.Int64Var(&o.epochNs, "epoch-ns", 0, "")
	if err := flags.Parse(arguments); err != nil {
		return nil, err
	}
	if o.bootstrap == "" || o.topic == "" {
		return nil, fmt.Errorf("--bootstrap and --topic are needed")
	}
	o.warmup = time.Duration(*warmup * float64(time.Second))
	o.seconds = time.Duration(*seconds * float64(time.Second))
	o.tasks = max(o.tasks, 1)
	return o, nil
}

// What the client cannot do at all.
type unsupported string

func (u unsupported) Error() string { return "unsupported: " + string(u) }

func (o *options) equal() bool { return o.settings == "equal" }

// Nothing but the address and the topic, or the settings that all clients share.
func (o *options) producer(counter *requests) (*kgo.Client, error) {
	opts := []kgo.Opt{kgo.SeedBrokers(o.bootstrap), kgo.DefaultProduceTopic(o.topic), kgo.WithHooks(counter)}
	if o.equal() || o.mode == "memory" {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if o.equal() {
		// With idempotence it is this, and an option that sets it is refused.
		if o.inFlight != 5 {
			return nil, unsupported("anything but 5 requests in flight")
		}
		codec := map[string]kgo.CompressionCodec{
			"none": kgo.NoCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
		}
		opts = append(opts,
			kgo.ProducerLinger(time.Duration(o.lingerUs)*time.Microsecond),
			kgo.ProducerBatchMaxBytes(int32(o.batchBytes)),
			kgo.ProducerBatchCompression(codec[o.codec]),
			kgo.RequiredAcks(kgo.AllISRAcks()),
			// By bytes only, as for all clients: its 50,000 records are 1 MiB of the smallest.
			kgo.MaxBufferedBytes(32<<20),
			kgo.MaxBufferedRecords(math.MaxInt))
	}
	return kgo.NewClient(opts...)
}

func (o *options) consumer(counter *requests) (*kgo.Client, error) {
	offsets := map[int32]kgo.Offset{}
	for partition := range o.partitions {
		offsets[int32(partition)] = kgo.NewOffset().AtStart()
	}
	return kgo.NewClient(
		kgo.SeedBrokers(o.bootstrap),
		kgo.WithHooks(counter),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{o.topic: offsets}))
}
