// Drives franz-go for the comparison: one mode, one line of results.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

func main() {
	options, err := parse(os.Args[1:])
	var result *report
	if err == nil {
		result, err = run(options)
	}
	var line []byte
	if err == nil {
		line, err = json.Marshal(result)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		var cannot unsupported
		if errors.As(err, &cannot) {
			os.Exit(3)
		}
		os.Exit(1)
	}
	fmt.Println(string(line))
}

func run(options *options) (*report, error) {
	switch options.mode {
	case "produce":
		return produce(options)
	case "latency":
		return latency(options)
	case "consume":
		return consume(options)
	case "start":
		return start(options)
	case "memory":
		return memory(options)
	}
	return nil, errors.New("no mode: produce, latency, consume, start, memory")
}
