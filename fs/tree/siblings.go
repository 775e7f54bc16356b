package tree

import (
	"context"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// SmallFile is a file whose content is one chunk.
type SmallFile struct {
	ID    NodeID
	Entry int // its place in the tree blob
	Blob  blob.ID
	Bytes int // as the node says; the chunk may turn out to be of another length
}

// FilePlace returns the number of the tree blob that holds a file, and the place there; false for
// what is not a file in a snapshot.
func FilePlace(id NodeID) (number uint32, entry int, ok bool) {
	if id&instanceBit != 0 {
		return 0, 0, false
	}
	return splitFileID(id)
}

// DirNumber returns the number of the tree blob that a directory shows; false for what is not
// a directory in a snapshot.
func (t *Tree) DirNumber(dir NodeID) (number uint32, ok bool) {
	r, ok := t.dirs.get(dir)
	return r.tree, ok && r.tree != noTree
}

// SmallFiles returns files with content, in the order of their names, from place from of a
// tree blob on: those of one chunk and at most fileBytes long; at most maxFiles of them, and as many
// as sumBytes hold, but at least one. more tells that there are others behind them.
func (t *Tree) SmallFiles(ctx context.Context, number uint32, from, maxFiles, fileBytes, sumBytes int) (files []SmallFile, more bool, err error) {
	_, c, err := t.loadNumber(ctx, number)
	if err != nil {
		return nil, false, err
	}
	for i := max(from, 0); i < c.Len(); i++ {
		e := c.Entry(i)
		if e.Type != snapshot.File || e.Size == 0 || e.Size > uint64(fileBytes) {
			continue
		}
		content := c.Content(i)
		if len(content) != 1 {
			continue
		}
		if len(files) == maxFiles || len(files) > 0 && int(e.Size) > sumBytes {
			return files, true, nil
		}
		sumBytes -= int(e.Size)
		files = append(files, SmallFile{ID: fileID(number, i), Entry: i, Blob: content[0], Bytes: int(e.Size)})
	}
	return files, false, nil
}

// Ahead calls fn for the trees that a walk comes to after a directory, in the order of names and parents
// before children, until fn returns false: those below the directory, then its next siblings with
// theirs, and so on up to the root of the snapshot. They are named by their numbers. What cannot be read
// is left out: it is the walker's to see.
func (t *Tree) Ahead(ctx context.Context, dir NodeID, fn func(number uint32) bool) {
	r, ok := t.dirs.get(dir)
	if !ok || !t.aheadBelow(ctx, r.tree, 0, fn) {
		return
	}
	for r.parentTree != noTree {
		if !t.aheadBelow(ctx, r.parentTree, int(r.entry)+1, fn) {
			return
		}
		if r, ok = t.dirs.get(r.parent); !ok {
			return
		}
	}
}

// aheadBelow is Ahead for the entries of one tree blob from one on.
func (t *Tree) aheadBelow(ctx context.Context, number uint32, from int, fn func(number uint32) bool) bool {
	_, c, err := t.loadNumber(ctx, number)
	if err != nil {
		return ctx.Err() == nil
	}
	for i, sub := c.NextDir(from); i < c.Len(); i, sub = c.NextDir(i + 1) {
		if sub.IsZero() {
			continue
		}
		child := t.trees.number(sub)
		if !fn(child) || !t.aheadBelow(ctx, child, 0, fn) {
			return false
		}
	}
	return true
}

// Load gets the tree with that number into the cache.
func (t *Tree) Load(ctx context.Context, number uint32) { t.loadNumber(ctx, number) }
