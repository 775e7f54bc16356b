// Package lock keeps clients of a repository from disturbing each other. Any number of shared locks
// may be held at a time (backup, check), an exclusive one (prune, forget) only alone. restic
// takes part in the same protocol, FORMAT.md section 8.
//
// A lock is a file below locks/. Acquire looks for conflicting locks, writes its own, waits 200 ms
// and looks again, so that of two clients at the same moment at least one sees the other. Both may,
// and then both give up; RetryFor lets them try again after waits that differ. With Options.Sharing a client waits
// longer on a slow store, up to 2 s.
//
// With Options.Early the wait and the second look happen while the holder is at work already. What
// it reads meanwhile is to be relied on: a client that excludes us and that the first look did not see
// wrote its lock after that look, waits 200 ms as well, and finds ours, which was there within half
// of that. It has then changed nothing. What is left is that we have to give up too, so nothing is
// written before the second look has found nothing.
//
// What counts as a conflict:
//   - a lock that is stale (see Unlock) still counts: only a person can tell a dead client from one
//     with a wrong clock, or on another machine of the same name. The error says that it looks
//     stale and how to remove it;
//   - a lock file that cannot be decoded counts for both kinds of lock, since it may be exclusive;
//   - an empty lock file does not count: it is the rest of an interrupted upload;
//   - a lock file that vanishes while it is looked at does not count, but the listing is done
//     again, since its holder may just have refreshed it;
//   - one that is listed each time for seconds, and is never there, does not count: a server of a
//     cluster that was away when it was removed goes on listing it.
//
// While the lock is held, a new file replaces the old one every 5 minutes. When that is not
// possible for so long that others could take the lock for stale, or when somebody removed the
// lock, the context that Acquire returned ends with the cause ErrLost.
//
// What Acquire has read of other locks is kept with the Lock: in which direction the backups at work go, and whether a
// process of this host was cut off. A vitrine says in its locks whether it makes a backup, and in which direction, and under
// which kernel its PID counts, so that the death of a holder can be certain; restic passes over these fields.
//
// From the first Acquire on, SIGHUP does not end the process; see surviveHangups.
package lock

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// Files is what the package needs of a repository; *repo.Repository has it.
type Files interface {
	ListFiles(ctx context.Context, kind backend.Kind) ([]backend.Info, error)
	ReadFile(ctx context.Context, kind backend.Kind, id blob.ID) ([]byte, error)
	SaveFile(ctx context.Context, kind backend.Kind, plain []byte) (blob.ID, error)
	RemoveFile(ctx context.Context, kind backend.Kind, id blob.ID) error
}

// ErrLocked is the class of the error that another client's lock causes; see LockedError.
var ErrLocked = errors.New("repository is already locked")

// ErrLost is the cause of the end of a context whose lock is no more.
var ErrLost = errors.New("lock on the repository was lost")

// LockedError says which lock stands in the way. It is of class ErrLocked.
type LockedError struct {
	Holder  Info
	Age     time.Duration // of the lock when it was seen
	Stale   bool          // the holder seems to be gone
	Damaged error         // why the lock file cannot be decoded; then only Holder.ID is known
	Waited  time.Duration // Options.RetryFor, which has passed
	waiting bool          // it is being waited for
}

// Is makes it an ErrLocked.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// Error says who holds the lock, since when, and what to do.
func (e *LockedError) Error() string {
	if e.Damaged != nil {
		return fmt.Sprintf("%v by a lock file that cannot be read (%v); if no client is at work, `vitrine unlock --remove-all` removes it", ErrLocked, e.Damaged)
	}
	kind := ""
	if e.Holder.Exclusive {
		kind = " exclusively"
	}
	advice := "; wait for it to end, or let --retry-lock wait"
	switch {
	case e.Stale:
		advice = "; it seems to be gone: `vitrine unlock` removes the lock"
	case e.Waited > 0:
		advice = fmt.Sprintf("; --retry-lock has waited for %v in vain", e.Waited)
	case e.waiting:
		advice = ""
	}
	return fmt.Sprintf("%v%s by %s@%s (pid %d) since %s, %v ago%s", ErrLocked, kind, e.Holder.Username, e.Holder.Hostname,
		e.Holder.PID, e.Holder.Time.Local().Format(time.DateTime), e.Age.Round(time.Second), advice)
}

