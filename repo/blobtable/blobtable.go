// Package blobtable holds every entry of every index file in about 50 bytes each, for verbs that look at a
// repository as a whole. It is filled in parallel, then sorted once, then only looked up:
//
//	add := t.Adder(nil)   one for each goroutine
//	t.Sort()
//	t.SetSize(id, bytes)  for each pack that is there
//	t.Lookup, t.All, …
package blobtable

import (
	"bytes"
	"cmp"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"vitrine/repo/blob"
	"vitrine/repo/internal/packfile"
)

// Table is the table. The zero value is empty and ready to be filled.
//
// Entries are spread over buckets by type and first byte of the ID, so that growing, sorting and
// searching each touch 1/256 of it.
type Table struct {
	buckets [2][256]bucket // by blob.Type

	packMu  sync.Mutex
	packNos map[blob.ID]uint32 // guarded by packMu until Sort; see DropNames
	packs   []Pack             // guarded by packMu until Sort

	used       Bits  // after TrackUse: a bit for each entry
	duplicates int64 // further copies of blobs, known after Sort
}

type bucket struct {
	mu      sync.Mutex // guards entries until Sort
	entries []Entry    // sorted by ID, pack, offset after Sort
	first   int        // number of the first entry, over all buckets
}

// Entry is one copy of a blob.
type Entry struct {
	ID          blob.ID
	Pack        uint32 // its number in Table.Packs
	OffsetBytes uint32
	LengthBytes uint32
	PlainBytes  uint32 // as blob.Location.PlainBytes
}

// NewEntry makes an entry for the pack of the given number.
func NewEntry(e *blob.Entry, pack uint32) Entry {
	return Entry{e.ID, pack, e.OffsetBytes, e.LengthBytes, e.PlainBytes}
}

// Pack is what the index and the backend say of a pack file.
type Pack struct {
	ID          blob.ID
	Blobs       int     // in the index
	BlobBytes   int64   // sealed, in the index
	HeaderBytes int64   // what its blobs make it
	Types       [2]bool // by blob.Type: it holds some
	Compressed  bool    // some blobs are
	Plain       bool    // some blobs are not compressed
	SizeBytes   int64   // of the file, -1 when there is none
}

// WantBytes is the size that the index gives the pack.
func (p *Pack) WantBytes() int64 { return p.BlobBytes + p.HeaderBytes }

// Holds reports whether the file is long enough for the entry.
func (p *Pack) Holds(e *Entry) bool { return int64(e.OffsetBytes)+int64(e.LengthBytes) <= p.SizeBytes }

// Mixed reports whether the pack has data and trees.
func (p *Pack) Mixed() bool { return p.Types[blob.Data] && p.Types[blob.Tree] }

// Location is where the entry is.
func (t *Table) Location(e *Entry) blob.Location {
	return blob.Location{Pack: t.packs[e.Pack].ID, OffsetBytes: e.OffsetBytes, LengthBytes: e.LengthBytes, PlainBytes: e.PlainBytes}
}

// Adder returns a function that adds entries; it is for one goroutine. Others may add in parallel.
// A function newPack that is not nil is told the number of each pack where its entries begin.
func (t *Table) Adder(newPack func(pack uint32)) func(blob.Entry) error {
	var last blob.ID
	var no uint32
	known := false
	return func(e blob.Entry) error {
		if !known || e.Pack != last { // the entries of a pack stand together
			last, no, known = e.Pack, t.packNo(e.Pack), true
			if newPack != nil {
				newPack(no)
			}
		}
		b := &t.buckets[e.Type&1][e.ID[0]]
		b.mu.Lock()
		b.entries = append(b.entries, NewEntry(&e, no))
		b.mu.Unlock()
		return nil
	}
}

func (t *Table) packNo(id blob.ID) uint32 {
	t.packMu.Lock()
	defer t.packMu.Unlock()
	no, ok := t.packNos[id]
	if !ok {
		if t.packNos == nil {
			t.packNos = make(map[blob.ID]uint32)
		}
		no = uint32(len(t.packs))
		t.packNos[id] = no
		t.packs = append(t.packs, Pack{ID: id, SizeBytes: -1})
	}
	return no
}

// Sort ends the filling. An entry that several index files list alike is kept once.
func (t *Table) Sort() {
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
				if j > 0 && b.entries[j].ID == b.entries[j-1].ID {
					t.duplicates++
				}
				t.packs[b.entries[j].Pack].count(&b.entries[j], blob.Type(typ))
			}
		}
	}
}

