package repo

import (
	"context"
	"fmt"

	"vitrine/repo/backend"
)

type lockCheck struct{}

// WithLockCheck returns a context for work under a lock. Before anything of the repository but a lock is stored or
// removed under it, check is asked, and for an index or a snapshot again when it is stored, which may take long; an error
// of check is the error of that call, and what it has stored is removed. So nothing is listed, named by a snapshot or removed
// once the lock is lost, after which others may have removed packs; also not by what a failed run still saves.
func WithLockCheck(ctx context.Context, check func(ctx context.Context) error) context.Context {
	return context.WithValue(ctx, lockCheck{}, check)
}

// mayChange asks the lock under which ctx is, if there is one, before a file of a kind is stored or removed.
func mayChange(ctx context.Context, kind backend.Kind) error {
	check, ok := ctx.Value(lockCheck{}).(func(context.Context) error)
	if !ok || kind == backend.Lock {
		return nil
	}
	if err := check(ctx); err != nil {
		return fmt.Errorf("change %v files: %w", kind, err)
	}
	return nil
}
