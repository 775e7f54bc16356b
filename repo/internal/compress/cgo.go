//go:build cgo

package compress

import (
	"fmt"
	"runtime"
	"sync"

	"github.com/DataDog/zstd"
)

// zstdLevels are those of libzstd. PERFORMANCE.md has the figures: 3 is denser and three times
// faster than the default level of the Go implementation, which restic uses.
var zstdLevels = [...]int{Auto: 3, Fastest: 2, Better: 6, Max: 12}

type encoder struct{ level int }

func newEncoder(level Level) *encoder { return &encoder{level: zstdLevels[level]} }

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

// decodeInto decodes the frame src, which parseFrame accepted, to dst and returns its length.
func decodeInto(dst, src []byte) (int, error) {
	if len(dst) == 0 {
		dst = make([]byte, 1) // the binding takes the address of the first byte
		n, err := decodeInto(dst, src)
		if n > 0 {
			return 0, errTooSmall
		}
		return n, err
	}
	c := contexts.get()
	n, err := c.DecompressInto(dst, src)
	contexts.put(c)
	if zstd.IsDstSizeTooSmallError(err) {
		return 0, errTooSmall
	}
	if err != nil {
		return 0, err
	}
	return n, nil
}

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
