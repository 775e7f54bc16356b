package repo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/internal/claims"
	"vitrine/repo/internal/indexfile"
	"vitrine/repo/internal/packfile"
	"vitrine/repo/internal/sha256many"
)

const (
	// uploads is how many finished packs are stored at a time. More of them would fill a long line a little better,
	// but what is under way is what a killed run loses, and what two hosts at once store twice.
	uploads = 2
	// ready is how many more may wait for that, so that a line is never idle while the next pack is being filled. What
	// others store meanwhile is still left out of them. Each of both holds about PackBytes of memory.
	ready = 2
	// quickStore is in what time a store has to take a pack for the next one to wait for another; see Writer.full.
	quickStore = 100 * time.Millisecond
	// heldMost is how long a pack waits for the next one. Who packs slowly has time to hash, and what waits is lost in a crash.
	heldMost = time.Second
	// fewBlobs is how many a pack may have to wait for the next one: what many small blobs take elsewhere leaves it no memory.
	fewBlobs = 1000
	// salvageTime bounds the last index file of a write scope that failed or was interrupted. It leaves something of the
	// 10 s in which a run ends after a signal for removing the lock. It has salvageLeast when the uploads were slow to end.
	salvageTime  = 8 * time.Second
	salvageLeast = 2 * time.Second
)

// Writer stores blobs inside one write scope; see Repository.Write. Its methods may be
// called in parallel.
type Writer struct {
	r       *Repository
	claims  *claims.Set // of what this scope has stored or is storing
	packers [2]packer   // by blob.Type: a version 2 pack holds one type only
	// upload hands finished packs to a goroutine of the scope. They
	// hold blobs of many callers, so their fate hangs on the scope's context, not on a caller's.
	upload   func(...*finished)
	room     chan struct{} // holds a token for each finished pack that is not stored yet
	slots    chan struct{} // holds a token for each goroutine that stores packs
	quick    atomic.Bool   // the last pack was stored within quickStore
	pairing  sync.Mutex    // guards held and patience; taken under that of a packer
	held     *finished     // waits for another; see full
	patience *time.Timer   // ends the wait
	lister   *lister
	encoders encoders
	buffers  packBuffers
}

// OnOthers has fn called when another client turns out to store data at the same time: when a look at the index files finds
// new ones of others after some that did not, and from then on each time that this scope is twice as old. fn
// runs beside the uploads, one call at a time; its ctx ends with the scope.
func (w *Writer) OnOthers(fn func(ctx context.Context)) { w.lister.others.Store(&fn) }

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
	return r.write(ctx, newLister(r), fn)
}

// write is Write for a lister, whatever the index knows.
func (r *Repository) write(ctx context.Context, l *lister, fn func(ctx context.Context, w *Writer) error) error {
	ending := WatchEnd(ctx)
	defer ending.Stop()
	scope, scopeCtx := errgroup.WithContext(ctx)
	uploading, uploadCtx := errgroup.WithContext(scopeCtx)
	w := &Writer{r: r, lister: l, claims: r.newClaims(), room: make(chan struct{}, uploads+ready), slots: make(chan struct{}, uploads)}
	defer w.claims.Close()
	w.upload = func(packs ...*finished) {
		uploading.Go(func() error {
			defer func() {
				for range packs {
					<-w.room
				}
			}()
			return w.store(uploadCtx, packs)
		})
	}
	working, done := context.WithCancel(scopeCtx)
	scope.Go(func() error { return w.lister.run(scopeCtx, working) })
	err := fn(uploadCtx, w)
	if err == nil {
		for i := range w.packers {
			if f := w.packers[i].take(); f != nil {
				w.full(f)
			}
		}
	}
	w.release() // also after an error: it is full
	uploadErr := uploading.Wait()
	done()
	// A failed upload cancels fn, a failed index file both; who failed first says why.
	for _, cause := range []error{uploadErr, scope.Wait()} {
		if err == nil || errors.Is(err, context.Canceled) && cause != nil {
			err = cause
		}
	}
	if err == nil {
		err = w.lister.flush(ctx)
	}
	if err == nil {
		return nil
	}
	if ctxErr := ctx.Err(); ctxErr != nil && errors.Is(err, ctxErr) {
		err = context.Cause(ctx)
	}
	salvage, cancel := ending.Context(ctx, salvageTime, salvageLeast)
	defer cancel()
	if flushErr := w.lister.flush(salvage); flushErr != nil {
		level := slog.LevelWarn
		if ctx.Err() == nil {
			level = slog.LevelInfo // err tells of the same trouble, a full disk for example
		}
		if salvage.Err() != nil {
			flushErr = backend.Classed(backend.ErrAway, errors.New("the store does not take the index file in time"))
		}
		r.log.Log(salvage, level, "packs stored by this interrupted run are in no index and will be stored again", "error", flushErr)
	}
	return err
}

// Known reports whether the blob is in the index or was saved in this scope.
func (w *Writer) Known(h blob.Handle) (bool, error) {
	if w.claims.Has(h) {
		return true, nil
	}
	_, ok, err := w.r.LookupBlob(h)
	return ok, err
}

// SaveBlob stores the plain bytes unless they are known. It is durable when Write has
// returned nil, not before. The buffer stays the caller's and is not changed. The call blocks
// while too many packs wait for the backend. After an error fn has to fail: the blob counts as
// saved from then on, so that other callers need not wait for it.
func (w *Writer) SaveBlob(ctx context.Context, t blob.Type, plain []byte) (Saved, error) {
	return w.SaveHashed(ctx, blob.Handle{Type: t, ID: blob.Hash(plain)}, plain)
}

