// Package limit bounds how many bytes a second go to a store and come from it, all connections
// together. A Limiter is put around connections, where it makes an even stream, or around a backend
// that has none to show; not around both.
package limit

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"vitrine/repo/backend"
)

// Limiter bounds two directions. Its methods may be called in parallel.
type Limiter struct{ up, down *line }

// New returns a limiter; 0 bytes a second means no limit.
func New(upBytesPerSecond, downBytesPerSecond int64) *Limiter {
	return &Limiter{newLine(upBytesPerSecond), newLine(downBytesPerSecond)}
}

// Lift ends both limits: what waits goes on at once.
func (l *Limiter) Lift() {
	l.up.lift()
	l.down.lift()
}

// line is one direction. A nil line has no limit.
type line struct {
	perKiB     time.Duration // of 1024 bytes: one takes less than a nanosecond on a fast line
	pieceBytes int           // what is sent or received at a time

	lifted chan struct{} // closed when there is no limit any more
	once   sync.Once

	mu   sync.Mutex
	free time.Time // when all that was let through has passed; guarded by mu
}

// burst is what an idle line lets through at once.
const burst = 50 * time.Millisecond

func newLine(bytesPerSecond int64) *line {
	if bytesPerSecond <= 0 {
		return nil
	}
	return &line{
		perKiB:     max(1, 1024*time.Second/time.Duration(bytesPerSecond)),
		pieceBytes: int(min(64<<10, max(1<<10, bytesPerSecond/20))),
		lifted:     make(chan struct{}),
	}
}

func (l *line) lift() {
	if l != nil {
		l.once.Do(func() { close(l.lifted) })
	}
}

// wait returns when n bytes may pass, or false when done was closed first. Then they will not pass, and those that come
// later need not wait for them.
func (l *line) wait(done <-chan struct{}, n int) bool {
	if l == nil || n <= 0 {
		return true
	}
	takes := time.Duration(n) * l.perKiB / 1024
	l.mu.Lock()
	now := time.Now()
	if earliest := now.Add(-burst); l.free.Before(earliest) {
		l.free = earliest
	}
	l.free = l.free.Add(takes)
	d := l.free.Sub(now)
	l.mu.Unlock()
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.lifted:
		return true
	case <-done:
		l.mu.Lock()
		l.free = l.free.Add(-takes)
		l.mu.Unlock()
		return false
	}
}

func (l *line) piece(p []byte) []byte {
	if l == nil {
		return p
	}
	return p[:min(len(p), l.pieceBytes)]
}

// Conn puts the limits around a connection to a store.
func (l *Limiter) Conn(c net.Conn) net.Conn {
	return &conn{Conn: c, l: l, done: make(chan struct{})}
}

// conn is a connection whose bytes wait for their turn.
type conn struct {
	net.Conn
	l    *Limiter
	once sync.Once
	done chan struct{} // closed by Close
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(c.l.down.piece(p))
	if !c.l.down.wait(c.done, n) {
		return n, net.ErrClosed
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		piece := c.l.up.piece(p)
		if !c.l.up.wait(c.done, len(piece)) {
			return written, net.ErrClosed
		}
		n, err := c.Conn.Write(piece)
		written += n
		if err != nil {
			return written, err
		}
		p = p[len(piece):]
	}
	return written, nil
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.once.Do(func() { close(c.done) })
	return c.Conn.Close()
}

// Backend puts the limits around a backend: a file waits as a whole, before it is saved or after it was
// read.
func (l *Limiter) Backend(be backend.Backend) backend.Backend { return &limited{be, l} }

type limited struct {
	backend.Backend
	l *Limiter
}

// Save implements backend.Backend.
func (b *limited) Save(ctx context.Context, f backend.File, content []byte) error {
	if !b.l.up.wait(ctx.Done(), len(content)) {
		return fmt.Errorf("save %v: %w", f, ctx.Err())
	}
	return b.Backend.Save(ctx, f, content)
}

// ReadAt implements backend.Backend.
func (b *limited) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	if err := b.Backend.ReadAt(ctx, f, p, offsetBytes); err != nil {
		return err
	}
	if !b.l.down.wait(ctx.Done(), len(p)) {
		return fmt.Errorf("read %v at %d+%d: %w", f, offsetBytes, len(p), ctx.Err())
	}
	return nil
}

// ReadAll implements backend.Backend.
func (b *limited) ReadAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	content, err := b.Backend.ReadAll(ctx, f, maxBytes)
	if err != nil {
		return nil, err
	}
	if !b.l.down.wait(ctx.Done(), len(content)) {
		return nil, fmt.Errorf("read %v: %w", f, ctx.Err())
	}
	return content, nil
}
