package main

import (
	"math"
	"testing"
)

func TestQuantilesAreWithinATenthOfAPercent(t *testing.T) {
	h := newHistogram()
	const values = 3_000_000
	for value := range int64(values) {
		h.record(value * 1000)
	}
	for _, quantile := range []float64{0.0001, 0.5, 0.9, 0.99, 0.999, 1} {
		exact, told := quantile*values*1000, float64(h.at(quantile))
		if told < exact*0.999-1000 || told > exact*1.001+1000 {
			t.Errorf("%v: %v instead of %v", quantile, told, exact)
		}
	}
	if h.max != (values-1)*1000 || h.count != values {
		t.Errorf("%+v", h)
	}
}

func TestTheReportHasWhatWasRecorded(t *testing.T) {
	h := newHistogram()
	for _, us := range []int64{700_000, 250, 1, 250} {
		h.record(us * 1000)
	}
	told := h.latencies().Histogram
	for index, expected := range [][2]float64{{1, 1}, {250, 2}, {700_000, 1}} {
		if got := told[index]; got[1] != expected[1] || math.Abs(got[0]/expected[0]-1) > 0.001 {
			t.Errorf("%v instead of %v", got, expected)
		}
	}
}
