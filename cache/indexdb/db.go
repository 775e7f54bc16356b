package indexdb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vitrine/repo/blob"
)

// Options may be left zero.
type Options struct {
	// Log is told at debug level what the cache does, and at warning level what it could not
	// do. The index answers all the same.
	Log *slog.Logger

	// PassOver is asked about each index file that cannot be loaded: true leaves it out, until a Refresh finds it whole. It
	// is called in parallel. nil leaves out none, and the first error is that of Open and Refresh.
	PassOver func(id blob.ID, err error) bool

	// Builder is the program that is run with BuilderArg as its only argument to build a
	// generation; it has to call BuildMain then. Self is right for a program that does so
	// itself. Empty: no generation is ever built, existing ones are used.
	Builder string

	// TableEntries is how large a generation may be that is read into RAM, 33 bytes per entry, when many lookups are made;
	// 0: never. A backup makes one for each file that has not changed.
	TableEntries int64
}

// Self is the running program, also when its file was replaced since.
const Self = "/proc/self/exe"

// When the next generation is worth building, see the package comment.
const (
	minDeltaEntries = 20_000
	maxDeltaFiles   = 64
)

const (
	// lockRetry is how soon to look again for a lock that another builder holds. He usually
	// builds just what we want.
	lockRetry = 500 * time.Millisecond

	// failurePause is how long not to try again after a build failed.
	failurePause = 10 * time.Minute

	// closePatience is how long Close waits for a build under way, or as long as the index
	// files took to read if that was longer: giving up would mean to read them again next time.
	closePatience = 3 * time.Second
)

// DB is an index kept in the cache directory. Its methods may be called in parallel.
type DB struct {
	core    *core
	dir     string
	builder string
	table   int64 // Options.TableEntries

	kick      chan struct{}   // holds one token: maintenance has something to look at
	damaged   chan struct{}   // holds one token: a lookup found the generation damaged
	unspilled chan chan error // asks to read index files again whose entries on disk cannot be read
	closing   chan struct{}   // closed by Close
	done      chan struct{}   // closed when the background work has ended
	cancel    context.CancelFunc

	avoid     string    // generation that is damaged; guarded by core.busy
	notBefore time.Time // after a failed build; only maintenance uses it
	building  atomic.Bool

	// Tests replace these.
	freeBytes     func(dir string) (int64, error) // may be written to the directory's file system
	worthBuilding func(Stats) bool
	patience      time.Duration // closePatience
}

// Open opens the index kept in dir, which is made when it is missing, and reads the index files
// that are not in it. The secret must be the repository's own, the same each time.
//
// ctx is also the life of the background work: when it ends, a generation that is being built
// is dropped and no other begun, while lookups go on. Whatever is wrong with the directory is
// logged and costs time or memory; only errors of src and of ctx are returned.
func Open(ctx context.Context, dir string, secret [32]byte, src Source, o Options) (*DB, error) {
	return open(ctx, dir, secret, src, o, func(*DB) {})
}

// open is Open with a seam for tests: tune may change the DB before anything happens.
func open(ctx context.Context, dir string, secret [32]byte, src Source, o Options, tune func(*DB)) (*DB, error) {
	k, err := newKeys(secret)
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("open index cache: %w", err)
	}
	d := &DB{
		core:          newCore(src, k, dir, o),
		dir:           dir,
		builder:       o.Builder,
		table:         o.TableEntries,
		kick:          make(chan struct{}, 1),
		damaged:       make(chan struct{}, 1),
		unspilled:     make(chan chan error),
		closing:       make(chan struct{}),
		done:          make(chan struct{}),
		freeBytes:     freeBytes,
		worthBuilding: worthBuilding,
		patience:      closePatience,
	}
	tune(d)
	if os.Getenv(builderEnv) != "" {
		d.builder = "" // we are a child that was not told how to build: end the recursion here
	}
	if err := d.Refresh(ctx); err != nil {
		if gen := d.core.closeState(); gen != nil {
			<-gen.closed
		}
		return nil, err
	}
	ctx, d.cancel = context.WithCancel(ctx)
	go d.background(ctx)
	return d, nil
}

