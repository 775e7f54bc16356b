package retry_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/backend/retry"
)

// TestBack: when a store that was away answers one call, with what is asked for or with a no, the others do not sit out
// their pauses, and do not come in one moment either.
func TestBack(t *testing.T) {
	for _, strict := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			const calls = 32
			var away atomic.Bool
			var mu sync.Mutex
			var answered []time.Time
			flaky := fault.New(mem.New(), func(c fault.Call) fault.Fault {
				if away.Load() {
					return fault.Fault{Mode: fault.Before}
				}
				mu.Lock()
				defer mu.Unlock()
				answered = append(answered, time.Now())
				return fault.Fault{}
			})
			be := retry.New(flaky, retry.Options{Strict: strict})
			be.Stat(t.Context(), backend.File{})
			away.Store(true)
			var waiting sync.WaitGroup
			for range calls {
				waiting.Go(func() {
					if _, err := be.Stat(t.Context(), backend.File{}); !errors.Is(err, backend.ErrNotExist) {
						t.Error(err)
					}
				})
			}
			time.Sleep(5 * time.Minute) // the pauses are of 15 to 30 s now
			away.Store(false)
			answered = nil
			if _, err := be.Stat(t.Context(), backend.File{}); !errors.Is(err, backend.ErrNotExist) {
				t.Error(err)
			}
			back := time.Now()
			waiting.Wait()
			if d := time.Since(back); d > time.Second {
				t.Errorf("strict %v: the last call is answered %v after the first", strict, d)
			}
			moments := map[time.Time]int{}
			for _, at := range answered {
				moments[at]++
			}
			if len(answered) != calls+1 || len(moments) < calls/2 {
				t.Errorf("strict %v: %d answers at %d moments", strict, len(answered), len(moments))
			}
		})
	}
}

// TestHalfBack: what fails while other calls are answered is not made again each time one is.
func TestHalfBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var saves atomic.Int64
		be := retry.New(fault.New(mem.New(), func(c fault.Call) fault.Fault {
			if c.Op == fault.Save {
				saves.Add(1)
				return fault.Fault{Mode: fault.Before}
			}
			return fault.Fault{}
		}), retry.Options{Total: 5 * time.Minute})
		be.Stat(t.Context(), backend.File{})
		began := time.Now()
		over := make(chan error)
		go func() { over <- be.Save(t.Context(), backend.File{}, nil) }()
		for range 5 * 60 * 10 {
			be.Stat(t.Context(), backend.File{})
			time.Sleep(100 * time.Millisecond)
		}
		if err := <-over; !errors.Is(err, backend.ErrAway) {
			t.Error(err)
		}
		if d := time.Since(began).Round(time.Second); d != 5*time.Minute {
			t.Errorf("given up after %v", d)
		}
		if n := saves.Load(); n > 40 {
			t.Errorf("%d tries in 5 minutes", n)
		}
	})
}
