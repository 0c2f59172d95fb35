package main

import "testing"

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
