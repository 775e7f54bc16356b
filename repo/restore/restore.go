// Package restore writes a snapshot, or a part of one, into a directory.
//
//	walk (one goroutine)   directories, links and devices are made in the order of the names; trees
//	   │                   are loaded some ahead
//	   │ batches           of parts of files that are near each other in the packs
//	workers                read, verify (repo.LendBlobs) and write; whoever writes the last part of a file finishes it
//
// A directory is finished, times last, by whoever completes its last entry.
//
// # What is safe
//
// Content is written under a temporary name (".vitrine-…") and gets the file's name when all of it is
// verified and written, with its metadata. So what has the name of a file is never a part of it, and
// what was there before stays until then. An interrupted run removes its temporary files.
//
// Everything below the target is reached through descriptors of directories, one name at a time,
// without following a symbolic link: neither a hostile snapshot nor links that lie in the target make
// it write outside.
//
// # Memory
//
// The parts in work: Workers × about 8 MiB; the trees of the path to the place where the walk is and
// of up to 8 directories after each of them; for each file with several names about 200 bytes.
package restore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// Store is what a restore reads from; *repo.Repository has it.
type Store interface {
	LoadTree(ctx context.Context, id blob.ID) ([]snapshot.Node, error)
	LookupBlob(h blob.Handle) (blob.Location, bool, error)
	Parts(content []blob.ID, sizeBytes, mostBytes int64) ([]repo.Part, error)
	LendBlobs(ctx context.Context, hs []blob.Handle, use func(i int, lend repo.LendBlob) bool)
}

// Overwrite says what happens to what is in the target already. Directories are always entered.
type Overwrite uint8

// The zero value is restic's default.
const (
	Always    Overwrite = iota // becomes what the snapshot has; content that is the same is not written again
	IfChanged                  // as Always, but equal size and time of change are believed
	IfNewer                    // only what the snapshot has newer
	Never                      // stays
)

// ParseOverwrite reads the word that the flag --overwrite takes.
func ParseOverwrite(s string) (Overwrite, error) {
	for o, word := range []string{"always", "if-changed", "if-newer", "never"} {
		if s == word {
			return Overwrite(o), nil
		}
	}
	return 0, fmt.Errorf("%q: choose always, if-changed, if-newer or never", s)
}

// Options say what is restored, and how.
type Options struct {
	Tree      blob.ID // of the directory whose entries are restored
	Target    string  // the directory that they come into; it is made, for the owner only, when it is missing
	Select    Select
	Overwrite Overwrite
	// Delete removes what is in the target's directories, passes Select and is not in the snapshot, and a directory
	// that is where the snapshot has something else, unless Select keeps something in it. Nothing is removed in
	// what is mounted below them.
	Delete bool
	// DryRun changes nothing and tells what would be.
	DryRun bool
	// Sparse leaves holes where the content is zero.
	Sparse bool
	// Verify reads all files again afterwards and compares their hashes.
	Verify bool
	// OwnershipByName takes the numbers that this machine has for the names of users and groups, where
	// it knows them.
	OwnershipByName bool
	// Xattrs tells which extended attributes are restored, by their names; nil means all.
	Xattrs func(name string) bool
	// Begin is waited for before the target is touched; trees are loaded meanwhile. Its error ends the restore; nil
	// is nothing to wait for.
	Begin func(ctx context.Context) error
	// Workers is how many batches are in work at a time; 0 means 4 and one for each processor.
	Workers int
	// Reporter is told of the progress; nil discards it.
	Reporter Reporter
	// Log receives what is worth knowing and is no error; nil discards it.
	Log *slog.Logger
}

// Action is what became of an entry.
type Action uint8

// The actions.
const (
	Restored  Action = iota // it was not there
	Updated                 // something else was there
	Unchanged               // the same was there, or something that was to stay
	Deleted
)

// Item is an entry that is done.
type Item struct {
	Path      string // below the target, absolute
	Type      snapshot.NodeType
	SizeBytes uint64 // of regular files
	Action    Action
}

// Reporter is told how a restore goes on. Its methods are called in parallel.
type Reporter interface {
	// Total tells what there is to do as far as it is known.
	Total(entries, sizeBytes uint64, final bool)
	// Wrote tells of n bytes of content that are written.
	Wrote(n int)
	// Done tells of an entry.
	Done(it Item)
	// Error tells of an entry that is not restored, or not all of it.
	Error(path string, err error)
}

// Result counts entries: files, directories and all else.
type Result struct {
	Restored, Unchanged, Deleted  uint64
	RestoredBytes, UnchangedBytes uint64 // of regular files
	Verified                      uint64 // files that were read again
	Errors                        uint64
}

