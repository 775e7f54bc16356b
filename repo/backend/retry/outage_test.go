package retry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/backend/retry"
)

// TestWarnsOfEachOutage: each time that the store is away is told of once, also when all calls of the one before were
// given up, so that none has succeeded after a failure.
func TestWarnsOfEachOutage(t *testing.T) {
	f := backendtest.FileOf(backend.Pack, []byte("x"))
	for name, ends := range map[string]func(t *testing.T, be backend.Backend) error{
		"success": func(t *testing.T, be backend.Backend) error { return be.ReadAt(t.Context(), f, make([]byte, 1), 0) },
		"missing": func(t *testing.T, be backend.Backend) error {
			if _, err := be.Stat(t.Context(), backend.File{}); !errors.Is(err, backend.ErrNotExist) {
				return err
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner := mem.New()
				if err := inner.Save(t.Context(), f, []byte("x")); err != nil {
					t.Fatal(err)
				}
				away := false
				flaky := fault.New(inner, func(fault.Call) fault.Fault {
					if away {
						return fault.Fault{Mode: fault.Before}
					}
					return fault.Fault{}
				})
				var log bytes.Buffer
				be := retry.New(flaky, retry.Options{Total: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil))})
				for outage := 1; outage <= 3; outage++ {
					away = false
					if err := ends(t, be); err != nil {
						t.Fatal(err)
					}
					away = true
					for range 2 { // the second call has nothing new to tell
						if err := be.ReadAt(t.Context(), f, make([]byte, 1), 0); !errors.Is(err, fault.ErrInjected) {
							t.Error(err)
						}
					}
					if n := strings.Count(log.String(), "trying on until"); n != outage {
						t.Errorf("%d warnings of %d outages", n, outage)
					}
					if n := strings.Count(log.String(), `level=WARN msg="the repository answers again, after 2m0s"`); n != outage-1 {
						t.Errorf("the end of %d outages is told %d times:\n%s", outage-1, n, log.String())
					}
				}
			})
		})
	}
}

// TestShortOutage: one that lasts a little longer than ten seconds is told of, though no try fails between these and its
// end, and so is its end; one that is shorter is not.
func TestShortOutage(t *testing.T) {
	for _, c := range []struct {
		lasts time.Duration
		fails error
		calls int
		want  []string
	}{
		{lasts: 3500 * time.Millisecond, calls: 1},
		{lasts: 3500 * time.Millisecond, calls: 20},
		{lasts: 10*time.Second + 10*time.Millisecond, calls: 1, want: []string{"the repository does not answer; trying on until ", "the repository answers again, after "}},
		{lasts: 12 * time.Second, calls: 20, want: []string{"the repository does not answer; trying on until ", "the repository answers again, after "}},
		{lasts: 40 * time.Second, calls: 20, fails: backend.ErrFails, want: []string{"the server of the repository answers, but fails; trying", "the server of the repository does its work again, after 4"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			time.Sleep(time.Second)
			began := time.Now()
			away := false
			flaky := fault.New(mem.New(), func(fault.Call) fault.Fault {
				if away && time.Since(began) < c.lasts {
					return fault.Fault{Mode: fault.Before, Err: c.fails}
				}
				return fault.Fault{}
			})
			var log bytes.Buffer
			be := retry.New(flaky, retry.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))})
			be.Stat(t.Context(), backend.File{})
			away = true
			var calls sync.WaitGroup
			for range c.calls {
				calls.Go(func() {
					if _, err := be.Stat(t.Context(), backend.File{}); !errors.Is(err, backend.ErrNotExist) {
						t.Error(err)
					}
				})
			}
			calls.Wait()
			lines := strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
			if log.Len() == 0 {
				lines = nil
			}
			if len(lines) != len(c.want) {
				t.Fatalf("an outage of %v, %d calls:\n%s", c.lasts, c.calls, log.String())
			}
			for i, want := range c.want {
				if !strings.Contains(lines[i], `level=WARN msg="`+want) {
					t.Errorf("an outage of %v, %d calls: line %q, want %q", c.lasts, c.calls, lines[i], want)
				}
			}
		})
	}
}

// TestCallFailsAlone: where others are answered, it is the call that failed which tells that it works again.
func TestCallFailsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		flaky := fault.New(mem.New(), func(c fault.Call) fault.Fault {
			if c.Op == fault.Save && time.Since(began) < time.Minute {
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
		if err := be.Save(t.Context(), backendtest.FileOf(backend.Pack, nil), nil); err != nil {
			t.Error(err)
		}
		cancel()
		<-done
		if n := strings.Count(log.String(), "again, after"); n != 1 || !strings.Contains(log.String(), "the repository answers again, after 1m") {
			t.Errorf("the end is told %d times:\n%s", n, log.String())
		}
	})
}
