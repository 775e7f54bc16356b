package retry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/backend/retry"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend { return retry.New(mem.New(), retry.Options{}) })
}

// TestConformanceWithFaults spoils every third call.
func TestConformanceWithFaults(t *testing.T) {
	for _, mode := range []fault.Mode{fault.Before, fault.After} {
		t.Run(mode.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				inner := fault.New(mem.New(), func(c fault.Call) fault.Fault {
					if c.N%3 == 0 {
						return fault.Fault{Mode: mode}
					}
					return fault.Fault{}
				})
				be := retry.New(inner, retry.Options{})
				content := backendtest.Content(1, 1000)
				for _, kind := range backend.Kinds {
					f := backendtest.FileOf(kind, content)
					p := make([]byte, 10)
					errSave := be.Save(ctx, f, content)
					errRead := be.ReadAt(ctx, f, p, 5)
					all, errAll := be.ReadAll(ctx, f, 1000)
					info, errStat := be.Stat(ctx, f)
					n := 0
					errList := be.List(ctx, kind, func(backend.Info) error { n++; return nil })
					errRemove := be.Remove(ctx, f)
					if err := errors.Join(errSave, errRead, errAll, errStat, errList, errRemove); err != nil {
						t.Errorf("%v: %v", kind, err)
					}
					if !bytes.Equal(p, content[5:15]) || !bytes.Equal(all, content) || info.SizeBytes != 1000 || n != 1 {
						t.Errorf("%v: wrong content, size %d or %d listed", kind, info.SizeBytes, n)
					}
					if _, err := be.Stat(ctx, f); !errors.Is(err, backend.ErrNotExist) {
						t.Errorf("%v: Stat after Remove: %v", kind, err)
					}
				}
			})
		})
	}
}

func TestListTellsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := mem.New()
		for i := range 10 {
			content := backendtest.Content(uint64(i), 10)
			if err := inner.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content); err != nil {
				t.Fatal(err)
			}
		}
		flaky := fault.New(inner, func(c fault.Call) fault.Fault {
			if c.N < 3 {
				return fault.Fault{Mode: fault.Short}
			}
			return fault.Fault{}
		})
		seen := map[string]int{}
		err := retry.New(flaky, retry.Options{}).List(t.Context(), backend.Pack, func(info backend.Info) error {
			seen[info.Name]++
			return nil
		})
		if err != nil || len(seen) != 10 || flaky.Calls() != 4 {
			t.Errorf("%d names in %d calls, %v", len(seen), flaky.Calls(), err)
		}
		for name, n := range seen {
			if n != 1 {
				t.Errorf("%s was told %d times", name, n)
			}
		}
	})
}

// inOrder lists in the order of names, and so many at a time before it fails.
type inOrder struct {
	backend.Backend
	reverse bool // the opposite order; it fails once only
	atOnce  int
	listed  int
}

func (o *inOrder) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	var infos []backend.Info
	err := o.Backend.List(ctx, kind, func(info backend.Info) error {
		if info.Name > backend.After(ctx) {
			infos = append(infos, info)
		}
		return nil
	})
	slices.SortFunc(infos, func(a, b backend.Info) int { return strings.Compare(a.Name, b.Name) })
	if o.reverse {
		slices.Reverse(infos)
	}
	for i, info := range infos {
		if i == o.atOnce {
			if o.reverse {
				o.atOnce = len(infos)
			}
			return errors.New("503 slow down")
		}
		o.listed++
		if err := fn(info); err != nil {
			return err
		}
	}
	return err
}

