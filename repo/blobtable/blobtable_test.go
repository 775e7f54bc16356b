package blobtable

import (
	"encoding/binary"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
)

// testEntry makes the n-th of many entries: 100 to a pack, every tenth a tree.
func testEntry(n int) blob.Entry {
	var e blob.Entry
	if n%10 == 0 {
		e.Type = blob.Tree
	}
	e.ID = blob.Hash(binary.BigEndian.AppendUint64(nil, uint64(n)))
	e.Pack = blob.Hash(binary.BigEndian.AppendUint64([]byte("pack"), uint64(n/100)))
	e.OffsetBytes, e.LengthBytes = uint32(n%100*1000), 1000
	if n%2 == 0 {
		e.PlainBytes = 3000
	}
	return e
}

func TestTable(t *testing.T) {
	const n, adders = 20_000, 4
	var tab Table
	var group sync.WaitGroup
	for a := range adders {
		group.Go(func() {
			add := tab.Adder(nil)
			for i := a * n / adders; i < (a+1)*n/adders; i++ {
				add(testEntry(i))
			}
			for i := range 300 { // listed by every index file alike
				add(testEntry(i))
			}
		})
	}
	group.Wait()
	// A second copy of some, in another pack.
	add := tab.Adder(nil)
	for i := range 50 {
		e := testEntry(i)
		e.Pack = blob.Hash([]byte("other"))
		add(e)
	}
	tab.Sort()
	if got := tab.Len(blob.Data) + tab.Len(blob.Tree); got != n+50 || tab.Duplicates() != 50 {
		t.Errorf("%d entries, %d duplicates, want %d and 50", got, tab.Duplicates(), n+50)
	}
	tab.TrackUse()
	for i := range n {
		e := testEntry(i)
		copies, first := tab.Lookup(e.Handle)
		want := 1
		if i < 50 {
			want = 2
		}
		if len(copies) != want || !slices.ContainsFunc(copies, func(c Entry) bool { return tab.Location(&c) == e.Location }) {
			t.Fatalf("entry %d: %d copies, want %d", i, len(copies), want)
		}
		if i%3 == 0 {
			tab.MarkUsed(first, len(copies))
		}
	}
	if copies, _ := tab.Lookup(blob.Handle{Type: blob.Data, ID: testEntry(0).ID}); len(copies) != 0 {
		t.Error("a tree is found as data")
	}
	used := 0
	numbers := map[int]bool{}
	tab.All(func(_ blob.Handle, e *Entry, number int) {
		numbers[number] = true
		if tab.IsUsed(number) {
			used++
		}
	})
	if want := (n+2)/3 + 17; used != want || len(numbers) != n+50 {
		t.Errorf("%d entries used, want %d; %d numbers", used, want, len(numbers))
	}
	for i := range tab.Packs() {
		p := &tab.Packs()[i]
		want := Pack{ID: p.ID, Blobs: 100, BlobBytes: 100_000, HeaderBytes: 36 + 50*37 + 50*41, Types: [2]bool{true, true}, Compressed: true, Plain: true, SizeBytes: -1}
		if p.ID == blob.Hash([]byte("other")) {
			want.Blobs, want.BlobBytes, want.HeaderBytes = 50, 50_000, 36+25*37+25*41
		}
		if diff := cmp.Diff(want, *p); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	}
}

// TestTableMemory holds the package documentation to its word.
func TestTableMemory(t *testing.T) {
	const n = 400_000
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	tab := new(Table)
	add := tab.Adder(nil)
	for i := range n {
		add(testEntry(i))
	}
	tab.Sort()
	tab.TrackUse()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if perEntry := float64(after.HeapAlloc-before.HeapAlloc) / n; perEntry > 65 {
		t.Errorf("%.0f bytes for each blob", perEntry)
	} else {
		t.Logf("%.0f bytes for each blob", perEntry)
	}
	runtime.KeepAlive(tab)
}
