// Package chunker finds content-defined cut points: where a file is split into chunks
// depends on the bytes near the cut only, so an insertion moves few cuts and the rest
// still deduplicates. It does no I/O and keeps no state between calls.
package chunker

// Limits of the length of a chunk. Only the last chunk of a file may be shorter than
// MinBytes.
const (
	MinBytes = 512 << 10
	MaxBytes = 8 << 20
)

// Chunker finds the cuts for one polynomial. It is immutable and safe for parallel use.
type Chunker struct {
	pol Pol
}

// New returns the Chunker of a polynomial, which must be irreducible and of degree 53.
// The tables are made once per polynomial and shared.
func New(pol Pol) *Chunker { return &Chunker{pol: pol} }

// Cut returns the length of the first chunk of p. p starts where a chunk starts and must
// be at least MaxBytes long or be all that is left of the file. An empty p gives 0.
func (c *Chunker) Cut(p []byte) int { panic("not yet") }