// Options say what lock is wanted.
type Options struct {
	// Exclusive shuts out every other lock; without it, only exclusive ones are.
	Exclusive bool
	// RetryFor is how long to try again while the repository is locked; 0 means not at all.
	RetryFor time.Duration
	// Early lets Acquire return before the second look, unless the store is slow or RetryFor is set.
	// When that finds a conflict, the context ends with it as the cause. Nothing may be written
	// to the repository until Lock.Settled has returned nil, which repo.WithLockCheck sees to.
	Early bool
	// Backup says in the lock that the holder is making a backup, for Lock.Backwards of others.
	Backup bool
	// Sharing is worth a longer wait on a slow store, so that backups that begin at the same moment know each other.
	Sharing bool
	// Log receives what is worth knowing and is no error; nil discards it.
	Log *slog.Logger
}

// Protocol times.
const (
	settleTime   = 200 * time.Millisecond // between writing a lock and looking again
	settleMost   = 2 * time.Second        // that with Options.Sharing on a slow store
	retryFirst   = 500 * time.Millisecond // before the first retry; doubles
	retryMost    = time.Minute
	releaseTime  = 10 * time.Second // for removing a lock, also when the context has ended: then from that moment
	releaseLeast = 2 * time.Second  // of that when other work took the rest
	parallelRead = 8
)

// Lock is a lock that is held. Its methods may be called in parallel.
type Lock struct {
	settled func(ctx context.Context) error
	release func() error
	client  *client
	others  others
	first   blob.ID // the lock file that Acquire made
}

// Acquire takes a lock. The context it returns ends with ctx, with Release, or with the
// cause ErrLost; all work under the lock must use it, also what comes after its end: under it a repository is not changed
// by one whose lock does not hold (repo.WithLockCheck). When another client is in the way the error
// is of class ErrLocked, and no lock is left behind.
func Acquire(ctx context.Context, r Files, o Options) (context.Context, *Lock, error) {
	c := newClient(r, o)
	if o.Early && o.RetryFor == 0 {
		return c.acquireEarly(ctx)
	}
	return c.acquire(ctx, o.RetryFor)
}

// Settled waits until the lock is known to hold. The error is the conflict that the second look found,
// what kept it from looking, or why ctx ended.
func (l *Lock) Settled(ctx context.Context) error { return l.settled(ctx) }

// Release removes the lock. It may be called again, which does nothing and returns the same.
func (l *Lock) Release() error { return l.release() }

// Unlock removes the locks whose holders seem to be gone: older than 30 minutes, or taken on this
// host by a process that has ended. With all, it removes every lock. log, which may be nil, is told which stay and why.
func Unlock(ctx context.Context, r Files, all bool, log *slog.Logger) (Unlocked, error) {
	u, err := newClient(r, Options{Log: log}).unlock(ctx, all)
	if err != nil {
		err = fmt.Errorf("unlock repository: %w", err)
	}
	return u, err
}

// Unlocked counts the locks that Unlock removed, and those that stay.
type Unlocked struct {
	Removed    int
	AtWork     int // their holders seem to be at work
	Unreadable int
	Empty      int // the rests of interrupted uploads, in nobody's way
}

// client is one user of the protocol, with what it asks of its surroundings.
type client struct {
	files   Files
	self    Info // with Exclusive; Time and Backwards are set when a lock is made
	log     *slog.Logger
	now     func() time.Time
	started func(pid int) (time.Time, bool)

	sharing   bool
	backwards atomic.Bool // the direction to be said in locks, see Lock.Backwards
	turned    atomic.Bool // the lock that is there says another one
}

