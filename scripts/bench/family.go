package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// familyEvery is how often it is looked what a program and its children have in memory. Vitrine's child that builds an
// index lives for a tenth of a second and more where it takes memory that counts.
const familyEvery = 30 * time.Millisecond

// runWatched runs a command and returns the most memory that it and its children had at the same time, as far as that was
// seen; 0 when it had no children. The system itself tells the largest of them only, not what they had together.
func runWatched(cmd *exec.Cmd) (togetherBytes int64, err error) {
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended, seen := make(chan struct{}), make(chan int64)
	go func() {
		var most int64
		tick := time.NewTicker(familyEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				seen <- most
				return
			case <-tick.C:
				most = max(most, familyBytes(cmd.Process.Pid))
			}
		}
	}()
	err = cmd.Wait()
	close(ended)
	return <-seen, err
}

// familyBytes is what a process and its children have in memory now; 0 when it has none.
func familyBytes(pid int) int64 {
	proc := "/proc/" + strconv.Itoa(pid)
	lists, err := filepath.Glob(proc + "/task/*/children")
	if err != nil {
		return 0
	}
	var sum int64
	for _, list := range lists {
		text, err := os.ReadFile(list)
		if err != nil {
			continue // the thread is gone
		}
		for child := range strings.FieldsSeq(string(text)) {
			if !sameProgram(proc, "/proc/"+child) {
				sum += residentBytes("/proc/" + child)
			}
		}
	}
	if sum == 0 {
		return 0
	}
	return sum + residentBytes(proc)
}

// sameProgram is true for a child that still is its parent, and has the parent's memory: it will call another program.
func sameProgram(parent, child string) bool {
	a, err1 := os.ReadFile(parent + "/cmdline")
	b, err2 := os.ReadFile(child + "/cmdline")
	return errors.Join(err1, err2) != nil || bytes.Equal(a, b)
}

// residentBytes is the resident memory of a process; 0 if it is gone.
func residentBytes(proc string) int64 {
	text, err := os.ReadFile(proc + "/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
