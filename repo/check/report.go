package check

import (
	"fmt"
	"sync"
)

// Phase is a part of the check, for the display of progress.
type Phase uint8

// The phases, in their order.
const (
	Snapshots Phase = iota // unit: files
	Index                  // files
	Packs                  // files
	Trees                  // trees; the total is not known
	Data                   // bytes of packs
)

// Reporter receives what is found. Its methods are called from one goroutine at a time.
type Reporter interface {
	// Error is damage: it names the object and what to do.
	Error(err error)
	// Hint is worth knowing and no damage.
	Hint(message string)
	// Progress tells how much of a phase is done; total 0 means unknown.
	Progress(phase Phase, done, total int64)
}

// Result counts what was checked and found.
type Result struct {
	Errors, Hints            int
	Snapshots, IndexFiles    int
	Trees, Files             int64 // tree blobs that were visited, file nodes in them
	DataBlobs, TreeBlobs     int64 // in the index, each counted once
	DuplicateBlobs           int64 // further copies of blobs
	Packs, OrphanPacks       int   // in the index, in no index
	PackBytes                int64 // of the packs in the index
	PacksRead                int
	BytesRead                int64
	UnusedBlobs, UnusedBytes int64 // with Options.Unused; sealed bytes
}

// report passes findings on, one at a time, and counts them.
type report struct {
	mu   sync.Mutex // guards result.Errors, result.Hints and done, and is held while to is called
	to   Reporter
	res  *Result
	done int64 // in the present phase
}

func (r *report) error(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.Errors++
	r.to.Error(fmt.Errorf(format, args...))
}

func (r *report) hint(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.Hints++
	r.to.Hint(fmt.Sprintf(format, args...))
}

// begin starts a phase.
func (r *report) begin(phase Phase, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = 0
	r.to.Progress(phase, 0, total)
}

// advance tells that n more units are done.
func (r *report) advance(phase Phase, n, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += n
	r.to.Progress(phase, r.done, total)
}
