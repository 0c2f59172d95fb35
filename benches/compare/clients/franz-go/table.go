package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

const tableRecords = 1024

// The records that are produced: built once, cycled through. The text is like that of the Rust drivers.
type table struct {
	keys, values [tableRecords][]byte
}

func newTable(size, key int) *table {
	random := rand.New(rand.NewPCG(6, 0))
	t := &table{}
	for index := range tableRecords {
		digits := fmt.Sprintf("%0*d", key, index)
		t.keys[index] = []byte(digits[len(digits)-key:])
		t.values[index] = value(size, index, random)
	}
	return t
}

// Bytes of keys and values of so many records. All have the same size.
func (t *table) bytes(records int64) int64 {
	return int64(len(t.keys[0])+len(t.values[0])) * records
}

// Text as applications write it: names repeat, half of the characters are new.
func value(size, index int, random *rand.Rand) []byte {
	names := []string{"orderId", "customer", "status", "amount", "createdAt", "warehouse"}
	states := []string{"created", "shipped", "delivered", "cancelled"}
	var text strings.Builder
	fmt.Fprintf(&text, `{"id":%d`, index)
	for text.Len() < size {
		fmt.Fprintf(&text, `,"%s":`, names[random.IntN(len(names))])
		switch random.IntN(4) {
		case 0:
			fmt.Fprint(&text, random.IntN(1_000_000))
		case 1:
			fmt.Fprintf(&text, `"%s"`, states[random.IntN(len(states))])
		case 2:
			fmt.Fprintf(&text, `"%012x"`, random.Int64N(1<<48))
		default:
			fmt.Fprintf(&text, `{"total":%d.%02d}`, random.IntN(1000), random.IntN(100))
		}
	}
	bytes := []byte(text.String())[:size]
	if size > 1 {
		bytes[size-1] = '}'
	}
	return bytes
}
