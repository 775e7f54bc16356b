package lock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

func TestConflicts(t *testing.T) {
	for _, test := range []struct{ held, wanted, conflict bool }{
		{false, false, false}, {false, true, true}, {true, false, true}, {true, true, true},
	} {
		t.Run(fmt.Sprintf("exclusive %v then %v", test.held, test.wanted), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				_, held := mustAcquire(t, testClient(s, test.held, nil))
				_, l, err := testClient(s, test.wanted, nil).acquire(t.Context(), 0)
				if !test.conflict {
					if err != nil {
						t.Fatal(err)
					}
					s.wantFiles(t, 2)
					if err := l.Release(); err != nil {
						t.Error(err)
					}
					return
				}
				wantLocked(t, err, "--retry-lock")
				s.wantFiles(t, 1)
				if err := held.Release(); err != nil {
					t.Fatal(err)
				}
				mustAcquire(t, testClient(s, test.wanted, nil))
			})
		})
	}
}

func TestMessage(t *testing.T) {
	now := time.Now()
	held := Info{Time: now.Add(-200 * time.Second), Exclusive: true, Hostname: "nas", Username: "bob", PID: 12}
	tests := []struct {
		e     LockedError
		words []string
	}{
		{LockedError{Holder: held, Age: 200 * time.Second},
			[]string{"repository is already locked exclusively by bob@nas (pid 12) since " + held.Time.Format(time.DateTime) + ", 3m20s ago", "--retry-lock"}},
		{LockedError{Holder: held, Age: 200 * time.Second, Waited: time.Minute}, []string{"; --retry-lock has waited for 1m0s in vain"}},
		{LockedError{Holder: held, Age: time.Hour, Stale: true}, []string{"1h0m0s ago", "seems to be gone", "`vitrine unlock`"}},
		{LockedError{Holder: Info{ID: blob.Hash(nil)}, Damaged: errors.New("bad MAC")}, []string{"cannot be read", "bad MAC", "`vitrine unlock --remove-all`"}},
	}
	for _, test := range tests {
		wantLocked(t, fmt.Errorf("wrapped: %w", &test.e), test.words...)
	}
}

// TestNamedHolder: of several locks in the way, the one that is surely alive is named.
func TestNamedHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		s.files[blob.ID{1}] = []byte("damaged")
		old := theirs(true)
		old.Time = time.Now().Add(-time.Hour)
		old.Username = "old"
		c := testClient(s, true, nil)
		_, _, err := c.acquire(t.Context(), 0)
		wantLocked(t, err, "cannot be read")
		s.put(t, old)
		_, _, err = c.acquire(t.Context(), 0)
		wantLocked(t, err, "old@", "seems to be gone")
		s.put(t, theirs(false))
		_, _, err = c.acquire(t.Context(), 0)
		wantLocked(t, err, "alice@elsewhere", "--retry-lock")
	})
}

// TestLateComer: a lock that appears while Acquire waits is seen, and our own is removed.
func TestLateComer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		go func() {
			time.Sleep(settleTime / 2)
			s.put(t, theirs(true))
		}()
		_, _, err := testClient(s, false, nil).acquire(t.Context(), 0)
		wantLocked(t, err, "alice@elsewhere")
		s.wantFiles(t, 1)
	})
}

// TestRace lets exclusive clients come at the same moment: never two hold the lock, and with
// retries each gets it.
func TestRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		var holders, turns atomic.Int32
		var group sync.WaitGroup
		for pid := range 5 {
			group.Go(func() {
				c := testClient(s, true, nil)
				c.self.PID = 1 + pid // this store names a file by its plain text, and they come at the same nanosecond
				_, l, err := c.acquire(t.Context(), time.Hour)
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d clients hold the lock", n)
				}
				time.Sleep(10 * time.Second)
				holders.Add(-1)
				turns.Add(1)
				if err := l.Release(); err != nil {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if turns.Load() != 5 {
			t.Errorf("%d of 5 clients had their turn", turns.Load())
		}
		s.wantFiles(t, 0)
	})
}