func (b *bucket) sort() {
	slices.SortFunc(b.entries, func(x, y Entry) int {
		return cmp.Or(bytes.Compare(x.ID[:], y.ID[:]), cmp.Compare(x.Pack, y.Pack), cmp.Compare(x.OffsetBytes, y.OffsetBytes),
			cmp.Compare(x.LengthBytes, y.LengthBytes), cmp.Compare(x.PlainBytes, y.PlainBytes))
	})
	b.entries = slices.Clone(slices.Compact(b.entries)) // without the room for growth
}

var headerFixedBytes = int64(packfile.HeaderBytes(nil))

func (p *Pack) count(e *Entry, t blob.Type) {
	if p.HeaderBytes == 0 {
		p.HeaderBytes = headerFixedBytes
	}
	p.Blobs++
	p.BlobBytes += int64(e.LengthBytes)
	p.HeaderBytes += int64(packfile.EntryBytes(e.PlainBytes != 0))
	p.Types[t&1] = true
	p.Compressed = p.Compressed || e.PlainBytes != 0
	p.Plain = p.Plain || e.PlainBytes == 0
}

// Packs returns all packs, by their numbers. The slice is the table's.
func (t *Table) Packs() []Pack { return t.packs }

// SetSize notes the size of a pack's file; false means that no entry is in that pack.
func (t *Table) SetSize(id blob.ID, sizeBytes int64) bool {
	no, ok := t.packNos[id]
	if ok {
		t.packs[no].SizeBytes = sizeBytes
	}
	return ok
}

// DropNames frees what SetSize needs.
func (t *Table) DropNames() { t.packNos = nil }

// Duplicates returns how many entries are further copies of blobs.
func (t *Table) Duplicates() int64 { return t.duplicates }

// Distinct returns how many blobs of a type there are, copies not counted.
func (t *Table) Distinct(typ blob.Type) int64 {
	var n int64
	for i := range t.buckets[typ&1] {
		entries := t.buckets[typ&1][i].entries
		for j := range entries {
			if j == 0 || entries[j].ID != entries[j-1].ID {
				n++
			}
		}
	}
	return n
}

// Lookup returns all copies of a blob, and the number of the first for MarkUsed.
func (t *Table) Lookup(h blob.Handle) (copies []Entry, first int) {
	b := &t.buckets[h.Type&1][h.ID[0]]
	i, _ := slices.BinarySearchFunc(b.entries, h.ID, func(e Entry, id blob.ID) int { return bytes.Compare(e.ID[:], id[:]) })
	n := i
	for n < len(b.entries) && b.entries[n].ID == h.ID {
		n++
	}
	return b.entries[i:n:n], b.first + i
}

// All calls fn for every entry, with its number, in the order of types and IDs.
func (t *Table) All(fn func(h blob.Handle, e *Entry, number int)) {
	t.Blobs(func(h blob.Handle, copies []Entry, first int) {
		for i := range copies {
			fn(h, &copies[i], first+i)
		}
	})
}

// Blobs calls fn for every blob with all of its copies, and the number of the first of them, in the order of types
// and IDs.
func (t *Table) Blobs(fn func(h blob.Handle, copies []Entry, first int)) {
	for typ := range t.buckets {
		for i := range t.buckets[typ] {
			b := &t.buckets[typ][i]
			for j, n := 0, 0; j < len(b.entries); j = n {
				for n = j + 1; n < len(b.entries) && b.entries[n].ID == b.entries[j].ID; n++ {
				}
				fn(blob.Handle{Type: blob.Type(typ), ID: b.entries[j].ID}, b.entries[j:n:n], b.first+j)
			}
		}
	}
}

// Len returns the number of entries of a type, copies counted.
func (t *Table) Len(typ blob.Type) int {
	n := 0
	for i := range t.buckets[typ&1] {
		n += len(t.buckets[typ&1][i].entries)
	}
	return n
}

// Bits is a bit for each entry of a table, by its number.
type Bits []uint32

// NewBits returns bits for all entries, none of them set.
func (t *Table) NewBits() Bits { return make(Bits, (t.Len(blob.Data)+t.Len(blob.Tree)+31)/32) }

// Set sets a bit; it may be called in parallel.
func (b Bits) Set(number int) { atomic.OrUint32(&b[number/32], 1<<(number%32)) }

// Has reports whether a bit is set.
func (b Bits) Has(number int) bool {
	return atomic.LoadUint32(&b[number/32])&(1<<(number%32)) != 0
}

// TrackUse makes the table remember what MarkUsed is told.
func (t *Table) TrackUse() { t.used = t.NewBits() }

// MarkUsed notes that copies are needed; it may be called in parallel.
func (t *Table) MarkUsed(first, n int) {
	if t.used == nil {
		return
	}
	for i := first; i < first+n; i++ {
		t.used.Set(i)
	}
}

// IsUsed reports whether the entry of that number was marked.
func (t *Table) IsUsed(number int) bool { return t.used.Has(number) }
