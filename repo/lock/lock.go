// Package lock keeps clients of a repository from disturbing each other. Any number of shared locks
// may be held at a time (backup, check), an exclusive one (prune, forget) only alone. restic
// takes part in the same protocol, FORMAT.md section 8.
//
// A lock is a file below locks/. Acquire looks for conflicting locks, writes its own, waits 200 ms
// and looks again, so that of two clients at the same moment at least one sees the other. Both may,
// and then both give up; RetryFor lets them try again after waits that differ.
//
// What counts as a conflict:
//   - a lock that is stale (see Unlock) still counts: only a person can tell a dead client from one
//     with a wrong clock, or on another machine of the same name. The error says that it looks
//     stale and how to remove it;
//   - a lock file that cannot be decoded counts for both kinds of lock, since it may be exclusive;
//   - an empty lock file does not count: it is the rest of an interrupted upload;
//   - a lock file that vanishes while it is looked at does not count, but the listing is done
//     again, since its holder may just have refreshed it.
//
// While the lock is held, a new file replaces the old one every 5 minutes. When that is not
// possible for so long that others could take the lock for stale, or when somebody removed the
// lock, the context that Acquire returned ends with the cause ErrLost.
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
var ErrLocked = errors.New("repository is locked")

// ErrLost is the cause of the end of a context whose lock is no more.
var ErrLost = errors.New("lock on the repository was lost")

// LockedError says which lock stands in the way. It is of class ErrLocked.
type LockedError struct {
	Holder  Info
	Age     time.Duration // of the lock when it was seen
	Stale   bool          // the holder seems to be gone
	Damaged error         // why the lock file cannot be decoded; then only Holder.ID is known
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
	advice := "wait for it to end, or let --retry-lock wait"
	if e.Stale {
		advice = "it seems to be gone: `vitrine unlock` removes the lock"
	}
	return fmt.Sprintf("%v%s by %s@%s (pid %d) since %s, %v ago; %s", ErrLocked, kind, e.Holder.Username, e.Holder.Hostname,
		e.Holder.PID, e.Holder.Time.Local().Format(time.DateTime), e.Age.Round(time.Second), advice)
}

// Options say what lock is wanted.
type Options struct {
	// Exclusive shuts out every other lock; without it, only exclusive ones are.
	Exclusive bool
	// RetryFor is how long to try again while the repository is locked; 0 means not at all.
	RetryFor time.Duration
	// Log receives what is worth knowing and is no error; nil discards it.
	Log *slog.Logger
}

// Protocol times.
const (
	settleTime   = 200 * time.Millisecond // between writing a lock and looking again
	retryFirst   = 500 * time.Millisecond // before the first retry; doubles
	retryMost    = time.Minute
	releaseTime  = 10 * time.Second // for removing a lock, also when the context has ended
	parallelRead = 8
)

// Lock is a lock that is held. Its methods may be called in parallel.
type Lock struct {
	release func() error
}

// Acquire takes a lock. The context it returns ends with ctx, with Release, or with the
// cause ErrLost; all work under the lock must use it. When another client is in the way the error
// is of class ErrLocked, and no lock is left behind.
func Acquire(ctx context.Context, r Files, o Options) (context.Context, *Lock, error) {
	return newClient(r, o).acquire(ctx, o.RetryFor)
}

// Release removes the lock. It may be called again, which does nothing and returns the same.
func (l *Lock) Release() error { return l.release() }

// Unlock removes the locks whose holders seem to be gone: older than 30 minutes, or taken on this
// host by a process that has ended. With all, it removes every lock. It returns how many it
// removed; log, which may be nil, is told which stay and why.
func Unlock(ctx context.Context, r Files, all bool, log *slog.Logger) (removed int, err error) {
	removed, err = newClient(r, Options{Log: log}).unlock(ctx, all)
	if err != nil {
		err = fmt.Errorf("unlock repository: %w", err)
	}
	return removed, err
}

// client is one user of the protocol, with what it asks of its surroundings.
type client struct {
	files   Files
	self    Info // with Exclusive; Time is set when a lock is made
	log     *slog.Logger
	now     func() time.Time
	started func(pid int) (time.Time, bool)
}

