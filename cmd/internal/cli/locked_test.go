package cli

import (
	"context"
	"errors"
	"io"
	"sync/atomic"
	"testing"

	"vitrine/cmd/internal/progress"
	"vitrine/repo/backend"
	"vitrine/repo/lock"
	"vitrine/repo/repotest"
)

// onceListed lists locks once, and then no more.
type onceListed struct {
	backend.Backend
	err   error
	lists atomic.Int32
}

func (s *onceListed) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	if kind == backend.Lock && s.lists.Add(1) > 1 {
		return s.err
	}
	return s.Backend.List(ctx, kind, fn)
}

// When the second look cannot be taken the error says why, and not that the work was stopped.
func TestReadLockWithoutSecondLook(t *testing.T) {
	_, be := repotest.New(t, 2)
	store := &onceListed{Backend: be, err: errors.New("no route to host")}
	r := repotest.Open(t, store)
	for what, work := range map[string]func(context.Context, *lock.Lock) error{
		"settled": func(ctx context.Context, l *lock.Lock) error { return l.Settled(ctx) },
		"stopped": func(ctx context.Context, _ *lock.Lock) error { <-ctx.Done(); return ctx.Err() },
	} {
		store.lists.Store(0)
		a := &app{print: progress.New(progress.Options{Stdout: io.Discard, Stderr: io.Discard})}
		if err := a.readLock(t.Context(), r, work); !errors.Is(err, store.err) || errors.Is(err, context.Canceled) {
			t.Errorf("%s: error %v", what, err)
		}
		stay := 0
		if err := be.List(t.Context(), backend.Lock, func(backend.Info) error { stay++; return nil }); err != nil || stay != 0 {
			t.Errorf("%s: %d locks stay, error %v", what, stay, err)
		}
	}
}