func TestRetry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		var log bytes.Buffer
		id := s.put(t, theirs(true))
		start := time.Now()
		_, _, err := testClient(s, false, &log).acquire(t.Context(), 20*time.Second)
		wantLocked(t, err, "alice@elsewhere")
		if d := time.Since(start); d < 20*time.Second || d > 21*time.Second {
			t.Errorf("it was tried for %v, want 20s", d)
		}
		if strings.Contains(log.String(), "let --retry-lock wait") {
			t.Errorf("who waits is told to:\n%s", log.String())
		}
		if n := strings.Count(log.String(), "waiting for a lock"); n != 1 {
			t.Errorf("the log tells %d times of the wait", n)
		}
		go func() {
			time.Sleep(30 * time.Second)
			s.RemoveFile(t.Context(), backend.Lock, id)
		}()
		start = time.Now()
		_, l, err := testClient(s, false, nil).acquire(t.Context(), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Release()
		if d := time.Since(start); d < 30*time.Second || d > 2*time.Minute {
			t.Errorf("the lock was had after %v, it was free after 30s", d)
		}
	})
}

// TestCancelWhileAcquiring ends the context at several moments: no lock stays.
func TestCancelWhileAcquiring(t *testing.T) {
	for _, after := range []time.Duration{0, settleTime / 2} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			ctx, cancel := context.WithCancel(t.Context())
			if after == 0 {
				cancel()
			}
			go func() {
				time.Sleep(after)
				cancel()
			}()
			_, _, err := testClient(s, false, nil).acquire(ctx, time.Hour)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("error %v", err)
			}
			s.wantFiles(t, 0)
		})
	}
}

// TestFaultsWhileAcquiring fails each call: the error is told, and no lock stays.
func TestFaultsWhileAcquiring(t *testing.T) {
	broken := errors.New("broken")
	for _, op := range []string{"list", "save"} {
		for _, late := range []bool{false, true} {
			for nth := range 2 {
				synctest.Test(t, func(t *testing.T) {
					s := newStore()
					n := 0
					fail := func(call string, _ blob.ID) error {
						if call == op {
							n++
							if n == nth+1 {
								return broken
							}
						}
						return nil
					}
					if late {
						s.spoil(nil, fail)
					} else {
						s.spoil(fail, nil)
					}
					_, l, err := testClient(s, false, nil).acquire(t.Context(), 0)
					if op == "save" && nth == 1 { // there is no second Save
						if err != nil {
							t.Fatal(err)
						}
						l.Release()
						return
					}
					if !errors.Is(err, broken) || errors.Is(err, ErrLocked) {
						t.Errorf("%s %d fails: %v", op, nth, err)
					}
					s.wantFiles(t, 0)
				})
			}
		}
	}
}

func TestReadOnlyStore(t *testing.T) {
	s := newStore()
	for _, class := range []error{backend.ErrReadOnly, syscall.EACCES} {
		s.spoil(func(op string, _ blob.ID) error {
			switch op {
			case "save":
				return class
			case "remove":
				t.Error("a lock is taken back that cannot be there")
			}
			return nil
		}, nil)
		_, _, err := testClient(s, false, nil).acquire(t.Context(), 0)
		if !errors.Is(err, class) || !strings.Contains(err.Error(), "--no-lock") {
			t.Errorf("error %v, want %v and the advice", err, class)
		}
	}
}

func TestOddLockFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		s.files[blob.ID{1}] = nil // an upload that was interrupted
		_, l := mustAcquire(t, testClient(s, true, nil))
		l.Release()
		for _, plain := range []string{"{", `{"pid":"x"}`, `{"pid":1}`, `[]`} {
			id, err := s.SaveFile(t.Context(), backend.Lock, []byte(plain))
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = testClient(s, false, nil).acquire(t.Context(), 0)
			if e := wantLocked(t, err, "cannot be read", "lock/"+id.Short()); e.Holder.ID != id || e.Damaged == nil {
				t.Errorf("%q: %+v", plain, e)
			}
			if err := s.RemoveFile(t.Context(), backend.Lock, id); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestVanished: a lock that is refreshed between the listing and the reading is still seen.
func TestVanished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		old := s.put(t, theirs(true))
		once := false
		s.spoil(func(op string, id blob.ID) error {
			if op == "read" && id == old && !once {
				once = true
				s.spoil(nil, nil)
				time.Sleep(time.Second)
				s.put(t, theirs(true))
				s.RemoveFile(t.Context(), backend.Lock, old)
			}
			return nil
		}, nil)
		_, _, err := testClient(s, false, nil).acquire(t.Context(), 0)
		wantLocked(t, err, "alice@elsewhere")
		if !once {
			t.Error("nothing vanished")
		}

		// One that is gone for good is no conflict.
		s = newStore()
		gone := s.put(t, theirs(true))
		s.spoil(func(op string, id blob.ID) error {
			if op == "read" && id == gone {
				s.spoil(nil, nil)
				s.RemoveFile(t.Context(), backend.Lock, gone)
			}
			return nil
		}, nil)
		mustAcquire(t, testClient(s, true, nil))
	})
}

