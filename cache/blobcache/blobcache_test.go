package blobcache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
)

// strings weigh their length plus the overhead.
func newStrings(budgetBytes int64) *Cache[int, string] {
	return New[int](budgetBytes, func(s string) int64 { return int64(len(s)) })
}

func value(s string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return s, nil }
}

func unwanted(t *testing.T) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		t.Error("loaded a value that should have been there")
		return "", nil
	}
}

func mustGet(t *testing.T, c *Cache[int, string], key int, load func(context.Context) (string, error), want string) {
	t.Helper()
	if got, err := c.Get(t.Context(), key, load); err != nil || got != want {
		t.Fatalf("Get(%d) = %q, %v; want %q", key, got, err, want)
	}
}

func TestLeastRecentlyUsedGoesFirst(t *testing.T) {
	c := newStrings(3 * (entryOverheadBytes + 1))
	defer c.Close()
	for i := range 3 {
		mustGet(t, c, i, value("v"), "v")
	}
	mustGet(t, c, 0, unwanted(t), "v") // 1 is the oldest now
	if _, ok := c.Peek(1); !ok {       // and stays the oldest
		t.Error("1 is missing")
	}
	mustGet(t, c, 3, value("v"), "v")
	for key, want := range map[int]bool{0: true, 1: false, 2: true, 3: true} {
		if _, ok := c.Peek(key); ok != want {
			t.Errorf("key %d: there %v, want %v", key, ok, want)
		}
	}
	want := Stats{Hits: 1, Misses: 4, Evictions: 1, Entries: 3, Bytes: 3 * (entryOverheadBytes + 1), BudgetBytes: 3 * (entryOverheadBytes + 1)}
	if diff := cmp.Diff(want, c.Stats()); diff != "" {
		t.Error(diff)
	}
}

func TestTooBigIsReturnedAndNotKept(t *testing.T) {
	c := newStrings(entryOverheadBytes + 4)
	defer c.Close()
	mustGet(t, c, 1, value("tiny"), "tiny")
	mustGet(t, c, 2, value("large"), "large")
	if _, ok := c.Peek(2); ok {
		t.Error("kept a value larger than the budget")
	}
	mustGet(t, c, 1, unwanted(t), "tiny")
}

func TestPut(t *testing.T) {
	c := newStrings(2 * (entryOverheadBytes + 1))
	c.Put(1, "a")
	c.Put(1, "b")
	mustGet(t, c, 1, unwanted(t), "a")
	c.Put(2, "c")
	c.Put(3, "d")
	if _, ok := c.Peek(1); ok {
		t.Error("Put went over the budget")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	c.Put(4, "e")
	if got := c.Stats(); got.Entries != 0 || got.Bytes != 0 {
		t.Errorf("after Close: %+v", got)
	}
}

func TestErrorsAreNotKept(t *testing.T) {
	c := newStrings(1 << 10)
	defer c.Close()
	bad := errors.New("no such pack")
	if _, err := c.Get(t.Context(), 1, func(context.Context) (string, error) { return "half", bad }); !errors.Is(err, bad) {
		t.Errorf("got %v, want %v", err, bad)
	}
	mustGet(t, c, 1, value("whole"), "whole")
}

func TestLoadsAreShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStrings(1 << 10)
		defer c.Close()
		release := make(chan struct{})
		var loads atomic.Int64
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				mustGet(t, c, 1, func(context.Context) (string, error) {
					loads.Add(1)
					<-release
					return "v", nil
				}, "v")
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		if got := loads.Load(); got != 1 {
			t.Errorf("%d loads, want 1", got)
		}
		if s := c.Stats(); s.Misses != 1 || s.Shared != 9 {
			t.Errorf("stats %+v", s)
		}
	})
}

// The first caller leaves; the second still gets the value of the same load.
func TestLoadOutlivesItsFirstCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStrings(1 << 10)
		defer c.Close()
		type label struct{}
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), label{}, "first"))
		load := func(ctx context.Context) (string, error) {
			<-release
			return fmt.Sprint(ctx.Value(label{}), " ", ctx.Err()), nil
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := c.Get(ctx, 1, load); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want context.Canceled", err)
			}
		})
		synctest.Wait()
		wg.Go(func() { mustGet(t, c, 1, unwanted(t), "first <nil>") })
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()
		mustGet(t, c, 1, unwanted(t), "first <nil>")
	})
}

// Nobody waits any more, and the value is still kept.
func TestAbandonedLoadIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newStrings(1 << 10)
		defer c.Close()
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := c.Get(ctx, 1, func(context.Context) (string, error) { <-release; return "v", nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want context.Canceled", err)
		}
		close(release)
		synctest.Wait()
		mustGet(t, c, 1, unwanted(t), "v")
	})
}

