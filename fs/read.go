package fs

import (
	"cmp"
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
	plain, err := n.load(ctx, c.ID, &n.stats.demand)
	n.stats.unread.read(c.ID)
	// The only chunk of a file was placed without asking the index, see tree.Layout.
	if err == nil && l.Len() > 1 && uint64(len(plain)) != c.End-c.Start {
		return nil, fmt.Errorf("%w: chunk of %d bytes, the index says %d", repo.ErrCorrupt, len(plain), c.End-c.Start)
	}
	return plain, err
}

// load returns a blob, fetched once for all who ask at the same time; by counts it if it is fetched.
func (n *nodes) load(ctx context.Context, id blob.ID, by *amount) ([]byte, error) {
	h := blob.Handle{Type: blob.Data, ID: id}
	return n.blobs.Get(ctx, h, func(ctx context.Context) ([]byte, error) {
		plain, err := n.src.ReadBlob(ctx, h, nil)
		if err == nil {
			n.fetched(id, len(plain), by)
		}
		return plain, err
	})
}

// fetched counts a blob before anybody can read it.
func (n *nodes) fetched(id blob.ID, bytes int, by *amount) {
	by.add(bytes)
	if by != &n.stats.demand {
		n.stats.unread.add(id, bytes, n.cached)
	}
}

func (n *nodes) cached(id blob.ID) bool {
	_, ok := n.blobs.Peek(blob.Handle{Type: blob.Data, ID: id})
	return ok
}

// tellLoss notes for the status what could not be read and logs it, once for each blob: programs
// retry, and the kernel asks page by page.
func (n *nodes) tellLoss(ctx context.Context, id tree.NodeID, c *tree.Chunk, err error) {
	if closing(err) {
		return
	}
	n.stats.damage.add(id, c.Start, func() Damage { return n.describe(ctx, id, c, err) })
	if !n.told.add(c.ID) {
		return
	}
	d := n.describe(ctx, id, c, err)
	n.log.Error("cannot read a part of a file", "path", d.Path, "bytes", fmt.Sprintf("%d to %d", c.Start, c.End),
		"blob", d.Blob, "pack", cmp.Or(d.Pack, "unknown"), "err", err)
}

func (n *nodes) describe(ctx context.Context, id tree.NodeID, c *tree.Chunk, err error) Damage {
	d := Damage{Path: n.tree.Path(ctx, id), From: c.Start, To: c.End, Blob: c.ID.String(), Error: err.Error()}
	if loc, ok, err := n.src.LookupBlob(blob.Handle{Type: blob.Data, ID: c.ID}); ok && err == nil {
		d.Pack = loc.Pack.String()
	}
	return d
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