// SaveBlobs is SaveBlob for several blobs, whose hashes take about half the time together. It stops at
// the first error. saved must not be shorter than plains.
func (w *Writer) SaveBlobs(ctx context.Context, t blob.Type, plains [][]byte, saved []Saved) error {
	var sums [hashMost][len(blob.ID{})]byte
	for len(plains) > 0 {
		n := min(len(plains), hashMost)
		sha256many.Sums(sums[:n], plains[:n])
		for i, plain := range plains[:n] {
			var err error
			if saved[i], err = w.SaveHashed(ctx, blob.Handle{Type: t, ID: sums[i]}, plain); err != nil {
				return err
			}
		}
		plains, saved = plains[n:], saved[n:]
	}
	return nil
}

// hashMost is how many blobs SaveBlobs hashes together.
const hashMost = 64

// SaveHashed is SaveBlob for plain bytes that the caller has hashed: h.ID is their hash.
func (w *Writer) SaveHashed(ctx context.Context, h blob.Handle, plain []byte) (Saved, error) {
	saved := Saved{ID: h.ID}
	if err := ctx.Err(); err != nil {
		return saved, context.Cause(ctx)
	}
	known, err := w.Known(h)
	if err != nil || known || !w.claims.Add(h) {
		return saved, err
	}
	e := w.encoders.get(len(plain))
	defer w.encoders.put(e)
	sealed, plainBytes, err := e.encode(w.r, plain, false)
	if err != nil {
		return saved, fmt.Errorf("save %v: %w", h, err)
	}
	entry := blob.Entry{Handle: h, Location: blob.Location{LengthBytes: uint32(len(sealed)), PlainBytes: plainBytes}}
	w.packers[h.Type].add(entry, sealed, w.r.packBytes, w)
	saved.New, saved.StoredBytes = true, len(sealed)
	return saved, nil
}

// finished is a pack that takes no more blobs.
type finished struct {
	pack    []byte
	entries []blob.Entry
}

// add appends a sealed blob and hands over the pack when it is full.
func (p *packer) add(e blob.Entry, sealed []byte, packBytes int, w *Writer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pack == nil {
		p.pack = w.buffers.get(packBytes)
	}
	e.OffsetBytes = uint32(len(p.pack))
	p.pack = append(p.pack, sealed...)
	p.entries = append(p.entries, e)
	p.header += packfile.EntryBytes(e.Compressed())
	if len(p.pack)+p.header >= packBytes || p.header >= packfile.MaxHeaderBytes/2 {
		w.full(p.takeLocked())
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

// drop takes out the blobs that lookup finds.
func (f *finished) drop(lookup func(blob.Handle) (blob.Location, bool, error)) error {
	kept, end := f.entries[:0], 0
	for _, e := range f.entries {
		_, known, err := lookup(e.Handle)
		if err != nil {
			return err
		}
		if known {
			continue
		}
		n := copy(f.pack[end:], f.pack[e.OffsetBytes:e.OffsetBytes+e.LengthBytes])
		e.OffsetBytes = uint32(end)
		kept, end = append(kept, e), end+n
	}
	f.entries, f.pack = kept, f.pack[:end]
	return nil
}

// full takes a finished pack, when there is room for it, to be stored. If the store is so quick that nothing is lost by it, the
// pack waits for the next one (heldMost), since two are hashed in little more than the time of one.
func (w *Writer) full(f *finished) {
	w.room <- struct{}{}
	w.pairing.Lock()
	defer w.pairing.Unlock()
	switch {
	case w.held != nil:
		w.patience.Stop()
		w.upload(w.held, f)
		w.held = nil
	case w.quick.Load() && len(f.entries) <= fewBlobs:
		w.held = f
		w.patience = time.AfterFunc(heldMost, w.release)
	default:
		w.upload(f)
	}
}

// release has the pack that waits for another, if there is one, stored alone.
func (w *Writer) release() {
	w.pairing.Lock()
	defer w.pairing.Unlock()
	if w.held != nil {
		w.patience.Stop()
		w.upload(w.held)
		w.held = nil
	}
}

// store writes finished packs and notes them for the index. What another client has listed since the
// blobs were packed is left out.
func (w *Writer) store(ctx context.Context, packs []*finished) error {
	if err := mayChange(ctx, backend.Pack); err != nil {
		return err
	}
	select {
	case w.slots <- struct{}{}:
		defer func() { <-w.slots }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	var contents [][]byte
	for _, f := range packs {
		if w.lister.learned.Load() {
			if err := f.drop(w.r.LookupBlob); err != nil {
				return err
			}
		}
		if len(f.entries) > 0 {
			f.pack = packfile.Finish(f.pack, f.entries, w.r.key)
		}
		contents = append(contents, f.pack)
	}
	ids := make([][len(blob.ID{})]byte, len(packs))
	sha256many.Sums(ids, contents)
	for i, f := range packs {
		if len(f.entries) > 0 {
			if err := w.storePack(ctx, f, ids[i]); err != nil {
				return err
			}
		}
		w.buffers.put(f.pack)
	}
	return nil
}

// storePack writes a pack that is complete, and notes it.
func (w *Writer) storePack(ctx context.Context, f *finished, id blob.ID) error {
	began := time.Now()
	if err := w.r.be.Save(hinted(ctx, f.entries[0].Type), backend.File{Kind: backend.Pack, Name: id.String()}, f.pack); err != nil {
		return err
	}
	w.quick.Store(time.Since(began) < quickStore)
	for i := range f.entries {
		f.entries[i].Pack = id
	}
	w.lister.note(indexfile.Pack{ID: id, Blobs: f.entries})
	return nil
}
