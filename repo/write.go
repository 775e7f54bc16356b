package repo

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/internal/compress"
	"vitrine/repo/internal/indexfile"
	"vitrine/repo/internal/packfile"
)

const (
	// uploads is how many finished packs are stored at a time; each holds about PackBytes of
	// memory until it is durable.
	uploads = 2
	// An index file is written when it lists indexBlobs blobs or its oldest entry is indexAge
	// old, so that an interrupted backup can be resumed without storing its blobs again.
	indexBlobs = 50_000
	indexAge   = 10 * time.Minute
	// salvageTime bounds the last index file of a write scope that failed or was interrupted.
	salvageTime = 10 * time.Second
)

// Writer stores blobs inside one write scope; see Repository.Write. Its methods may be
// called in parallel.
type Writer struct {
	r       *Repository
	claims  [64]claims
	packers [2]packer // by blob.Type: a version 2 pack holds one type only
	// upload hands a finished pack to a goroutine of the scope, waiting for a free one. The pack
	// holds blobs of many callers, so its fate hangs on the scope's context, not on a caller's.
	upload func(*finished)

	indexMu sync.Mutex // guards the fields below
	packs   []indexfile.Pack
	blobs   int       // in packs
	since   time.Time // when the first of packs was stored
}

// claims is one shard of the blobs that this scope has stored or is storing.
type claims struct {
	mu  sync.Mutex
	set map[blob.Handle]struct{}
}

// packer is the open pack of one blob type.
type packer struct {
	// mu guards the fields below. It is held for a copy, and while a full pack waits for a free
	// upload: nobody may begin the next one then, or packs would pile up in the hands of callers.
	mu      sync.Mutex
	pack    []byte
	entries []blob.Entry
	header  int // bytes of the header so far
}

// Saved tells what became of a blob.
type Saved struct {
	ID          blob.ID
	New         bool // false when the repository, or this scope, has it already
	StoredBytes int  // what it takes in its pack; 0 unless New
}

