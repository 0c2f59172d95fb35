package main

import (
	"testing"
	"time"
)

func TestTicksThatNobodyWaitedForAreCaughtUp(t *testing.T) {
	ticks, err := startTicks(2 * time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	defer ticks.close()
	passed, err := ticks.wait()
	if err != nil || time.Now().Before(ticks.due(passed-1)) {
		t.Fatalf("%d ticks before their time, %v", passed, err)
	}
	for time.Now().Before(ticks.due(passed + 4)) {
	}
	if later, err := ticks.wait(); err != nil || later < passed+4 {
		t.Errorf("%d ticks after %d, %v", later, passed, err)
	}
}