type nobody struct{}

func (nobody) Total(uint64, uint64, bool) {}
func (nobody) Wrote(int)                  {}
func (nobody) Done(Item)                  {}
func (nobody) Error(string, error)        {}

// run is one restore at work.
type run struct {
	Options
	store Store
	root  int // descriptor of the target; -1 in a dry run when there is none
	owner *owners
	temps atomic.Uint64 // numbers the temporary names
	mark  string        // of this run, in the temporary names

	jobs chan []part
	ways atomic.Uint64 // directories that are made only to hold what is selected

	giveGroup atomic.Bool // a directory that was there gives its group to what is made below: the process's is not taken for granted

	entriesToDo, bytesToDo uint64 // counted

	noXattrs sync.Once // the file system of the target has none: told once
	noSetID  sync.Once // a file has lost set-ID bits: told once

	restored, restoredBytes, unchanged, unchangedBytes, deleted, verified, errors atomic.Uint64
}

// Run restores. What cannot be restored is told to the Reporter and counted in Result.Errors, and
// the rest goes on; the error is for what ends the whole: the target cannot be used, ctx has ended.
func Run(ctx context.Context, store Store, o Options) (Result, error) {
	if o.Reporter == nil {
		o.Reporter = nobody{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Workers == 0 {
		o.Workers = 4 + runtime.GOMAXPROCS(0)
	}
	r := &run{Options: o, store: store, owner: newOwners(o.OwnershipByName), jobs: make(chan []part), mark: newMark()}
	var counting sync.WaitGroup
	defer counting.Wait()
	counted, stop := context.WithCancel(ctx)
	defer stop()
	counting.Go(func() { r.count(counted) })
	if o.Begin != nil {
		if err := o.Begin(ctx); err != nil {
			return Result{}, err
		}
	}
	if err := r.openTarget(); err != nil {
		return Result{}, err
	}
	defer closeFD(r.root)
	err := r.write(ctx, counting.Wait)
	if err == nil && o.Verify && !o.DryRun {
		err = r.verify(ctx)
	}
	return Result{
		Restored: r.restored.Load(), RestoredBytes: r.restoredBytes.Load(),
		Unchanged: r.unchanged.Load(), UnchangedBytes: r.unchangedBytes.Load(),
		Deleted: r.deleted.Load(), Verified: r.verified.Load(), Errors: r.errors.Load(),
	}, err
}

// openTarget makes the target unless it is there.
func (r *run) openTarget() error {
	if !r.DryRun {
		if err := os.MkdirAll(r.Target, 0o700); err != nil {
			return fmt.Errorf("make the target: %w", err)
		}
	}
	fd, err := openDir(atCWD, r.Target, true)
	if err != nil && !(r.DryRun && errors.Is(err, os.ErrNotExist)) {
		return fmt.Errorf("open the target: %w", &os.PathError{Op: "open", Path: r.Target, Err: err})
	}
	r.root = fd
	r.foundDir(fd)
	return nil
}

// foundDir looks at a directory that was there.
func (r *run) foundDir(fd int) {
	var st unix.Stat_t
	if unix.Fstat(fd, &st) == nil && st.Mode&unix.S_ISGID != 0 {
		r.giveGroup.Store(true)
	}
}

// write walks and writes. What there is to do is known when counted returns.
func (r *run) write(ctx context.Context, counted func()) error {
	var workers sync.WaitGroup
	for range r.Workers {
		workers.Go(func() {
			for batch := range r.jobs {
				r.batch(ctx, batch)
			}
		})
	}
	w := &walker{run: r, groups: make(map[linkKey]*links)}
	w.visit(ctx)
	close(r.jobs)
	workers.Wait()
	counted()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r.Reporter.Total(r.entriesToDo+r.ways.Load(), r.bytesToDo, true)
	return nil
}

// failed tells of an entry that is not as it should be.
func (r *run) failed(path string, err error) {
	r.errors.Add(1)
	r.Reporter.Error(path, err)
}

// done tells of an entry.
func (r *run) done(path string, n *snapshot.Node, a Action) {
	it := Item{Path: path, Type: n.Type, Action: a}
	if n.Type == snapshot.File {
		it.SizeBytes = n.Size
	}
	if a == Unchanged {
		r.unchanged.Add(1)
		r.unchangedBytes.Add(it.SizeBytes)
	} else {
		r.restored.Add(1)
		r.restoredBytes.Add(it.SizeBytes)
	}
	r.Reporter.Done(it)
}
