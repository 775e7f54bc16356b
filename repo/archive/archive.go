// Package archive backs up files: it walks the sources, stores what the repository does not
// have yet and writes a snapshot that names the rest.
//
// # Order
//
// Everything goes through one write scope (repo.Repository.Write): data blobs while files are
// read, the tree of a directory when its last child is done, the root tree at the end. The
// snapshot is saved only after Write has returned nil, that is when packs and index are
// durable. An interrupted run leaves no snapshot; the packs it stored are listed in an
// index file by the write scope, so that the next run finds their blobs and goes on from there.
package archive

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/source"
)

// ErrNoTargets means that none of the targets exists.
var ErrNoTargets = errors.New("none of the targets exists")

// ErrEmpty means that nothing could be put into the snapshot: all is excluded or unreadable.
var ErrEmpty = errors.New("snapshot would be empty")

// Options say what is backed up and how. Only Targets (or Stdin) must be set.
type Options struct {
	// Targets are files and directories, absolute or relative to the working directory.
	// One that does not exist is reported and counted as an error; the rest goes on.
	Targets []string
	// Stdin replaces Targets: its bytes become one file of the name StdinFilename ("stdin").
	Stdin         io.Reader
	StdinFilename string

	// Filter leaves things out; nil keeps all.
	Filter *source.Filter
	// Excludes are noted in the snapshot; they filter nothing.
	Excludes []string

	// Parent is compared with, so that unchanged files are not read. Nil means
	// FindParent's choice, unless Force is set: then there is none.
	Parent *snapshot.Snapshot
	Force  bool
	// ParentFound says that Parent is FindParent's choice, and so may lack some of the paths.
	ParentFound bool
	// IgnoreInode and IgnoreCtime weaken what must be equal for a file to count as
	// unchanged. IgnoreInode implies IgnoreCtime: who makes up inode numbers makes up those times too.
	IgnoreInode, IgnoreCtime bool
	// WithAtime stores access times; without it they are stored equal to the modification times.
	WithAtime bool

	Time           time.Time // of the snapshot; zero means now
	Host           string    // "" means none is noted
	Tags           []string
	ProgramVersion string

	// DryRun does everything but write: the result says what would be new.
	DryRun bool
	// SkipIfUnchanged saves no snapshot when the root tree equals the parent's.
	SkipIfUnchanged bool
	// NoScan leaves out the counting of files beside the backup, and with it Reporter.Scanned.
	NoScan bool
	// ScanAfter is when the counting begins. A Reporter that shows nothing until then loses nothing by it, and a
	// backup that has ended by then saves the work.
	ScanAfter time.Duration

	// Backwards takes what is in a directory from the last name to the first. The snapshot is the same.
	// Of two hosts that back up much the same at the same time, one goes forwards and one backwards:
	// they meet in the middle, and each finds there what the other has stored. A directory's JSON is in
	// memory twice then.
	Backwards bool
	// Direction is asked for Backwards anew when it turns out that another client stores data at the same time, and, of
	// a backup without a parent, more and more rarely as it grows old: what waits and what is left of the directories in work is then
	// taken from the other end. It may be called in parallel. nil keeps to Backwards; an error is logged.
	Direction func(ctx context.Context) (backwards bool, err error)

	// ReadConcurrency is how many files are read at a time; 0 means one for each processor, at least 2.
	ReadConcurrency int
	// InFlightBytes bounds the content of larger files that is in memory at a time; 0 means
	// 16 MiB and 8 MiB for each processor.
	InFlightBytes int64

	Reporter Reporter     // nil reports to nobody
	Log      *slog.Logger // nil discards
}

// Result is what a backup did. It is also valid, as far as it goes, beside an error.
type Result struct {
	Snapshot *snapshot.Snapshot // with ID; no ID when DryRun or Skipped
	Parent   *snapshot.Snapshot // nil without one
	Summary  snapshot.Summary
	Errors   int  // items that are missing or incomplete in the snapshot; each was reported
	Skipped  bool // SkipIfUnchanged left the snapshot out
}

// Change is how an item differs from the parent snapshot.
type Change uint8

// The changes of an item.
const (
	New Change = iota
	Changed
	Unmodified
)

// Item is a file, directory or other entry that is done.
type Item struct {
	Dir, Name string // Dir is the absolute path on disk of the directory it is in; "" for a stream at the root
	Type      snapshot.NodeType
	Change    Change
	SizeBytes uint64 // files: their length
	// What this item added to the repository.
	DataBlobs, TreeBlobs             int
	DataBytes, TreeBytes             uint64 // plain
	DataStoredBytes, TreeStoredBytes uint64 // as stored
}

// Total is the amount of source that a scan has found.
type Total struct {
	Files, Dirs, Others uint64
	Bytes               uint64
	Guessed             bool // it is what the parent snapshot holds, and nothing was scanned
}

// Reporter is told of progress. Its methods are called from many goroutines at a time and
// must return quickly: the backup waits for them.
type Reporter interface {
	// Scanned tells what there is to do as far as is known; done means that no better figure
	// will come. When the parent snapshot has a summary, its totals are the first guess. The backup itself, which has met
	// everything when it is through, ends a scan that is not done by then. It is not called for standard input, nor with NoScan, and
	// a backup that fails may end without done.
	Scanned(t Total, done bool)
	// Started is called before a file is read that is large enough to take a moment
	// (chunker.MinBytes). Done follows, or Error with dir and name joined.
	Started(dir, name string, sizeBytes uint64)
	// Read is called as content of a file has been taken in: n more bytes of plain
	// data. The bytes of an unchanged file are only in its Item.
	Read(n int)
	// Done is called once for each item of the snapshot.
	Done(it Item)
	// Error tells of an item that is missing or incomplete in the snapshot; path is absolute.
	Error(path string, err error)
}

// Store is where blobs go: *repo.Writer, or a counter in a dry run. Its methods are called
// in parallel; the plain bytes stay the caller's. SaveBlobs is SaveBlob for several, up to the first error.
type Store interface {
	SaveBlob(ctx context.Context, t blob.Type, plain []byte) (repo.Saved, error)
	SaveBlobs(ctx context.Context, t blob.Type, plains [][]byte, saved []repo.Saved) error
	SaveHashed(ctx context.Context, h blob.Handle, plain []byte) (repo.Saved, error)
	Known(h blob.Handle) (bool, error)
}
