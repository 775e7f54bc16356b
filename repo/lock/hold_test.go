package lock

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// TestMain starts the goroutine of os/signal outside of every synctest bubble.
func TestMain(m *testing.M) {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR2)
	os.Exit(m.Run())
}

// onlyLock returns the one lock in the store.
func (s *store) onlyLock(t *testing.T) Info {
	t.Helper()
	ids := s.ids()
	if len(ids) != 1 {
		t.Fatalf("%d lock files, want 1", len(ids))
	}
	plain, err := s.ReadFile(t.Context(), backend.Lock, ids[0])
	if err != nil {
		t.Fatal(err)
	}
	info, err := decode(plain)
	if err != nil {
		t.Fatal(err)
	}
	info.ID = ids[0]
	return info
}

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		ctx, l := mustAcquire(t, testClient(s, true, nil))
		seen := map[blob.ID]bool{}
		for range 120 {
			time.Sleep(time.Minute)
			synctest.Wait()
			info := s.onlyLock(t)
			if age := time.Since(info.Time); age > refreshEvery+2*lookEvery {
				t.Errorf("the lock is %v old", age)
			}
			if !info.Exclusive {
				t.Error("the lock is not exclusive any more")
			}
			seen[info.ID] = true
		}
		if len(seen) < 20 || len(seen) > 26 {
			t.Errorf("%d lock files in two hours, want 24 or so", len(seen))
		}
		if ctx.Err() != nil {
			t.Errorf("the context has ended: %v", context.Cause(ctx))
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		s.wantFiles(t, 0)
		if !errors.Is(ctx.Err(), context.Canceled) || errors.Is(context.Cause(ctx), ErrLost) {
			t.Errorf("after Release the context says %v, %v", ctx.Err(), context.Cause(ctx))
		}
		if err := l.Release(); err != nil {
			t.Errorf("second Release: %v", err)
		}
	})
}

// TestRefreshFails for a while, then for good.
func TestRefreshFails(t *testing.T) {
	for _, op := range []string{"list", "save"} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			ctx, l := mustAcquire(t, testClient(s, false, nil))
			broken := errors.New("broken")
			fail := func(call string, _ blob.ID) error {
				if call == op {
					return broken
				}
				return nil
			}
			s.spoil(fail, nil)
			time.Sleep(15 * time.Minute)
			synctest.Wait()
			s.spoil(nil, nil)
			time.Sleep(2 * refreshRetry)
			synctest.Wait()
			if ctx.Err() != nil {
				t.Fatalf("%s fails for 15 minutes: %v", op, context.Cause(ctx))
			}
			if age := time.Since(s.onlyLock(t).Time); age > 2*refreshRetry {
				t.Errorf("%s works again, the lock is %v old", op, age)
			}

			s.spoil(fail, nil)
			start := time.Now()
			<-ctx.Done()
			if d := time.Since(start); d < 20*time.Minute || d > lostAfter+time.Minute {
				t.Errorf("the lock was given up after %v", d)
			}
			if cause := context.Cause(ctx); !errors.Is(cause, ErrLost) || !errors.Is(cause, broken) {
				t.Errorf("cause %v", cause)
			}
			s.spoil(nil, nil)
			if err := l.Release(); err != nil {
				t.Error(err)
			}
			s.wantFiles(t, 0)
		})
	}
}

// TestUnknownSave: refreshes whose result is unknown leave files, which go later.
func TestUnknownSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		_, l := mustAcquire(t, testClient(s, false, nil))
		s.spoil(nil, func(op string, _ blob.ID) error {
			if op == "save" {
				return errors.New("connection lost")
			}
			return nil
		})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if len(s.ids()) < 3 {
			t.Fatalf("%d lock files", len(s.ids()))
		}
		s.spoil(nil, nil)
		time.Sleep(2 * refreshRetry)
		synctest.Wait()
		s.wantFiles(t, 1)
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		s.wantFiles(t, 0)
	})
}

// TestRemoveFails: an old file that cannot be removed is removed at the end.
func TestRemoveFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		ctx, l := mustAcquire(t, testClient(s, false, nil))
		broken := errors.New("broken")
		s.spoil(func(op string, _ blob.ID) error {
			if op == "remove" {
				return broken
			}
			return nil
		}, nil)
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		s.wantFiles(t, 3)
		if ctx.Err() != nil {
			t.Error(context.Cause(ctx))
		}
		s.spoil(nil, nil)
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		s.wantFiles(t, 0)
	})
}

func TestReleaseTellsOfFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		_, l := mustAcquire(t, testClient(s, false, nil))
		broken := errors.New("broken")
		s.spoil(func(string, blob.ID) error { return broken }, nil)
		for range 2 {
			if err := l.Release(); !errors.Is(err, broken) {
				t.Errorf("error %v", err)
			}
		}
	})
}

// TestReleaseAfterCancel: Ctrl-C leaves no lock.
func TestReleaseAfterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		parent, cancel := context.WithCancel(t.Context())
		ctx, l, err := testClient(s, false, nil).acquire(parent, 0)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		<-ctx.Done()
		s.wantFiles(t, 1)
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		s.wantFiles(t, 0)
	})
}

// TestBroken: somebody removes the lock of a client that is alive.
func TestBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		ctx, l := mustAcquire(t, testClient(s, false, nil))
		time.Sleep(time.Minute)
		if n, err := Unlock(t.Context(), s, true, nil); n.Removed != 1 || err != nil {
			t.Fatal(n, err)
		}
		s.put(t, theirs(true))
		start := time.Now()
		<-ctx.Done()
		if d := time.Since(start); d > refreshEvery || !errors.Is(context.Cause(ctx), ErrLost) {
			t.Errorf("after %v: %v", d, context.Cause(ctx))
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		s.wantFiles(t, 1)
	})
}

// TestSleep: the computer sleeps for two hours, during which no timer runs.
func TestSleep(t *testing.T) {
	for _, removed := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			c := testClient(s, false, nil)
			var skipped atomic.Int64
			c.now = func() time.Time { return time.Now().Add(time.Duration(skipped.Load())) }
			ctx, l := mustAcquire(t, c)
			time.Sleep(time.Minute)
			synctest.Wait()
			skipped.Store(int64(2 * time.Hour))
			if removed {
				Unlock(t.Context(), s, true, nil)
			}
			// Who wants to write at once, before anybody has looked at the clock, has to wait for that.
			err := l.Settled(t.Context())
			if errors.Is(err, ErrLost) != removed || (err == nil) == removed {
				t.Errorf("removed: %v; the lock says %v", removed, err)
			}
			if err == nil && c.now().Sub(s.onlyLock(t).Time) > 2*lookEvery {
				t.Error("the lock says that it holds, and is old")
			}
			time.Sleep(2 * lookEvery)
			synctest.Wait()
			if removed {
				if !errors.Is(context.Cause(ctx), ErrLost) {
					t.Errorf("the lock is gone, the context says %v", context.Cause(ctx))
				}
				return
			}
			if ctx.Err() != nil {
				t.Errorf("the lock is there, the context says %v", context.Cause(ctx))
			}
			if age := time.Now().Add(2 * time.Hour).Sub(s.onlyLock(t).Time); age > 4*lookEvery {
				t.Errorf("the lock is %v old", age)
			}
		})
	}
}
