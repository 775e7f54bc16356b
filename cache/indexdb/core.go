package indexdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"sync/atomic"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// Source gives the index files of a repository. Both methods may be called in parallel; fn is
// called from one goroutine, and must not load another index file. One that is gone is an error of class
// backend.ErrNotExist.
type Source interface {
	IndexFiles(ctx context.Context) ([]backend.Info, error)
	LoadIndexFile(ctx context.Context, id blob.ID, fn func(blob.Entry) error) error
}

// ErrClosed is returned by all methods after Close.
var ErrClosed = errors.New("index is closed")

// Stats tells the state of an index.
type Stats struct {
	Entries    int64 // places of blobs that are answered; a blob may have several
	IndexFiles int   // they come from

	Generation        string // "" when all is in RAM
	GenerationEntries int64  // with the dead ones
	DeadEntries       int64  // of index files that vanished since

	DeltaEntries int64 // of index files that are in no generation
	DeltaFiles   int
	DeltaBytes   int64 // in RAM

	Building bool // the next generation is being built
}

// passed is when an index file was passed over, and of which size it was listed.
type passed struct {
	at        time.Time
	sizeBytes int64
}

// passedFor is how long an index file that was passed over is not read again while it has the same size. A reader that looks for
// a blob which is in no index refreshes each time.
const passedFor = 30 * time.Second

// state is one immutable view of the index.
type state struct {
	gen   *generation // nil: all is in runs
	dead  []bool      // by number of the generation's index file; nil when none is
	runs  []*run
	stats Stats
}

// core is what DB and Memory share: a state and the way to bring it up to the repository.
type core struct {
	src      Source
	log      *slog.Logger
	keys     *keys
	spill    spiller
	passOver func(blob.ID, error) bool // Options.PassOver, not nil
	passed   map[blob.ID]passed        // what it took; needs busy

	state atomic.Pointer[state] // nil when closed; replaced only by the holder of busy
	busy  chan struct{}         // a mutex that can be waited for with a context

	begun atomic.Int64 // refreshes so far
	good  atomic.Int64 // number of the last one that succeeded

	loadTime atomic.Int64 // ns; the longest load so far
}

// newCore keeps new index files in RAM while there are not many, and more of them in dir, or in RAM as well for "".
func newCore(src Source, k *keys, dir string, o Options) *core {
	c := &core{src: src, log: o.Log, keys: k, passOver: o.PassOver, passed: make(map[blob.ID]passed), busy: make(chan struct{}, 1)}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.passOver == nil {
		c.passOver = func(blob.ID, error) bool { return false }
	}
	c.spill = spiller{dir: dir, most: spillEntries, free: freeBytes, log: c.log}
	c.state.Store(&state{})
	return c
}

func (c *core) lock(ctx context.Context) error {
	select {
	case c.busy <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *core) unlock() { <-c.busy }

func (c *core) stats() Stats {
	if st := c.state.Load(); st != nil {
		return st.stats
	}
	return Stats{}
}

// refresh brings the state up to the index files in the repository, with the generation that choose
// returns; choose is called with busy held. Callers that waited for a refresh which began
// after their call share its result.
func (c *core) refresh(ctx context.Context, choose func(*state) *generation) error {
	ticket := c.begun.Load()
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.unlock()
	if c.good.Load() > ticket {
		return nil
	}
	old := c.state.Load()
	if old == nil {
		return ErrClosed
	}
	n := c.begun.Add(1)
	heldGen, heldBytes := old.gen, old.stats.DeltaBytes
	gen := choose(old)
	if err := c.update(ctx, gen); err != nil {
		if gen != nil && gen != heldGen {
			gen.release()
		}
		return err
	}
	c.good.Store(n)
	// Go gives memory back slowly, and not at all while nothing is allocated; after the runs of
	// a whole repository went to disk this matters. old is not used below, so that it can be
	// freed here.
	if heldBytes > c.stats().DeltaBytes+freeAtOnceBytes {
		debug.FreeOSMemory()
	}
	return nil
}

// freeAtOnceBytes of garbage are worth a collection, which takes some 10 ms.
const freeAtOnceBytes = 32 << 20

// update makes the state from the generation, the runs and the index files that are
// missing. It needs busy and takes over the generation when it succeeds.
func (c *core) update(ctx context.Context, gen *generation) error {
	const attempts = 5
	for i := 1; ; i++ {
		err := c.tryUpdate(ctx, gen)
		if isSpilled(err) && i < attempts { // a lookup may have met it meanwhile, too
			c.spill.unreadable(err)
			continue
		}
		// An index file that was listed and is gone: somebody prunes just now.
		if !errors.Is(err, backend.ErrNotExist) || i == attempts {
			return err
		}
		c.log.Debug("an index file vanished while it was to be read", "error", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Duration(i) * 100 * time.Millisecond):
		}
	}
}

