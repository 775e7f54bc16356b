package lock

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// hook is asked at a call of a store; what it returns is the error of the call.
type hook func(op string, id blob.ID) error

// store is a Files that keeps plain texts in memory.
type store struct {
	mu            sync.Mutex
	files         map[blob.ID][]byte // guarded by mu
	before, after hook               // guarded by mu, not held while they are called; see spoil
}

// spoil asks before ahead of each call and after behind it; either may be nil.
func (s *store) spoil(before, after hook) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before, s.after = before, after
}

func (s *store) ask(late bool, op string, id blob.ID) error {
	s.mu.Lock()
	fn := s.before
	if late {
		fn = s.after
	}
	s.mu.Unlock()
	if fn == nil {
		return nil
	}
	return fn(op, id)
}

func newStore() *store { return &store{files: map[blob.ID][]byte{}} }

func (s *store) ListFiles(ctx context.Context, kind backend.Kind) ([]backend.Info, error) {
	if err := errors.Join(ctx.Err(), s.ask(false, "list", blob.ID{})); err != nil {
		return nil, err
	}
	s.mu.Lock()
	var infos []backend.Info
	for id, plain := range s.files {
		infos = append(infos, backend.Info{Name: id.String(), SizeBytes: int64(len(plain))})
	}
	s.mu.Unlock()
	return infos, s.ask(true, "list", blob.ID{})
}

func (s *store) ReadFile(ctx context.Context, kind backend.Kind, id blob.ID) ([]byte, error) {
	if err := errors.Join(ctx.Err(), s.ask(false, "read", id)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	plain, ok := s.files[id]
	if !ok {
		return nil, fmt.Errorf("read lock: %w", backend.ErrNotExist)
	}
	if blob.Hash(plain) != id {
		return nil, fmt.Errorf("lock/%s: %w", id.Short(), repo.ErrCorrupt)
	}
	return plain, nil
}

func (s *store) SaveFile(ctx context.Context, kind backend.Kind, plain []byte) (blob.ID, error) {
	id := blob.Hash(plain)
	if err := errors.Join(ctx.Err(), s.ask(false, "save", id)); err != nil {
		return id, err
	}
	s.mu.Lock()
	s.files[id] = plain
	s.mu.Unlock()
	return id, s.ask(true, "save", id)
}

func (s *store) RemoveFile(ctx context.Context, kind backend.Kind, id blob.ID) error {
	if err := errors.Join(ctx.Err(), s.ask(false, "remove", id)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.files[id]; !ok {
		return fmt.Errorf("remove lock: %w", backend.ErrNotExist)
	}
	delete(s.files, id)
	return nil
}

// ids returns the names of the lock files.
func (s *store) ids() []blob.ID {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []blob.ID
	for id := range s.files {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, blob.ID.Compare)
	return ids
}

// put stores a lock of somebody else.
func (s *store) put(t *testing.T, info Info) blob.ID {
	t.Helper()
	plain, err := info.encode()
	if err != nil {
		t.Fatal(err)
	}
	id, err := s.SaveFile(t.Context(), backend.Lock, plain)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (s *store) wantFiles(t *testing.T, n int) {
	t.Helper()
	if ids := s.ids(); len(ids) != n {
		t.Errorf("%d lock files, want %d", len(ids), n)
	}
}

// theirs is a live lock of another host.
func theirs(exclusive bool) Info {
	return Info{Time: time.Now(), Exclusive: exclusive, Hostname: "elsewhere", Username: "alice", PID: 4711}
}

// testClient is a client whose processes all are alive since long ago.
func testClient(s Files, exclusive bool, log io.Writer) *client {
	c := newClient(s, Options{Exclusive: exclusive})
	c.started = func(int) (time.Time, bool) { return time.Time{}, true }
	if log != nil {
		c.log = slog.New(slog.NewTextHandler(log, nil))
	}
	return c
}

// mustAcquire takes a lock and releases it when the test ends.
func mustAcquire(t *testing.T, c *client) (context.Context, *Lock) {
	t.Helper()
	ctx, l, err := c.acquire(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Release() })
	return ctx, l
}

// wantLocked checks an error of Acquire.
func wantLocked(t *testing.T, err error, words ...string) *LockedError {
	t.Helper()
	var locked *LockedError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &locked) {
		t.Fatalf("error %v, want a LockedError", err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("message %q lacks %q", err, w)
		}
	}
	return locked
}
