package fs

import (
	"context"
	"os"
	"sync/atomic"
	"time"
)

// awake keeps idle processors from sleeping while a program asks one question after the other.
//
// A program like cp or find asks, sleeps until the answer is there, and asks again: each question and
// each answer wakes a processor. To wake one that sleeps deeply takes far longer than the answer itself:
// measured on a virtual machine of two processors, 58 µs for a round trip instead of 17.
// Linux lets root say how long waking may take, by writing it to a file that is kept open
// (see Documentation/power/pm_qos_interface.rst); then idle processors poll. That costs power, so it
// is said only while requests come in a row, and taken back when they stop.
type awake struct {
	path string // of the file; "" when there is none that we may write
	busy chan struct{}

	requests atomic.Uint32 // since the last look
}

const (
	awakeFile  = "/dev/cpu_dma_latency"
	awakeLook  = 10 * time.Millisecond // how often it is looked at while requests come
	awakeRush  = 20                    // requests between two looks that make a rush
	awakeCalm  = 10                    // looks without a rush after which it is over
	awakeProbe = 64                    // requests after which somebody begins to look
)

// newAwake returns nil, which does nothing, when the file cannot be written.
func newAwake(path string) *awake {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil
	}
	f.Close()
	return &awake{path: path, busy: make(chan struct{}, 1)}
}

// note counts a request.
func (a *awake) note() {
	if a != nil && a.requests.Add(1)%awakeProbe == 0 {
		select {
		case a.busy <- struct{}{}:
		default: // it knows
		}
	}
}

// run does the work until ctx ends.
func (a *awake) run(ctx context.Context) {
	if a == nil {
		return
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.busy:
			a.rush(ctx)
		}
	}
}

// rush looks until requests come no more in a row, and holds the file while they do.
func (a *awake) rush(ctx context.Context) {
	var held *os.File
	defer func() {
		if held != nil {
			held.Close() // which takes back what was said
		}
	}()
	tick := time.NewTicker(awakeLook)
	defer tick.Stop()
	a.requests.Store(0)
	for calm := 0; calm < awakeCalm; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if a.requests.Swap(0) < awakeRush {
			calm++
			continue
		}
		calm = 0
		if held == nil {
			held = a.hold()
		}
	}
}

// hold opens the file and asks for no latency at all; nil when that cannot be had.
func (a *awake) hold() *os.File {
	f, err := os.OpenFile(a.path, os.O_WRONLY, 0)
	if err != nil {
		return nil
	}
	if _, err := f.Write([]byte{0, 0, 0, 0}); err != nil { // microseconds, 32 bits in the machine's order
		f.Close()
		return nil
	}
	return f
}