func newClient(r Files, o Options) *client {
	c := &client{files: r, self: identity(), log: o.Log, now: time.Now, started: processStart}
	c.self.Exclusive, c.self.Backup, c.sharing = o.Exclusive, o.Backup, o.Sharing
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c *client) acquire(ctx context.Context, retryFor time.Duration) (context.Context, *Lock, error) {
	surviveHangups() // before the lock file is there
	deadline := c.now().Add(retryFor)
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		id, made, seen, err := c.try(ctx)
		if err == nil {
			c.turn(&seen)
			ctx, lock := c.hold(ctx, id, made, false)
			lock.client, lock.others, lock.first = c, seen, id
			return ctx, lock, nil
		}
		if !errors.Is(err, ErrLocked) {
			return nil, nil, lockError(err)
		}
		left := deadline.Sub(c.now())
		if left <= 0 {
			if locked := new(LockedError); errors.As(err, &locked) {
				locked.Waited = retryFor
			}
			return nil, nil, err
		}
		if wait == retryFirst {
			if locked := new(LockedError); errors.As(err, &locked) {
				locked.waiting = true
			}
			c.log.Warn("waiting for a lock", "reason", err, "for", retryFor)
		}
		// Half of the wait is by chance, so that two clients that met do not meet again.
		if err := sleep(ctx, min(left, wait/2+rand.N(wait))); err != nil {
			return nil, nil, fmt.Errorf("lock repository: %w", err)
		}
	}
}

// acquireEarly is acquire for Options.Early. What the others do it knows from the first look only.
func (c *client) acquireEarly(ctx context.Context) (context.Context, *Lock, error) {
	surviveHangups()
	began := c.now()
	id, made, after, err := c.make(ctx)
	quick := c.now().Sub(began) < settleTime/2
	if err == nil && !quick {
		after, err = c.settle(ctx, id, c.settleWait(made))
	}
	if err != nil {
		c.undo(ctx, id)
		return nil, nil, lockError(err)
	}
	seen := c.tellApart(after)
	c.turn(&seen)
	held, lock := c.hold(ctx, id, made, quick)
	lock.client, lock.others, lock.first = c, seen, id
	return held, lock, nil
}

// try makes a lock unless there is a conflict. It tells what other locks there were.
func (c *client) try(ctx context.Context) (blob.ID, time.Time, others, error) {
	id, made, after, err := c.make(ctx)
	if err == nil {
		after, err = c.settle(ctx, id, c.settleWait(made))
	}
	if err != nil {
		c.undo(ctx, id)
	}
	return id, made, c.tellApart(after), err
}

// make looks for conflicts and writes a lock file. That may be there also after an error: the result of
// a Save that failed may be unknown. It returns the locks that there were before.
func (c *client) make(ctx context.Context) (blob.ID, time.Time, []found, error) {
	before, err := c.conflict(ctx, blob.ID{})
	if err != nil {
		return blob.ID{}, time.Time{}, nil, err
	}
	c.backwards.Store(c.self.Backup && c.tellApart(before).forwards)
	id, made, err := c.save(ctx)
	if errors.Is(err, backend.ErrReadOnly) || errors.Is(err, fs.ErrPermission) {
		id = blob.ID{} // there is none to take back
		err = fmt.Errorf("%w (what only reads, as restore and check, can do without a lock: --no-lock)", err)
	}
	return id, made, before, err
}

// settleWait is how long to wait after a lock that was begun to be written then. Others may come at this moment, and the store may be
// as slow for them.
func (c *client) settleWait(made time.Time) time.Duration {
	if !c.sharing {
		return settleTime
	}
	return min(max(settleTime, 3*c.now().Sub(made)), settleMost)
}

// settle is the second look after a wait, for those who came at the same time. It returns the locks that there are.
func (c *client) settle(ctx context.Context, own blob.ID, wait time.Duration) ([]found, error) {
	if err := sleep(ctx, wait); err != nil {
		return nil, err
	}
	return c.conflict(ctx, own)
}

