//go:build cgo

package compress

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/DataDog/zstd"
)

// zstdLevels are those of libzstd. Each is denser than the level of the Go implementation that
// restic takes under this name; ratios on 221 MiB of the Go installation and on 286 MiB of /usr/lib:
//
//	fastest  2: 3.16, 2.92   restic's 3.03, 2.81 (level 1: 3.08, 2.78)
//	auto     3: 3.25, 3.03   restic's 3.19, 2.95
//	better   6: 3.44, 3.19   restic's 3.28, 3.01
//	max     12: 3.50, 3.24   restic's 3.45, 3.19
var zstdLevels = [...]int{Auto: 3, Fastest: 2, Better: 6, Max: 12}

type encoder struct{ level int }

func newEncoder(level Level) *encoder { return &encoder{level: zstdLevels[level]} }

func newTrial() *encoder { return &encoder{level: 1} }

// appendFrame appends to dst, which has boundBytes(len(src)) of spare capacity.
func (e *encoder) appendFrame(dst, src []byte) []byte {
	c := contexts.get()
	out, err := c.CompressLevel(dst[len(dst):], src, e.level)
	contexts.put(c)
	if err != nil {
		panic(fmt.Sprintf("compress: %d bytes at level %d: %v", len(src), e.level, err)) // out of memory in C
	}
	return dst[:len(dst)+len(out)] // there was room, so out is where dst ends
}

// decodeInto decodes the frame src, which parseFrame accepted, to dst and returns its length. It
// is an error if dst is too short.
func decodeInto(dst, src []byte) (int, error) {
	room := dst
	if len(dst) == 0 {
		room = make([]byte, 1) // the binding takes the address of the first byte
	}
	c := contexts.get()
	n, err := c.DecompressInto(room, src)
	contexts.put(c)
	if err == nil && n > len(dst) {
		err = errTooLong
	}
	return n, err
}

// newStream decodes the frame src, which parseFrame accepted. libzstd refuses windows above 128 MiB.
func newStream(src []byte) (io.ReadCloser, error) { return zstd.NewReader(bytes.NewReader(src)), nil }

// contexts keeps the memory of libzstd's contexts (several MiB each, outside of Go's heap) for
// the next call. It is a stack, so that the one last used, still in the processor's caches, is
// used next. Not a sync.Pool: that forgets everything at a collection.
var contexts contextStack

type contextStack struct {
	mu   sync.Mutex
	free []zstd.Ctx // at most 2·GOMAXPROCS; what is beyond that is freed by its finalizer
}

func (s *contextStack) get() zstd.Ctx {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		c := s.free[n-1]
		s.free = s.free[:n-1]
		return c
	}
	return zstd.NewCtx()
}

func (s *contextStack) put(c zstd.Ctx) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) < 2*runtime.GOMAXPROCS(0) {
		s.free = append(s.free, c)
	}
}