func (c *core) tryUpdate(ctx context.Context, gen *generation) error {
	infos, err := c.src.IndexFiles(ctx)
	if err != nil {
		return fmt.Errorf("list index files: %w", err)
	}
	missing := make(map[blob.ID]bool, len(infos)) // those listed and not yet found to be known
	listed := make(map[blob.ID]bool, len(infos))
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return fmt.Errorf("list index files: %w", err)
		}
		missing[id], listed[id] = true, true
	}

	old := c.state.Load()
	next := &state{gen: gen}
	c.spill.beside(gen)
	if gen != nil {
		next.dead, next.stats.DeadEntries = gen.deadFiles(listed)
		for i, f := range gen.meta.Files {
			if next.dead == nil || !next.dead[i] {
				delete(missing, f.ID)
			}
		}
	}
	known := len(missing)
	m := &masker{keys: c.keys}
	for _, r := range old.runs {
		if r.spilled != nil && c.spill.isUnreadable() {
			continue // its index files are read again
		}
		// missing has what is listed and not in the generation, so this drops both kinds.
		if r, err = c.spill.keep(m, r, func(id blob.ID) bool { return missing[id] }); err != nil {
			return err
		}
		if r != nil {
			next.runs = append(next.runs, r)
		}
	}
	for _, r := range next.runs {
		for _, f := range r.files {
			delete(missing, f.ID)
		}
	}
	known -= len(missing)
	sizes := sizesOf(infos, missing)
	for id := range missing {
		if p, ok := c.passed[id]; ok && p.sizeBytes == sizes[id] && time.Since(p.at) < passedFor {
			delete(missing, id)
		}
	}
	if gen == old.gen && len(missing) == 0 && slices.Equal(next.dead, old.dead) && known == old.stats.DeltaFiles {
		return nil
	}
	if len(missing) > 0 {
		began := time.Now()
		ids := make([]blob.ID, 0, len(missing))
		for id := range missing {
			ids = append(ids, id)
		}
		loaded, left, err := c.load(ctx, ids)
		if err != nil {
			return err
		}
		for _, id := range left {
			c.passed[id] = passed{began, sizes[id]}
		}
		next.runs = append(next.runs, loaded...)
		took := time.Since(began)
		c.loadTime.Store(max(c.loadTime.Load(), int64(took)))
		c.log.Debug("read index files", "files", len(ids), "time", took)
	}
	if next.runs, err = c.spill.compact(m, next.runs); err != nil {
		return err
	}
	c.swap(next)
	return nil
}

// sizesOf returns the sizes of some files that were listed.
func sizesOf(infos []backend.Info, ids map[blob.ID]bool) map[blob.ID]int64 {
	sizes := make(map[blob.ID]int64, len(ids))
	for _, info := range infos {
		if id, err := blob.ParseID(info.Name); err == nil && ids[id] {
			sizes[id] = info.SizeBytes
		}
	}
	return sizes
}

// swap puts the next state in place and frees the old one when its last reader has left. It
// needs busy.
func (c *core) swap(next *state) {
	next.count()
	old := c.state.Swap(next)
	if old.gen != nil && old.gen != next.gen {
		old.gen.settle(nil)
		old.gen.release()
	}
}

// count fills the stats but DeadEntries.
func (s *state) count() {
	s.stats.DeltaEntries, s.stats.DeltaFiles, s.stats.DeltaBytes = 0, 0, 0
	for _, r := range s.runs {
		s.stats.DeltaEntries += int64(r.len())
		s.stats.DeltaFiles += len(r.files)
		s.stats.DeltaBytes += r.memoryBytes()
	}
	s.stats.Entries, s.stats.IndexFiles = s.stats.DeltaEntries, s.stats.DeltaFiles
	if s.gen != nil {
		s.stats.Generation = s.gen.meta.Name
		s.stats.GenerationEntries = s.gen.meta.Entries
		s.stats.Entries += max(s.gen.meta.Entries-s.stats.DeadEntries, 0)
		s.stats.IndexFiles += len(s.gen.meta.Files)
		for _, dead := range s.dead {
			if dead {
				s.stats.IndexFiles--
			}
		}
	}
}

// closeState drops the state; it returns the generation that was in use. It waits for a refresh
// that runs.
func (c *core) closeState() *generation {
	c.busy <- struct{}{}
	defer c.unlock()
	old := c.state.Swap(nil)
	c.spill.close()
	if old == nil || old.gen == nil {
		return nil
	}
	old.gen.release()
	return old.gen
}

// places calls fn with each place of the blob until fn returns false. A *damageError names the
// generation that has to be replaced; fn may have been called before.
func (c *core) places(h blob.Handle, fn func(blob.Location) bool) error {
	m := masker{keys: c.keys}
	key, ok := m.key(&h)
	if !ok {
		return nil
	}
	err := c.with(func(st *state) error { return st.places(&m, key, fn) })
	if isSpilled(err) && c.state.Load() == nil {
		return ErrClosed // and so is what was spilled
	}
	return err
}

// with calls fn with the state, whose generation stays open during the call.
func (c *core) with(fn func(*state) error) error {
	for {
		st := c.state.Load()
		if st == nil {
			return ErrClosed
		}
		if st.gen != nil && !st.gen.acquire() {
			continue // replaced and closed since; the next Load sees the new state
		}
		err := fn(st)
		if st.gen != nil {
			st.gen.release()
		}
		return err
	}
}

// packs calls fn with each pack of each index file. Errors are as those of places.
func (c *core) packs(fn func(blob.ID)) error {
	return c.with(func(st *state) error {
		for _, r := range st.runs {
			for i := range r.packs {
				fn(r.packs[i].id)
			}
		}
		if st.gen == nil {
			return nil
		}
		return st.gen.listPacks(st.dead, fn)
	})
}

// places needs the generation acquired.
func (s *state) places(m *masker, key dbKey, fn func(blob.Location) bool) error {
	for _, r := range s.runs {
		if more, err := r.lookup(m, key, fn); err != nil || !more {
			return err
		}
	}
	if s.gen == nil {
		return nil
	}
	return s.gen.lookup(m, key, s.dead, fn)
}

// lookup returns one place of the blob.
func (c *core) lookup(h blob.Handle) (loc blob.Location, found bool, err error) {
	err = c.places(h, func(l blob.Location) bool {
		loc, found = l, true
		return false
	})
	return loc, found, err
}

// locations returns all places of the blob.
func (c *core) locations(h blob.Handle) (locs []blob.Location, err error) {
	err = c.places(h, func(l blob.Location) bool {
		locs = append(locs, l)
		return true
	})
	return locs, err
}
