//go:build cgo

package compress

/*
#include <stddef.h>

// The library is linked by package zstd, which has no binding for its parameters. What follows is of its stable interface,
// but for blockSplitter: a version that does not know it goes on without.
typedef struct ZSTD_CCtx_s ZSTD_CCtx;
ZSTD_CCtx *ZSTD_createCCtx(void);
size_t ZSTD_freeCCtx(ZSTD_CCtx *);
size_t ZSTD_CCtx_setParameter(ZSTD_CCtx *, int, int);
size_t ZSTD_compress2(ZSTD_CCtx *, void *, size_t, const void *, size_t);
unsigned ZSTD_isError(size_t);

enum { compressionLevel = 100, hashLog = 102, chainLog = 103, minMatch = 105, strategy = 107, blockSplitter = 1017 }; // of ZSTD_cParameter

// compress makes one frame and returns its length, 0 after an error. A parameter of 0 is the level's own.
static size_t compress(ZSTD_CCtx *c, int level, int how, int hash, int chain, int match, int split, void *dst, size_t room, const void *src, size_t n) {
	ZSTD_CCtx_setParameter(c, compressionLevel, level);
	ZSTD_CCtx_setParameter(c, strategy, how);
	ZSTD_CCtx_setParameter(c, hashLog, hash);
	ZSTD_CCtx_setParameter(c, chainLog, chain);
	ZSTD_CCtx_setParameter(c, minMatch, match);
	ZSTD_CCtx_setParameter(c, blockSplitter, split);
	size_t length = ZSTD_compress2(c, dst, room, src, n);
	return ZSTD_isError(length) ? 0 : length;
}

#cgo noescape compress
#cgo nocallback compress
*/
import "C"

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"unsafe"

	"github.com/DataDog/zstd"
)

// zstdLevels are those of libzstd. Each is denser than the level of the Go implementation that
// restic takes under this name; ratios on 221 MiB of the Go installation and on 286 MiB of /usr/lib:
//
//	fastest  2: 3.16, 2.92   restic's 3.03, 2.81 (level 1: 3.08, 2.78)
//	auto     3: 3.25, 3.03   restic's 3.19, 2.95; see setting
//	better   6: 3.44, 3.19   restic's 3.28, 3.01
//	max     12: 3.50, 3.24   restic's 3.45, 3.19
var zstdLevels = [...]int{Auto: 3, Fastest: 2, Better: 6, Max: 12}

type encoder struct {
	level int
	quick bool // with the settings for Auto and Fastest
	least bool // those for Fastest
}

func newEncoder(level Level) *encoder {
	return &encoder{level: zstdLevels[level], quick: level == Auto || level == Fastest, least: level == Fastest}
}

func newTrial() *encoder { return &encoder{level: 1} }

// setting is what libzstd is told; of what is 0 it takes the level's own.
type setting struct {
	level       int
	strategy    int
	hash, chain int // sizes of the tables of matches, as powers of two
	match       int // bytes of the shortest match that is looked for
	split       int // how blocks of 128 KiB are divided
}

// Strategies of libzstd: with one table of matches, and with two.
const (
	fast   = 1
	double = 2
)

// whole keeps blocks as they are.
const whole = 1

