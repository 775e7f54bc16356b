// Package check verifies a repository.
package check

import (
	"context"

	"vitrine/repo"
	"vitrine/repo/snapshot"
)

// Options say how much is checked.
type Options struct {
	// ReadData reads every pack whole.
	ReadData bool
	// Subset reads only some of the packs: "n/t", "5%", "100M"; it implies ReadData.
	Subset string
	// Filter, when set, limits the check of trees and the packs that are read to
	// these snapshots.
	Filter *snapshot.Filter
	// Unused counts the blobs that no snapshot needs.
	Unused bool
}

// Phase is a part of the check, for the display of progress.
type Phase uint8

// The phases, in their order.
const (
	Snapshots Phase = iota // files
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
	Trees, Files             int64 // tree blobs, file nodes in them
	DataBlobs, TreeBlobs     int64 // in the index, each counted once
	DuplicateBlobs           int64 // further copies of blobs
	Packs, OrphanPacks       int
	PackBytes                int64
	PacksRead                int
	BytesRead                int64
	UnusedBlobs, UnusedBytes int64 // with Options.Unused
}

// Run checks the repository. The error tells why the check could not go on, not what it found:
// that is in Result.Errors.
func Run(ctx context.Context, r *repo.Repository, o Options, rep Reporter) (Result, error) {
	panic("not yet")
}
