package fs

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/repo/blob"
)

// stats counts what a mount does, for Status. Everything may be counted from any goroutine and costs
// a few nanoseconds, so nobody needs to collect first. Counters only grow; bytes are plain bytes of
// data blobs unless they say something else. The zero value is ready.
type stats struct {
	// What was fetched into the blob cache, by who wanted it: a read that waits, the
	// readahead of a file, or the push of a directory's files.
	demand, ahead, push amount

	// pushed is what was put into the kernel's page cache before anybody asked: files and bytes.
	pushed amount

	unread  unread // what ahead and push brought and no read wanted yet
	reads   latencies
	damage  damages
	outages outages

	refreshMu sync.Mutex // guards refresh
	refresh   refreshStatus
}

// amount counts things and their bytes.
type amount struct{ count, bytes atomic.Int64 }

func (a *amount) add(bytes int) {
	a.count.Add(1)
	a.bytes.Add(int64(bytes))
}

// refreshStatus is the last look for new snapshots.
type refreshStatus struct {
	count         int64
	at            time.Time // when it began
	took          time.Duration
	newIndexFiles int
	err           error
}

// refreshed notes the end of a look for new snapshots, which began at that time and read so many
// index files.
func (s *stats) refreshed(began time.Time, newIndexFiles int, err error) {
	s.refreshMu.Lock()
	defer s.refreshMu.Unlock()
	s.refresh = refreshStatus{
		count: s.refresh.count + 1, at: began, took: time.Since(began), newIndexFiles: newIndexFiles, err: err,
	}
}

func (s *stats) lastRefresh() refreshStatus {
	s.refreshMu.Lock()
	defer s.refreshMu.Unlock()
	return s.refresh
}

// unread remembers the blobs that were prefetched and not read since, to tell what prefetching is
// worth. A blob that has left the cache unread was fetched in vain.
type unread struct {
	used, wasted amount

	mu    sync.Mutex // guards the rest
	blobs map[blob.ID]int
	full  int // calls of add that found no place
}

// maxUnread bounds what unread remembers; it takes some 100 bytes for each.
const maxUnread = 1 << 14

// sweepEvery is how many blobs find no place before it is looked again who has left: a look asks two
// caches for every blob, and readers wait for it.
const sweepEvery = maxUnread / 8

// add notes a prefetched blob. cached tells whether a blob is still in the cache.
func (u *unread) add(id blob.ID, bytes int, cached func(blob.ID) bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.blobs == nil {
		u.blobs = make(map[blob.ID]int)
	}
	if len(u.blobs) >= maxUnread {
		if u.full%sweepEvery == 0 {
			u.sweep(cached)
		}
		u.full++
	}
	if len(u.blobs) < maxUnread {
		u.blobs[id] = bytes
	}
}

// read notes that somebody wants the blob.
func (u *unread) read(id blob.ID) {
	u.mu.Lock()
	bytes, ok := u.blobs[id]
	delete(u.blobs, id)
	u.mu.Unlock()
	if ok {
		u.used.add(bytes)
	}
}

// settle counts what has left the cache, and returns what is still there unread.
func (u *unread) settle(cached func(blob.ID) bool) (waitingBytes int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sweep(cached)
	for _, bytes := range u.blobs {
		waitingBytes += int64(bytes)
	}
	return waitingBytes
}

// sweep needs mu.
func (u *unread) sweep(cached func(blob.ID) bool) {
	for id, bytes := range u.blobs {
		if !cached(id) {
			u.wasted.add(bytes)
			delete(u.blobs, id)
		}
	}
}

// latencies is a histogram of how long requests took, in powers of two.
type latencies struct {
	inFlight, inFlightBytes atomic.Int64
	errors, bytes           atomic.Int64
	total, longest          atomic.Int64 // nanoseconds
	// steps[i] counts the requests of less than 2^i µs and no less than half of that; the last
	// one also all longer ones.
	steps [latencySteps]atomic.Int64
}

// latencySteps reach up to a minute.
const latencySteps = 27

// begin notes a request for so many bytes; end, with what begin returned, its end.
func (l *latencies) begin(bytes uint32) time.Time {
	l.inFlight.Add(1)
	l.inFlightBytes.Add(int64(bytes))
	return time.Now()
}

func (l *latencies) end(began time.Time, bytes uint32, ok bool) {
	l.inFlight.Add(-1)
	l.inFlightBytes.Add(-int64(bytes))
	l.note(time.Since(began), ok)
}

func (l *latencies) note(took time.Duration, ok bool) {
	l.total.Add(int64(took))
	for {
		longest := l.longest.Load()
		if int64(took) <= longest || l.longest.CompareAndSwap(longest, int64(took)) {
			break
		}
	}
	l.steps[min(bits.Len64(uint64(took.Microseconds())), latencySteps-1)].Add(1)
	if !ok {
		l.errors.Add(1)
	}
}

// quantile returns a time that at least the share q of the requests did not exceed: the upper end of
// the step in which it lies, and never more than the longest. 0 when there was none.
func quantile(steps []int64, q float64, longest time.Duration) time.Duration {
	all := int64(0)
	for _, n := range steps {
		all += n
	}
	sum := int64(0)
	for i, n := range steps {
		if sum += n; n > 0 && float64(sum) >= q*float64(all) {
			return min(time.Microsecond<<i, longest)
		}
	}
	return 0
}