func newClient(r Files, o Options) *client {
	c := &client{files: r, self: identity(), log: o.Log, now: time.Now, started: processStart}
	c.self.Exclusive = o.Exclusive
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c *client) acquire(ctx context.Context, retryFor time.Duration) (context.Context, *Lock, error) {
	surviveHangups() // before the lock file is there
	deadline := c.now().Add(retryFor)
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		id, made, err := c.try(ctx)
		if err == nil {
			ctx, lock := c.hold(ctx, id, made)
			return ctx, lock, nil
		}
		if !errors.Is(err, ErrLocked) {
			return nil, nil, fmt.Errorf("lock repository: %w", err)
		}
		left := deadline.Sub(c.now())
		if left <= 0 {
			return nil, nil, err
		}
		if wait == retryFirst {
			c.log.Warn("waiting for a lock", "reason", err, "for", retryFor)
		}
		// Half of the wait is by chance, so that two clients that met do not meet again.
		if err := sleep(ctx, min(left, wait/2+rand.N(wait))); err != nil {
			return nil, nil, fmt.Errorf("lock repository: %w", err)
		}
	}
}

// try makes a lock unless there is a conflict.
func (c *client) try(ctx context.Context) (blob.ID, time.Time, error) {
	if err := c.conflict(ctx, blob.ID{}); err != nil {
		return blob.ID{}, time.Time{}, err
	}
	id, made, err := c.save(ctx)
	if err == nil {
		if err = sleep(ctx, settleTime); err == nil {
			err = c.conflict(ctx, id)
		}
	} else if errors.Is(err, backend.ErrReadOnly) || errors.Is(err, fs.ErrPermission) {
		err = fmt.Errorf("%w (a check can do without a lock: --no-lock)", err)
	}
	if err != nil {
		// Also when the Save failed: its result may be unknown.
		if removeErr := c.remove(ctx, id); removeErr != nil {
			c.log.Warn("a lock could not be removed; `vitrine unlock` will", "error", removeErr)
		}
	}
	return id, made, err
}

// save writes a new lock file.
func (c *client) save(ctx context.Context) (blob.ID, time.Time, error) {
	info := c.self
	info.Time = c.now()
	plain, err := info.encode()
	if err != nil {
		return blob.ID{}, info.Time, err
	}
	id, err := c.files.SaveFile(ctx, backend.Lock, plain)
	return id, info.Time, err
}

// remove deletes a lock file, also when ctx has ended. One that is not there is fine.
func (c *client) remove(ctx context.Context, id blob.ID) error {
	if id.IsZero() {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTime)
	defer cancel()
	err := c.files.RemoveFile(ctx, backend.Lock, id)
	if errors.Is(err, backend.ErrNotExist) {
		return nil
	}
	return err
}

// conflict returns a LockedError when a lock but our own stands in the way.
func (c *client) conflict(ctx context.Context, own blob.ID) error {
	locks, err := c.read(ctx)
	if err != nil {
		return err
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
		return worst
	}
	return nil
}

// found is one lock file. When damaged is set, only the ID of info is.
type found struct {
	info    Info
	damaged error
}

// read returns the locks in the repository, in the order of their names.
func (c *client) read(ctx context.Context) ([]found, error) {
	known := map[blob.ID]found{}
	for range 10 {
		locks, vanished, err := c.readOnce(ctx, known)
		if err != nil || !vanished {
			return locks, err
		}
	}
	return nil, errors.New("locks vanish as fast as they are listed")
}

// readOnce lists the lock files and reads those that are not known. When one vanished
// meanwhile the result is not to be used.
func (c *client) readOnce(ctx context.Context, known map[blob.ID]found) (locks []found, vanished bool, err error) {
	infos, err := c.files.ListFiles(ctx, backend.Lock)
	if err != nil {
		return nil, false, err
	}
	var mu sync.Mutex // guards known, locks, vanished
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
				vanished = true
				return nil
			}
			known[id] = l
			locks = append(locks, l)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, false, err
	}
	slices.SortFunc(locks, func(a, b found) int { return a.info.ID.Compare(b.info.ID) })
	return locks, vanished, nil
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

func (c *client) unlock(ctx context.Context, all bool) (removed int, err error) {
	locks, err := c.readForUnlock(ctx, all)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, l := range locks {
		if !all && l.damaged != nil {
			c.log.Warn("a lock that cannot be read stays; `vitrine unlock --remove-all` removes it", "error", l.damaged)
			continue
		}
		if now := c.now(); !all && !l.info.stale(now, c.self.Hostname, c.started) {
			c.log.Info("the lock of a client that seems to be at work stays", "host", l.info.Hostname, "pid", l.info.PID,
				"age", now.Sub(l.info.Time).Round(time.Second))
			continue
		}
		err := c.files.RemoveFile(ctx, backend.Lock, l.info.ID)
		if err == nil {
			removed++
		} else if !errors.Is(err, backend.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return removed, errors.Join(errs...)
}

// readForUnlock reads the locks, or only their names when all are to be removed.
func (c *client) readForUnlock(ctx context.Context, all bool) ([]found, error) {
	if !all {
		return c.read(ctx)
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
