package tree

import (
	"context"
	"fmt"

	"vitrine/repo/snapshot"
)

// Path returns a path, from Root, under which the node was seen, for messages. A file may have
// many; a node of which no directory is held any more has only its number.
func (t *Tree) Path(ctx context.Context, id NodeID) string {
	if id == Root {
		return "/"
	}
	name, parent := t.nameOf(ctx, id)
	if parent == 0 {
		return name
	}
	if parent == Root {
		return "/" + name
	}
	return t.Path(ctx, parent) + "/" + name
}

// nameOf returns a node's name and the directory that holds it, 0 when not known.
func (t *Tree) nameOf(ctx context.Context, id NodeID) (string, NodeID) {
	nameless := fmt.Sprintf("node %#x", uint64(id))
	if id&instanceBit == 0 {
		number, i, ok := splitFileID(id)
		if !ok {
			return nameless, 0
		}
		ref, err := t.entryAt(ctx, number, i)
		if err != nil {
			return nameless, 0
		}
		dir, _ := t.dirs.find(number)
		return ref.c.Name(i), dir
	}
	v := t.view.Load()
	if r, ok := t.dirs.get(id); ok {
		if r.parentTree == noTree {
			return v.nameOfSnapshot(r.parent, t.rootAt(r.entry)), r.parent
		}
		ref, err := t.entryAt(ctx, r.parentTree, int(r.entry))
		if err != nil {
			return nameless, 0
		}
		return ref.c.Name(ref.entry), r.parent
	}
	if l := v.lists[id]; l != nil && v.lists[l.parent] != nil {
		for _, it := range v.lists[l.parent].items {
			if it.id == id {
				return it.name, l.parent
			}
		}
	}
	return nameless, 0
}

// nameOfSnapshot is the name that the snapshot has in a list, or its short ID when it
// is not there any more.
func (v *view) nameOfSnapshot(in NodeID, sn *snapshot.Snapshot) string {
	if l := v.lists[in]; l != nil {
		for _, it := range l.items {
			if it.sn == sn {
				return it.name
			}
		}
	}
	return sn.ID.Short()
}
