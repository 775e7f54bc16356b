// Package compress makes and reads the zstd frames of repository format version 2. With cgo
// the work is done by libzstd, without by a Go implementation; what one writes the other reads.
//
// A blob is one frame with its content size in the frame header and without a checksum (the
// blob's id is one, and the seal another). Index, snapshot and lock files are the byte 0x02,
// which is not this package's business, and such a frame.
package compress

import (
	"errors"
	"fmt"
	"slices"
)

// ErrCorrupt is wrapped by every error about bytes that are not one zstd frame of the expected
// size.
var ErrCorrupt = errors.New("compressed bytes are corrupt")

// Level says how hard to try. Each is at least as dense as restic's level of the same name, but for Auto, which is within 1 %
// of it for most and up to 3 % larger for large blobs that are no text.
type Level uint8

// The levels, in the words of the command line.
const (
	Auto    Level = iota // the best ratio that does not slow a backup down
	Off                  // store file contents and trees as they are
	Fastest              // for fast disks and few cores
	Better               // slower than Auto, a little smaller
	Max                  // several times slower than Auto
)

var levelNames = [...]string{Auto: "auto", Off: "off", Fastest: "fastest", Better: "better", Max: "max"}

// ParseLevel reads a level's word.
func ParseLevel(s string) (Level, error) {
	if i := slices.Index(levelNames[:], s); i >= 0 {
		return Level(i), nil
	}
	return Auto, fmt.Errorf("compression %q: want auto, off, fastest, better or max", s)
}

// String returns the word that ParseLevel reads.
func (l Level) String() string {
	if int(l) < len(levelNames) {
		return levelNames[l]
	}
	return fmt.Sprintf("level-%d", uint8(l))
}

// Codec compresses at one level. It is safe for parallel use; its memory is that of as many
// calls as ran at the same time.
type Codec struct {
	level  Level
	encode *encoder
	trial  *encoder // nil where trying is not cheaper than doing
}

// New returns a codec for the level.
func New(level Level) *Codec {
	c := &Codec{level: level}
	switch level {
	case Off:
		c.encode = newEncoder(Auto) // for CompressAlways
	case Fastest:
		c.encode = newEncoder(Fastest)
	default:
		c.encode = newEncoder(level)
		c.trial = newTrial()
	}
	return c
}

// Off reports whether Compress never compresses.
func (c *Codec) Off() bool { return c.level == Off }

// Compress appends src as one zstd frame to dst. It reports false and returns dst unchanged
// when that does not make it smaller by a worthwhile amount: then src is to be stored as it is.
// The capacity of dst grows by BoundBytes(len(src)) if it has to. The spare capacity of dst must
// not overlap src.
func (c *Codec) Compress(dst, src []byte) ([]byte, bool) {
	if c.level == Off || len(src) <= worthBytes(len(src)) {
		return dst, false
	}
	start := len(dst)
	dst = slices.Grow(dst, BoundBytes(len(src)))
	if c.hopeless(dst[start:], src) {
		return dst, false
	}
	out := c.encode.appendFrame(dst, src)
	if !worthwhile(len(out)-start, len(src)) {
		return out[:start], false
	}
	return out, true
}

// CompressAlways appends src as one zstd frame to dst, even if that is longer and even at
// level Off (at Auto then): the files it is for, index and snapshots, are always frames. The
// spare capacity of dst must not overlap src.
func (c *Codec) CompressAlways(dst, src []byte) []byte {
	return c.encode.appendFrame(slices.Grow(dst, BoundBytes(len(src))), src)
}

// worthwhile reports whether a frame of so many bytes is better than the plain bytes.
func worthwhile(frameBytes, plainBytes int) bool {
	return frameBytes < plainBytes-worthBytes(plainBytes)
}

// worthBytes is what compressing n bytes must save: more than the length field that compressed
// blobs have in the pack header and in the index, and enough to pay for decoding at each read.
func worthBytes(n int) int { return 8 + n/256 }

// BoundBytes is the length of the longest frame that n bytes can become.
func BoundBytes(n int) int { return n + n>>8 + 1024 }

// trialBytes is the length from which hopeless is worth its time.
const trialBytes = 128 << 10

