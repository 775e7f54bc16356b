// Package chunker finds content-defined cut points: where a file is split into chunks
// depends on the bytes near the cut only, so an insertion moves few cuts and the rest
// still deduplicates. It does no I/O and keeps no state between calls.
//
// Every client must cut alike, or the same file is stored twice. A chunk ends after a byte
// where the low 20 bits of the Rabin fingerprint of the last 64 bytes are zero, but not
// before MinBytes and at MaxBytes at the latest. The fingerprint of bytes is the
// polynomial over GF(2) that their bits spell, modulo the polynomial of the repository.
package chunker

import (
	"fmt"
	"sync"
)

// Limits of the length of a chunk. Only the last chunk of a file may be shorter than
// MinBytes.
const (
	MinBytes = 512 << 10
	MaxBytes = 8 << 20
)

const (
	windowBytes = 64
	cutMask     = 1<<20 - 1 // chunks of 1 MiB + MinBytes on average
	topShift    = degree - 8
)

// Chunker finds the cuts for one polynomial. It is immutable and safe for parallel use.
type Chunker struct {
	pol Pol
	// mod[b] reduces a fingerprint whose top byte b has been shifted out beyond the
	// degree; out[b] takes the byte b out that leaves the window.
	mod, out [256]uint64
	factors  planeFactors // the same for skip512 and skip256
}

// made holds a Chunker per polynomial. A process meets one or two repositories.
var made struct {
	sync.Mutex
	byPol map[Pol]*Chunker
}

const maxMade = 16

// New returns the Chunker of a polynomial that Pol.Check finds good. The tables are made
// once per polynomial and shared. It panics if the degree is not 53.
func New(pol Pol) *Chunker {
	if pol.deg() != degree {
		panic(fmt.Sprintf("chunker: polynomial %v has degree %d", pol, pol.deg()))
	}
	made.Lock()
	defer made.Unlock()
	c := made.byPol[pol]
	if c == nil {
		c = newChunker(pol)
		if made.byPol == nil || len(made.byPol) >= maxMade {
			made.byPol = make(map[Pol]*Chunker)
		}
		made.byPol[pol] = c
	}
	return c
}

func newChunker(pol Pol) *Chunker {
	c := &Chunker{pol: pol}
	for b := range c.mod {
		top := Pol(b) << degree
		c.mod[b] = uint64(top.mod(pol) | top)
	}
	for b := range c.out {
		// The byte was followed by the other 63 of the window, and leaves together with
		// the step for the byte that comes in.
		d := uint64(b)
		for range windowBytes {
			d = d<<8 ^ c.mod[d>>topShift]
		}
		c.out[b] = d
	}
	c.factors = newPlaneFactors(c)
	return c
}

// Cut returns the length of the first chunk of p, which starts where a chunk starts. A
// length below both len(p) and MaxBytes, or of MaxBytes, holds whatever follows p. len(p) is
// final only when p is all that is left of the file; else more of it is needed. An empty p
// gives 0.
func (c *Chunker) Cut(p []byte) int { return c.CutFrom(p, 0) }

// CutFrom is Cut for a p that has grown: Cut has returned scanned, less than MaxBytes, when p was of that length.
// What was scanned then is not scanned again.
func (c *Chunker) CutFrom(p []byte, scanned int) int {
	p = p[:min(len(p), MaxBytes)]
	if len(p) <= MinBytes {
		return len(p)
	}
	return c.scanFast(p, max(MinBytes, scanned))
}

// scanFast does what scan does, in the fastest way there is.
func (c *Chunker) scanFast(p []byte, from int) int {
	switch {
	case works512:
		return c.scan(p, c.skip512(p, from))
	case works256:
		return c.scan(p, c.skip256(p, from))
	}
	return c.scanStreams(p, from)
}

// scan returns the first cut at or after from, which is at least windowBytes, or len(p).
func (c *Chunker) scan(p []byte, from int) int {
	d := c.fingerprint(p[from-windowBytes : from])
	for i := from; ; i++ {
		if d&cutMask == 0 || i == len(p) {
			return i
		}
		d = c.slide(d, p[i-windowBytes], p[i])
	}
}

// slide moves the window by one byte.
func (c *Chunker) slide(d uint64, out, in byte) uint64 {
	return d<<8 ^ uint64(in) ^ c.out[out] ^ c.mod[uint8(d>>topShift)]
}

// fingerprint returns that of p.
func (c *Chunker) fingerprint(p []byte) uint64 {
	var d uint64
	for _, b := range p {
		d = d<<8 ^ uint64(b) ^ c.mod[uint8(d>>topShift)]
	}
	return d
}