// Lookup returns one place of the blob. When it meets damage in the cache it waits until the
// repository's index files have been read instead.
func (d *DB) Lookup(h blob.Handle) (blob.Location, bool, error) {
	for {
		loc, found, err := d.core.lookup(h)
		if err == nil {
			return loc, found, nil
		}
		if err := d.heal(err); err != nil {
			return blob.Location{}, false, err
		}
	}
}

// Locations returns all places of the blob, in no particular order.
func (d *DB) Locations(h blob.Handle) ([]blob.Location, error) {
	for {
		locs, err := d.core.locations(h)
		if err == nil {
			return locs, nil
		}
		if err := d.heal(err); err != nil {
			return nil, err
		}
	}
}

// Packs calls fn with each pack that an index file lists; some may come several times.
func (d *DB) Packs(fn func(blob.ID)) error {
	for {
		err := d.core.packs(fn)
		if err == nil {
			return nil
		}
		if err := d.heal(err); err != nil {
			return err
		}
	}
}

// Refresh makes the index reflect the index files that are in the repository now. It lists
// them, and reads those that are new; a generation that another process built is taken over.
func (d *DB) Refresh(ctx context.Context) error {
	err := d.core.refresh(ctx, d.choose)
	d.wake()
	return err
}

// Stats tells the state.
func (d *DB) Stats() Stats {
	s := d.core.stats()
	s.Building = d.building.Load()
	return s
}

// Close ends the background work and frees everything. A build under way is waited for, see
// closePatience, unless the context of Open ended.
func (d *DB) Close() error {
	select {
	case <-d.closing:
		<-d.done
		return nil
	default:
	}
	close(d.closing)
	patience := time.NewTimer(max(d.patience, time.Duration(d.core.loadTime.Load())))
	defer patience.Stop()
	select {
	case <-d.done:
	case <-patience.C:
	}
	d.cancel()
	<-d.done
	if gen := d.core.closeState(); gen != nil {
		<-gen.closed
	}
	d.sweep()
	return nil
}

func (d *DB) wake() {
	select {
	case d.kick <- struct{}{}:
	default:
	}
}

// heal returns nil when the lookup that failed with err is to be tried again.
func (d *DB) heal(err error) error {
	if isSpilled(err) {
		d.core.spill.unreadable(err)
		answer := make(chan error, 1)
		select {
		case d.unspilled <- answer:
			return <-answer
		case <-d.done:
			return err
		}
	}
	var damage *damageError
	if !errors.As(err, &damage) {
		return err
	}
	gen := damage.gen
	if gen.bad.CompareAndSwap(false, true) {
		d.core.log.Warn("index cache is damaged; reading the repository's index instead", "error", err)
		select {
		case d.damaged <- struct{}{}:
		default:
		}
	}
	select {
	case <-gen.healed:
		return gen.healErr
	case <-d.done:
		return err
	}
}

// choose returns the generation to use from now on: what CURRENT names, or the one in use when
// CURRENT does not say better. It needs busy.
func (d *DB) choose(st *state) *generation {
	held := st.gen
	if held != nil && held.bad.Load() {
		d.discard(held.meta.Name)
		held = nil
	}
	var m *meta
	for range 5 {
		var err error
		m, err = readCurrent(d.dir, d.core.keys)
		if err == nil && (m == nil || m.Name == d.avoid || held != nil && m.Name == held.meta.Name) {
			return held
		}
		var gen *generation
		if err == nil {
			gen, err = openGeneration(d.dir, d.core.keys, m, d.table, d.core.log)
		}
		switch {
		case err == nil:
			d.core.log.Debug("opened index cache", "generation", m.Name, "entries", m.Entries)
			return gen
		case errors.Is(err, errGone), errors.Is(err, errLocked):
			time.Sleep(10 * time.Millisecond) // it is being replaced by a newer one
			continue
		case errors.Is(err, errCorrupt):
			d.core.log.Warn("index cache is damaged and will be built anew", "error", err)
			d.discard(nameOf(m))
		default:
			d.core.log.Warn("index cache cannot be read", "error", err)
		}
		return held
	}
	d.core.log.Warn("index cache is incomplete and will be built anew", "missing", nameOf(m))
	d.discard(nameOf(m))
	return held
}

