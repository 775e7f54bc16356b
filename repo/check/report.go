package check

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"vitrine/repo/blob"
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
	Unread                   int // of Errors, what could not be read and may be sound
	Untold                   int // of Errors, those that others stand for
	Snapshots, IndexFiles    int
	Trees, Files             int64 // tree blobs that were visited, file nodes in them
	DataBlobs, TreeBlobs     int64 // in the index, each counted once
	DuplicateBlobs           int64 // further copies of blobs
	Packs, OrphanPacks       int   // in the index, in no index
	PackBytes                int64 // of the packs in the index
	PacksRead                int
	BytesRead                int64
	UnusedBlobs, UnusedBytes int64 // sealed bytes
	UnusedCounted            bool  // they were: with Options.Unused, when all snapshots and trees could be read

	// BrokenPacks hold bytes that are not what they should be, or too few; each once, in the order of their
	// IDs. Packs that are missing, or could not be read at the moment, are not among them.
	BrokenPacks []blob.ID
	// IndexDamaged tells that a new index, made from the packs, would put something right.
	IndexDamaged bool
	// LostFiles and LostTrees tell that files lack content, and that directories cannot be read. A new index, or what can
	// be read of BrokenPacks, may bring some back.
	LostFiles, LostTrees bool
}

// report passes findings on, one at a time, and counts them.
type report struct {
	each  bool       // Options.Each
	mu    sync.Mutex // guards the counters of res, BrokenPacks and IndexDamaged, and the fields below; is held while to is called
	to    Reporter
	res   *Result
	done  int64           // in the present phase
	files map[blob.ID]int // by pack: files that lack something of it; zero: something that is in no index
}

// namedFiles is how many of the files that lack something of one pack are named without Options.Each.
const namedFiles = 10

// file is error about a file that lacks something of a pack.
func (r *report) file(pack blob.ID, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.Errors++
	if r.files[pack]++; r.files[pack] > namedFiles && !r.each {
		r.res.Untold++
		return
	}
	r.to.Error(fmt.Errorf(format, args...))
}

// otherFiles tells how many files were not named.
func (r *report) otherFiles() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.each {
		return
	}
	for _, pack := range slices.SortedFunc(maps.Keys(r.files), blob.ID.Compare) {
		n := r.files[pack] - namedFiles
		if n <= 0 {
			continue
		}
		files, where := "1 more file lacks", "is in no index"
		if n > 1 {
			files = fmt.Sprintf("%d more files lack", n)
		}
		if !pack.IsZero() {
			where = "was in pack/" + pack.Short()
		}
		r.to.Error(fmt.Errorf("%s what %s; `vitrine check -v` names all", files, where))
	}
	clear(r.files)
}

// more counts errors for which one stands that was told.
func (r *report) more(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.Errors += n
	r.res.Untold += n
}

func (r *report) error(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.Errors++
	r.to.Error(fmt.Errorf(format, args...))
}

// broken is error about a pack whose bytes are wrong.
func (r *report) broken(pack blob.ID, format string, args ...any) {
	r.mu.Lock()
	if at, there := slices.BinarySearchFunc(r.res.BrokenPacks, pack, blob.ID.Compare); !there {
		r.res.BrokenPacks = slices.Insert(r.res.BrokenPacks, at, pack)
	}
	r.mu.Unlock()
	r.error(format, args...)
}

// unread is error about something of which nothing is known: it could not be read, for want of a permission or a connection.
func (r *report) unread(format string, args ...any) {
	r.mu.Lock()
	r.res.Unread++
	r.mu.Unlock()
	r.error(format, args...)
}

// index is error about something that a new index puts right.
func (r *report) index(format string, args ...any) {
	r.needIndex()
	r.error(format, args...)
}

func (r *report) needIndex() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.IndexDamaged = true
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
