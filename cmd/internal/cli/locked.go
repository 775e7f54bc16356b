package cli

import (
	"context"
	"errors"

	"vitrine/repo"
	"vitrine/repo/lock"
)

// withLock runs fn while a lock is held. fn's context ends when the lock is lost.
func (a *app) withLock(ctx context.Context, r *repo.Repository, exclusive bool, fn func(context.Context) error) error {
	if a.global.noLock {
		return fn(ctx)
	}
	locked, l, err := lock.Acquire(ctx, r, lock.Options{
		Exclusive: exclusive, RetryFor: a.global.retryLock, Log: a.print.Logger(),
	})
	if err != nil {
		return err
	}
	err = fn(locked)
	if cause := context.Cause(locked); err != nil && errors.Is(cause, lock.ErrLost) {
		err = cause // the error of fn only says that it was stopped
	}
	return errors.Join(err, l.Release())
}
