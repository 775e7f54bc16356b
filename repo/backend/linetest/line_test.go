package linetest_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"vitrine/repo/backend/linetest"
)

// echo starts a server that sends back what it gets.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() {
				defer c.Close()
				io.Copy(c, c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		tasks.Wait()
	})
	return l.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// there sends so many bytes and returns how many came back, and after what time.
func there(c net.Conn, n int, patience time.Duration) (back int, took time.Duration, err error) {
	began := time.Now()
	c.SetDeadline(began.Add(patience))
	go c.Write(make([]byte, n))
	back, err = io.ReadFull(c, make([]byte, n))
	return back, time.Since(began), err
}

func TestFaults(t *testing.T) {
	for name, c := range map[string]struct {
		fault linetest.Fault
		bytes int
		back  int
		least time.Duration
	}{
		"latency":   {linetest.Latency(50 * time.Millisecond), 1000, 1000, 100 * time.Millisecond},
		"bandwidth": {linetest.Bandwidth(1 << 20), 300 << 10, 300 << 10, 250 * time.Millisecond},
		"truncate":  {linetest.Truncate(1000, 1), 5000, 1000, 0},
		"no share":  {linetest.Truncate(1000, 0), 5000, 5000, 0},
		"reset":     {linetest.Reset(50*time.Millisecond, 1), 1000, 0, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			l := linetest.New(t, echo(t), c.fault)
			back, took, err := there(dial(t, l.Addr), c.bytes, 10*time.Second)
			if back != c.back || took < c.least || (err != nil) != (back < c.bytes) || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%d of %d bytes came back after %v: %v", back, c.bytes, took, err)
			}
			if name == "reset" && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("no reset: %v", err)
			}
		})
	}
}

func TestSlowClose(t *testing.T) {
	l := linetest.New(t, echo(t), linetest.SlowClose(100*time.Millisecond))
	c := dial(t, l.Addr)
	began := time.Now()
	c.(*net.TCPConn).CloseWrite()
	if _, err := io.ReadAll(c); err != nil || time.Since(began) < 200*time.Millisecond {
		t.Errorf("closed after %v: %v", time.Since(began), err)
	}
}

// Those that are open when it is held stay open and get nothing, new ones work.
func TestHold(t *testing.T) {
	l := linetest.New(t, echo(t))
	old := dial(t, l.Addr)
	if _, _, err := there(old, 100, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	l.Hold()
	if back, _, err := there(old, 100_000, 300*time.Millisecond); back == 100_000 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("held: %d bytes, %v", back, err)
	}
	if _, _, err := there(dial(t, l.Addr), 100_000, 5*time.Second); err != nil {
		t.Errorf("a new connection: %v", err)
	}
	if n := l.Cuts(); n != 0 {
		t.Errorf("%d connections cut", n)
	}
}

func TestStop(t *testing.T) {
	l := linetest.New(t, echo(t))
	c := dial(t, l.Addr)
	if _, _, err := there(c, 100, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	l.Stop()
	if _, _, err := there(c, 100, 5*time.Second); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection has not ended: %v", err)
	}
	if c, err := net.Dial("tcp", l.Addr); err == nil {
		c.Close()
		t.Error("a stopped line takes connections")
	}
	l.Resume()
	if _, _, err := there(dial(t, l.Addr), 100, 5*time.Second); err != nil {
		t.Errorf("with the line back: %v", err)
	}
	if n := l.Cuts(); n != 1 {
		t.Errorf("%d connections cut, want 1", n)
	}
}

// Cuts fall into traffic, some as ends and some as resets, and nothing of it stays.
func TestCutEvery(t *testing.T) {
	addr := echo(t)
	before := runtime.NumGoroutine()
	ends, resets := 0, 0
	t.Run("line", func(t *testing.T) {
		l := linetest.New(t, addr, linetest.Truncate(1<<20, 0.1))
		l.CutEvery(30 * time.Millisecond)
		var mu sync.Mutex // guards ends and resets
		began := time.Now()
		enough := func() bool {
			mu.Lock()
			defer mu.Unlock()
			took := time.Since(began)
			return took > time.Second && l.Cuts() >= 10 && ends > 0 && resets > 0 || took > 20*time.Second
		}
		var workers sync.WaitGroup
		for range 4 {
			workers.Go(func() {
				for !enough() {
					c, err := net.Dial("tcp", l.Addr)
					if err != nil {
						continue // at the moment of a cut
					}
					var writer sync.WaitGroup
					writer.Go(func() {
						for {
							if _, err := c.Write(bytes.Repeat([]byte("x"), 100_000)); err != nil {
								return
							}
						}
					})
					_, err = io.Copy(io.Discard, c)
					mu.Lock()
					if errors.Is(err, syscall.ECONNRESET) {
						resets++
					} else {
						ends++
					}
					mu.Unlock()
					c.Close()
					writer.Wait()
				}
			})
		}
		workers.Wait()
		if n := l.Cuts(); n < 10 || ends == 0 || resets == 0 {
			t.Errorf("%d cuts, %d ends, %d resets", n, ends, resets)
		}
	})
	for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before:\n%s", n, before, stacks[:runtime.Stack(stacks, true)])
	}
}