// TestListGoesOn: a listing of any length ends although a request in so many fails, and each name comes once; the
// end of one that is not in the order of names is not taken for how far it was.
func TestListGoesOn(t *testing.T) {
	const files, atOnce = 100, 10
	for _, reverse := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			inner := &inOrder{Backend: mem.New(), reverse: reverse, atOnce: atOnce}
			for i := range files {
				content := backendtest.Content(uint64(i), 10)
				if err := inner.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content); err != nil {
					t.Fatal(err)
				}
			}
			seen := map[string]int{}
			be := retry.New(inner, retry.Options{})
			be.Stat(t.Context(), backend.File{}) // an answer, as Open has had
			err := be.List(t.Context(), backend.Pack, func(info backend.Info) error {
				seen[info.Name]++
				return nil
			})
			if err != nil || len(seen) != files {
				t.Errorf("reverse %v: %d names, %v", reverse, len(seen), err)
			}
			for name, n := range seen {
				if n != 1 {
					t.Errorf("reverse %v: %s was told %d times", reverse, name, n)
				}
			}
			if want := map[bool]int{false: files, true: atOnce + files}[reverse]; inner.listed != want {
				t.Errorf("reverse %v: %d names were listed, want %d", reverse, inner.listed, want)
			}
		})
	}
}

// An error of fn is the caller's, whatever it looks like.
func TestListErrorOfFn(t *testing.T) {
	inner := mem.New()
	if err := inner.Save(t.Context(), backendtest.FileOf(backend.Pack, nil), nil); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("503 stop")
	calls := 0
	err := retry.New(inner, retry.Options{}).List(t.Context(), backend.Pack, func(backend.Info) error { calls++; return stop })
	if err != stop || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}

// A config that somebody else wrote while ours failed is not ours.
func TestForeignConfig(t *testing.T) {
	for stored, class := range map[string]error{"ours": nil, "xxxx": backend.ErrExist, "theirs is longer": backend.ErrExist} {
		synctest.Test(t, func(t *testing.T) {
			inner := mem.New()
			config := backend.File{Kind: backend.Config}
			flaky := fault.New(inner, func(c fault.Call) fault.Fault {
				if c.N == 0 {
					if err := inner.Save(t.Context(), config, []byte(stored)); err != nil {
						t.Error(err)
					}
					return fault.Fault{Mode: fault.Before}
				}
				return fault.Fault{}
			})
			if err := retry.New(flaky, retry.Options{}).Save(t.Context(), config, []byte("ours")); !errors.Is(err, class) {
				t.Errorf("%s is stored: %v, want %v", stored, err, class)
			}
		})
	}
}

func TestPermanentErrorsEndAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flaky := fault.New(mem.New(), func(fault.Call) fault.Fault { return fault.Fault{Mode: fault.Before, Err: backend.ErrDenied} })
		began := time.Now()
		_, err := retry.New(flaky, retry.Options{}).Stat(t.Context(), backend.File{})
		if !errors.Is(err, backend.ErrDenied) || flaky.Calls() != 1 || time.Since(began) != 0 {
			t.Errorf("%v after %d calls and %v", err, flaky.Calls(), time.Since(began))
		}
	})
}

// TestGivesUp looks at the pauses of a store that never answers, and at what is said about it.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var times []time.Duration
		began := time.Now()
		flaky := fault.New(mem.New(), func(c fault.Call) fault.Fault {
			if c.N == 0 {
				return fault.Fault{} // the store is there at first
			}
			times = append(times, time.Since(began))
			return fault.Fault{Mode: fault.Before}
		})
		var log bytes.Buffer
		const total = 5 * time.Minute
		be := retry.New(flaky, retry.Options{Total: total, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if _, err := be.Stat(t.Context(), backend.File{}); !errors.Is(err, backend.ErrNotExist) {
			t.Errorf("first Stat: %v", err)
		}
		_, err := be.Stat(t.Context(), backend.File{})
		if !errors.Is(err, fault.ErrInjected) || !errors.Is(err, backend.ErrAway) || !strings.Contains(err.Error(), "given up after") {
			t.Errorf("Stat: %v", err)
		}
		if d := time.Since(began); d != total {
			t.Errorf("gave up after %v, want %v", d, total)
		}
		low, high := 250*time.Millisecond, 500*time.Millisecond
		for i := 1; i < len(times); i++ {
			if d := times[i] - times[i-1]; d < low && i < len(times)-1 || d > high {
				t.Errorf("pause %d is %v, want %v to %v", i, d, low, high)
			}
			low, high = min(2*low, 15*time.Second), min(2*high, 30*time.Second)
		}
		if n := strings.Count(log.String(), "level=INFO"); n != len(times)-1 {
			t.Errorf("%d notes for %d tries", n, len(times))
		}
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings, want 1:\n%s", n, log.String())
		}
	})
}

