package sftp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// callWeight is what a call weighs besides the bytes that it carries.
	callWeight = packetBytes
	// busyWeight is what the least busy connection must carry before one more is made: making
	// one takes ssh several round trips and some processor time on both sides.
	busyWeight = 16 * callWeight
	// detourWeight is how much more a connection may carry that has the pack open already.
	detourWeight = 8 * callWeight
	// holdTime is how long no further connection is tried after one was refused: servers limit
	// how many one client may have.
	holdTime = time.Minute
)

var errClosed = errors.New("the backend is closed")

// pool holds the connections of a Backend. They are made one after the other: the first, and one
// when there is none any more, while the caller waits; further ones in the background.
type pool struct {
	cfg     Config
	silent  time.Duration  // of every connection
	closing chan struct{}  // closed by close
	tasks   sync.WaitGroup // attempts, and the ends of connections
	heard   atomic.Int64   // when bytes last came, in Unix nanoseconds

	mu       sync.Mutex // guards all below; taken before the lock of openPacks
	conns    []*conn    // dead ones are taken out by pick
	attempt  *attempt   // nil when none is under way
	hold     time.Time  // no further connection before this
	reached  bool       // a connection has been made
	isClosed bool
}

// attempt is a connection being made.
type attempt struct {
	again bool          // there was a connection before
	done  chan struct{} // closed at the end; then err is set
	err   error
}

func newPool(cfg Config) *pool {
	silent := cmp.Or(cfg.SilentAfter, silentTime)
	if silent < 0 {
		silent = math.MaxInt64
	}
	return &pool{cfg: cfg, silent: silent, closing: make(chan struct{})}
}

// get returns the connection for a call, which put must be told the end of. path is a pack that
// may be open already, or "".
func (p *pool) get(ctx context.Context, path string, weight int64) (*conn, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, a, err := p.pick(path, weight)
		if a == nil {
			return c, err
		}
		if err := p.await(ctx, a); err != nil {
			return nil, err
		}
	}
}

// await waits for an attempt. A server that was there before gets no more time than on a connection, though the attempt
// goes on for those who come later; how long the first one takes is up to dial.
func (p *pool) await(ctx context.Context, a *attempt) error {
	limit := connectTime + endTime
	if a.again {
		limit = min(limit, p.silent)
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-a.done:
		if a.err != nil {
			return fmt.Errorf("connect to %s: %w", p.cfg.peer(), a.err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("connect to %s: there is no connection for %v", p.cfg.peer(), limit)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// put ends a call.
func (p *pool) put(c *conn, weight int64) { c.load.Add(-weight) }

// pick chooses a connection, or returns the attempt to wait for because there is none.
func (p *pool) pick(path string, weight int64) (*conn, *attempt, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.isClosed {
		return nil, nil, errClosed
	}
	p.conns = slices.DeleteFunc(p.conns, (*conn).isDead)
	if len(p.conns) == 0 {
		return nil, p.begin(), nil
	}
	best := slices.MinFunc(p.conns, lighter)
	if best.load.Load() >= busyWeight && len(p.conns) < p.cfg.connections() && time.Now().After(p.hold) {
		p.begin()
	}
	if path != "" {
		limit := best.load.Load() + detourWeight
		for _, c := range p.conns {
			if c.load.Load() <= limit && c.packs.has(path) {
				best = c
				limit = c.load.Load() - 1
			}
		}
	}
	best.load.Add(weight)
	return best, nil, nil
}

func lighter(a, b *conn) int {
	switch x, y := a.load.Load(), b.load.Load(); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// begin makes a connection in the background, if that is not under way already; mu is held.
func (p *pool) begin() *attempt {
	if p.attempt != nil {
		return p.attempt
	}
	a := &attempt{again: p.reached, done: make(chan struct{})}
	p.attempt = a
	p.tasks.Go(func() {
		c, err := dial(&p.cfg, p.silent, &p.heard, p.closing)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.attempt = nil
		a.err = err
		close(a.done)
		switch {
		case err != nil && len(p.conns) > 0 && !p.isClosed:
			p.hold = time.Now().Add(holdTime)
			p.cfg.log().Warn("one more connection cannot be made; going on with fewer", "connections", len(p.conns), "error", err)
		case err == nil:
			p.conns, p.reached = append(p.conns, c), true
			p.tasks.Go(func() { <-c.watched })
		}
	})
	return a
}

// drop tells every connection that a pack was removed or replaced.
func (p *pool) drop(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.packs.drop(path)
	}
}

// close ends all connections and waits until no process is left.
func (p *pool) close() {
	p.mu.Lock()
	if !p.isClosed {
		p.isClosed = true
		close(p.closing)
	}
	a := p.attempt
	p.mu.Unlock()
	if a != nil {
		<-a.done // it may have made it
	}
	p.mu.Lock()
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	var ends sync.WaitGroup
	for _, c := range conns {
		ends.Go(c.close)
	}
	ends.Wait()
	p.tasks.Wait()
}
