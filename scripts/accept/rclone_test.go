package accept

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// killingRclone is the lab of a directory behind rclone as it is when that is killed again and again until the test
// ends, after pauses around the given one; each fifth is four times as long, so that what takes long comes through too.
// Transfers are slowed down, so that kills fall into them. cuts is how many rclones have been killed.
func (l *lab) killingRclone(every time.Duration) (killing *lab, cuts func() int) {
	l.t.Helper()
	other := *l
	other.repo += "/" // a name of its own for the same directory: those that use the other one are not killed
	other.vitrineOptions = append(other.vitrineOptions, "--limit-upload", "15000", "--limit-download", "15000")
	done := make(chan struct{})
	var task sync.WaitGroup
	var killed atomic.Int64
	task.Go(func() {
		for round := 0; ; round++ {
			pause := every/2 + rand.N(every)
			if round%5 == 4 {
				pause *= 4
			}
			select {
			case <-done:
				return
			case <-time.After(pause): // a kill as soon as there is one to kill would let no long transfer through
			}
			for _, pid := range rclonesFor(strings.TrimPrefix(other.repo, "rclone:")) {
				if syscall.Kill(pid, syscall.SIGKILL) == nil {
					killed.Add(1)
				}
			}
		}
	})
	l.t.Cleanup(func() {
		close(done)
		task.Wait()
	})
	return &other, func() int { return int(killed.Load()) }
}

// rclonesFor returns the running rclones that serve a remote and have answered already: when the first one of a
// program ends before, that is an error.
func rclonesFor(remote string) (pids []int) {
	const answered = 500 // bytes written: more than what it says at the start and to the first question, less than config and keys
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		command, err := os.ReadFile(dir + "/cmdline")
		argv := bytes.Split(bytes.TrimSuffix(command, []byte{0}), []byte{0})
		if err != nil || string(argv[0]) != "rclone" || string(argv[len(argv)-1]) != remote {
			continue // err: it has ended
		}
		counters, err := os.ReadFile(dir + "/io")
		_, written, _ := strings.Cut(string(counters), "wchar: ")
		var n int
		if _, scanned := fmt.Sscan(written, &n); err != nil || scanned != nil || n < answered {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}
