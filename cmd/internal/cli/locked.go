package cli

import (
	"context"
	"errors"

	"vitrine/repo"
	"vitrine/repo/lock"
)

// withLock runs fn while a lock is held. fn's context ends when the lock is lost. --no-lock is
// for those who only read: without its lock a backup could rely on blobs that a prune is
// deleting, so a command that writes never asks for the flag.
func (a *app) withLock(ctx context.Context, r *repo.Repository, exclusive bool, fn func(context.Context) error) error {
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

// withoutLock is withLock for --no-lock.
func withoutLock(ctx context.Context, _ *repo.Repository, _ bool, fn func(context.Context) error) error {
	return fn(ctx)
}