// setting returns the setting for p. At Auto and Fastest the tables are smaller than those of the levels, so that the
// processor's nearest caches hold them and little is to be cleared for a small blob, and blocks stay as they come where
// dividing them costs more than it saves. Blobs get one table, or two if they are text, which would come out larger than
// restic's otherwise: a small one for short matches and a larger one for long matches. Time and size of compressing alone,
// against the levels' own parameters, on a mixed tree of sources, programs and archives (small ones on AMD Zen 3):
//
//	up to 16 KiB    0.89  1.009 with two tables, against level 3
//	up to 128 KiB   0.91  1.006
//	up to 256 KiB   0.80  1.016
//	larger          0.87  1.006 against level 2; level 3: 1.44, 0.975
//	larger text     1.00  0.972 against level 2; level 3: 1.18, 0.952 (a tar of Go's sources)
//	                0.95  1.004                          1.29, 0.968 (a tar of /usr/share)
//
// Those of large text are for tables of 16 and 10 bits; 15 and 11 take 0.94 of the processor time of a whole backup of a tar on
// AMD Zen 5, and 1.0006 of the room (six runs each).
//
// One table instead of two, on files of /usr and the Go module cache:
//
//	up to 16 KiB    0.80  1.004, text 0.84 1.018
//	up to 128 KiB   0.90  1.006, text 0.89 1.040
//	up to 256 KiB   0.84  1.012, text 0.96 1.057
//
// Fastest has one for text up to 256 KiB too.
//
// Against restic's, repositories of trees of small files are between 0.9 % smaller (/usr/share/man) and 1 % larger
// (/usr/lib/python3), that of the mixed tree half a percent larger, that of a tar of /usr/share 1.7 % and of one of
// /usr/lib/x86_64-linux-gnu 2.3 %.
func (e *encoder) setting(p []byte) setting {
	if !e.quick {
		return setting{level: e.level}
	}
	switch n, text := len(p), isText(p); {
	case n <= 16<<10 && text && !e.least:
		return setting{level: 2, strategy: double, hash: 12, chain: 12, match: 5, split: whole}
	case n <= 16<<10:
		return setting{level: 2, strategy: fast, hash: 13, match: 5, split: whole}
	case n <= 128<<10 && text && !e.least:
		return setting{level: 2, strategy: double, hash: 14, chain: 12, match: 5, split: whole}
	case n <= 256<<10 && text && !e.least:
		return setting{level: 2, strategy: double, hash: 15, chain: 12, match: 5, split: whole}
	case n <= 256<<10:
		return setting{level: 2, strategy: fast, hash: 14, match: 5, split: whole}
	case text:
		return setting{level: 2, strategy: double, hash: 15, chain: 11, match: 5, split: whole}
	}
	return setting{level: 2, strategy: fast, hash: 15}
}

// appendFrame appends to dst, which has BoundBytes(len(src)) of spare capacity.
func (e *encoder) appendFrame(dst, src []byte) []byte {
	s := e.setting(src)
	c := compressors.get()
	room := dst[len(dst):cap(dst)]
	n := C.compress(c.zstd, C.int(s.level), C.int(s.strategy), C.int(s.hash), C.int(s.chain), C.int(s.match), C.int(s.split),
		unsafe.Pointer(unsafe.SliceData(room)), C.size_t(len(room)), unsafe.Pointer(unsafe.SliceData(src)), C.size_t(len(src)))
	compressors.put(c)
	if n == 0 {
		panic(fmt.Sprintf("compress: %d bytes at level %d", len(src), s.level)) // out of memory in C
	}
	return dst[:len(dst)+int(n)]
}

// decodeInto decodes the frame src, which parseFrame accepted, to dst and returns its length. It
// is an error if dst is too short.
func decodeInto(dst, src []byte) (int, error) {
	room := dst
	if len(dst) == 0 {
		room = make([]byte, 1) // the binding takes the address of the first byte
	}
	c := decoders.get()
	n, err := c.DecompressInto(room, src)
	decoders.put(c)
	if err == nil && n > len(dst) {
		err = errTooLong
	}
	return n, err
}

// newStream decodes the frame src, which parseFrame accepted. libzstd refuses windows above 128 MiB.
func newStream(src []byte) (io.ReadCloser, error) { return zstd.NewReader(bytes.NewReader(src)), nil }

// compressor is a context of libzstd for compression.
type compressor struct{ zstd *C.ZSTD_CCtx }

func newCompressor() *compressor {
	c := &compressor{C.ZSTD_createCCtx()}
	if c.zstd == nil {
		panic("compress: no memory for libzstd")
	}
	runtime.AddCleanup(c, func(z *C.ZSTD_CCtx) { C.ZSTD_freeCCtx(z) }, c.zstd)
	return c
}

var (
	compressors = stack[*compressor]{fresh: newCompressor}
	decoders    = stack[zstd.Ctx]{fresh: zstd.NewCtx}
)