// lockError says what could not be done; that the repository is locked says so itself.
func lockError(err error) error {
	if err == nil || errors.Is(err, ErrLocked) {
		return err
	}
	return fmt.Errorf("lock repository: %w", err)
}

// undo removes a lock file that nobody is going to hold.
func (c *client) undo(ctx context.Context, id blob.ID) {
	if err := c.remove(ctx, id); err != nil {
		c.log.Warn("a lock could not be removed; `vitrine unlock` will", "error", err)
	}
}

// save writes a new lock file.
func (c *client) save(ctx context.Context) (blob.ID, time.Time, error) {
	info := c.self
	info.Time, info.Backwards = c.now(), c.backwards.Load()
	plain, err := info.encode()
	if err != nil {
		return blob.ID{}, info.Time, err
	}
	id, err := c.files.SaveFile(ctx, backend.Lock, plain)
	return id, info.Time, err
}

// remove deletes a lock file within releaseTime, also when ctx has ended. One that is not there is fine.
func (c *client) remove(ctx context.Context, id blob.ID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	return c.removeNow(ctx, id)
}

// removeNow is remove in the time that ctx has.
func (c *client) removeNow(ctx context.Context, id blob.ID) error {
	if id.IsZero() {
		return nil
	}
	err := c.files.RemoveFile(ctx, backend.Lock, id)
	if errors.Is(err, backend.ErrNotExist) {
		return nil
	}
	if err != nil && ctx.Err() != nil {
		c.log.Info("a lock could not be removed in time", "error", err)
		return fmt.Errorf("remove lock/%s: %w", id.Short(), errSilent)
	}
	return err
}

// errSilent is why a lock was not removed in time.
var errSilent = backend.Classed(backend.ErrAway, errors.New("the store does not answer"))

// conflict returns all locks, of our own only the ID, and a LockedError when one stands in the way.
func (c *client) conflict(ctx context.Context, own blob.ID) ([]found, error) {
	locks, err := c.read(ctx, own)
	if err != nil {
		return nil, err
	}
	var worst *LockedError
	for _, l := range locks {
		if l.info.ID == own || l.damaged == nil && !l.info.Exclusive && !c.self.Exclusive {
			continue
		}
		e := &LockedError{Holder: l.info, Damaged: l.damaged}
		if l.damaged == nil {
			now := c.now()
			e.Age, e.Stale = now.Sub(l.info.Time), l.info.stale(now, c.self.Hostname, c.started)
		}
		// The holder that is most surely alive is the one to name.
		if worst == nil || worst.Damaged != nil && e.Damaged == nil || worst.Stale && !e.Stale && e.Damaged == nil {
			worst = e
		}
	}
	if worst != nil {
		return nil, worst
	}
	return locks, nil
}

// found is one lock file. When damaged is set, only the ID of info is.
type found struct {
	info    Info
	damaged error
}

// read returns the locks in the repository, in the order of their names. Of our own, if there is one, only
// the ID: it need not be read.
func (c *client) read(ctx context.Context, own blob.ID) ([]found, error) {
	known := map[blob.ID]found{}
	if !own.IsZero() {
		known[own] = found{info: Info{ID: own}}
	}
	misses := map[blob.ID]int{} // how often in a row a file was listed and not there
	for again := range maxReadings {
		locks, missing, err := c.readOnce(ctx, known)
		if err != nil {
			return nil, err
		}
		misses = countAgain(misses, missing)
		if !slices.ContainsFunc(missing, func(id blob.ID) bool { return misses[id] < ghostReadings }) {
			for _, id := range missing {
				c.log.Warn("a lock is listed but not there; the store seems to list what was removed", "lock", id.Short())
			}
			return locks, nil
		}
		if err := sleep(ctx, min(firstPause<<again, maxPause)); err != nil {
			return nil, err
		}
	}
	return nil, errors.New("locks vanish as fast as they are listed")
}

