package retry_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
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
		flaky := fault.New(mem.New(), func(fault.Call) fault.Fault {
			times = append(times, time.Since(began))
			return fault.Fault{Mode: fault.Before}
		})
		var log bytes.Buffer
		const total = 5 * time.Minute
		be := retry.New(flaky, retry.Options{Total: total, Log: slog.New(slog.NewTextHandler(&log, nil))})
		_, err := be.Stat(t.Context(), backend.File{})
		if !errors.Is(err, fault.ErrInjected) || !strings.Contains(err.Error(), "given up after") {
			t.Errorf("Stat: %v", err)
		}
		if d := time.Since(began); d > total || d < total-30*time.Second {
			t.Errorf("gave up after %v, want at most %v", d, total)
		}
		low, high := 250*time.Millisecond, 500*time.Millisecond
		for i := 1; i < len(times); i++ {
			if d := times[i] - times[i-1]; d < low || d > high {
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
