// Package prune frees the space of what no snapshot needs. It is Plan, which only reads, then Execute.
//
// The plan reads the repository's own index files, lists the packs, walks the trees of all snapshots, each once, and
// marks the blobs they need. Of each needed blob one copy is kept, in the pack that is best to keep. Then each pack
// is kept, written again without what is not needed (repacked), or removed; decide has the rules, which are
// restic's.
//
// Execute goes in this order, under an exclusive lock:
//
//	a store that lets nobody remove is found out, and nothing is done
//	packs that no index file lists are removed: interrupted uploads
//	needed blobs of packs to repack  → new packs → index files that list them
//	index files that list packs which go, and small ones → new index files without these packs
//	old index files are removed
//	old packs are removed
//
// Whatever is removed is durable elsewhere or needed by nobody, so an interruption at any point loses nothing: it
// leaves blobs twice, or packs that no index file lists, and the next prune finds both. Blobs are opened and compared
// with their IDs before they are written again.
//
// Readers without a lock (mounts of other hosts) find a pack gone, refresh their index and look again.
//
// A client that has ignored the lock, or has lost its own, may store a snapshot meanwhile. When one appears, or an
// index file, Execute stops before it removes anything.
//
// Memory: about 50 bytes for each blob, 100 for each tree, and bounded buffers.
package prune

import (
	"errors"
	"math"
	"sync"

	"vitrine/repo/blob"
)

// ErrDamaged is the class of errors of a plan that could not be made because the repository is damaged. Nothing
// was removed.
var ErrDamaged = errors.New("the repository is damaged")

// ErrChanged is the class of errors of an Execute that has stopped because somebody else wrote to the repository.
var ErrChanged = errors.New("another client has changed the repository")

// Options say what is pruned.
type Options struct {
	// MaxUnused is how much may stay that nobody needs.
	MaxUnused Limit
	// MaxRepackBytes bounds the packs that are written again; NoLimit is no bound.
	MaxRepackBytes int64
	// CacheableOnly repacks packs of trees only.
	CacheableOnly bool
	// Uncompressed repacks all packs with blobs that are not compressed; version 2 only.
	Uncompressed bool
	// Small repacks small packs: those below SmallBytes or, when that is 0, below 80 % of the size that new ones have.
	Small      bool
	SmallBytes int64
	// NoFreeSpace is for a store that is full: nothing is repacked, and index files and packs are removed before the
	// new index is written. When that is interrupted the index has to be rebuilt.
	NoFreeSpace bool
	// Ignore are snapshots that count as removed, for a plan that is not executed.
	Ignore map[blob.ID]bool
}

// NoLimit is no bound of bytes.
const NoLimit = math.MaxInt64

// Limit is how much unused space may stay. The zero value is none.
type Limit struct {
	percent float64 // of the repository afterwards
	bytes   int64
}

// Unlimited lets all unused space stay that is in packs with something used.
var Unlimited = Limit{bytes: NoLimit}

// Percent is a limit as part of what the repository has afterwards: 5 is 5 %.
func Percent(p float64) Limit {
	if p >= 100 {
		return Unlimited
	}
	return Limit{percent: p}
}

// Bytes is a limit in bytes.
func Bytes(n int64) Limit { return Limit{bytes: n} }

// allowed returns the bytes that may stay unused beside so many used ones.
func (l Limit) allowed(usedBytes int64) int64 {
	if l.percent == 0 {
		return l.bytes
	}
	return int64(l.percent / (100 - l.percent) * float64(usedBytes))
}

// Phase is a part of the work, for the display of progress.
type Phase uint8

// The phases, in their order; the first four are the plan's.
const (
	Snapshots      Phase = iota // unit: files
	Index                       // files
	Trees                       // trees; the total is not known
	RemoveUnlisted              // packs
	Repack                      // bytes of blobs
	WriteIndex                  // packs
	RemoveIndex                 // files
	RemovePacks                 // packs
)

// Reporter is told how much of a phase is done; total 0 means unknown. It is called from one goroutine at a time.
type Reporter interface {
	Progress(phase Phase, done, total int64)
}

// report counts for a Reporter.
type report struct {
	mu          sync.Mutex // guards the fields below, and is held while to is called
	to          Reporter
	phase       Phase
	done, total int64
}

func (r *report) begin(phase Phase, total int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.phase, r.done, r.total = phase, 0, total
	r.to.Progress(phase, 0, total)
}

func (r *report) advance(n int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done += n
	r.to.Progress(r.phase, r.done, r.total)
}

// Tally counts blobs and their sealed bytes.
type Tally struct {
	Blobs int
	Bytes int64
}

func (t *Tally) add(bytes int64) {
	t.Blobs++
	t.Bytes += bytes
}

func (t *Tally) sum(u Tally) {
	t.Blobs += u.Blobs
	t.Bytes += u.Bytes
}