func nameOf(m *meta) string {
	if m == nil {
		return ""
	}
	return m.Name
}

// discard removes CURRENT if it names that generation, or nothing legible for "". When a
// builder is at work it leaves CURRENT, which is about to be replaced. It needs busy.
func (d *DB) discard(name string) {
	d.avoid = name
	lock, err := lockBuild(d.dir)
	if err != nil {
		return
	}
	defer lock.Close()
	d.removeCurrent(name)
}

// removeCurrent does that; it needs build.lock.
func (d *DB) removeCurrent(name string) {
	if m, err := readCurrent(d.dir, d.core.keys); err == nil && (m == nil || m.Name != name) {
		return
	}
	if err := os.Remove(filepath.Join(d.dir, currentName)); err != nil {
		d.core.log.Debug("remove damaged index cache", "error", err)
	}
}

// lockBuild takes build.lock, or returns errLocked.
func lockBuild(dir string) (*os.File, error) {
	path := filepath.Join(dir, "build.lock")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	f.Close()
	return flock(path, unix.LOCK_EX)
}

// background owns the background work, until Close or the end of ctx.
func (d *DB) background(ctx context.Context) {
	defer close(d.done)
	mendCtx, stop := context.WithCancel(ctx)
	var mending sync.WaitGroup
	mending.Go(func() { d.mend(mendCtx) })
	d.maintain(ctx)
	stop()
	mending.Wait()
}

// mend reads the repository for lookups that met damage, also while a generation is built.
func (d *DB) mend(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.damaged:
			d.replaceDamaged(ctx)
			d.wake() // the next generation is due
		case answer := <-d.unspilled:
			answer <- d.core.refresh(ctx, d.choose) // into RAM
		}
	}
}

// maintain builds the next generation when it is due.
func (d *DB) maintain(ctx context.Context) {
	var retry <-chan time.Time // set while another process builds
	for last := false; !last; {
		select {
		case <-ctx.Done():
			return
		case <-d.kick:
		case <-retry:
		case <-d.closing:
			last = true // but look once more: what a short-lived command has read must not be lost
		}
		retry = nil
		d.replaceDamaged(ctx) // by a build, or a lookup just now
		switch err := d.buildIfWorth(ctx); {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, errLocked):
			retry = time.After(lockRetry)
		default:
			d.core.log.Warn("the index cache could not be built; the index stays in memory", "error", err)
			d.notBefore = time.Now().Add(failurePause)
		}
	}
}

// replaceDamaged reads the repository if a lookup found damage.
func (d *DB) replaceDamaged(ctx context.Context) {
	st := d.core.state.Load()
	if st == nil || st.gen == nil || !st.gen.bad.Load() {
		return
	}
	if err := d.core.refresh(ctx, d.choose); err != nil {
		st.gen.settle(fmt.Errorf("%w, and the repository's index could not be read: %w", errCorrupt, err))
	}
}

// worthBuilding decides whether the next generation pays.
func worthBuilding(s Stats) bool {
	live := s.GenerationEntries - s.DeadEntries
	return s.DeltaEntries > max(minDeltaEntries, live/20) ||
		s.DeltaFiles > maxDeltaFiles ||
		s.DeadEntries > max(minDeltaEntries, s.GenerationEntries/4)
}