// How long a listed lock may not be there before it counts as removed: ghostReadings with pauses between them, 3 s
// in all. Others may come and go meanwhile, but not for ever.
const (
	ghostReadings = 10
	maxReadings   = 3 * ghostReadings
	firstPause    = 10 * time.Millisecond
	maxPause      = time.Second
)

// countAgain adds one for each ID, and forgets those that are not among them.
func countAgain(before map[blob.ID]int, ids []blob.ID) map[blob.ID]int {
	after := make(map[blob.ID]int, len(ids))
	for _, id := range ids {
		after[id] = before[id] + 1
	}
	return after
}

// readOnce lists the lock files and reads those that are not known. With some missing, which were listed
// but are not there, the result may lack what took their place.
func (c *client) readOnce(ctx context.Context, known map[blob.ID]found) (locks []found, missing []blob.ID, err error) {
	infos, err := c.files.ListFiles(ctx, backend.Lock)
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex // guards known, locks, missing
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(parallelRead)
	for _, file := range infos {
		id, err := blob.ParseID(file.Name)
		if err != nil || file.SizeBytes == 0 {
			continue
		}
		group.Go(func() error {
			mu.Lock()
			l, ok := known[id]
			mu.Unlock()
			var err error
			if !ok {
				l, err = c.readFile(groupCtx, id)
			}
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, backend.ErrNotExist) {
				missing = append(missing, id)
				return nil
			}
			known[id] = l
			locks = append(locks, l)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, nil, err
	}
	slices.SortFunc(locks, func(a, b found) int { return a.info.ID.Compare(b.info.ID) })
	return locks, missing, nil
}

func (c *client) readFile(ctx context.Context, id blob.ID) (found, error) {
	plain, err := c.files.ReadFile(ctx, backend.Lock, id)
	if errors.Is(err, repo.ErrCorrupt) {
		return found{Info{ID: id}, err}, nil
	}
	if err != nil {
		return found{}, err
	}
	info, err := decode(plain)
	if err != nil {
		return found{Info{ID: id}, fmt.Errorf("lock/%s: %w", id.Short(), err)}, nil
	}
	info.ID = id
	return found{info, nil}, nil
}

func (c *client) unlock(ctx context.Context, all bool) (u Unlocked, err error) {
	locks, err := c.readForUnlock(ctx, all)
	if err != nil {
		return u, err
	}
	var errs []error
	for _, l := range locks {
		if !all && l.damaged != nil {
			c.log.Warn("a lock that cannot be read stays; `vitrine unlock --remove-all` removes it", "error", l.damaged)
			u.Unreadable++
			continue
		}
		if now := c.now(); !all && !l.info.stale(now, c.self.Hostname, c.started) {
			c.log.Info("the lock of a client that seems to be at work stays", "host", l.info.Hostname, "pid", l.info.PID,
				"age", now.Sub(l.info.Time).Round(time.Second))
			u.AtWork++
			continue
		}
		err := c.files.RemoveFile(ctx, backend.Lock, l.info.ID)
		if err == nil {
			u.Removed++
		} else if !errors.Is(err, backend.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	infos, err := c.files.ListFiles(ctx, backend.Lock)
	if err != nil { // what was to be done is done
		c.log.Info("whether empty lock files stay is not known", "error", err)
	}
	for _, file := range infos {
		if file.SizeBytes == 0 {
			u.Empty++
		}
	}
	return u, errors.Join(errs...)
}

// readForUnlock reads the locks, or only their names when all are to be removed.
func (c *client) readForUnlock(ctx context.Context, all bool) ([]found, error) {
	if !all {
		return c.read(ctx, blob.ID{})
	}
	infos, err := c.files.ListFiles(ctx, backend.Lock)
	var locks []found
	for _, file := range infos {
		if id, err := blob.ParseID(file.Name); err == nil {
			locks = append(locks, found{info: Info{ID: id}})
		}
	}
	return locks, err
}

// sleep waits, or returns the error of ctx when that ends first.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
