// Package readahead decides what to fetch before it is asked for: Streams from how files are read,
// Path from how fast the store answers. It does no I/O, starts nothing and knows no clock, so that
// it can be tested with tables. Not safe for parallel use.
package readahead

// FirstBytes is the window of a file that has just begun to be read in order.
const FirstBytes = 2 << 20

const (
	// leastBytes is the smallest window that is worth a request.
	leastBytes = 512 << 10
	// slackBytes is how far from its front a stream may go on. The kernel sends the requests of
	// its own readahead in any order: two windows of 4 MiB, of 8 where a program like cat says that it reads
	// in order.
	slackBytes = 16 << 20
	// maxCursors is how many streams are told apart, and fileCursors how many of one file:
	// several programs may read it, and one that jumps must not push out all others.
	maxCursors, fileCursors = 256, 4
	// activeNotes is after how many notes of others a stream counts no longer.
	activeNotes = 512
)

// Range is a part of a file, in bytes.
type Range struct{ From, To uint64 }

// Streams remembers who reads in order. There is no open in the mount, so a stream is known by
// its file and by where it is.
type Streams struct {
	// BudgetBytes is shared by the windows of all streams.
	BudgetBytes uint64

	clock   uint64 // notes so far
	cursors []cursor
}

// cursor is a place where a file is read.
type cursor struct {
	file   uint64
	front  uint64 // everything noted ends here or before; at the end of the file nothing is left to do
	ahead  uint64 // what is before has been asked for
	window uint64 // bytes to have ahead of front; 0 until there was a second note
	seen   uint64 // clock of the last note
}

// Note tells that the bytes of a chunk are being read, in a file of size bytes. It returns what to
// fetch now, mostly nothing. The window of a stream begins small and doubles each time half of it is
// used up. All windows together should not exceed maxWindow, for they share the way to the store and
// the processor's caches, unless that is too little for each; nor the budget.
func (s *Streams) Note(file uint64, chunk Range, size, maxWindow uint64) Range {
	s.clock++
	i := s.findOpen(file, chunk, size)
	if i < 0 {
		if chunk.To < size { // otherwise nothing follows
			s.begin(cursor{file: file, front: chunk.To, ahead: chunk.To, seen: s.clock})
		}
		return Range{}
	}
	c := &s.cursors[i]
	c.seen = s.clock
	c.front = max(c.front, chunk.To)
	c.ahead = max(c.ahead, c.front)
	if c.front >= size { // remembered: requests that the kernel sent before the last one may come after it
		c.window = 0
		return Range{}
	}
	switch {
	case c.window == 0: // one read alone promises nothing: many programs look at the head only
		c.window = FirstBytes
	case c.ahead-c.front > c.window/2:
		return Range{}
	default:
		c.window *= 2
	}
	active := uint64(max(1, s.active()))
	c.window = min(c.window, max(maxWindow/active, FirstBytes), s.BudgetBytes/active)
	next := Range{c.ahead, min(c.front+c.window, size)}
	if c.window < leastBytes || next.From >= next.To {
		return Range{}
	}
	c.ahead = next.To
	return next
}

// Expect tells that a file of size bytes will be read from its beginning, as by a program that copies
// whole directories. It returns what to fetch now: the first window, nothing when somebody reads
// there already.
func (s *Streams) Expect(file, size uint64) Range {
	first := Range{0, min(FirstBytes, size)}
	if s.BudgetBytes < leastBytes || s.findOpen(file, first, size) >= 0 {
		return Range{}
	}
	s.clock++
	s.begin(cursor{file: file, ahead: first.To, window: FirstBytes, seen: s.clock})
	return first
}

// Passed tells whether the one who was to read a part of a file has come to its end meanwhile, or is
// not remembered: he read the whole file, or stopped. Nobody needs it ahead then.
func (s *Streams) Passed(file uint64, part Range) bool {
	i := s.find(file, part)
	return i < 0 || part.To <= s.cursors[i].front
}

// find returns the cursor that the chunk is a part of, -1 when there is none.
func (s *Streams) find(file uint64, chunk Range) int {
	for i := range s.cursors {
		c := &s.cursors[i]
		if c.file == file && chunk.From <= c.ahead+slackBytes && chunk.To+slackBytes >= c.front {
			return i
		}
	}
	return -1
}

// findOpen is find for what is being read. Where a stream that came to the end of the file begins at
// its beginning, the file is read once more and the stream forgotten.
func (s *Streams) findOpen(file uint64, chunk Range, size uint64) int {
	i := s.find(file, chunk)
	if i >= 0 && s.cursors[i].front >= size && chunk.From == 0 {
		s.end(i)
		return -1
	}
	return i
}

// begin adds a cursor, in the place of the one that was not seen for longest where there are
// too many, of the file or of all.
func (s *Streams) begin(c cursor) {
	oldest, oldestOfFile, ofFile := 0, -1, 0
	for i := range s.cursors {
		if s.cursors[i].seen < s.cursors[oldest].seen {
			oldest = i
		}
		if s.cursors[i].file != c.file {
			continue
		}
		if ofFile++; oldestOfFile < 0 || s.cursors[i].seen < s.cursors[oldestOfFile].seen {
			oldestOfFile = i
		}
	}
	switch {
	case ofFile >= fileCursors:
		s.cursors[oldestOfFile] = c
	case len(s.cursors) >= maxCursors:
		s.cursors[oldest] = c
	default:
		s.cursors = append(s.cursors, c)
	}
}

// end removes a cursor.
func (s *Streams) end(i int) {
	last := len(s.cursors) - 1
	s.cursors[i] = s.cursors[last]
	s.cursors = s.cursors[:last]
}

// active returns how many streams have windows and were seen lately.
func (s *Streams) active() (n int) {
	for i := range s.cursors {
		if c := &s.cursors[i]; c.window > 0 && s.clock-c.seen < activeNotes {
			n++
		}
	}
	return n
}
