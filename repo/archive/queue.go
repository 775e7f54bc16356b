package archive

import "sync"

const (
	// queuedGroups bounds what waits in a queue, in full groups for each worker.
	queuedGroups = 2
	// queuedJobs is how many jobs may wait at least, as long as they are small together: each holds a directory open.
	queuedJobs = 64
)

// queue is the jobs on their way from the walk to the file workers, first in, first out, but for turn. The walk is faster than they are
// when nothing has to be read. One that slept until the first of many places is free would be woken for each job, which takes longer than
// to list a small directory; so once the queue is full the walk sleeps until half of it is left.
type queue struct {
	mostEntries int // of the batches that wait

	mu      sync.Mutex // guards the fields below
	ring    []job      // room for all that may wait
	first   int        // in ring
	waiting int        // jobs in ring
	entries int        // of the batches among them
	full    bool       // the walk waits
	closed  bool       // no job will come
	idle    int        // workers that wait
	some    *sync.Cond // there is a job, or none will come
	room    *sync.Cond // no longer full
}

// newQueue returns the queue for so many workers, who get groups of so many entries at most.
func newQueue(workers, groups int) *queue {
	q := &queue{mostEntries: queuedGroups * workers * groups, ring: make([]job, max(queuedJobs, queuedGroups*workers))}
	q.some, q.room = sync.NewCond(&q.mu), sync.NewCond(&q.mu)
	return q
}

// push appends a job, and waits for room before that. Only one goroutine may call it, and not after close.
func (q *queue) push(j job) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.waiting == len(q.ring) || q.entries >= q.mostEntries {
		q.full = true
		for q.full {
			q.room.Wait()
		}
	}
	q.ring[(q.first+q.waiting)%len(q.ring)] = j
	q.waiting++
	q.entries += j.entries()
	if q.idle > 0 {
		q.some.Signal()
	}
}

// pop takes the next job, and waits for one. It returns false when there will be none.
func (q *queue) pop() (job, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for q.waiting == 0 {
		if q.closed {
			return job{}, false
		}
		q.idle++
		q.some.Wait()
		q.idle--
	}
	j := q.ring[q.first]
	q.ring[q.first] = job{}
	q.first = (q.first + 1) % len(q.ring)
	q.waiting--
	q.entries -= j.entries()
	if q.full && q.waiting <= len(q.ring)/2 && q.entries <= q.mostEntries/2 {
		q.full = false
		q.room.Signal()
	}
	return j, true
}

// turn lets what waits come in the opposite order: the walk goes on from the other end, and all of a small source may be waiting.
func (q *queue) turn() {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, j := 0, q.waiting-1; i < j; i, j = i+1, j-1 {
		a, b := &q.ring[(q.first+i)%len(q.ring)], &q.ring[(q.first+j)%len(q.ring)]
		*a, *b = *b, *a
	}
}

// close says that no job will come.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
}
