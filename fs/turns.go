package fs

import (
	"runtime"
	"sync"
	"time"

	"vitrine/fs/readahead"
)

// turns says who decodes next. One chunk takes a processor for 1 to 8 ms, so where a hundred readers want
// one each at the same time they have to wait for each other; but not for anything else. Those that somebody
// waits for get their turn in the order in which they came, one for each processor: all at once would take
// as long for the last one, longer for all others, and memory for each. What nobody waits for yet
// gets a turn while none of them waits and a processor is left over for those that answer and for
// their clients. Without that a client waits for milliseconds until a decoder's turn is over.
type turns struct {
	most, spare int // at a time: of all, and of those nobody waits for

	mu      sync.Mutex // guards the rest
	first   int        // turns of those that somebody waits for
	guesses int        // other turns
	waiting queue      // for a first turn
	patient queue      // for another
	calm    queue      // for nobody to wait for a first turn
	path    readahead.Path
}

// queue are those that wait, the oldest first. A channel is closed when its turn has come.
type queue []chan struct{}

func newTurns() *turns {
	n := runtime.NumCPU()
	return &turns{most: n, spare: max(1, n-1)}
}

// take waits for a turn to decode what nobody waits for yet; put ends it.
func (t *turns) take() { t.wait(&t.patient) }

func (t *turns) put() { t.end(&t.guesses) }

// guess does work that decodes what nobody waits for yet, when its turn has come. Work that comes to read from the
// store keeps the turn for no longer than leaseLimit.
func (t *turns) guess(work func()) {
	t.take()
	limit := time.AfterFunc(leaseLimit, t.put)
	work()
	if limit.Stop() {
		t.put()
	}
}

// takeFirst waits for a turn to decode what somebody waits for; putFirst ends it.
func (t *turns) takeFirst() { t.wait(&t.waiting) }

func (t *turns) putFirst() { t.end(&t.first) }

// takeCalm waits until none of those that somebody waits for has to wait for his turn.
func (t *turns) takeCalm() { t.wait(&t.calm) }

func (t *turns) wait(q *queue) {
	t.mu.Lock()
	mine := make(chan struct{})
	*q = append(*q, mine)
	t.next()
	t.mu.Unlock()
	<-mine
}

func (t *turns) end(count *int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	*count--
	t.next()
}

// next gives out the turns that are free. A turn of those that somebody waits for is never held
// back by the others: it will take the processor from them. The caller holds mu.
func (t *turns) next() {
	for len(t.waiting) > 0 && t.first < t.most {
		t.first++
		t.waiting.pop()
	}
	if len(t.waiting) > 0 {
		return
	}
	for len(t.calm) > 0 {
		t.calm.pop()
	}
	for len(t.patient) > 0 && t.guesses < t.spare && t.first+t.guesses < t.most {
		t.guesses++
		t.patient.pop()
	}
}

func (q *queue) pop() {
	close((*q)[0])
	(*q)[0] = nil
	*q = (*q)[1:]
}

// lease is a turn of somebody who waits, while he reads from the store.
type lease struct {
	turns *turns
	limit *time.Timer // gives the turn back; nil when there is none to give back
	held  bool        // until end, without a limit
}

// leaseLimit is how long somebody who reads keeps his turn. Then others get it: the store may not
// answer for minutes.
const leaseLimit = 50 * time.Millisecond

// lease waits for a turn when reading from the store takes no longer than decoding, as far as it is known. Then
// both are one turn, and only so many sealed bytes are in memory as there are turns.
func (t *turns) lease() *lease {
	t.mu.Lock()
	near := t.path.Latency() < aheadFar
	t.mu.Unlock()
	l := &lease{turns: t}
	if near {
		t.takeFirst()
		l.limit = time.AfterFunc(leaseLimit, t.putFirst)
	}
	return l
}

// renew makes a turn of the lease that lasts until end, waiting for one if need be.
func (l *lease) renew() {
	if l.limit == nil || !l.limit.Stop() {
		l.turns.takeFirst()
	}
	l.limit = nil
	l.held = true
}

// end gives the turn back, if there is one.
func (l *lease) end() {
	if l.held || l.limit != nil && l.limit.Stop() {
		l.turns.putFirst()
	}
	l.held, l.limit = false, nil
}

// sample notes how long somebody who waits had to wait for the store.
func (t *turns) sample(took time.Duration, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.path.Sample(took, int64(bytes))
}