func TestCloseCancelsLoads(t *testing.T) {
	before := runtime.NumGoroutine()
	c := newStrings(1 << 10)
	started := make(chan struct{})
	var got error
	var wg sync.WaitGroup
	wg.Go(func() {
		_, got = c.Get(t.Context(), 1, func(ctx context.Context) (string, error) {
			close(started)
			<-ctx.Done()
			return "", ctx.Err()
		})
	})
	<-started
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if !errors.Is(got, context.Canceled) {
		t.Errorf("waiter got %v, want context.Canceled", got)
	}
	if _, err := c.Get(t.Context(), 1, unwanted(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
	if err := c.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	for range 20_000 { // its goroutine may be without a processor for a while
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}

func TestLoadOnTheCallersGoroutine(t *testing.T) {
	c := newStrings(1000)
	endless := context.WithoutCancel(t.Context())
	here := goroutine()
	got, err := c.Get(endless, 1, func(ctx context.Context) (string, error) {
		if goroutine() != here {
			t.Error("load runs elsewhere")
		}
		return "v", nil
	})
	if got != "v" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	mustGet(t, c, 1, unwanted(t), "v")

	// A panic goes to the caller and leaves nobody waiting.
	joined := make(chan error)
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic is gone")
			}
		}()
		c.Get(endless, 2, func(context.Context) (string, error) {
			go func() {
				_, err := c.Get(endless, 2, unwanted(t))
				joined <- err
			}()
			for c.Stats().Shared == 0 {
				runtime.Gosched()
			}
			panic("bug")
		})
	}()
	if err := <-joined; err == nil {
		t.Error("who waited for it got no error")
	}
	mustGet(t, c, 2, value("again"), "again")

	// Close cancels it as any other load.
	loading := make(chan struct{})
	go func() {
		<-loading
		c.Close()
	}()
	_, err = c.Get(endless, 3, func(ctx context.Context) (string, error) {
		close(loading)
		<-ctx.Done()
		return "", ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("closed: %v", err)
	}
	c.Close()
}

// goroutine tells goroutines apart.
func goroutine() string {
	buf := make([]byte, 64)
	fields := strings.Fields(string(buf[:runtime.Stack(buf, false)]))
	return fields[1]
}

func TestManyAtOnce(t *testing.T) {
	const keys = 200
	c := newStrings(50 * (entryOverheadBytes + 8))
	var wg sync.WaitGroup
	for g := range uint64(8) {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, g))
			for range 2000 {
				key := r.IntN(keys)
				want := fmt.Sprintf("%08d", key)
				got, err := c.Get(t.Context(), key, value(want))
				if err != nil || got != want {
					t.Errorf("Get(%d) = %q, %v", key, got, err)
					return
				}
				if s := c.Stats(); s.Bytes > s.BudgetBytes {
					t.Errorf("%d bytes kept, %d allowed", s.Bytes, s.BudgetBytes)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestBlobsWeighTheirCapacity(t *testing.T) {
	c := NewBlobs(1 << 20)
	defer c.Close()
	h := blob.Handle{Type: blob.Tree}
	p, err := c.Get(t.Context(), h, func(context.Context) ([]byte, error) { return make([]byte, 10, 1000), nil })
	if err != nil || len(p) != 10 {
		t.Fatalf("%d bytes, %v", len(p), err)
	}
	if got := c.Stats().Bytes; got != 1000+entryOverheadBytes {
		t.Errorf("weighs %d", got)
	}
}

func BenchmarkHit(b *testing.B) {
	const keys = 10000
	c := newStrings(1 << 30)
	defer c.Close()
	for i := range keys {
		c.Put(i, "v")
	}
	var seed atomic.Uint64
	b.RunParallel(func(pb *testing.PB) {
		r := rand.New(rand.NewPCG(2, seed.Add(1)))
		for pb.Next() {
			if _, err := c.Get(b.Context(), r.IntN(keys), nil); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMiss(b *testing.B) {
	c := newStrings(1000 * (entryOverheadBytes + 1))
	defer c.Close()
	for i := 0; b.Loop(); i++ {
		if _, err := c.Get(b.Context(), i, value("v")); err != nil {
			b.Fatal(err)
		}
	}
}

func TestDrop(t *testing.T) {
	c := newStrings(1000)
	defer c.Close()
	c.Drop(1)
	mustGet(t, c, 1, value("old"), "old")
	mustGet(t, c, 2, value("v"), "v")
	c.Drop(1)
	if s := c.Stats(); s.Entries != 1 || s.Bytes != entryOverheadBytes+1 || s.Evictions != 0 {
		t.Errorf("after Drop: %+v", s)
	}
	mustGet(t, c, 1, value("new"), "new")
	mustGet(t, c, 2, unwanted(t), "v")
}
