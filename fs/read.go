package fs

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vitrine/fs/tree"
	"vitrine/repo"
	"vitrine/repo/blob"
)

// Read answers read(2), mostly on behalf of the kernel's readahead. A reply that is shorter than
// asked for would tell the kernel that the file ends there, so a range of which a part cannot be
// read is an error as a whole; the kernel then asks again for just the page that somebody
// waits for.
func (n *nodes) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (fuse.ReadResult, fuse.Status) {
	id, ctx := tree.NodeID(in.NodeId), n.base()
	l, err := n.tree.Layout(ctx, id)
	if err != nil {
		return nil, n.fail("read", id, err)
	}
	pieces, err := n.readRange(ctx, id, l, in.Offset, in.Offset+uint64(in.Size))
	if err != nil {
		return nil, status(err)
	}
	if len(pieces) > maxPieces {
		return fuse.ReadResultData(slices.Concat(pieces...)), fuse.OK
	}
	return fuse.ReadResultVector(pieces), fuse.OK
}

// maxPieces is how many pieces of a reply go to the kernel without a copy: writev takes 1024 at
// most. More than three of them come from files that no chunker made.
const maxPieces = 256

// readRange returns the bytes of a file from one offset to another, less at its end. The pieces belong
// to the cache: do not change them. An error is in the log already.
func (n *nodes) readRange(ctx context.Context, id tree.NodeID, l *tree.Layout, from, to uint64) ([][]byte, error) {
	var pieces [][]byte
	for i := l.Find(from); i < l.Len() && from < to; i++ {
		n.ahead.note(id, l, i)
		c := l.Chunk(i)
		plain, err := n.chunk(ctx, l, &c)
		if err != nil {
			n.tellLoss(ctx, id, &c, err)
			return nil, err
		}
		start := min(from-c.Start, uint64(len(plain)))
		end := min(to-c.Start, uint64(len(plain)))
		if start < end {
			pieces = append(pieces, plain[start:end])
		}
		from = c.End
	}
	return pieces, nil
}

// chunk returns the bytes of a chunk, out of the cache or into it.
func (n *nodes) chunk(ctx context.Context, l *tree.Layout, c *tree.Chunk) ([]byte, error) {
	if c.Hole {
		return tree.HoleBytes(), nil
	}
	if c.Lost {
		return nil, fmt.Errorf("bytes %d to %d of the file: %w", c.Start, c.End, repo.ErrBlobMissing)
	}
	plain, err := n.load(ctx, c.ID)
	// The only chunk of a file was placed without asking the index, see tree.Layout.
	if err == nil && l.Len() > 1 && uint64(len(plain)) != c.End-c.Start {
		return nil, fmt.Errorf("%w: chunk of %d bytes, the index says %d", repo.ErrCorrupt, len(plain), c.End-c.Start)
	}
	return plain, err
}

// load returns a blob, fetched once for all who ask at the same time.
func (n *nodes) load(ctx context.Context, id blob.ID) ([]byte, error) {
	h := blob.Handle{Type: blob.Data, ID: id}
	return n.blobs.Get(ctx, h, func(ctx context.Context) ([]byte, error) {
		return n.src.ReadBlob(ctx, h, nil)
	})
}

// tellLoss logs what could not be read, once for each blob: programs retry, and the kernel
// asks page by page.
func (n *nodes) tellLoss(ctx context.Context, id tree.NodeID, c *tree.Chunk, err error) {
	if closing(err) || !n.told.add(c.ID) {
		return
	}
	pack := "unknown"
	if loc, ok, err := n.src.LookupBlob(blob.Handle{Type: blob.Data, ID: c.ID}); ok && err == nil {
		pack = loc.Pack.String()
	}
	n.log.Error("cannot read a part of a file", "path", n.tree.Path(ctx, id), "from", c.Start, "to", c.End,
		"blob", c.ID.String(), "pack", pack, "err", err)
}

// recent is a set that forgets everything when it has maxRecent members.
type recent[K comparable] struct {
	mu sync.Mutex // guards m
	m  map[K]struct{}
}

const maxRecent = 1024

// add tells whether k was not in the set.
func (r *recent[K]) add(k K) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.m[k]; ok {
		return false
	}
	if r.m == nil || len(r.m) >= maxRecent {
		r.m = make(map[K]struct{})
	}
	r.m[k] = struct{}{}
	return true
}