// Write runs fn with a Writer. It returns nil only when fn did and every blob that fn
// saved is durable in packs that durable index files list. When fn fails or ctx ends, the
// packs stored so far are still listed in an index file, so that the next backup finds them;
// open packs are dropped. The caller holds a lock that keeps others from removing packs.
func (r *Repository) Write(ctx context.Context, fn func(ctx context.Context, w *Writer) error) error {
	// Open read the index before that lock was there: packs may have been removed since, and
	// their blobs have to be stored again.
	if err := r.index.Refresh(ctx); err != nil {
		return fmt.Errorf("refresh index: %w", err)
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(uploads)
	w := &Writer{r: r}
	w.upload = func(f *finished) {
		group.Go(func() error { return w.store(groupCtx, f) })
	}
	for i := range w.claims {
		w.claims[i].set = make(map[blob.Handle]struct{})
	}
	err := fn(groupCtx, w)
	if err == nil {
		for i := range w.packers {
			if f := w.packers[i].take(); f != nil {
				w.upload(f)
			}
		}
	}
	uploadErr := group.Wait()
	if err == nil || errors.Is(err, context.Canceled) && uploadErr != nil {
		// A failed upload cancels fn; the upload says why.
		err = uploadErr
	}
	if err == nil {
		err = w.flushIndex(ctx)
	}
	if err == nil {
		return nil
	}
	if ctxErr := ctx.Err(); ctxErr != nil && errors.Is(err, ctxErr) {
		err = context.Cause(ctx)
	}
	salvage, cancel := context.WithTimeout(context.WithoutCancel(ctx), salvageTime)
	defer cancel()
	if flushErr := w.flushIndex(salvage); flushErr != nil {
		r.log.Warn("packs stored by this interrupted run are in no index and will be stored again", "error", flushErr)
	}
	return err
}

// Known reports whether the blob is in the index or was saved in this scope.
func (w *Writer) Known(h blob.Handle) (bool, error) {
	c := &w.claims[h.ID[0]%64]
	c.mu.Lock()
	_, ok := c.set[h]
	c.mu.Unlock()
	if ok {
		return true, nil
	}
	_, ok, err := w.r.LookupBlob(h)
	return ok, err
}

// claim reports whether the caller is the first to save the blob in this scope.
func (w *Writer) claim(h blob.Handle) bool {
	c := &w.claims[h.ID[0]%64]
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, taken := c.set[h]; taken {
		return false
	}
	c.set[h] = struct{}{}
	return true
}

// SaveBlob stores the plain bytes unless they are known. It is durable when Write has
// returned nil, not before. The buffer stays the caller's and is not changed. The call blocks
// while too many packs wait for the backend. After an error fn has to fail: the blob counts as
// saved from then on, so that other callers need not wait for it.
func (w *Writer) SaveBlob(ctx context.Context, t blob.Type, plain []byte) (Saved, error) {
	h := blob.Handle{Type: t, ID: blob.Hash(plain)}
	saved := Saved{ID: h.ID}
	if err := ctx.Err(); err != nil {
		return saved, context.Cause(ctx)
	}
	known, err := w.Known(h)
	if err != nil || known || !w.claim(h) {
		return saved, err
	}
	pooled := getSealed()
	defer putSealed(pooled)
	var plainBytes uint32
	*pooled, plainBytes, err = w.r.encodeBlob((*pooled)[:0], plain)
	if err != nil {
		return saved, fmt.Errorf("save %v: %w", h, err)
	}
	entry := blob.Entry{Handle: h, Location: blob.Location{LengthBytes: uint32(len(*pooled)), PlainBytes: plainBytes}}
	w.packers[t].add(entry, *pooled, w.r.packBytes, w.upload)
	saved.New, saved.StoredBytes = true, len(*pooled)
	return saved, nil
}

// StoredBytes returns what the plain bytes would take in a pack, for a run that only tells
// what it would do.
func (r *Repository) StoredBytes(plain []byte) (int, error) {
	pooled := getSealed()
	defer putSealed(pooled)
	sealed, _, err := r.encodeBlob((*pooled)[:0], plain)
	if err != nil {
		return 0, err
	}
	*pooled = sealed
	return len(sealed), nil
}

// encodeBlob compresses, seals and, unless told otherwise, verifies. It returns the plain
// length for the index, which is 0 when the blob is not compressed.
func (r *Repository) encodeBlob(dst, plain []byte) (sealed []byte, plainBytes uint32, err error) {
	pooled := getSealed()
	defer putSealed(pooled)
	content := plain
	if out, ok := r.codec.Compress((*pooled)[:0], plain); ok {
		content, *pooled, plainBytes = out, out, uint32(len(plain))
	}
	sealed = r.key.Seal(slices.Grow(dst, len(content)+blob.SealOverheadBytes), content)
	if !r.verify {
		return sealed, plainBytes, nil
	}
	check := getSealed()
	defer putSealed(check)
	again, err := r.key.Open((*check)[:0], sealed)
	if err == nil {
		*check = again
		if plainBytes != 0 {
			var opened []byte
			if opened, err = compress.Decompress((*pooled)[:0], again, len(plain)); err == nil {
				*pooled, again = opened, opened
			}
		}
	}
	if err == nil && !bytes.Equal(again, plain) {
		err = errors.New("plain text differs")
	}
	if err != nil {
		return nil, 0, fmt.Errorf("verify before storing: %w; is the memory of this machine sound?", err)
	}
	return sealed, plainBytes, nil
}

// finished is a pack that takes no more blobs.
type finished struct {
	pack    []byte
	entries []blob.Entry
}

// packBuffers recycles the buffers of packs that are stored.
var packBuffers = sync.Pool{New: func() any { return new([]byte) }}

// add appends a sealed blob and hands over the pack when it is full.
func (p *packer) add(e blob.Entry, sealed []byte, packBytes int, upload func(*finished)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pack == nil {
		p.pack = slices.Grow((*packBuffers.Get().(*[]byte))[:0], packBytes+packBytes/8)
	}
	e.OffsetBytes = uint32(len(p.pack))
	p.pack = append(p.pack, sealed...)
	p.entries = append(p.entries, e)
	p.header += packfile.EntryBytes(e.Compressed())
	if len(p.pack)+p.header >= packBytes || p.header >= packfile.MaxHeaderBytes/2 {
		upload(p.takeLocked())
	}
}

// take returns the open pack, nil when it is empty.
func (p *packer) take() *finished {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.takeLocked()
}

func (p *packer) takeLocked() *finished {
	if len(p.entries) == 0 {
		return nil
	}
	f := &finished{p.pack, p.entries}
	p.pack, p.entries, p.header = nil, nil, 0
	return f
}

// store writes a finished pack and notes it for the index.
func (w *Writer) store(ctx context.Context, f *finished) error {
	pack := packfile.Finish(f.pack, f.entries, w.r.key)
	id := blob.Hash(pack)
	if err := w.r.be.Save(hinted(ctx, f.entries[0].Type), backend.File{Kind: backend.Pack, Name: id.String()}, pack); err != nil {
		return err
	}
	packBuffers.Put(&pack)
	for i := range f.entries {
		f.entries[i].Pack = id
	}
	return w.addToIndex(ctx, indexfile.Pack{ID: id, Blobs: f.entries})
}

// addToIndex notes a durable pack and writes an index file when one is due.
func (w *Writer) addToIndex(ctx context.Context, p indexfile.Pack) error {
	w.indexMu.Lock()
	if len(w.packs) == 0 {
		w.since = time.Now()
	}
	w.packs = append(w.packs, p)
	w.blobs += len(p.Blobs)
	due := w.blobs >= indexBlobs || time.Since(w.since) >= indexAge
	w.indexMu.Unlock()
	if !due {
		return nil
	}
	return w.flushIndex(ctx)
}

// flushIndex writes the packs noted so far as one index file.
func (w *Writer) flushIndex(ctx context.Context) error {
	w.indexMu.Lock()
	packs := w.packs
	w.packs, w.blobs = nil, 0
	w.indexMu.Unlock()
	if len(packs) == 0 {
		return nil
	}
	if _, err := w.r.SaveFile(ctx, backend.Index, indexfile.Append(nil, packs)); err != nil {
		w.indexMu.Lock()
		w.packs = append(w.packs, packs...) // for the salvage of Write
		w.indexMu.Unlock()
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}
