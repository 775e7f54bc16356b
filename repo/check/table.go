package check

import (
	"bytes"
	"cmp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"vitrine/repo/blob"
)

// table holds every entry of every index file in about 50 bytes each. It is filled in
// parallel, then sorted once, then only looked up.
//
// Entries are spread over buckets by type and first byte of the ID, so that growing, sorting and
// searching each touch 1/256 of it.
type table struct {
	buckets [2][256]bucket // by blob.Type

	packMu  sync.Mutex
	packNos map[blob.ID]uint32 // guarded by packMu until sort
	packs   []pack             // guarded by packMu until sort

	used       []uint32 // after trackUse: a bit for each entry, set atomically
	duplicates int64    // further copies of blobs, known after sort
}

type bucket struct {
	mu      sync.Mutex // guards entries until sort
	entries []entry    // sorted by ID, pack, offset after sort
	first   int        // number of the first entry, over all buckets
}

// entry is one copy of a blob.
type entry struct {
	id     blob.ID
	pack   uint32 // in table.packs
	offset uint32
	length uint32
	plain  uint32 // as blob.Location.PlainBytes
}

func newEntry(e *blob.Entry, pack uint32) entry {
	return entry{e.ID, pack, e.OffsetBytes, e.LengthBytes, e.PlainBytes}
}

// pack is what the index and the backend say of a pack file.
type pack struct {
	id          blob.ID
	blobs       int   // in the index
	blobBytes   int64 // sealed, in the index
	headerBytes int64 // what its blobs make it
	types       [2]bool
	compressed  bool
	sizeBytes   int64 // of the file, -1 when there is none
}

// wantBytes is the size that the index gives the pack.
func (p *pack) wantBytes() int64 { return p.blobBytes + p.headerBytes }

// holds reports whether the file is long enough for the entry.
func (p *pack) holds(e *entry) bool { return int64(e.offset)+int64(e.length) <= p.sizeBytes }

func (t *table) location(e *entry) blob.Location {
	return blob.Location{Pack: t.packs[e.pack].id, OffsetBytes: e.offset, LengthBytes: e.length, PlainBytes: e.plain}
}

// adder returns a function that adds entries; it is for one goroutine. Others may add in parallel.
func (t *table) adder() func(blob.Entry) error {
	var last blob.ID
	var no uint32
	known := false
	return func(e blob.Entry) error {
		if !known || e.Pack != last { // the entries of a pack stand together
			last, no, known = e.Pack, t.packNo(e.Pack), true
		}
		b := &t.buckets[e.Type&1][e.ID[0]]
		b.mu.Lock()
		b.entries = append(b.entries, newEntry(&e, no))
		b.mu.Unlock()
		return nil
	}
}

func (t *table) packNo(id blob.ID) uint32 {
	t.packMu.Lock()
	defer t.packMu.Unlock()
	no, ok := t.packNos[id]
	if !ok {
		if t.packNos == nil {
			t.packNos = make(map[blob.ID]uint32)
		}
		no = uint32(len(t.packs))
		t.packNos[id] = no
		t.packs = append(t.packs, pack{id: id, sizeBytes: -1})
	}
	return no
}

// sort ends the filling. An entry that several index files list alike is kept once.
func (t *table) sort() {
	var next atomic.Int32
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < 512; i = next.Add(1) - 1 {
				t.buckets[i/256][i%256].sort()
			}
		})
	}
	workers.Wait()
	n := 0
	for typ := range t.buckets {
		for i := range t.buckets[typ] {
			b := &t.buckets[typ][i]
			b.first = n
			n += len(b.entries)
			for j := range b.entries {
				if j > 0 && b.entries[j].id == b.entries[j-1].id {
					t.duplicates++
				}
				t.packs[b.entries[j].pack].count(&b.entries[j], blob.Type(typ))
			}
		}
	}
}

func (b *bucket) sort() {
	slices.SortFunc(b.entries, func(x, y entry) int {
		return cmp.Or(bytes.Compare(x.id[:], y.id[:]), cmp.Compare(x.pack, y.pack), cmp.Compare(x.offset, y.offset),
			cmp.Compare(x.length, y.length), cmp.Compare(x.plain, y.plain))
	})
	b.entries = slices.Clone(slices.Compact(b.entries)) // without the room for growth
}

func (p *pack) count(e *entry, t blob.Type) {
	if p.headerBytes == 0 {
		p.headerBytes = headerFixedBytes
	}
	p.blobs++
	p.blobBytes += int64(e.length)
	p.headerBytes += headerEntryBytes(e.plain != 0)
	p.types[t&1] = true
	p.compressed = p.compressed || e.plain != 0
}

// lookup returns all copies of a blob, and the number of the first for markUsed.
func (t *table) lookup(h blob.Handle) (copies []entry, first int) {
	b := &t.buckets[h.Type&1][h.ID[0]]
	i, _ := slices.BinarySearchFunc(b.entries, h.ID, func(e entry, id blob.ID) int { return bytes.Compare(e.id[:], id[:]) })
	n := i
	for n < len(b.entries) && b.entries[n].id == h.ID {
		n++
	}
	return b.entries[i:n:n], b.first + i
}

// all calls fn for every entry, with its number.
func (t *table) all(fn func(h blob.Handle, e *entry, number int)) {
	for typ := range t.buckets {
		for i := range t.buckets[typ] {
			b := &t.buckets[typ][i]
			for j := range b.entries {
				fn(blob.Handle{Type: blob.Type(typ), ID: b.entries[j].id}, &b.entries[j], b.first+j)
			}
		}
	}
}

// len returns the number of entries of a type, copies counted.
func (t *table) len(typ blob.Type) int {
	n := 0
	for i := range t.buckets[typ&1] {
		n += len(t.buckets[typ&1][i].entries)
	}
	return n
}

func (t *table) trackUse() {
	t.used = make([]uint32, (t.len(blob.Data)+t.len(blob.Tree)+31)/32)
}

// markUsed notes that copies are needed; it may be called in parallel.
func (t *table) markUsed(first, n int) {
	if t.used == nil {
		return
	}
	for i := first; i < first+n; i++ {
		atomic.OrUint32(&t.used[i/32], 1<<(i%32))
	}
}

func (t *table) isUsed(number int) bool {
	return atomic.LoadUint32(&t.used[number/32])&(1<<(number%32)) != 0
}
