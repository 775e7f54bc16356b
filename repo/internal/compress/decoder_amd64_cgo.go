//go:build cgo && amd64

package compress

/*
#include <stdlib.h>
#include "matches.h"
#include "content.h"

#cgo noescape frameMatches
#cgo nocallback frameMatches
#cgo noescape frameContent
#cgo nocallback frameContent

static int able(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"); }
*/
import "C"

import (
	"runtime"
	"unsafe"
)

var (
	able = C.able() != 0
	wide = C.ableLanes() != 0 // blocks can be decoded beside each other (lanes.h)

	frameReaders = stack[*frameReader]{fresh: newFrameReader}
)

// frameReader is memory for reading frames, outside of Go's heap because there are pointers in it.
type frameReader struct{ memory *C.reader }

func newFrameReader() *frameReader {
	r := &frameReader{(*C.reader)(C.calloc(1, C.sizeof_reader))}
	if r.memory == nil {
		panic("compress: no memory for a reader")
	}
	runtime.AddCleanup(r, func(memory *C.reader) { C.free(unsafe.Pointer(memory)) }, r.memory)
	return r
}

// matches is Matches where it is able to, for content that is not empty.
func matches(frame, plain []byte) bool {
	r := frameReaders.get()
	defer frameReaders.put(r)
	return C.frameMatches(r.memory, C.bool(wide), bytesOf(frame), C.size_t(len(frame)), bytesOf(plain), C.size_t(len(plain))) != 0
}

// contentInto puts the content of a frame into dst, all of it. It returns false if there is not so much, or if another decoder
// is to have a try.
func contentInto(dst, frame []byte) bool {
	if !wide || len(dst) < wideLeast {
		return false
	}
	r := frameReaders.get()
	defer frameReaders.put(r)
	return C.frameContent(r.memory, bytesOf(frame), C.size_t(len(frame)), bytesOf(dst), C.size_t(len(dst))) != 0
}

func bytesOf(p []byte) *C.uint8_t { return (*C.uint8_t)(unsafe.SliceData(p)) }
