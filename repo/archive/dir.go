package archive

import (
	"context"
	"path/filepath"
	"sync"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// maxPooledTree keeps the memory of a rare huge directory from being held for the next small one.
const maxPooledTree = 1 << 20

// dir is a directory of the new snapshot whose tree is not saved yet.
//
// The walk deals out slots, one for each batch of files and each subdirectory: 0, 1, … from the front of the directory,
// -1, -2, … from its back. In the tree come the former in ascending order, and then the latter, so that the
// order is that of the names. Slots are filled in any order, by whoever is done;
// what is next in order goes straight into the tree's JSON, the rest waits, slots from the back till all are
// there. The goroutine that fills the last slot saves the tree and fills the directory's own slot further up.
type dir struct {
	up   *dir // nil at the root
	slot int  // in up
	abs  string
	node snapshot.Node // Subtree is added at the end
	old  *oldDir       // the same directory in the parent snapshot

	front, back int // slots dealt out; the walk's own

	mu      sync.Mutex // guards the fields below
	tree    snapshot.TreeEncoder
	filled  int          // slots in tree
	waiting map[int]slot // filled ahead of the order
	slots   int          // all of them, or -1 while the walk is in the directory; then front and back stay as they are
	err     error        // of the first node that the tree refused
}

// slot is the part of a directory that a batch or a subdirectory fills.
type slot struct {
	nodes []encoded
	batch *batch // what owns the nodes' memory; nil when it is the collector's
}

// encoded is the JSON of a node; nil when the entry is left out.
type encoded struct {
	name string
	json []byte
}

// nextSlot is called by the walk only.
func (d *dir) nextSlot(back bool) int {
	if back {
		d.back++
		return -d.back
	}
	d.front++
	return d.front - 1
}

// fill fills slot i, which is then no longer the caller's. It returns true when the directory is
// complete.
func (r *run) fill(d *dir, i int, s slot) (complete bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if i != d.filled {
		if d.waiting == nil {
			d.waiting = make(map[int]slot)
		}
		d.waiting[i] = s
		return r.complete(d)
	}
	for ok := true; ok; s, ok = d.waiting[d.filled] {
		delete(d.waiting, d.filled)
		r.append(d, s)
	}
	return r.complete(d)
}

// complete reports whether all slots are filled, and puts those from the back into the tree then. The caller holds d.mu.
func (r *run) complete(d *dir) bool {
	if d.slots != d.filled+len(d.waiting) {
		return false
	}
	for i := range len(d.waiting) { // all are from the back
		r.append(d, d.waiting[i-d.back])
	}
	d.waiting = nil
	return true
}

// append puts the next slot in order into the tree. The caller holds d.mu.
func (r *run) append(d *dir, s slot) {
	d.filled++
	for _, n := range s.nodes {
		if n.json == nil {
			continue
		}
		if d.tree.Len() == 0 {
			d.tree.Reset(*r.trees.Get().(*[]byte))
		}
		if err := d.tree.AddJSON(n.name, n.json); err != nil && d.err == nil {
			d.err = err
		}
	}
	if s.batch != nil {
		r.recycle(s.batch)
	}
}

// left is called when the walk leaves the directory. It returns true when nothing is missing.
func (r *run) left(d *dir) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slots = d.front + d.back
	return r.complete(d)
}

// finish saves the tree of a complete directory, and those of the directories above that become
// complete by it.
func (r *run) finish(ctx context.Context, d *dir) {
	for d != nil {
		up, err := r.saveDir(ctx, d)
		if err != nil {
			r.abort(err)
			return
		}
		d = up
	}
}

// saveDir returns the directory above if that is complete now.
func (r *run) saveDir(ctx context.Context, d *dir) (*dir, error) {
	if d.err != nil {
		return nil, d.err
	}
	empty := d.tree.Len() == 0
	tree := d.tree.Finish()
	saved, err := r.store.SaveBlob(ctx, blob.Tree, tree)
	if err != nil {
		return nil, err
	}
	it := Item{Type: snapshot.Dir}
	if saved.New {
		it.TreeBlobs, it.TreeBytes, it.TreeStoredBytes = 1, uint64(len(tree)), uint64(saved.StoredBytes)
	}
	if cap(tree) <= maxPooledTree {
		r.trees.Put(&tree)
	}
	var c counts
	c.addTree(&it)
	defer r.counts.add(&c)
	if d.up == nil {
		if !empty {
			r.root = &saved.ID
		}
		return nil, nil
	}
	n := &d.node
	n.Subtree = &saved.ID
	it.Dir, it.Name = filepath.Dir(d.abs), filepath.Base(d.abs)
	it.Change = change(n, r.parent.find(ctx, d.up.old, n.Name))
	c.dirs[it.Change]++
	r.rep.Done(it)
	if r.fill(d.up, d.slot, slot{nodes: []encoded{{n.Name, n.AppendJSON(nil)}}}) {
		return d.up, nil
	}
	return nil, nil
}
