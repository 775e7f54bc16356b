package tree

import (
	"context"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// NextFile is a file that a walk comes to.
type NextFile struct {
	ID    NodeID
	Entry int     // its place in the tree blob
	Blob  blob.ID // the content of a small file, which is one chunk; zero for others
	Bytes int     // of a small file, as the node says: the chunk may turn out to be of another length
}

// Small tells whether the content of the file is one chunk and not longer than was asked for.
func (f *NextFile) Small() bool { return !f.Blob.IsZero() }

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

// Files bounds what NextFiles returns.
type Files struct {
	Most       int // files
	SmallBytes int // length of a small file
	SumBytes   int // of all together, where each other file counts for LargeBytes
	LargeBytes int
}

// NextFiles returns files with content, in the order of their names, from place from of a tree blob
// on: at least one, and no more than the bounds allow. more tells that there are others behind
// them.
func (t *Tree) NextFiles(ctx context.Context, number uint32, from int, most Files) (files []NextFile, more bool, err error) {
	_, c, err := t.loadNumber(ctx, number)
	if err != nil {
		return nil, false, err
	}
	left := most.SumBytes
	for i := max(from, 0); i < c.Len(); i++ {
		e := c.Entry(i)
		if e.Type != snapshot.File || e.Size == 0 {
			continue
		}
		f := NextFile{ID: fileID(number, i), Entry: i, Bytes: most.LargeBytes}
		if content := c.Content(i); len(content) == 0 {
			continue
		} else if len(content) == 1 && e.Size <= uint64(most.SmallBytes) {
			f.Blob, f.Bytes = content[0], int(e.Size)
		}
		if len(files) == most.Most || len(files) > 0 && f.Bytes > left {
			return files, true, nil
		}
		left -= f.Bytes
		files = append(files, f)
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
	t.loadDirs(ctx, c, from)
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

// batchSource is a Source that reads neighbours with one request; *repo.Repository is one.
type batchSource interface {
	ReadBlobs(ctx context.Context, hs []blob.Handle, use func(i int, open repo.OpenBlob) bool)
}

// batchDirs is how many directories of a directory are looked at together.
const batchDirs = 64

// loadDirs gets the trees of the next directories of a directory, from entry from on, into the
// cache: backup wrote them one after the other. What goes wrong is left to who wants them.
func (t *Tree) loadDirs(ctx context.Context, c *snapshot.Compact, from int) {
	src, ok := t.src.(batchSource)
	if !ok {
		return
	}
	var missing []blob.Handle
	seen := 0
	for i, sub := c.NextDir(from); i < c.Len() && seen < batchDirs; i, sub = c.NextDir(i + 1) {
		seen++
		if _, cached := t.parsed.Peek(sub); !cached && !sub.IsZero() {
			missing = append(missing, blob.Handle{Type: blob.Tree, ID: sub})
		}
	}
	if len(missing) < 2 {
		return
	}
	var buf []byte
	src.ReadBlobs(ctx, missing, func(i int, open repo.OpenBlob) bool {
		plain, err := open(buf)
		if err != nil {
			return true
		}
		buf = plain
		if c, err := t.parse(missing[i], plain); err == nil {
			t.parsed.Put(missing[i].ID, c)
		}
		return true
	})
}

// Load gets the tree with that number into the cache.
func (t *Tree) Load(ctx context.Context, number uint32) { t.loadNumber(ctx, number) }