// TestGhost: a lock that is listed for ever and is never there does not count, but one that comes in its place does.
func TestGhost(t *testing.T) {
	for _, exclusive := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			ghost := s.put(t, theirs(true))
			readings := 0
			s.spoil(func(op string, id blob.ID) error {
				if op == "read" && id == ghost {
					if readings++; readings == ghostReadings/2 && exclusive {
						s.put(t, theirs(true))
					}
					return backend.ErrNotExist
				}
				return nil
			}, nil)
			began := time.Now()
			_, l, err := testClient(s, false, nil).acquire(t.Context(), 0)
			if took := time.Since(began); took < 2*time.Second || took > 20*time.Second || readings < ghostReadings {
				t.Errorf("%d readings in %v", readings, took)
			}
			if exclusive {
				wantLocked(t, err, "alice@elsewhere")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			l.Release()
		})
	}
}

func TestUnlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		self := identity()
		lockOf := func(age time.Duration, host string, pid int) Info {
			return Info{Time: time.Now().Add(-age), Hostname: host, Username: "u", PID: pid}
		}
		const dead, reused = 7, 8
		s := newStore()
		stay := map[blob.ID]string{
			s.put(t, lockOf(29*time.Minute, "elsewhere", 1)):  "another host, young enough",
			s.put(t, lockOf(time.Minute, self.Hostname, 1)):   "alive here",
			s.put(t, lockOf(time.Minute, "elsewhere", dead)):  "another host, a number that is free here",
			s.put(t, lockOf(-time.Hour, "elsewhere", 1)):      "from the future",
			s.put(t, lockOf(2*time.Minute, self.Hostname, 0)): "without a process",
			{9}: "damaged",
		}
		s.put(t, lockOf(31*time.Minute, "elsewhere", 1))
		s.put(t, lockOf(31*time.Minute, self.Hostname, 1))
		s.put(t, lockOf(time.Minute, self.Hostname, dead))
		s.put(t, lockOf(10*time.Minute, self.Hostname, reused))
		s.files[blob.ID{9}] = []byte("damaged")

		var log bytes.Buffer
		c := testClient(s, false, &log)
		c.started = func(pid int) (time.Time, bool) {
			switch pid {
			case dead:
				return time.Time{}, false
			case reused:
				return time.Now().Add(-5 * time.Minute), true
			}
			return time.Now().Add(-time.Hour), true
		}
		empty := blob.ID{10}
		s.files[empty], stay[empty] = nil, "empty"
		want := Unlocked{Removed: 4, AtWork: 5, Unreadable: 1, Empty: 1}
		if u, err := c.unlock(t.Context(), false); err != nil || u != want {
			t.Errorf("%+v, %v, want %+v", u, err, want)
		}
		for _, id := range s.ids() {
			if stay[id] == "" {
				t.Errorf("stale lock %s is left", id.Short())
			}
			delete(stay, id)
		}
		for _, what := range stay {
			t.Errorf("the lock %q was removed", what)
		}
		if !strings.Contains(log.String(), "--remove-all") {
			t.Errorf("the log does not tell of the damaged lock: %s", &log)
		}

		broken := errors.New("broken")
		s.spoil(func(op string, id blob.ID) error {
			if op == "remove" && id == (blob.ID{9}) {
				return broken
			}
			return nil
		}, nil)
		if u, err := c.unlock(t.Context(), true); !errors.Is(err, broken) || u != (Unlocked{Removed: 6}) {
			t.Errorf("%+v, %v, want 6 removed and an error", u, err)
		}
		s.spoil(nil, nil)
		if u, err := Unlock(t.Context(), s, true, nil); err != nil || u != (Unlocked{Removed: 1}) {
			t.Errorf("%+v, %v, want 1 removed", u, err)
		}
		s.wantFiles(t, 0)
	})
}