// A call that goes on failing while others succeed is told of once.
func TestWarnsOfACallOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flaky := fault.New(mem.New(), func(c fault.Call) fault.Fault {
			if c.Op == fault.Save {
				return fault.Fault{Mode: fault.Before}
			}
			return fault.Fault{}
		})
		var log bytes.Buffer
		be := retry.New(flaky, retry.Options{Total: 5 * time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			for ctx.Err() == nil {
				be.Stat(ctx, backend.File{})
				time.Sleep(time.Second)
			}
		}()
		if err := be.Save(t.Context(), backendtest.FileOf(backend.Pack, nil), nil); !errors.Is(err, fault.ErrInjected) {
			t.Error(err)
		}
		cancel()
		<-done
		if n := strings.Count(log.String(), "level=WARN"); n != 1 {
			t.Errorf("%d warnings, want 1:\n%s", n, log.String())
		}
	})
}

// TestFirstContact: what has never answered is given up sooner than what has, and a host that does not
// exist soonest; in a long run its name is waited for like everything else.
func TestFirstContact(t *testing.T) {
	noHost := fmt.Errorf("%w: nosuch.invalid", backend.ErrNoHost)
	refused := errors.New("connection refused")
	for _, c := range []struct {
		name     string
		answers  int // before the trouble
		err      error
		total    time.Duration
		tried    time.Duration
		minTries int
		maxTries int
	}{
		{"no host", 0, noHost, 0, 10 * time.Second, 4, 9},
		{"no server", 0, fmt.Errorf("%w: it ended", backend.ErrNoServer), 0, 10 * time.Second, 4, 9},
		{"refused", 0, refused, 0, time.Minute, 6, 20},
		{"refused, little patience", 0, refused, 5 * time.Second, 5 * time.Second, 3, 9},
		{"no host later", 1, noHost, 0, 15 * time.Minute, 30, 100},
		{"refused later", 1, refused, 0, 15 * time.Minute, 30, 100},
	} {
		synctest.Test(t, func(t *testing.T) {
			flaky := fault.New(mem.New(), func(call fault.Call) fault.Fault {
				if int(call.N) < c.answers {
					return fault.Fault{}
				}
				return fault.Fault{Mode: fault.Before, Err: c.err}
			})
			be := retry.New(flaky, retry.Options{Total: c.total})
			for range c.answers {
				if _, err := be.Stat(t.Context(), backend.File{}); !errors.Is(err, backend.ErrNotExist) {
					t.Errorf("%s: the answer is %v", c.name, err)
				}
			}
			began := time.Now()
			_, err := be.Stat(t.Context(), backend.File{})
			if !errors.Is(err, c.err) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s: %v, want %v in one line", c.name, err, c.err)
			}
			if d := time.Since(began); d != c.tried {
				t.Errorf("%s: given up after %v, want %v", c.name, d, c.tried)
			}
			if n := int(flaky.Calls()) - c.answers; n < c.minTries || n > c.maxTries {
				t.Errorf("%s: %d tries, want %d to %d", c.name, n, c.minTries, c.maxTries)
			}
		})
	}
}

// TestServerFails: a server that answers with an error is not said to be silent.
func TestServerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := fmt.Errorf("%w: 500", backend.ErrFails)
		flaky := fault.New(mem.New(), func(fault.Call) fault.Fault { return fault.Fault{Mode: fault.Before, Err: failed} })
		var log bytes.Buffer
		_, err := retry.New(flaky, retry.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}).Stat(t.Context(), backend.File{})
		if !errors.Is(err, backend.ErrFails) || !strings.Contains(log.String(), "answers, but fails; trying on until") || strings.Contains(log.String(), "does not answer") {
			t.Errorf("%v; the log:\n%s", err, log.String())
		}
	})
}