// hopeless finds media, archives and encrypted files for less than compressing them would take.
// Text is never hopeless. Of other things it tries a few samples; if they hardly shrink it tries everything, with the quickest
// compressor. Samples alone would not do: the Go module cache's zip files have what can be
// compressed in one place, their directory, and came out 2.6 % larger, while the second look
// leaves 0.02 %. A codec at Auto takes 1.1 GB/s of such files on one core, this 2.1 GB/s, and
// Max 0.25 GB/s. scratch has BoundBytes(len(src)) of capacity.
func (c *Codec) hopeless(scratch, src []byte) bool {
	const (
		samples     = 4
		sampleBytes = 4 << 10
	)
	if c.trial == nil || len(src) < trialBytes || isText(src) {
		return false
	}
	// The stride is odd, so that a structure with a power of two as its period is not
	// looked at in the same place each time.
	stride := (len(src)-sampleBytes)/(samples-1) | 1
	saved := 0
	for i := range samples {
		at := min(i*stride, len(src)-sampleBytes)
		frame := c.trial.appendFrame(scratch[:0], src[at:at+sampleBytes])
		saved += max(sampleBytes-len(frame), 0)
		if saved > samples*sampleBytes/256 {
			return false
		}
	}
	return !worthwhile(len(c.trial.appendFrame(scratch[:0], src)), len(src))
}

// isText guesses from some samples whether three quarters of p are printable ASCII. What is short is none.
func isText(p []byte) bool {
	const (
		samples = 16
		longest = 256 // bytes of a sample
	)
	sampleBytes := min(len(p)/longest, longest)
	if sampleBytes == 0 {
		return false
	}
	printable := 0
	stride := (len(p)-sampleBytes)/(samples-1) | 1 // odd, as in hopeless
	for i := range samples {
		at := min(i*stride, len(p)-sampleBytes)
		for _, b := range p[at : at+sampleBytes] {
			if b >= ' ' && b <= '~' || b == '\n' || b == '\t' || b == '\r' {
				printable++
			}
		}
	}
	return printable > samples*sampleBytes*3/4
}

// Decompress appends the plainBytes bytes of the zstd frame src to dst. The frame is checked to
// be able to hold so many before memory is taken for them. A frame of another size, a second
// frame behind it, and damage are an ErrCorrupt, and dst is returned unchanged. The spare
// capacity of dst must not overlap src.
func Decompress(dst, src []byte, plainBytes int) ([]byte, error) {
	f, err := parseFrame(src)
	if err != nil {
		return dst, err
	}
	if plainBytes < 0 || f.sized && f.contentBytes != uint64(plainBytes) || f.boundBytes < uint64(plainBytes) {
		return dst, fmt.Errorf("%w: %v, want %d plain bytes", ErrCorrupt, f, plainBytes)
	}
	start := len(dst)
	out := slices.Grow(dst, plainBytes)[:start+plainBytes]
	if contentInto(out[start:], src) {
		return out, nil
	}
	n, err := decodeInto(out[start:], src)
	if err != nil {
		return dst, fmt.Errorf("%w: %v: %w", ErrCorrupt, f, err)
	}
	if n != plainBytes {
		return dst, fmt.Errorf("%w: %v holds %d plain bytes, want %d", ErrCorrupt, f, n, plainBytes)
	}
	return out, nil
}

// DecompressLimit returns the content of the zstd frame src. Content of more than maxBytes, a
// second frame, and damage are an ErrCorrupt; never is more than maxBytes allocated at a time.
func DecompressLimit(src []byte, maxBytes int) ([]byte, error) {
	f, err := parseFrame(src)
	if err != nil {
		return nil, err
	}
	if f.sized {
		if f.contentBytes > uint64(max(maxBytes, 0)) {
			return nil, fmt.Errorf("%w: %v, at most %d plain bytes are allowed", ErrCorrupt, f, maxBytes)
		}
		return Decompress(nil, src, int(f.contentBytes))
	}

	// Only the decoder knows the size. The first try fits ordinary content, the last is the
	// most that the frame can hold or that the caller allows. What decoders say when there is
	// not enough room differs, so only the last error counts.
	last := int(min(f.boundBytes, uint64(max(maxBytes, 0))))
	for size := min(max(8*len(src), 256<<10), last); ; size = min(4*size, last) {
		out := make([]byte, size)
		n, err := decodeInto(out, src)
		if err == nil {
			return out[:n:n], nil
		}
		if size == last {
			return nil, fmt.Errorf("%w: %v, at most %d plain bytes are allowed: %w", ErrCorrupt, f, maxBytes, err)
		}
	}
}

// errTooLong is for a content that does not fit where the decoder itself did not notice.
var errTooLong = errors.New("content is longer than expected")
