package keyfile

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns how much processor time f takes on one thread, so that a busy machine does
// not look like a slow one and get weak keys.
func cpuTime(f func()) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, after unix.Timespec
	start := time.Now()
	errBefore := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &before)
	f()
	errAfter := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &after)
	if errBefore != nil || errAfter != nil {
		return time.Since(start)
	}
	return time.Duration(after.Nano() - before.Nano())
}
