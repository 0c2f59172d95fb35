package main

import (
	"fmt"
	"strings"
)

const tableRecords = 1024

// The records that are produced: built once, cycled through. Byte for byte those of the drivers in other languages.
type table struct {
	keys, values [][]byte
}

// The first of the records, all of which have keys and values of these sizes.
func newTable(size, key, records int) *table {
	random := splitMix(6)
	t := &table{}
	for index := range records {
		digits := fmt.Sprintf("%0*d", key, index)
		t.keys = append(t.keys, []byte(digits[len(digits)-key:]))
		t.values = append(t.values, value(size, index, &random))
	}
	return t
}

// Bytes of keys and values of so many records.
func (t *table) bytes(records int64) int64 {
	return int64(len(t.keys[0])+len(t.values[0])) * records
}

// Text as applications write it: names repeat, half of the characters are new.
func value(size, index int, random *splitMix) []byte {
	names := []string{"orderId", "customer", "status", "amount", "createdAt", "warehouse"}
	states := []string{"created", "shipped", "delivered", "cancelled"}
	var text strings.Builder
	fmt.Fprintf(&text, `{"id":%d`, index)
	for text.Len() < size {
		fmt.Fprintf(&text, `,"%s":`, names[random.below(len(names))])
		switch random.below(4) {
		case 0:
			fmt.Fprint(&text, random.below(1_000_000))
		case 1:
			fmt.Fprintf(&text, `"%s"`, states[random.below(len(states))])
		case 2:
			fmt.Fprintf(&text, `"%08x"`, random.next()>>32)
		default:
			fmt.Fprintf(&text, `{"total":%d.%02d}`, random.below(1000), random.below(100))
		}
	}
	bytes := []byte(text.String())[:size]
	if size > 1 {
		bytes[size-1] = '}'
	}
	return bytes
}

// splitmix64, which is quick to write in every language.
type splitMix uint64

func (s *splitMix) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (s *splitMix) below(bound int) int {
	return int(s.next() >> 33 % uint64(bound))
}
