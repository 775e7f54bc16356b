package limit_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/limit"
	"vitrine/repo/backend/mem"
)

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(*testing.T) backend.Backend { return limit.New(1<<40, 1<<40).Backend(mem.New()) })
}

const speed = 100_000 // bytes a second

// near is true within the burst of an idle line and a piece of each of two connections.
func near(got, want time.Duration) bool { return (got - want).Abs() <= 210*time.Millisecond }

func TestBackend(t *testing.T) {
	content := backendtest.Content(1, 1_000_000)
	f := backendtest.FileOf(backend.Pack, content)
	for name, c := range map[string]struct {
		up, down   int64
		save, read time.Duration
	}{
		"none": {0, 0, 0, 0},
		"up":   {speed, 0, 10 * time.Second, 0},
		"down": {0, speed, 0, 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			be := limit.New(c.up, c.down).Backend(mem.New())
			start := time.Now()
			if err := be.Save(t.Context(), f, content); err != nil || !near(time.Since(start), c.save) {
				t.Errorf("%s: Save took %v, %v", name, time.Since(start), err)
			}
			for _, read := range []func() error{
				func() error { _, err := be.ReadAll(t.Context(), f, 1_000_000); return err },
				func() error { return be.ReadAt(t.Context(), f, make([]byte, 1_000_000), 0) },
			} {
				start = time.Now()
				if err := read(); err != nil || !near(time.Since(start), c.read) {
					t.Errorf("%s: reading took %v, %v", name, time.Since(start), err)
				}
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		content := backendtest.Content(1, 1_000_000)
		err := limit.New(speed, 0).Backend(mem.New()).Save(ctx, backendtest.FileOf(backend.Pack, content), content)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Save: %v", err)
		}
	})
}

// TestConn sends over two connections that share a line, whose bytes come in an even stream.
func TestConn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limit.New(speed, 0)
		var wg sync.WaitGroup
		start := time.Now()
		for range 2 {
			near1, far := net.Pipe()
			sender := l.Conn(near1)
			wg.Go(func() {
				if n, err := sender.Write(make([]byte, 500_000)); n != 500_000 || err != nil {
					t.Errorf("wrote %d, %v", n, err)
				}
				sender.Close()
			})
			wg.Go(func() {
				var total int64
				for {
					n, err := io.CopyN(io.Discard, far, 10_000)
					total += n
					if want := time.Duration(2*total) * time.Second / speed; !near(time.Since(start), want) {
						t.Errorf("%d bytes came after %v, want %v", total, time.Since(start), want)
					}
					if err != nil {
						break
					}
				}
				if total != 500_000 {
					t.Errorf("%d bytes came", total)
				}
			})
		}
		wg.Wait()
		if d := time.Since(start); !near(d, 10*time.Second) {
			t.Errorf("it took %v", d)
		}
	})
}

// Close ends a write that waits for its turn.
func TestConnClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		go io.Copy(io.Discard, b)
		c := limit.New(10, 0).Conn(a)
		time.AfterFunc(time.Second, func() { c.Close() })
		start := time.Now()
		if _, err := c.Write(make([]byte, 5000)); !errors.Is(err, net.ErrClosed) || time.Since(start) != time.Second {
			t.Errorf("Write: %v after %v", err, time.Since(start))
		}
	})
}

// TestGivenUp: what is given up leaves its place on the line, so that the little that comes after it does not wait.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := backendtest.Content(1, 1_000_000)
		be := limit.New(speed, 0).Backend(mem.New())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var uploads sync.WaitGroup
		for range 3 {
			uploads.Go(func() {
				if err := be.Save(ctx, backendtest.FileOf(backend.Pack, content), content); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Save: %v", err)
				}
			})
		}
		uploads.Wait()
		start := time.Now()
		small := content[:1000]
		if err := be.Save(t.Context(), backendtest.FileOf(backend.Index, small), small); err != nil || time.Since(start) > 10*time.Millisecond {
			t.Errorf("a small file waits %v, %v", time.Since(start), err)
		}
	})
}

// TestLift: without the limit what waits goes on, and nothing waits any more.
func TestLift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		content := backendtest.Content(1, 1_000_000)
		l := limit.New(speed, speed)
		be := l.Backend(mem.New())
		time.AfterFunc(time.Second, l.Lift)
		start := time.Now()
		f := backendtest.FileOf(backend.Pack, content)
		for range 2 {
			err := be.Save(t.Context(), f, content)
			_, readErr := be.ReadAll(t.Context(), f, 1_000_000)
			if err := errors.Join(err, readErr); err != nil || time.Since(start) != time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		}
		l.Lift()
		limit.New(0, 0).Lift()
	})
}
