package slow

import (
	"container/heap"
	"context"
	"math"
	"sync"
	"time"
)

// link is a line that carries so many bytes a second, however many transfers there are: while n
// of them are under way, each gets an n-th.
//
// Nothing is cut into slices. A transfer ends when the bytes that each transfer has been given so
// far reach a mark that is known when it begins, so one timer for the nearest mark is enough, and
// a timer that fires late takes no bandwidth from those who are still there.
type link struct {
	bytesPerSecond float64

	mu    sync.Mutex
	given float64   // bytes, to each of the transfers under way since the link was last idle
	at    time.Time // when given was true
	queue transfers // under way
	timer *time.Timer
}

// transfer is over when the link has given so many bytes to each.
type transfer struct {
	mark  float64
	place int           // in the queue, -1 when it has left it
	done  chan struct{} // closed by advance
}

// carry returns when n bytes have passed, or the context's error.
func (l *link) carry(ctx context.Context, n int64) error {
	if n <= 0 {
		return ctx.Err()
	}
	t := l.begin(n)
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		l.abandon(t)
		return ctx.Err()
	}
}

func (l *link) begin(n int64) *transfer {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance(time.Now())
	t := &transfer{mark: l.given + float64(n), done: make(chan struct{})}
	heap.Push(&l.queue, t)
	l.arm()
	return t
}

func (l *link) abandon(t *transfer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance(time.Now())
	if t.place >= 0 {
		heap.Remove(&l.queue, t.place)
	}
	l.arm()
}

// advance lets the time pass until now; mu is held.
func (l *link) advance(now time.Time) {
	for len(l.queue) > 0 {
		first := l.queue[0]
		end := l.at.Add(l.until(first))
		if end.After(now) {
			l.given += now.Sub(l.at).Seconds() * l.bytesPerSecond / float64(len(l.queue))
			l.at = now
			return
		}
		l.given, l.at = first.mark, end
		heap.Pop(&l.queue)
		close(first.done)
	}
	l.given, l.at = 0, now
}

// until is how long the transfer still takes if nobody comes or goes; mu is held.
func (l *link) until(t *transfer) time.Duration {
	seconds := max(0, t.mark-l.given) * float64(len(l.queue)) / l.bytesPerSecond
	return time.Duration(math.Ceil(min(seconds*float64(time.Second), math.MaxInt64/2)))
}

// arm sets the timer for the transfer that ends next; mu is held, and time has advanced.
func (l *link) arm() {
	switch {
	case len(l.queue) == 0:
		if l.timer != nil {
			l.timer.Stop()
		}
	case l.timer == nil:
		l.timer = time.AfterFunc(l.until(l.queue[0]), l.fire)
	default:
		l.timer.Reset(l.until(l.queue[0]))
	}
}

func (l *link) fire() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.advance(time.Now())
	l.arm()
}

// transfers is a heap: the transfer that ends next comes first.
type transfers []*transfer

// Len implements sort.Interface.
func (q transfers) Len() int { return len(q) }

// Less implements sort.Interface.
func (q transfers) Less(i, j int) bool { return q[i].mark < q[j].mark }

// Swap implements sort.Interface.
func (q transfers) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push implements heap.Interface.
func (q *transfers) Push(x any) {
	t := x.(*transfer)
	t.place = len(*q)
	*q = append(*q, t)
}

// Pop implements heap.Interface.
func (q *transfers) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	t.place = -1
	return t
}
