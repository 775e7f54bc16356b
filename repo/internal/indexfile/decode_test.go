package indexfile

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"vitrine/repo/blob"
)

// somePacks returns packs with as many blobs in all, every third of them uncompressed.
func somePacks(packs, blobsEach int) []Pack {
	r := rand.New(rand.NewPCG(1, 2))
	list := make([]Pack, packs)
	for i := range list {
		list[i].ID = blob.Hash(fmt.Append(nil, "pack", i))
		offset := uint32(0)
		for j := range blobsEach {
			e := blob.Entry{Handle: blob.Handle{Type: blob.Type(j % 2), ID: blob.Hash(fmt.Append(nil, i, j))}}
			e.OffsetBytes = offset
			e.LengthBytes = 32 + r.Uint32N(20_000)
			if j%3 != 0 {
				e.PlainBytes = 1 + r.Uint32N(50_000)
			}
			offset += e.LengthBytes
			list[i].Blobs = append(list[i].Blobs, e)
		}
	}
	return list
}

func BenchmarkDecode(b *testing.B) {
	p := Append(nil, somePacks(25, 2000))
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		if err := Decode(p, func(e blob.Entry) error { n += int(e.LengthBytes); return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	packs := somePacks(25, 2000)
	var p []byte
	for b.Loop() {
		p = Append(p[:0], packs)
		b.SetBytes(int64(len(p)))
	}
}
