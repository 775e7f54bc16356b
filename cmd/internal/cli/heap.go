package cli

import (
	"runtime"
	"runtime/debug"
)

// boundHeap lets the heap grow by 13 MiB and a tenth between collections until the function that it returns is called,
// unless $GOGC says something else. What is large has no pointers, so that marking it costs nothing: buffers that a
// backup or a restore keeps, the table of all blobs that prune and check make. Doubling that gains nothing. What is small are the
// nodes of trees, and with a tenth alone the collector would hardly do anything but mark them. The 13 MiB are a tenth of
// memory that nobody touches, so that the system never has to provide it.
func boundHeap() (release func()) {
	const ordinary, tenth = 100, 10
	if before := debug.SetGCPercent(tenth); before != ordinary {
		debug.SetGCPercent(before)
		return func() {}
	}
	untouched := make([]byte, 128<<20)
	return func() {
		runtime.KeepAlive(untouched)
		debug.SetGCPercent(ordinary)
	}
}
