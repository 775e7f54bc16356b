package blobcache

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"vitrine/repo/blob"
)

func chunkKey(i int) blob.Handle {
	return blob.Handle{Type: blob.Data, ID: blob.ID{byte(i), byte(i >> 8)}}
}

// chunkBytes is the length of chunk i, and fill makes it: all of its bytes are i.
func chunkBytes(i int) int { return 20_000 + i*7919%100_000 }

func fill(i int) Open {
	return func(_ context.Context, buffer func() []byte) ([]byte, error) {
		buf := buffer()[:chunkBytes(i)]
		for k := range buf {
			buf[k] = byte(i)
		}
		return buf, nil
	}
}

func isChunk(p []byte, i int) bool {
	if len(p) != chunkBytes(i) {
		return false
	}
	for _, b := range p {
		if b != byte(i) {
			return false
		}
	}
	return true
}

func closeChunks(t *testing.T, c *Chunks) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if s := c.Stats(); s.Bytes != 0 || s.Entries != 0 {
		t.Errorf("after Close: %+v", s)
	}
	if _, err := c.Get(t.Context(), chunkKey(0), 1, fill(0)); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
	if c.Reserve(chunkKey(0), 1) != nil {
		t.Error("Reserve after Close")
	}
}

// Readers, promises and eviction at the same time: nobody sees bytes of another blob, and the race
// detector no buffer that is written while it is read.
func TestChunksUnderPressure(t *testing.T) {
	const budget = 1 << 20 // of 200 chunks of 70 kB
	c := NewChunks(budget)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var held []Ref
			for range 200 {
				i := rand.IntN(200)
				if rand.IntN(3) == 0 {
					if p := c.Reserve(chunkKey(i), chunkBytes(i)); p != nil {
						p.Ready(fill(i))
						p.Run(t.Context())
					}
					sealed := c.Borrow(5000)
					c.GiveBack(append(sealed, 1))
					continue
				}
				r, err := c.Get(t.Context(), chunkKey(i), chunkBytes(i), fill(i))
				if err != nil || !isChunk(r.Bytes(), i) {
					t.Errorf("chunk %d: wrong bytes, error %v", i, err)
				}
				if held = append(held, r); len(held) == 3 {
					held[0].Release(len(r.Bytes()))
					held = held[1:]
				}
			}
			for _, r := range held {
				r.Release(0)
			}
		})
	}
	wg.Wait()
	s := c.Stats()
	if s.Bytes > budget {
		t.Errorf("%d bytes in memory, the budget is %d", s.Bytes, budget)
	}
	if s.Hits == 0 || s.Misses == 0 || s.Promised == 0 || s.Evictions == 0 {
		t.Errorf("nothing happened: %+v", s)
	}
	closeChunks(t, c)
}

func TestChunksSingleFlight(t *testing.T) {
	c := NewChunks(1 << 20)
	var loads atomic.Int64
	gate := make(chan struct{})
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			r, err := c.Get(t.Context(), chunkKey(1), chunkBytes(1), func(ctx context.Context, buffer func() []byte) ([]byte, error) {
				loads.Add(1)
				<-gate
				return fill(1)(ctx, buffer)
			})
			if err != nil || !isChunk(r.Bytes(), 1) {
				t.Errorf("error %v", err)
			}
			r.Release(0)
		})
	}
	for c.Stats().Shared < 9 {
	}
	close(gate)
	wg.Wait()
	if n := loads.Load(); n != 1 {
		t.Errorf("%d loads", n)
	}
	closeChunks(t, c)
}

// A reader waits for what is promised, and decodes it itself when its bytes are there.
func TestChunksReaderDecodes(t *testing.T) {
	c := NewChunks(1 << 20)
	p := c.Reserve(chunkKey(1), chunkBytes(1))
	if c.Reserve(chunkKey(1), chunkBytes(1)) != nil {
		t.Error("promised twice")
	}
	done := make(chan error)
	go func() {
		r, err := c.Get(t.Context(), chunkKey(1), chunkBytes(1), nil)
		if err == nil && !isChunk(r.Bytes(), 1) {
			err = errors.New("wrong bytes")
		}
		r.Release(chunkBytes(1))
		done <- err
	}()
	for c.Stats().Shared == 0 {
	}
	opens := 0
	p.Ready(func(ctx context.Context, buffer func() []byte) ([]byte, error) { opens++; return fill(1)(ctx, buffer) })
	if err := <-done; err != nil { // nobody called Run
		t.Error(err)
	}
	p.Run(t.Context())
	if opens != 1 || c.Stats().Decoded != 1 {
		t.Errorf("opened %d times, %+v", opens, c.Stats())
	}
	closeChunks(t, c)
}

