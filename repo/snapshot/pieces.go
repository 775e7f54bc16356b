package snapshot

import (
	"bytes"
	"errors"
	"io"
	"math"
	"runtime"
	"strings"
	"sync"

	"vitrine/repo/blob"
)

// pieceBytes of JSON are parsed at a time: some thousand entries, which stay in the processor's cache
// on their way from the reader to the parser.
const pieceBytes = 1 << 20

// errPieces says that a tree is not what ReadCompact can read in pieces.
var errPieces = errors.New("tree cannot be read in pieces")

// ReadCompact is ParseCompact for a large tree of sizeBytes that comes out of a reader, with all
// processors and without ever having the whole JSON in memory. It takes canonical JSON
// only: after any error the tree may still be one that ParseCompact accepts, and ParseCompact says what
// is wrong with it. Nothing is returned unless r ends with io.EOF.
//
// The JSON is cut where a node seems to begin. A cut is right if the node before it ends there, for then
// the next one begins there; so when every piece is a whole number of nodes, all cuts were right, and
// the tree is what a parser finds that reads it in one go.
func ReadCompact(r io.Reader, sizeBytes int) (*Compact, error) {
	// The mount lets more goroutines run than there are processors; a piece for each would only take memory.
	return readCompact(r, sizeBytes, pieceBytes, min(runtime.GOMAXPROCS(0), runtime.NumCPU()))
}

func readCompact(r io.Reader, sizeBytes, pieceBytes, workers int) (_ *Compact, err error) {
	j := joiner{c: &Compact{}, sizeBytes: sizeBytes, parts: make(map[int]*piece)}
	free := make(chan *piece, workers+2)
	for range cap(free) {
		free <- &piece{json: make([]byte, 0, pieceBytes), b: builder{c: &Compact{}}}
	}
	parse := func(p *piece) {
		p.err = p.parse()
		j.add(p, free)
	}
	if workers == 1 {
		err = cutPieces(r, free, parse, j.failed)
	} else {
		work := make(chan *piece)
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for p := range work {
					parse(p)
				}
			})
		}
		err = cutPieces(r, free, func(p *piece) { work <- p }, j.failed)
		close(work)
		wg.Wait()
	}
	if j.err != nil { // then cutPieces only says that it was stopped
		err = j.err
	}
	if err != nil {
		return nil, err
	}
	return j.finish(), nil
}

// piece is a part of a tree's JSON and what is made of it. Its space is used again.
type piece struct {
	number      int
	first, last bool
	json        []byte // from the beginning of a node, or of the tree, up to the comma before another one
	b           builder
	firstName   []byte
	lastName    []byte
	err         error
}

// cutPieces calls use for the pieces of what r has, in order, until r ends or stop says so. use puts
// them back among the free ones.
func cutPieces(r io.Reader, free <-chan *piece, use func(*piece), stop func() bool) error {
	var rest []byte // of the piece before: the beginning of a node
	for number := 0; ; number++ {
		p := <-free
		if len(rest) > cap(p.json)/2 || stop() { // a node that takes most of a piece
			return errPieces
		}
		buf := append(p.json[:0], rest...) // rest may be in the same space
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		p.number, p.first, p.last = number, number == 0, false
		switch err {
		case nil:
			cut := lastCut(buf)
			if cut < 0 {
				return errPieces
			}
			p.json, rest = buf[:cut], buf[cut+1:]
		case io.EOF, io.ErrUnexpectedEOF: // both mean that r returned io.EOF
			p.json, p.last = buf, true
		default:
			return err
		}
		last := p.last // p is another's from here on
		if use(p); last {
			return nil
		}
	}
}

// lastCut returns the offset of the last comma in p that seems to stand between two nodes, or a
// negative number. The list of extended attributes looks similar, so the type behind the name must be
// there too.
func lastCut(p []byte) int {
	const begin = `},{"name":"`
	for {
		i := bytes.LastIndex(p, []byte(begin))
		if i < 0 {
			return -1
		}
		name := scanner{p: p, i: i + len(begin) - 1}
		if _, ok := name.str(); ok && bytes.HasPrefix(p[name.i:], []byte(`,"type":"`)) {
			return i + 1
		}
		p = p[:i+1]
	}
}

