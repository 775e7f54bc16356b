package tree

import (
	"slices"

	"vitrine/cache/blobcache"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// Stats is what a tree holds at the moment.
type Stats struct {
	Parsed, Layouts blobcache.Stats
	HugeBytes       int64 // parsed trees that are too large for the cache
	Dirs            int   // directories to which somebody holds a reference
	Trees           int   // different tree blobs met since New

	Snapshots int // that the lists show
	// Open are the snapshots to whose root directory somebody holds a reference, sorted; also some that the
	// lists do not show any more.
	Open []blob.ID
}

// Stats looks at every directory that is held, which takes some 20 ms for a million. Nobody waits
// for it but those who look up or forget directories in one of the many parts of the table.
func (t *Tree) Stats() Stats {
	s := Stats{
		Parsed: t.parsed.Stats(), Layouts: t.layouts.Stats(), HugeBytes: t.huge.bytes(),
		Dirs: t.dirs.len(), Trees: t.trees.len(), Snapshots: t.view.Load().snapshots(),
	}
	for root := range t.dirs.roots() {
		s.Open = append(s.Open, t.rootAt(root).ID)
	}
	slices.SortFunc(s.Open, blob.ID.Compare)
	return s
}

// snapshots counts those that are shown at least once.
func (v *view) snapshots() int {
	seen := make(map[*snapshot.Snapshot]struct{})
	for _, l := range v.lists {
		for i := range l.items {
			if sn := l.items[i].sn; sn != nil {
				seen[sn] = struct{}{}
			}
		}
	}
	return len(seen)
}

// roots returns the places in Tree.roots of the snapshots whose root directory is held.
func (d *dirTable) roots() map[uint32]struct{} {
	found := make(map[uint32]struct{})
	for i := range d.shards {
		s := &d.shards[i]
		s.mu.RLock()
		for _, r := range s.m {
			if r.parentTree == noTree {
				found[r.entry] = struct{}{}
			}
		}
		s.mu.RUnlock()
	}
	return found
}

func (t *treeTable) len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return int(t.count)
}

func (h *hugeTrees) bytes() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	sum := int64(0)
	for i := range h.slots {
		if c := h.slots[i].c; c != nil {
			sum += int64(c.MemoryBytes())
		}
	}
	return sum
}
