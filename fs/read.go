package fs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vitrine/cache/blobcache"
	"vitrine/fs/tree"
	"vitrine/repo"
	"vitrine/repo/blob"
)

// Read answers read(2), mostly on behalf of the kernel's readahead. A reply that is shorter than
// asked for would tell the kernel that the file ends there, so a range of which a part cannot be
// read is an error as a whole; the kernel then asks again for just the page that somebody
// waits for (see vain).
func (n *nodes) Read(_ <-chan struct{}, in *fuse.ReadIn, _ []byte) (_ fuse.ReadResult, st fuse.Status) {
	n.awake.note()
	id, ctx := tree.NodeID(in.NodeId), n.base()
	n.asked.enter(id)
	defer func() {
		if st != fuse.OK {
			n.asked.leave(id)
		}
	}()
	l, err := n.tree.Layout(ctx, id)
	if err != nil {
		return nil, n.fail("read", id, err)
	}
	if n.dirs != nil && in.Offset == 0 {
		n.dirs.noteRead(in.Pid, id)
	}
	from, to := in.Offset, in.Offset+uint64(in.Size)
	if err := n.vain.take(id, from); err != nil {
		return nil, status(err)
	}
	r, err := n.readRange(ctx, id, l, from, to)
	if err != nil {
		return nil, status(err)
	}
	if len(r.pieces) > maxPieces {
		r.pieces = [][]byte{slices.Concat(r.pieces...)}
	}
	r.answered = func() { n.asked.leave(id) }
	if r.Size() == 0 {
		r.Done() // go-fuse does not when there is nothing to write
	}
	return r, fuse.OK
}

// maxPieces is how many pieces of a reply go to the kernel without a copy: writev takes 1024 at
// most. More than three of them come from files that no chunker made.
const maxPieces = 256

// readRange returns the bytes of a file from one offset to another, less at its end. Whoever
// gets them calls Done once. An error is in the log already.
func (n *nodes) readRange(ctx context.Context, id tree.NodeID, l *tree.Layout, from, to uint64) (*reply, error) {
	r := &reply{}
	for i := l.Find(from); i < l.Len() && from < to; i++ {
		n.ahead.note(id, l, i)
		c := l.Chunk(i)
		plain, ref, err := n.chunk(ctx, l, &c)
		if err != nil {
			r.Done()
			n.vain.put(id, from, to, err)
			n.tellLoss(ctx, id, &c, err)
			return nil, err
		}
		start := min(from-c.Start, uint64(len(plain)))
		end := min(to-c.Start, uint64(len(plain)))
		r.add(plain[min(start, end):end], ref)
		from = c.End
	}
	return r, nil
}

// chunk returns the bytes of a chunk, out of a cache or into it, and what holds them there.
func (n *nodes) chunk(ctx context.Context, l *tree.Layout, c *tree.Chunk) ([]byte, blobcache.Ref, error) {
	var none blobcache.Ref
	switch {
	case c.Hole:
		return tree.HoleBytes(), none, nil
	case c.Lost:
		return nil, none, fmt.Errorf("bytes %d to %d of the file: %w", c.Start, c.End, repo.ErrBlobMissing)
	case l.Len() == 1:
		plain, err := n.load(ctx, c.ID, &n.stats.demand)
		n.stats.unread.read(c.ID)
		return plain, none, err
	}
	ref, err := n.loadChunk(ctx, c)
	n.stats.unread.read(c.ID)
	if err != nil {
		return nil, none, err
	}
	// The only chunk of a file was placed without asking the index, see tree.Layout; these were not.
	if got := len(ref.Bytes()); uint64(got) != c.End-c.Start {
		ref.Release(0)
		return nil, none, fmt.Errorf("%w: chunk of %d bytes, the index says %d", repo.ErrCorrupt, got, c.End-c.Start)
	}
	return ref.Bytes(), ref, nil
}

// believedBytes is the longest chunk for which memory is taken, and others dropped, because the index
// says so. Chunkers make up to 8 MiB; what is longer gets its memory when its frame says so, too.
const believedBytes = 16 << 20

