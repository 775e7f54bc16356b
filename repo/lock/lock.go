// Package lock keeps clients of a repository from disturbing each other.
package lock

import (
	"context"
	"errors"
	"log/slog"
	"time"

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

// ErrLost is the cause of the end of a context whose lock could not be refreshed.
var ErrLost = errors.New("lock on the repository was lost")

// Options say what lock is wanted.
type Options struct {
	Exclusive bool
	RetryFor  time.Duration // how long to try again when the repository is locked
	Log       *slog.Logger  // nil discards
}

// Lock is a lock that is held.
type Lock struct{}

// Acquire takes a lock.
func Acquire(ctx context.Context, r Files, o Options) (context.Context, *Lock, error) {
	panic("not yet")
}

// Release gives the lock back.
func (l *Lock) Release() error { panic("not yet") }

// Unlock removes locks.
func Unlock(ctx context.Context, r Files, all bool, log *slog.Logger) (removed int, err error) {
	panic("not yet")
}
