package archive

import (
	"context"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"

	"vitrine/repo/chunker"
	"vitrine/repo/hugepage"
)

// Segments are the buffers that larger files are read into, powers of two in size.
const (
	minSegment = 1 << 20
	// maxSegment holds any chunk: what the chunker leaves for the next segment is shorter.
	maxSegment = chunker.MaxBytes
	classes    = 4 // minSegment << class, up to maxSegment
)

// buffers hands out segments of one arena, so that a run allocates no other memory for them and the system has to provide
// that once. Blocks are split into halves, and two halves of a block become one again when both are free: a buddy
// allocator (Knuth, The Art of Computer Programming, volume 1, section 2.5).
type buffers struct {
	arena []byte

	mu      sync.Mutex     // guards the fields below
	free    [classes][]int // where free blocks begin, by class
	waiting []*waiter      // for a block, in the order in which they came
}

// waiter waits for a segment of a class.
type waiter struct {
	class int
	got   chan *segment // has room for one
}

// newBuffers returns buffers of the budget, or of the next multiple of maxSegment.
func newBuffers(budgetBytes int64) *buffers {
	n := max(1, int((budgetBytes+maxSegment-1)/maxSegment))
	s := &buffers{arena: make([]byte, n*maxSegment)}
	hugepage.Advise(s.arena)
	hugepage.Unprovide(s.arena) // a run that reads no large file has none of it in memory, also where the index was read before
	for i := n - 1; i >= 0; i-- {
		s.free[classes-1] = append(s.free[classes-1], i*maxSegment)
	}
	return s
}

// segment is a part of a file in memory.
type segment struct {
	owner *buffers // nil: not of any arena; see nextSegment
	start int      // in the arena
	buf   []byte
	refs  atomic.Int32  // its reader, and each chunk in it that is not stored yet
	idle  chan struct{} // gets a value when a chunk leaves only the reader; see nextSegment
}

// newSegment returns a segment that its reader holds.
func newSegment(owner *buffers, start int, buf []byte) *segment {
	seg := &segment{owner: owner, start: start, buf: buf, idle: make(chan struct{}, 1)}
	seg.refs.Store(1)
	return seg
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
	w := &waiter{classOf(expected), make(chan *segment, 1)}
	s.mu.Lock()
	s.waiting = append(s.waiting, w)
	s.serve()
	s.mu.Unlock()
	select {
	case seg := <-w.got:
		return seg
	case <-ctx.Done():
	}
	s.mu.Lock()
	s.waiting = slices.DeleteFunc(s.waiting, func(other *waiter) bool { return other == w })
	s.serve() // those behind may want less
	s.mu.Unlock()
	select {
	case seg := <-w.got: // it came at the same moment
		seg.release()
	default:
	}
	return nil
}

// try is get without waiting; nil means that there is no room, or that others wait for it.
func (s *buffers) try(class int) *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) > 0 {
		return nil
	}
	return s.take(class)
}

// serve gives segments to those who wait, the first one first. mu is held.
func (s *buffers) serve() {
	for len(s.waiting) > 0 {
		seg := s.take(s.waiting[0].class)
		if seg == nil {
			return
		}
		s.waiting[0].got <- seg
		s.waiting = slices.Delete(s.waiting, 0, 1)
	}
}

// take cuts a segment out of the smallest free block that holds it; nil means that there is none. mu is held.
func (s *buffers) take(class int) *segment {
	c := class
	for c < classes && len(s.free[c]) == 0 {
		c++
	}
	if c == classes {
		return nil
	}
	last := len(s.free[c]) - 1
	start := s.free[c][last]
	s.free[c] = s.free[c][:last]
	for c > class {
		c--
		s.free[c] = append(s.free[c], start+minSegment<<c)
	}
	end := start + minSegment<<class
	return newSegment(s, start, s.arena[start:end:end])
}

func (s *buffers) put(seg *segment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	start, c := seg.start, classOf(int64(len(seg.buf)-1))
	for c < classes-1 {
		buddy := slices.Index(s.free[c], start^minSegment<<c)
		if buddy < 0 {
			break
		}
		s.free[c] = slices.Delete(s.free[c], buddy, buddy+1)
		start &^= minSegment << c
		c++
	}
	s.free[c] = append(s.free[c], start)
	s.serve()
}

func (seg *segment) retain() { seg.refs.Add(1) }

func (seg *segment) release() {
	switch seg.refs.Add(-1) {
	case 0:
		if seg.owner != nil {
			seg.owner.put(seg)
		}
	case 1:
		select {
		case seg.idle <- struct{}{}:
		default:
		}
	}
}

// nextSegment returns a segment that begins with rest, the end of seg, and lets go of seg. When the
// budget is used up it gives away what is open, and waits until the chunks of seg are stored and goes on in the same memory:
// a reader never waits for another reader. Meanwhile it stores chunks itself, so that it can count
// on progress, also when ctx has ended.
func (r *run) nextSegment(ctx context.Context, seg *segment, rest []byte, open *openChunks) *segment {
	// What comes next may be long in coming, and others wait for segments: for them is one at least.
	if open.group.n > 0 && open.group.segs[0] != seg {
		r.dispatchGroup(ctx, open)
	}
	for open.segments() > max(1, len(r.buffers.arena)/maxSegment-2) {
		r.dispatchHashed(ctx, open)
	}
	next := r.buffers.try(classOf(maxSegment))
	for next == nil && r.dispatchHashed(ctx, open) {
		next = r.buffers.try(classOf(maxSegment))
	}
	if next == nil && len(rest) == len(seg.buf) {
		// The file has outgrown a small segment: there is no room to go on in. This much
		// goes beyond the budget, for a file that was a few MiB a moment ago.
		next = newSegment(nil, 0, make([]byte, maxSegment))
	}
	if next != nil {
		copy(next.buf, rest)
		seg.release()
		return next
	}
	r.dispatchGroup(ctx, open)
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