// What is listed after the work, only to tell of it, may fail.
func TestUnlockTold(t *testing.T) {
	for _, all := range []bool{false, true} {
		s := newStore()
		stale := theirs(true)
		stale.Time = time.Now().Add(-24 * time.Hour)
		plain, err := stale.encode()
		if err != nil {
			t.Fatal(err)
		}
		s.files[blob.Hash(plain)] = plain
		lists := 0
		s.spoil(func(op string, _ blob.ID) error {
			if op == "list" {
				lists++
			}
			if lists > 1 {
				return errors.New("broken")
			}
			return nil
		}, nil)
		var log strings.Builder
		u, err := Unlock(t.Context(), s, all, slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn})))
		if err != nil || u != (Unlocked{Removed: 1}) || lists != 2 || log.Len() > 0 {
			t.Errorf("all %t: %+v, %v after %d listings, logged %q", all, u, err, lists, log.String())
		}
		s.spoil(nil, nil)
		s.wantFiles(t, 0)
	}
}

// TestEarly: the holder works while the second look is still to come, and is told what that finds.
func TestEarly(t *testing.T) {
	tests := []struct {
		name     string
		saveTime time.Duration // what writing the lock file takes
		other    time.Duration // when an exclusive lock appears; 0 for never
		broken   time.Duration // when listing begins to fail; 0 for never
		early    bool
		conflict bool
	}{
		{name: "alone", early: true},
		{name: "slow store", saveTime: settleTime / 2},
		{name: "conflict", other: settleTime / 2, early: true, conflict: true},
		{name: "slow store and conflict", saveTime: settleTime / 2, other: settleTime, conflict: true},
		{name: "broken store", broken: settleTime / 2, early: true},
		{name: "slow and broken store", saveTime: settleTime / 2, broken: settleTime},
	}
	broken := errors.New("broken")
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				began := time.Now()
				s.spoil(func(op string, _ blob.ID) error {
					switch {
					case op == "save":
						time.Sleep(test.saveTime)
					case op == "list" && test.broken > 0 && time.Since(began) >= test.broken:
						return broken
					}
					return nil
				}, nil)
				others := 0
				if test.other > 0 {
					others = 1
					time.AfterFunc(test.other, func() {
						plain, err := theirs(true).encode()
						if err != nil {
							t.Error(err)
						}
						s.mu.Lock()
						defer s.mu.Unlock()
						s.files[blob.Hash(plain)] = plain
					})
				}
				ctx, l, err := testClient(s, false, nil).acquireEarly(t.Context())
				if !test.early {
					if took := time.Since(began); took < settleTime {
						t.Errorf("it took %v only", took)
					}
				} else {
					if err != nil {
						t.Fatal(err)
					}
					if took := time.Since(began); took >= settleTime/2 {
						t.Errorf("it took %v", took)
					}
					err = l.Settled(t.Context())
					if err != nil && !errors.Is(context.Cause(ctx), err) {
						t.Errorf("the context ended with %v", context.Cause(ctx))
					}
				}
				switch {
				case test.conflict:
					wantLocked(t, err, "alice@elsewhere")
				case test.broken > 0:
					if !errors.Is(err, broken) {
						t.Errorf("error %v", err)
					}
				case err != nil:
					t.Error(err)
				case ctx.Err() != nil:
					t.Error("the context has ended")
				}
				if l != nil {
					if err := l.Release(); err != nil {
						t.Error(err)
					}
				}
				s.wantFiles(t, others)
			})
		})
	}
}

// TestEarlyRelease: a lock may be released before the second look.
func TestEarlyRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		_, l, err := testClient(s, false, nil).acquireEarly(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		if err := l.Settled(t.Context()); !errors.Is(err, context.Canceled) {
			t.Errorf("settled: %v", err)
		}
		s.wantFiles(t, 0)
	})
}
