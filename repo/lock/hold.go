package lock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

const (
	// refreshEvery is the age at which a lock is replaced by a new one.
	refreshEvery = 5 * time.Minute
	// lostAfter is the age at which a lock that cannot be replaced is given up: early enough
	// that the work under it has ended when others may take it for stale.
	lostAfter = staleAfter - refreshEvery
	// lookEvery is how often the clock is looked at. It is short, because timers stand still
	// while a computer sleeps: after that, a lock that is old must be noticed at once.
	lookEvery = time.Second
	// refreshRetry is the wait after a refresh that failed.
	refreshRetry = 30 * time.Second
	// refreshTime bounds one refresh.
	refreshTime = time.Minute
)

// hangups takes the SIGHUPs that come while a lock is held; nobody looks at them.
var hangups = make(chan os.Signal, 1)

// surviveHangups keeps SIGHUP from ending this process. It is a part of the protocol: a restic
// on the same host asks whether the holder of a lock is alive by sending it that signal (`restic
// unlock` does), and ignores it itself.
var surviveHangups = sync.OnceFunc(func() { signal.Notify(hangups, syscall.SIGHUP) })

// holding is a lock while it is held. Its refresher is the only user until it has ended.
type holding struct {
	*client
	id       blob.ID
	made     atomic.Pointer[time.Time] // of the lock file; also for others
	leftover []blob.ID                 // replaced lock files that could not be removed
}

// hold starts the refresher of a lock file that was just made, and with early the second look.
func (c *client) hold(ctx context.Context, id blob.ID, made time.Time, early bool) (context.Context, *Lock) {
	h := &holding{client: c, id: id}
	h.made.Store(&made)
	ending := repo.WatchEnd(ctx)
	held, cancel := context.WithCancelCause(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := h.refresh(held); err != nil {
			cancel(err)
		}
	}()
	settled := make(chan struct{})
	var conflict error // once settled is closed
	if early {
		go func() {
			defer close(settled)
			if _, err := c.settle(held, id, settleTime); err != nil {
				conflict = lockError(err)
				cancel(conflict)
			}
		}()
	} else {
		close(settled)
	}
	holds := func(ctx context.Context) error {
		select {
		case <-settled: // also when ctx has ended
		default:
			select {
			case <-settled:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if conflict != nil {
			return conflict
		}
		return h.holds(ctx, held)
	}
	return repo.WithLockCheck(held, holds), &Lock{
		settled: holds,
		release: sync.OnceValue(func() error {
			cancel(context.Canceled)
			<-done
			<-settled
			ending.Stop()
			ctx, cancel := ending.Context(ctx, releaseTime, releaseLeast)
			defer cancel()
			return h.removeAll(ctx)
		}),
	}
}

// holds returns nil while the lock is young enough for nobody to have removed it as stale. An old one is being
// refreshed, as after a computer has slept: that is waited for. held is the context of the work.
func (h *holding) holds(ctx, held context.Context) error {
	for {
		if cause := context.Cause(held); errors.Is(cause, ErrLost) {
			return cause
		}
		if h.age(h.now()) < lostAfter {
			return nil
		}
		if sleep(ctx, lookEvery) != nil {
			return context.Cause(ctx)
		}
	}
}

// removeAll removes every lock file of this lock in the time that ctx has.
func (h *holding) removeAll(ctx context.Context) error {
	var errs []error
	for _, id := range append(h.leftover, h.id) {
		if err := h.removeNow(ctx, id); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("release lock: %w; `vitrine unlock` removes it when this program has ended", errors.Join(errs...))
	}
	return nil
}

// refresh keeps the lock young, and its direction true, until ctx ends, then it returns nil. An error of class ErrLost says
// that it did not succeed.
func (h *holding) refresh(ctx context.Context) error {
	var notBefore time.Time
	for sleep(ctx, lookEvery) == nil {
		now := h.now()
		age := h.age(now)
		if age < refreshEvery && !h.turned.Load() || now.Before(notBefore) && age < lostAfter {
			continue
		}
		turned := h.turned.Swap(false) // before the direction is read
		err := h.replace(ctx)
		if err == nil || ctx.Err() != nil {
			continue
		}
		if turned {
			h.turned.Store(true)
		}
		if errors.Is(err, ErrLost) {
			return err
		}
		if age >= lostAfter {
			return fmt.Errorf("%w: it could not be refreshed for %v: %w", ErrLost, age.Round(time.Second), err)
		}
		h.log.Warn("lock could not be refreshed, trying again", "error", err)
		notBefore = h.now().Add(refreshRetry)
	}
	return nil
}

// age is by the wall clock, which others compare the time in the lock file with; it goes on while
// the computer sleeps.
func (h *holding) age(now time.Time) time.Duration { return now.Round(0).Sub(h.made.Load().Round(0)) }

// replace makes a new lock file and removes the old one. The old one must be there: if it is
// not, somebody has broken the lock and may have taken one that excludes ours. While it is there
// nobody can have, even if it is old.
func (h *holding) replace(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, refreshTime)
	defer cancel()
	if err := h.mustExist(ctx); err != nil {
		return err
	}
	id, made, err := h.save(ctx)
	if err == nil && h.age(made) >= staleAfter {
		// Old enough to have been removed by an unlock just now: look again, as Acquire does.
		if err = sleep(ctx, settleTime); err == nil {
			err = h.mustExist(ctx)
		}
	}
	if err != nil {
		h.leftover = append(h.leftover, id) // it may be there
		return err
	}
	h.leftover = append(h.leftover, h.id)
	h.id = id
	h.made.Store(&made)
	kept := h.leftover[:0]
	for _, old := range h.leftover {
		if err := h.removeNow(ctx, old); err != nil {
			h.log.Warn("old lock file could not be removed, trying again later", "error", err)
			kept = append(kept, old)
		}
	}
	h.leftover = kept
	return nil
}

// mustExist returns ErrLost when the lock file is not in the repository.
func (h *holding) mustExist(ctx context.Context) error {
	infos, err := h.files.ListFiles(ctx, backend.Lock)
	if err != nil {
		return err
	}
	name := h.id.String()
	for _, file := range infos {
		if file.Name == name {
			return nil
		}
	}
	return fmt.Errorf("%w: somebody removed it", ErrLost)
}
