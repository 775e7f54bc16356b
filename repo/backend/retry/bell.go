package retry

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// The calls that a bell wakes try one after another, stagger apart on average and all within maxStagger.
const (
	stagger    = 20 * time.Millisecond
	maxStagger = 2 * time.Second
)

// bell wakes the calls that are in a pause when the store answers another one. The zero value is ready.
type bell struct {
	mu   sync.Mutex // guards next and the sleepers of rounds
	next *round     // nil while nobody sleeps
}

// round is what those wait for who sleep until the same ring.
type round struct {
	rung     chan struct{}
	sleepers int           // that have not gone on
	spread   time.Duration // over which they try; set before rung is closed
}

// ring wakes all that sleep.
func (b *bell) ring() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.next; r != nil {
		r.spread = min(time.Duration(r.sleepers)*stagger, maxStagger)
		close(r.rung)
		b.next = nil
	}
}

func (b *bell) join() *round {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == nil {
		b.next = &round{rung: make(chan struct{})}
	}
	b.next.sleepers++
	return b.next
}

func (b *bell) leave(r *round) {
	b.mu.Lock()
	defer b.mu.Unlock()
	r.sleepers--
}

// sleep is a pause before a try. It ends soon after the bell rings, and woken is true then, but for a part at its
// beginning that doubles with each pause of the call that ended so (before): where some of what is asked is answered and
// this call is not, it must not be made each time. The error is that of ctx.
func (b *bell) sleep(ctx context.Context, pause time.Duration, before int) (woken bool, err error) {
	r := b.join()
	defer b.leave(r)
	end := time.NewTimer(pause)
	defer end.Stop()
	if before > 0 && pause > firstPause {
		deaf := time.NewTimer(min(firstPause<<min(before, 8), pause))
		defer deaf.Stop()
		select {
		case <-deaf.C:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	select {
	case <-end.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	case <-r.rung:
	}
	turn := time.NewTimer(rand.N(r.spread))
	defer turn.Stop()
	select {
	case <-turn.C:
		return true, nil
	case <-end.C:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}
