package main

import "math/bits"

// Values below 2^precision have a bucket each, and so has every 2^-precision part of what is above: 0.1 %.
const precision = 11

// A histogram of nanoseconds whose buckets grow with the values.
type histogram struct {
	counts []int64
	count  int64
	max    int64
}

// What a report says of a histogram, in µs.
type latencies struct {
	P50       float64      `json:"p50"`
	P99       float64      `json:"p99"`
	P999      float64      `json:"p999"`
	Max       float64      `json:"max"`
	Count     int64        `json:"count"`
	Histogram [][2]float64 `json:"histogram"`
}

func newHistogram() *histogram {
	return &histogram{counts: make([]int64, (64-precision+1)<<(precision-1)+1<<precision)}
}

func (h *histogram) record(value int64) {
	value = max(value, 0)
	shift := max(bits.Len64(uint64(value))-precision, 0)
	h.counts[shift<<(precision-1)+int(value>>shift)]++
	h.count++
	h.max = max(h.max, value)
}

// The largest value that is counted in a bucket.
func (h *histogram) largest(bucket int) int64 {
	shift := max(bucket>>(precision-1)-1, 0)
	value := int64(bucket-shift<<(precision-1)) << shift
	return min(value+1<<shift-1, h.max)
}

// The largest value of the bucket in which the quantile lies.
func (h *histogram) at(quantile float64) int64 {
	rank, seen := int64(quantile*float64(h.count)+0.5), int64(0)
	for bucket, count := range h.counts {
		seen += count
		if seen >= max(rank, 1) {
			return h.largest(bucket)
		}
	}
	return h.max
}

func (h *histogram) latencies() *latencies {
	us := func(ns int64) float64 { return float64(ns) / 1e3 }
	l := &latencies{us(h.at(0.5)), us(h.at(0.99)), us(h.at(0.999)), us(h.max), h.count, [][2]float64{}}
	for bucket, count := range h.counts {
		if count > 0 {
			l.Histogram = append(l.Histogram, [2]float64{us(h.largest(bucket)), float64(count)})
		}
	}
	return l
}
