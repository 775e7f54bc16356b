//go:build !linux

package keyfile

import "time"

// cpuTime returns how long f takes; only Linux has a clock of the thread.
func cpuTime(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}
