package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The line of results.
type report struct {
	Client            string     `json:"client"`
	Version           string     `json:"version"`
	Mode              string     `json:"mode"`
	Records           int64      `json:"records"`
	Bytes             int64      `json:"bytes"`
	Errors            int64      `json:"errors"`
	Seconds           float64    `json:"seconds"`
	CPUUser           float64    `json:"cpu_user_s"`
	CPUSystem         float64    `json:"cpu_sys_s"`
	PeakKib           int64      `json:"rss_peak_kib"`
	VoluntarySwitches int64      `json:"voluntary_switches"`
	Requests          *int64     `json:"requests"`
	FirstAckUs        *int64     `json:"first_ack_us"`
	Latency           *latencies `json:"latency_us"`
	AckedTotal        int64      `json:"acked_total"`
	Memory            *memoryUse `json:"memory"`
}

type memoryUse struct {
	IdleRss    int64 `json:"idle_rss_kib"`
	WrittenRss int64 `json:"written_rss_kib"`
}

// What the process has used so far, and how many requests the client has sent.
type reading struct {
	at       time.Time
	usage    syscall.Rusage
	requests int64
}

func read(counter *requests) (r reading, err error) {
	r.at, r.requests = time.Now(), counter.sent.Load()
	err = syscall.Getrusage(syscall.RUSAGE_SELF, &r.usage)
	return
}

// Takes the last readings: call it while the client still lives.
func (o *options) report(counter *requests, start reading) (*report, error) {
	end, err := read(counter)
	if err != nil {
		return nil, err
	}
	seconds := func(from, to syscall.Timeval) float64 { return float64(to.Nano()-from.Nano()) / 1e9 }
	sent := end.requests - start.requests
	r := &report{
		Client:            o.client,
		Version:           version(),
		Mode:              o.mode,
		Seconds:           end.at.Sub(start.at).Seconds(),
		CPUUser:           seconds(start.usage.Utime, end.usage.Utime),
		CPUSystem:         seconds(start.usage.Stime, end.usage.Stime),
		VoluntarySwitches: end.usage.Nvcsw - start.usage.Nvcsw,
		Requests:          &sent,
	}
	r.PeakKib, err = kib("/proc/self/status", "VmHWM:")
	return r, err
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/twmb/franz-go" {
				return strings.TrimPrefix(module.Version, "v")
			}
		}
	}
	return "unknown"
}

func kib(file, name string) (int64, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			return strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
		}
	}
	return 0, fmt.Errorf("no %s in %s", name, file)
}

// Counts what the client writes.
type requests struct{ sent atomic.Int64 }

var _ kgo.HookBrokerWrite = (*requests)(nil)

func (r *requests) OnBrokerWrite(_ kgo.BrokerMetadata, _ int16, _ int, _, _ time.Duration, err error) {
	if err == nil {
		r.sent.Add(1)
	}
}
