package archive

import (
	"context"
	"math/bits"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"vitrine/repo/chunker"
)

// Segments are the buffers that larger files are read into, powers of two in size.
const (
	minSegment = 1 << 20
	// maxSegment has room for more bytes beside the longest rest that the chunker leaves.
	maxSegment = 2 * chunker.MaxBytes
)

// buffers hands out segments within a budget of bytes, which also bounds what it keeps for reuse.
type buffers struct {
	room        *semaphore.Weighted // bytes that are not in use
	budgetBytes int64

	mu        sync.Mutex    // guards the fields below
	free      [5][]*segment // by class: minSegment << class
	heldBytes int64         // of all segments, in use or free
}

func newBuffers(budgetBytes int64) *buffers {
	budgetBytes = max(budgetBytes, maxSegment)
	return &buffers{room: semaphore.NewWeighted(budgetBytes), budgetBytes: budgetBytes}
}

// segment is a part of a file in memory.
type segment struct {
	owner *buffers
	buf   []byte
	refs  atomic.Int32  // its reader, and the chunks in work
	idle  chan struct{} // gets a value when a chunk leaves only the reader; see nextSegment

	unbudgeted bool // not of owner's room; see nextSegment
}

// classOf returns the class of the smallest segment that holds a file of the size and a byte more, so that
// its end is seen, or of the largest.
func classOf(expected int64) int {
	if expected >= maxSegment {
		expected = maxSegment - 1
	}
	return max(0, bits.Len64(uint64(expected))-bits.Len64(minSegment-1))
}

// get waits for room; nil means that ctx has ended. The caller must not hold a segment, or all could
// wait for each other.
func (s *buffers) get(ctx context.Context, expected int64) *segment {
	class := classOf(expected)
	if s.room.Acquire(ctx, minSegment<<class) != nil {
		return nil
	}
	return s.make(class)
}

// try is get without waiting; nil means that there is no room.
func (s *buffers) try(class int) *segment {
	if !s.room.TryAcquire(minSegment << class) {
		return nil
	}
	return s.make(class)
}

func (s *buffers) make(class int) *segment {
	seg := s.reuse(class)
	if seg == nil {
		seg = &segment{owner: s, buf: make([]byte, minSegment<<class), idle: make(chan struct{}, 1)}
	}
	select {
	case <-seg.idle: // of its former life
	default:
	}
	seg.refs.Store(1)
	return seg
}

// reuse returns a free segment, or nil when one must be made: room for that has been made by
// giving up free ones of other classes.
func (s *buffers) reuse(class int) *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free[class]); n > 0 {
		seg := s.free[class][n-1]
		s.free[class][n-1] = nil
		s.free[class] = s.free[class][:n-1]
		return seg
	}
	s.heldBytes += minSegment << class
	for c := len(s.free) - 1; c >= 0 && s.heldBytes > s.budgetBytes; c-- {
		for n := len(s.free[c]); n > 0 && s.heldBytes > s.budgetBytes; n-- {
			s.free[c][n-1] = nil
			s.free[c] = s.free[c][:n-1]
			s.heldBytes -= minSegment << c
		}
	}
	return nil
}

func (s *buffers) put(seg *segment) {
	class := classOf(int64(len(seg.buf) - 1))
	s.mu.Lock()
	s.free[class] = append(s.free[class], seg)
	s.mu.Unlock()
	s.room.Release(minSegment << class)
}

func (seg *segment) retain() { seg.refs.Add(1) }

func (seg *segment) release() {
	switch seg.refs.Add(-1) {
	case 0:
		if seg.unbudgeted {
			return
		}
		seg.owner.put(seg)
	case 1:
		select {
		case seg.idle <- struct{}{}:
		default:
		}
	}
}

// nextSegment returns a segment that begins with rest, the end of seg, and lets go of seg. When the
// budget is used up it waits until the chunks of seg are stored and goes on in the same memory:
// a reader never waits for another reader. Meanwhile it stores chunks itself, so that it can count
// on progress, also when ctx has ended.
func (r *run) nextSegment(ctx context.Context, seg *segment, rest []byte) *segment {
	next := r.buffers.try(classOf(maxSegment))
	if next == nil && len(rest) == len(seg.buf) {
		// The file has outgrown a small segment: there is no room to go on in. This much
		// goes beyond the budget, for a file that was a few MiB a moment ago.
		next = &segment{owner: r.buffers, buf: make([]byte, maxSegment), idle: make(chan struct{}, 1), unbudgeted: true}
		next.refs.Store(1)
	}
	if next != nil {
		copy(next.buf, rest)
		seg.release()
		return next
	}
	for seg.refs.Load() > 1 {
		select {
		case <-seg.idle:
		case job := <-r.chunks:
			r.chunk(ctx, job)
		}
	}
	copy(seg.buf, rest)
	return seg
}