// parse makes entries of the JSON.
func (p *piece) parse() error {
	p.b.reset()
	p.firstName, p.lastName = p.firstName[:0], p.lastName[:0]
	s := &scanner{p: p.json}
	if p.first {
		if !bytes.HasPrefix(p.json, []byte(treeHead)) {
			return errPieces
		}
		s.i = len(treeHead)
	}
	var n rawNode
	for {
		if !s.node(&n) {
			return s.err
		}
		if err := checkNext(p.lastName, n.name); err != nil {
			return err
		}
		if !p.b.add(s, &n) {
			return s.err
		}
		if len(p.firstName) == 0 {
			p.firstName = append(p.firstName, n.name...)
		}
		p.lastName = append(p.lastName[:0], n.name...)
		if s.i == len(p.json) && !p.last {
			return nil
		}
		if more, ok := s.next(']'); !ok {
			return s.err
		} else if !more {
			break
		}
	}
	if string(p.json[s.i-1:]) != treeTail || !p.last {
		return errPieces
	}
	return nil
}

// reset makes the builder ready for another piece, in the same space.
func (b *builder) reset() {
	*b.c = Compact{records: b.c.records[:0], ids: b.c.ids[:0], specials: b.c.specials[:0]}
	b.text, b.shared = b.text[:0], nil
}

// joiner puts the pieces together in their order.
type joiner struct {
	sizeBytes int // of the whole JSON

	mu       sync.Mutex // guards the rest
	c        *Compact
	text     strings.Builder
	parts    map[int]*piece // parsed, but not those before them
	next     int            // number of the piece that comes next
	lastName []byte
	err      error
}

func (j *joiner) failed() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err != nil
}

// add takes a piece, and sets those free whose turn it was.
func (j *joiner) add(p *piece, free chan<- *piece) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.parts[p.number] = p
	for p = j.parts[j.next]; p != nil; p = j.parts[j.next] {
		if j.err == nil {
			j.err = j.join(p)
		}
		delete(j.parts, j.next)
		j.next++
		free <- p // has room for all of them
	}
}

// join appends the entries of a piece.
func (j *joiner) join(p *piece) error {
	if p.err != nil {
		return p.err
	}
	if p.number > 0 {
		if err := checkNext(j.lastName, p.firstName); err != nil {
			return err
		}
	} else {
		j.reserve(p)
	}
	j.lastName = append(j.lastName[:0], p.lastName...)

	c, from := j.c, p.b.c
	text, ids, entries, xattrs := j.text.Len(), len(c.ids), len(c.records), len(c.xattrs)
	if uint64(max(text+len(p.b.text), ids+len(from.ids), entries+len(from.records))) > math.MaxUint32 {
		return errPieces
	}
	j.text.Write(p.b.text)
	c.ids = append(c.ids, from.ids...)
	c.records = append(c.records, from.records...)
	for i := range from.records {
		r := &c.records[entries+i]
		r.nameEnd += uint32(text)
		r.textEnd += uint32(text)
		r.idsEnd += uint32(ids)
		if r.xattrs != 0 {
			r.xattrs += uint32(xattrs)
		}
	}
	c.xattrs = append(c.xattrs, from.xattrs...)
	for _, s := range from.specials {
		s.entry += uint32(entries)
		c.specials = append(c.specials, s)
	}
	c.joinATimes(from.aTimes, entries)
	return nil
}

// joinATimes adds the access times of the entries from number entries on; nil stands for
// their modification times.
func (c *Compact) joinATimes(aTimes []Timespec, entries int) {
	if c.aTimes == nil && aTimes == nil {
		return
	}
	if c.aTimes == nil {
		c.aTimes = make([]Timespec, 0, cap(c.records))
	}
	until := len(c.records)
	if aTimes != nil {
		until = entries
	}
	for i := len(c.aTimes); i < until; i++ {
		c.aTimes = append(c.aTimes, Timespec{c.records[i].mSec, c.records[i].mNsec})
	}
	c.aTimes = append(c.aTimes, aTimes...)
}

// reserve takes memory for the whole tree, as if it were all like its first piece.
func (j *joiner) reserve(p *piece) {
	most := j.sizeBytes/minNodeBytes + 1
	times := float64(j.sizeBytes) / float64(len(p.json)) * (1 + 1./64)
	entries := min(int(times*float64(len(p.b.c.records))), most)
	j.c.records = make([]record, 0, entries)
	j.c.ids = make([]blob.ID, 0, int(times*float64(len(p.b.c.ids))))
	j.text.Grow(int(times * float64(len(p.b.text))))
}

// finish returns the tree.
func (j *joiner) finish() *Compact {
	j.c.text = j.text.String()
	j.c.trim()
	return j.c
}