// TestWaiting: who waits for a store that is away is counted, and since when there is somebody.
func TestWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waiting retry.Waiting
		var away atomic.Bool
		away.Store(true)
		flaky := fault.New(mem.New(), func(fault.Call) fault.Fault {
			if away.Load() {
				return fault.Fault{Mode: fault.Before}
			}
			return fault.Fault{}
		})
		be := retry.New(flaky, retry.Options{Waiting: &waiting})
		want := func(calls int, since time.Time) {
			t.Helper()
			if n, at := waiting.Calls(); n != calls || !at.Equal(since) {
				t.Errorf("%d calls wait since %v, want %d since %v", n, at, calls, since)
			}
		}
		want(0, time.Time{})
		began := time.Now()
		var calls sync.WaitGroup
		for range 3 {
			calls.Go(func() { be.Stat(t.Context(), backend.File{}) })
			time.Sleep(5 * time.Second)
		}
		want(3, began)
		away.Store(false)
		calls.Wait()
		want(0, time.Time{})
		if _, err := be.Stat(t.Context(), backend.File{Kind: backend.Pack}); err == nil {
			t.Error("there is such a file")
		}
		want(0, time.Time{})
	})
}

func TestContextEndsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		flaky := fault.New(mem.New(), fault.From(0, fault.Before))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		_, err := retry.New(flaky, retry.Options{}).Stat(ctx, backend.File{})
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != 10*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// What a call that fails late has used up before counts for nothing.
func TestTotalBeginsWithTheTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		err := retry.Do(t.Context(), retry.Options{Total: time.Minute}, func() error {
			if tries++; tries == 1 {
				time.Sleep(time.Hour)
				return errors.New("reset")
			}
			return nil
		})
		if err != nil || tries != 2 {
			t.Errorf("%d tries after a long one: %v", tries, err)
		}
	})
}

// hanging is a store whose calls answer once and then take a while to fail, or until their context ends.
type hanging struct {
	backend.Backend
	takes time.Duration
	calls int
}

func (h *hanging) Stat(ctx context.Context, f backend.File) (backend.Info, error) {
	if h.calls++; h.calls == 1 {
		return h.Backend.Stat(ctx, f)
	}
	select {
	case <-time.After(h.takes):
		return backend.Info{}, errors.New("no byte has moved")
	case <-ctx.Done():
		return backend.Info{}, fmt.Errorf("stat: %w", ctx.Err())
	}
}

// TestStrict: with a promise the last try ends with the time, however long it would take, and that is not taken for
// the caller's own end of patience. What fails at once is tried until shortly before.
func TestStrict(t *testing.T) {
	const total = 20 * time.Second
	for _, takes := range []time.Duration{0, time.Second, 7 * time.Second, total - 1, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			be := retry.New(&hanging{Backend: mem.New(), takes: takes}, retry.Options{Total: total, Strict: true})
			be.Stat(t.Context(), backend.File{})
			began := time.Now()
			_, err := be.Stat(t.Context(), backend.File{})
			if err == nil || errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no byte has moved") || !strings.Contains(err.Error(), "given up after") {
				t.Errorf("calls that take %v: %v", takes, err)
			}
			if d := time.Since(began) - takes; d > total || d < total-time.Second { // counted from the first failure
				t.Errorf("calls that take %v: given up %v after the first failure, want %v", takes, d, total)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		be := retry.New(&hanging{Backend: mem.New(), takes: time.Second}, retry.Options{Total: total, Strict: true})
		be.Stat(t.Context(), backend.File{})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if _, err := be.Stat(ctx, backend.File{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a caller without patience: %v", err)
		}
	})
}
