package tree

import (
	"fmt"
	"math"
	"testing"
	"time"

	"vitrine/repo/blob"
)

func TestDirTable(t *testing.T) {
	var d dirTable
	d.init()
	a := dirRecord{parent: Root, tree: 1, parentTree: 2, entry: 3}
	id := d.hold("a", a)
	if again := d.hold("a", a); again != id {
		t.Fatalf("one instance, two IDs: %#x %#x", id, again)
	}
	// Another instance with the same hash gets a place beside it, and keeps it.
	b := dirRecord{parent: Root, tree: 9, parentTree: 2, entry: 4}
	other := d.hold("a", b)
	if other == id || d.hold("a", b) != other {
		t.Fatalf("a collision: %#x and %#x", id, other)
	}
	d.drop(id, 1)
	if r, ok := d.get(id); !ok || r.refs != 1 || !r.same(a) {
		t.Errorf("after one of two references: %+v, %v", r, ok)
	}
	d.drop(id, 1)
	if _, ok := d.get(id); ok {
		t.Error("still there without references")
	}
	d.drop(id, 1) // nothing happens
	if r, ok := d.get(other); !ok || !r.same(b) {
		t.Errorf("its neighbour: %+v, %v", r, ok)
	}
	if found, ok := d.find(9); !ok || found != other {
		t.Errorf("found %#x, %v", found, ok)
	}
	// A counter that overflowed must not come back to zero.
	d.shard(other).m[other] = dirRecord{parent: Root, tree: 9, parentTree: 2, entry: 4, refs: math.MaxUint32}
	d.hold("a", b)
	d.drop(other, math.MaxUint64)
	if _, ok := d.get(other); !ok {
		t.Error("an instance with countless references is gone")
	}
}

func TestDirTableGivesMemoryBack(t *testing.T) {
	var d dirTable
	d.init()
	const n = 200_000
	ids := make([]NodeID, n)
	for i := range ids {
		ids[i] = d.hold(fmt.Sprint(i), dirRecord{parent: Root, tree: 1, parentTree: 1, entry: uint32(i)})
	}
	if d.len() != n {
		t.Fatalf("%d instances, want %d", d.len(), n)
	}
	for _, id := range ids {
		d.drop(id, 1)
	}
	if d.len() != 0 {
		t.Fatalf("%d instances left", d.len())
	}
	for i := range d.shards {
		if p := d.shards[i].peak; p > 1024 {
			t.Errorf("shard %d keeps room for %d", i, p)
		}
	}
}

func TestTreeTable(t *testing.T) {
	var table treeTable
	table.init()
	if n := table.number(blob.ID{}); n != noTree {
		t.Errorf("the zero ID has number %d", n)
	}
	ids := make([]blob.ID, 3*treeBlock)
	for i := range ids {
		ids[i] = blob.Hash([]byte(fmt.Sprint(i)))
		if i%2 == 1 { // the same first 8 bytes as the one before
			copy(ids[i][:8], ids[i-1][:8])
		}
	}
	for i, id := range ids {
		if n := table.number(id); n != uint32(i+1) {
			t.Fatalf("tree %d has number %d", i, n)
		}
	}
	for i, id := range ids {
		if n := table.number(id); n != uint32(i+1) {
			t.Fatalf("tree %d has number %d the second time", i, n)
		}
		if back, ok := table.id(uint32(i + 1)); !ok || back != id {
			t.Fatalf("number %d: %v, %v", i+1, back, ok)
		}
	}
	for _, n := range []uint32{0, uint32(len(ids) + 1), math.MaxUint32} {
		if _, ok := table.id(n); ok {
			t.Errorf("number %d is known", n)
		}
	}
}

func TestFileIDs(t *testing.T) {
	for _, tc := range []struct {
		tree  uint32
		entry int
	}{{1, 0}, {1, maxEntries - 1}, {math.MaxUint32, 12345}} {
		tree, entry, ok := splitFileID(fileID(tc.tree, tc.entry))
		if !ok || tree != tc.tree || entry != tc.entry {
			t.Errorf("%v comes back as %d, %d, %v", tc, tree, entry, ok)
		}
		if id := fileID(tc.tree, tc.entry); id&instanceBit != 0 || id == Root {
			t.Errorf("%v: ID %#x", tc, uint64(id))
		}
	}
	var top blob.ID
	for i := range top {
		top[i] = 0xff
	}
	if first, last := fileIno(top, 0), fileIno(top, maxEntries-1); first >= last || last > inoBits {
		t.Errorf("numbers of the highest tree: %#x to %#x", first, last)
	}
	if first := fileIno(blob.ID{1: 0}, 0); first <= uint64(Root) {
		t.Errorf("number of the lowest tree: %d", first)
	}
}

func TestHugeTreesExpire(t *testing.T) {
	var h hugeTrees
	h.keep(blob.ID{1}, nil)
	h.expire(time.Now().Add(2 * hugeIdle))
	for i := range h.slots {
		if h.slots[i].used != (time.Time{}) {
			t.Errorf("slot %d is still taken", i)
		}
	}
}
