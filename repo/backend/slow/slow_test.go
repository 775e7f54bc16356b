package slow_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/mem"
	"vitrine/repo/backend/slow"
)

func TestConformance(t *testing.T) {
	for name, limits := range map[string]slow.Limits{
		"counting":  {},
		"latency":   {Latency: time.Microsecond},
		"bandwidth": {BytesPerSecond: 8 << 30},
		"both":      {Latency: time.Microsecond, BytesPerSecond: 8 << 30},
	} {
		t.Run(name, func(t *testing.T) {
			backendtest.Run(t, func(*testing.T) backend.Backend { return slow.New(mem.New(), limits) })
		})
	}
}

// filled returns a store with one pack of so many bytes, without having waited for it.
func filled(t *testing.T, size int, limits slow.Limits) (*slow.Backend, backend.File) {
	t.Helper()
	inner := mem.New()
	content := backendtest.Content(1, size)
	f := backendtest.FileOf(backend.Pack, content)
	if err := inner.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	return slow.New(inner, limits), f
}

// took runs fn and returns how long it took.
func took(fn func()) time.Duration {
	start := time.Now()
	fn()
	return time.Since(start)
}

// near allows for rounding to nanoseconds.
func near(got, want time.Duration) bool { return (got - want).Abs() < time.Microsecond }

const (
	latency = 50 * time.Millisecond
	speed   = 1_000_000 // bytes a second
)

func TestCosts(t *testing.T) {
	const size = 500_000
	synctest.Test(t, func(t *testing.T) {
		be, f := filled(t, size, slow.Limits{Latency: latency, BytesPerSecond: speed})
		ctx := t.Context()
		other := backendtest.Content(2, 100_000)
		tests := []struct {
			name  string
			call  func() error
			bytes int64
			fails error
		}{
			{"Stat", func() error { _, err := be.Stat(ctx, f); return err }, 0, nil},
			{"ReadAt", func() error { return be.ReadAt(ctx, f, make([]byte, 200_000), 1000) }, 200_000, nil},
			{"ReadAt nothing", func() error { return be.ReadAt(ctx, f, nil, 0) }, 0, nil},
			{"ReadAt too much", func() error { return be.ReadAt(ctx, f, make([]byte, size+1), 0) }, 0, backend.ErrShort},
			{"ReadAll", func() error { _, err := be.ReadAll(ctx, f, size); return err }, size, nil},
			{"ReadAll too big", func() error { _, err := be.ReadAll(ctx, f, size-1); return err }, 0, backend.ErrTooBig},
			{"Save", func() error { return be.Save(ctx, backendtest.FileOf(backend.Index, other), other) }, 100_000, nil},
			{"List", func() error { return be.List(ctx, backend.Pack, func(backend.Info) error { return nil }) }, 64, nil},
			{"Remove", func() error { return be.Remove(ctx, f) }, 0, nil},
		}
		for _, test := range tests {
			before := be.Counts()
			var err error
			d := took(func() { err = test.call() })
			if !errors.Is(err, test.fails) {
				t.Errorf("%s: error %v, want %v", test.name, err, test.fails)
			}
			if want := latency + time.Duration(test.bytes)*time.Second/speed; !near(d, want) {
				t.Errorf("%s took %v, want %v", test.name, d, want)
			}
			after := be.Counts()
			if after.Requests-before.Requests != 1 || after.Bytes-before.Bytes != test.bytes {
				t.Errorf("%s: counts %+v after %+v, want 1 request of %d bytes", test.name, after, before, test.bytes)
			}
		}
	})
}

// TestShared lets requests begin at different times: the line is divided among those that are
// there, and is never idle while one is.
func TestShared(t *testing.T) {
	type request struct {
		begin     time.Duration
		sizeBytes int
		end       time.Duration
	}
	ms := time.Millisecond
	for name, requests := range map[string][]request{
		"alone":               {{0, 500_000, 500 * ms}},
		"equal":               {{0, 100_000, 400 * ms}, {0, 100_000, 400 * ms}, {0, 100_000, 400 * ms}, {0, 100_000, 400 * ms}},
		"small beside large":  {{0, 500_000, 510 * ms}, {0, 10_000, 20 * ms}},
		"small in the middle": {{0, 500_000, 600 * ms}, {100 * ms, 100_000, 300 * ms}},
		"one after the other": {{0, 100_000, 100 * ms}, {300 * ms, 100_000, 400 * ms}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				be, f := filled(t, 500_000, slow.Limits{BytesPerSecond: speed})
				start := time.Now()
				var wg sync.WaitGroup
				for i, r := range requests {
					wg.Go(func() {
						time.Sleep(r.begin)
						if err := be.ReadAt(t.Context(), f, make([]byte, r.sizeBytes), 0); err != nil {
							t.Error(err)
						}
						if d := time.Since(start); !near(d, r.end) {
							t.Errorf("request %d ended after %v, want %v", i, d, r.end)
						}
					})
				}
				wg.Wait()
			})
		})
	}
}

// TestLatencyOverlaps: requests wait for their first bytes side by side.
func TestLatencyOverlaps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		be, f := filled(t, 1000, slow.Limits{Latency: latency})
		d := took(func() {
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if _, err := be.Stat(t.Context(), f); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
		})
		if d != latency || be.Counts().Requests != 100 {
			t.Errorf("%v and %+v, want %v and 100 requests", d, be.Counts(), latency)
		}
	})
}

// TestCancel ends a call in its latency and one in its transfer; what the second leaves of the
// line goes to the others.
func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		be, f := filled(t, 500_000, slow.Limits{Latency: latency, BytesPerSecond: speed})
		var wg sync.WaitGroup
		for _, limit := range []time.Duration{latency / 2, latency + 100*time.Millisecond} {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				var err error
				d := took(func() { _, err = be.ReadAll(ctx, f, 500_000) })
				if !errors.Is(err, context.DeadlineExceeded) || d != limit {
					t.Errorf("ReadAll: %v after %v, want the deadline after %v", err, d, limit)
				}
			})
		}
		d := took(func() {
			if err := be.ReadAt(t.Context(), f, make([]byte, 500_000), 0); err != nil {
				t.Error(err)
			}
		})
		// It had half of the line for 100 ms.
		if want := latency + 550*time.Millisecond; !near(d, want) {
			t.Errorf("the other took %v, want %v", d, want)
		}
		wg.Wait()
		if got := be.Counts().Bytes; got != 500_000 {
			t.Errorf("%d bytes were counted, want those of the request that ended", got)
		}
	})
}

// TestCancelledSave writes nothing.
func TestCancelledSave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		be, _ := filled(t, 10, slow.Limits{BytesPerSecond: speed})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		content := backendtest.Content(3, 100_000)
		f := backendtest.FileOf(backend.Pack, content)
		if err := be.Save(ctx, f, content); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Save: %v", err)
		}
		if _, err := be.Stat(t.Context(), f); !errors.Is(err, backend.ErrNotExist) {
			t.Errorf("Stat after a cancelled Save: %v", err)
		}
	})
}