func TestChunksErrors(t *testing.T) {
	c := NewChunks(1 << 20)
	broken := errors.New("broken")
	fail := func(context.Context, func() []byte) ([]byte, error) { return nil, broken }
	if _, err := c.Get(t.Context(), chunkKey(1), 10, fail); err != broken {
		t.Errorf("%v", err)
	}
	p := c.Reserve(chunkKey(1), 10) // what failed is not kept
	p.Ready(fail)
	p.Run(t.Context())
	func() {
		defer func() { recover() }()
		c.Get(t.Context(), chunkKey(1), 10, func(context.Context, func() []byte) ([]byte, error) { panic("bug") })
	}()
	// A source that needs more room than it said, or returns bytes of its own, is served as well.
	r, err := c.Get(t.Context(), chunkKey(1), 10, func(context.Context, func() []byte) ([]byte, error) { return make([]byte, 99_999), nil })
	if err != nil || len(r.Bytes()) != 99_999 {
		t.Errorf("%d bytes, %v", len(r.Bytes()), err)
	}
	r.Release(0)
	if r, err = c.Get(t.Context(), chunkKey(2), 0, func(context.Context, func() []byte) ([]byte, error) { return nil, nil }); err != nil || len(r.Bytes()) != 0 {
		t.Errorf("an empty blob: %v", err)
	}
	r.Release(0)
	closeChunks(t, c)
}

// Who streams gets along with few buffers, used again and again.
func TestChunksSpent(t *testing.T) {
	c := NewChunks(1 << 30)
	for i := range 800 {
		r, err := c.Get(t.Context(), chunkKey(i), chunkBytes(i%200), fill(i%200))
		if err != nil {
			t.Fatal(err)
		}
		n := len(r.Bytes())
		r.Release(n / 2)
		if r, err = c.Get(t.Context(), chunkKey(i), 0, nil); err != nil {
			t.Fatal(err)
		}
		r.Release(n - n/2)
	}
	if s := c.Stats(); s.Bytes > 2*spentBytes || s.Hits != 800 {
		t.Errorf("%+v", s)
	}
	closeChunks(t, c)
}

// Guesses do not push out guesses; readers always get through.
func TestChunksNoRoom(t *testing.T) {
	c := NewChunks(300_000)
	promised := 0
	for i := range 10 {
		if p := c.Reserve(chunkKey(i), 100_000); p != nil {
			promised++
			p.Ready(func(_ context.Context, buffer func() []byte) ([]byte, error) { return buffer()[:100_000], nil })
			p.Run(t.Context())
		}
	}
	if s := c.Stats(); promised != 2 || s.Refused != 8 || s.Bytes > 300_000 {
		t.Errorf("%d promises, %+v", promised, s)
	}
	var held []Ref
	for i := range 6 {
		r, err := c.Get(t.Context(), chunkKey(i), 100_000, func(_ context.Context, buffer func() []byte) ([]byte, error) { return buffer()[:100_000], nil })
		if err != nil {
			t.Fatal(err)
		}
		held = append(held, r)
	}
	for _, r := range held {
		r.Release(0)
	}
	if p := c.Reserve(chunkKey(9), 100_000); p == nil {
		t.Error("no room although all were read")
	} else {
		p.Ready(fill(9))
		p.Run(t.Context())
	}
	if s := c.Stats(); s.Bytes > 300_000 {
		t.Errorf("beyond the budget when all readers are gone: %+v", s)
	}
	closeChunks(t, c)
}

func TestClassBytes(t *testing.T) {
	for n := 1; n < 64<<20; n += 1 + n/97 {
		capacity, _ := classBytes(n)
		if again, _ := classBytes(capacity); again != capacity || capacity < n || capacity > max(minClassBytes, n+n/8+1) {
			t.Fatalf("%d bytes get %d, those %d", n, capacity, again)
		}
	}
}