// loadChunk returns one of several chunks of a file, fetched and decoded once for all who want it.
func (n *nodes) loadChunk(ctx context.Context, c *tree.Chunk) (blobcache.Ref, error) {
	h := blob.Handle{Type: blob.Data, ID: c.ID}
	sizeBytes := int(min(c.End-c.Start, believedBytes))
	return n.chunks.Get(ctx, h, sizeBytes, func(ctx context.Context, buffer func() []byte) ([]byte, error) {
		plain, err := n.readChunk(ctx, h, buffer)
		if err == nil {
			n.fetched(c.ID, len(plain), &n.stats.demand)
		}
		return plain, err
	})
}

// readChunk is ReadBlob for a chunk that somebody waits for, in the order of turns.
func (n *nodes) readChunk(ctx context.Context, h blob.Handle, buffer func() []byte) ([]byte, error) {
	spans, ok := n.src.(spanSource)
	if !ok {
		return n.src.ReadBlob(ctx, h, buffer())
	}
	var buf []byte
	once := func() []byte {
		if buf == nil {
			buf = buffer()
		}
		return buf
	}
	loc, known, err := n.src.LookupBlob(h)
	if err == nil && known && loc.Size() <= believedBytes {
		plain, err := n.readSpan(ctx, spans, blob.Entry{Handle: h, Location: loc}, once)
		if err == nil || !errors.Is(err, errNoSpan) && !repo.IsLost(err) {
			return plain, err // a store that does not answer was waited for long enough
		}
	}
	return n.src.ReadBlob(ctx, h, once()) // it says what is wrong, or finds another copy
}

// errNoSpan tells that a blob cannot be read as a span.
var errNoSpan = errors.New("not to be read as a span")

// readSpan reads and decodes a blob when its turn has come. From a store far away it is read before.
// An error of the store is returned as it is.
func (n *nodes) readSpan(ctx context.Context, src spanSource, e blob.Entry, buffer func() []byte) ([]byte, error) {
	spans := repo.PlanSpans([]blob.Location{e.Location}, repo.SpanLimits{})
	if len(spans) == 0 {
		return nil, errNoSpan
	}
	lease := n.spare.lease()
	sealed := n.chunks.Borrow(int(e.LengthBytes))[:e.LengthBytes]
	defer n.chunks.GiveBack(sealed)
	began := time.Now()
	if err := src.ReadSpan(ctx, &spans[0], sealed); err != nil {
		lease.end()
		return nil, err
	}
	n.spare.sample(time.Since(began), len(sealed))
	lease.renew()
	defer lease.end()
	return src.DecodeBlob(e, sealed, buffer())
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
	h := blob.Handle{Type: blob.Data, ID: id}
	_, ok := n.blobs.Peek(h)
	return ok || n.chunks.Has(h)
}

// tellLoss notes for the status what could not be read and logs it, once for each blob: programs
// retry, and the kernel asks page by page.
func (n *nodes) tellLoss(ctx context.Context, id tree.NodeID, c *tree.Chunk, err error) {
	if closing(err) {
		return
	}
	if isDamage(err) {
		n.stats.damage.add(id, c.Start, func() Damage { return n.describe(ctx, id, c, err) })
	} else {
		n.stats.outages.add(n.tree.Path(ctx, id), err)
	}
	if !n.told.add(c.ID) {
		return
	}
	d := n.describe(ctx, id, c, err)
	n.log.Error("cannot read a part of a file", "path", d.Path, "bytes", fmt.Sprintf("%d to %d", c.Start, c.End),
		"blob", d.Blob, "pack", cmp.Or(d.Pack, "unknown"), "err", err)
}

func (n *nodes) describe(ctx context.Context, id tree.NodeID, c *tree.Chunk, err error) Damage {
	d := Damage{Path: n.tree.Path(ctx, id), What: fmt.Sprintf("bytes %d to %d", c.Start, c.End), From: c.Start, To: c.End, Blob: c.ID.String(), Error: err.Error()}
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
