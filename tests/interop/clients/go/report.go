// One scenario's outcome as one line, and the checks that scenarios make.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

const (
	longestScenario = 45 * time.Second
	longestReason   = 300
	patience        = 20 * time.Second
)

// skipped is what the client or the cluster it is run on lacks.
type skipped struct{ error }

// notServed is the broker's clean refusal of a feature.
type notServed struct{ error }

// failure is what a check panics with.
type failure struct{ error }

type scenario struct {
	name string
	run  func(ctx context.Context)
}

// report runs the scenarios, or those of them that are named.
func report(scenarios []scenario, only []string) {
	for _, scenario := range scenarios {
		if len(only) > 0 && !slices.Contains(only, scenario.name) {
			continue
		}
		started := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), longestScenario)
		outcome := make(chan string, 1)
		go func() { outcome <- outcomeOf(ctx, scenario) }()
		var line string
		select {
		case line = <-outcome:
		case <-time.After(longestScenario + 5*time.Second):
			line = fmt.Sprintf("FAIL %s: not finished after %v", scenario.name, longestScenario)
		}
		cancel()
		line = strings.Join(strings.Fields(line), " ")
		fmt.Println(line[:min(len(line), longestReason)])
		fmt.Fprintf(os.Stderr, "%s took %.1f s\n", scenario.name, time.Since(started).Seconds())
	}
}

func outcomeOf(ctx context.Context, scenario scenario) (line string) {
	defer func() {
		switch found := recover().(type) {
		case nil:
			line = "PASS " + scenario.name
		case skipped:
			line = fmt.Sprintf("SKIP %s: %v", scenario.name, found)
		case notServed:
			line = fmt.Sprintf("NOT_SERVED %s: %v", scenario.name, found)
		case failure:
			debug.PrintStack()
			line = fmt.Sprintf("FAIL %s: %v", scenario.name, found)
		default:
			panic(found)
		}
	}()
	scenario.run(ctx)
	return
}

func fail(format string, arguments ...any) {
	panic(failure{fmt.Errorf(format, arguments...)})
}

func must(err error) {
	if err != nil {
		panic(failure{err})
	}
}

func get[T any](value T, err error) T {
	must(err)
	return value
}

func check(holds bool, what string, arguments ...any) {
	if !holds {
		fail(what, arguments...)
	}
}

func equal[T any](expected, actual T, what string, arguments ...any) {
	if !reflect.DeepEqual(expected, actual) {
		fail("%s: expected %.120s, got %.120s", fmt.Sprintf(what, arguments...), fmt.Sprint(expected), fmt.Sprint(actual))
	}
}

// refused fails unless err is that error of Kafka.
func refused(expected, err error, what string) {
	check(errors.Is(err, expected), "%s: expected %v, got %v", what, expected, err)
}

// eventually waits until the condition holds; one that gives an error does not hold yet.
func eventually(what string, condition func() (bool, error)) {
	deadline := time.Now().Add(patience)
	for {
		holds, err := condition()
		if err == nil && holds {
			return
		}
		check(time.Now().Before(deadline), "not within %v: %s (%v)", patience, what, err)
		time.Sleep(20 * time.Millisecond)
	}
}
