package main

import (
	"hash/fnv"
	"testing"
)

func TestRecordsAreThoseOfEveryLanguage(t *testing.T) {
	for size, expected := range map[int]uint64{
		10: 0x37da857a464641ab, 100: 0x1f347cc99d82d5df, 1024: 0xc0cfb3c0187b0a3f,
	} {
		table, hash := newTable(size, 16, tableRecords), fnv.New64a()
		for index := range tableRecords {
			hash.Write(table.keys[index])
			hash.Write(table.values[index])
		}
		if hash.Sum64() != expected {
			t.Errorf("values of %d bytes: %#x instead of %#x", size, hash.Sum64(), expected)
		}
	}
}
