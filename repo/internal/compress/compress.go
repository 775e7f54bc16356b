// Package compress makes and reads the zstd frames of repository format version 2.
package compress

// Level says how hard to try.
type Level uint8

// The levels, in the words of the command line.
const (
	Auto Level = iota
	Off
	Fastest
	Better
	Max
)

// ParseLevel reads a level's word.
func ParseLevel(s string) (Level, error) { panic("not yet") }

// String returns the word of the command line.
func (l Level) String() string { panic("not yet") }

// Codec compresses at one level. It is safe for parallel use.
type Codec struct{ level Level }

// New returns a codec for the level.
func New(level Level) *Codec { return &Codec{level: level} }

// Compress appends src as one zstd frame to dst, or reports false and returns dst unchanged
// when that does not make it smaller: then src is to be stored as it is.
func (c *Codec) Compress(dst, src []byte) ([]byte, bool) { panic("not yet") }

// CompressAlways appends src as one zstd frame to dst, even at level Off and even if that is longer.
func (c *Codec) CompressAlways(dst, src []byte) []byte { panic("not yet") }

// Decompress appends the plainBytes bytes of the zstd frame src to dst.
func Decompress(dst, src []byte, plainBytes int) ([]byte, error) { panic("not yet") }

// DecompressLimit returns the content of the zstd frame src, which must not exceed maxBytes.
func DecompressLimit(src []byte, maxBytes int) ([]byte, error) { panic("not yet") }
