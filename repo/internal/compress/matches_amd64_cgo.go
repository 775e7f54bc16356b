//go:build cgo && amd64

package compress

/*
#include <stdlib.h>
#include "matches.h"

#cgo noescape frameMatches
#cgo nocallback frameMatches

static int able(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2"); }
*/
import "C"

import (
	"runtime"
	"unsafe"
)

var (
	able      = C.able() != 0
	verifiers = stack[*verifier]{fresh: newVerifier}
)

// verifier is memory for matches, outside of Go's heap because there are pointers in it.
type verifier struct{ memory *C.verifier }

func newVerifier() *verifier {
	v := &verifier{(*C.verifier)(C.calloc(1, C.sizeof_verifier))}
	if v.memory == nil {
		panic("compress: no memory for a verifier")
	}
	runtime.AddCleanup(v, func(memory *C.verifier) { C.free(unsafe.Pointer(memory)) }, v.memory)
	return v
}

// matches is Matches where it is able to, for content that is not empty.
func matches(frame, plain []byte) bool {
	v := verifiers.get()
	defer verifiers.put(v)
	return C.frameMatches(v.memory, (*C.uint8_t)(unsafe.SliceData(frame)), C.size_t(len(frame)), (*C.uint8_t)(unsafe.SliceData(plain)), C.size_t(len(plain))) != 0
}
