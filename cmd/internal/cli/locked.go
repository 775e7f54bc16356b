package cli

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/lock"
)

// withLock runs fn while a lock is held. fn's context ends when the lock is lost. --no-lock is
// for those who only read: without its lock a backup could rely on blobs that a prune is
// deleting, so a command that writes never asks for the flag.
func (a *app) withLock(ctx context.Context, r *repo.Repository, exclusive bool, fn func(context.Context) error) error {
	o := lock.Options{Exclusive: exclusive, RetryFor: a.global.retryLock, Log: a.print.Logger()}
	return a.hold(ctx, r, o, func(ctx context.Context, _ *lock.Lock) error { return fn(ctx) })
}

// readLock is withLock for a shared lock under which fn reads at once: what it has read is to be relied on once the lock has
// settled.
func (a *app) readLock(ctx context.Context, r *repo.Repository, fn func(context.Context, *lock.Lock) error) error {
	return a.hold(ctx, r, lock.Options{Early: true, RetryFor: a.global.retryLock, Log: a.print.Logger()}, fn)
}

// backupLock is withLock for the shared lock of a backup, which asks the lock what others do. With early, fn may read at once,
// but writes nothing until the lock has settled. first is a backup that
// knows of no parent (yet, with --parent and --force): much may be stored, and worth sharing.
func (a *app) backupLock(ctx context.Context, r *repo.Repository, early, first bool, fn func(context.Context, *lock.Lock) error) error {
	return a.hold(ctx, r, lock.Options{Early: early, Backup: true, Sharing: first, RetryFor: a.global.retryLock, Log: a.print.Logger()}, fn)
}

func (a *app) hold(ctx context.Context, r *repo.Repository, o lock.Options, fn func(context.Context, *lock.Lock) error) error {
	locked, l, err := lock.Acquire(ctx, r, o)
	if err != nil {
		return err
	}
	a.locked.Store(true)
	stop := a.tellOfSignal(ctx)
	err = fn(locked, l)
	cause := context.Cause(locked)
	ended := cause != nil && ctx.Err() == nil || errors.Is(cause, lock.ErrLost) || errors.Is(cause, lock.ErrLocked)
	if err != nil && ended {
		err = cause // the error of fn only says that it was stopped
	}
	released := l.Release()
	stop()
	if released == nil {
		a.locked.Store(false)
		a.lockEnd = "; the lock on the repository is removed"
		return err
	}
	a.lockEnd = lockStays
	if errors.Is(released, backend.ErrAway) {
		a.lockEnd = "; the store does not answer" + lockStays
	}
	if ctx.Err() != nil {
		a.print.Logger().Info("the lock on the repository stays", "error", released)
	}
	return errors.Join(err, released)
}

// cleaningUp is said when the end after a signal takes longer than a moment.
const cleaningUp = "interrupted; cleaning up, the lock comes last (again: end now and leave it)"

// lockStays is what the last line says of a lock that could not be removed.
const lockStays = "; the lock on the repository stays, `vitrine unlock` removes it"

// tellOfSignal sees to it that who has sent a signal hears what the end waits for, unless stop is called soon after. No
// more is said when stop returns.
func (a *app) tellOfSignal(ctx context.Context) (stop func()) {
	over := make(chan struct{})
	var told sync.WaitGroup
	told.Go(func() {
		select {
		case <-ctx.Done():
		case <-over:
			return
		}
		timer := time.NewTimer(quietTime)
		defer timer.Stop()
		select {
		case <-timer.C:
			if !a.print.JSONMode() {
				a.print.Warn("%s", cleaningUp)
			}
		case <-over:
		}
	})
	return func() {
		close(over)
		told.Wait()
	}
}

// whenFull adds what to do when the store has no room, not even for a lock.
func whenFull(err error, advice string) error {
	if errors.Is(err, backend.ErrFull) {
		return fmt.Errorf("%w; %s", err, advice)
	}
	return err
}

// withoutLock is withLock for --no-lock.
func withoutLock(ctx context.Context, _ *repo.Repository, _ bool, fn func(context.Context) error) error {
	return fn(ctx)
}
