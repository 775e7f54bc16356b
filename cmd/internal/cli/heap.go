package cli

import (
	"runtime"
	"runtime/debug"
)

// boundHeap lets the heap grow by 16 MiB and a quarter between collections until the function that it returns is called,
// unless $GOGC says something else. What is large has no pointers, so that marking it costs nothing: buffers that a
// backup keeps, the table of all blobs that prune and check make. Doubling that gains nothing. What is small are the
// nodes of trees, and with a quarter alone the collector would hardly do anything but mark them. The 16 MiB are a quarter of
// memory that nobody touches, so that the system never has to provide it.
func boundHeap() (release func()) {
	const ordinary, quarter = 100, 25
	if before := debug.SetGCPercent(quarter); before != ordinary {
		debug.SetGCPercent(before)
		return func() {}
	}
	untouched := make([]byte, 64<<20)
	return func() {
		runtime.KeepAlive(untouched)
		debug.SetGCPercent(ordinary)
	}
}
