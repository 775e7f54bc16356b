package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/chunker"
	"vitrine/repo/snapshot"
	"vitrine/repo/source"
)

// groupEntries is how many entries a worker is given at a time when there is enough to do
// for all; with many readers, as for disks that are slow to answer, it is less.
const groupEntries = 64

// Run makes a backup. When ctx ends it stops soon, writes no snapshot and returns the cause.
func Run(ctx context.Context, r *repo.Repository, o Options) (Result, error) {
	o = withDefaults(o)
	start := time.Now()
	a := newRun(r, &o)
	res := Result{}
	sn := &snapshot.Snapshot{
		Time: o.Time, Hostname: o.Host, Excludes: o.Excludes, Tags: o.Tags, ProgramVersion: o.ProgramVersion,
		UID: uint32(os.Getuid()), GID: uint32(os.Getgid()),
	}
	if u, err := user.Current(); err == nil {
		sn.Username = u.Username
	}
	deal, err := a.prepare(ctx, r, &o, sn, &res)
	if err == nil {
		err = a.write(ctx, r, &o, &res, deal)
	}
	res.Errors = int(a.errors.Load())
	a.counts.summary(&res.Summary)
	res.Summary.BackupStart, res.Summary.BackupEnd = start, time.Now()
	if err != nil {
		return res, err
	}
	if a.scanning {
		o.Reporter.Scanned(totalOf(&res.Summary), true)
	}
	sn.Tree, sn.Summary = a.root, &res.Summary
	res.Snapshot = sn
	// Of a parent that was chosen here the paths count, too: it may have others. One that was named is the user's choice.
	if p := res.Parent; o.SkipIfUnchanged && p != nil && *p.Tree == *sn.Tree && (!o.ParentFound || coversAll(p, sn.Paths)) {
		res.Skipped = true
	}
	if res.Skipped || o.DryRun {
		return res, nil
	}
	if sn.ID, err = r.SaveSnapshot(ctx, sn); err != nil {
		return res, err
	}
	return res, nil
}

func withDefaults(o Options) Options {
	if o.Time.IsZero() {
		o.Time = time.Now()
	}
	if o.Reporter == nil {
		o.Reporter = silent{}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	processors := processors()
	if o.ReadConcurrency <= 0 {
		o.ReadConcurrency = max(2, processors)
	}
	if o.InFlightBytes <= 0 {
		o.InFlightBytes = 16<<20 + 8<<20*int64(processors)
	}
	return o
}

// processors is how many there are to keep busy. GOMAXPROCS may be more, so that Go's scheduler has something to run when
// a thread waits in the kernel, and less when somebody says so.
func processors() int { return min(runtime.GOMAXPROCS(0), runtime.NumCPU()) }

func newRun(r *repo.Repository, o *Options) *run {
	return &run{
		parent:      parentReader{repo: r, losses: &losses{log: o.Log}},
		filter:      o.Filter,
		chunker:     chunker.New(r.Config().Polynomial),
		nodes:       source.NewNodeMaker(o.WithAtime),
		rep:         o.Reporter,
		log:         o.Log,
		ignoreInode: o.IgnoreInode,
		ignoreCtime: o.IgnoreCtime || o.IgnoreInode,
		readersHash: readersHash(),
		jobs:        newQueue(o.ReadConcurrency, groups(o)),
		chunks:      make(chan chunkJob, processors()),
		buffers:     newBuffers(o.InFlightBytes),
		batches:     sync.Pool{New: func() any { return new(batch) }},
		trees:       sync.Pool{New: func() any { return new([]byte) }},
	}
}

// prepare finds out what there is to back up and returns what deals it out to the workers; done is to be called when they are done.
func (a *run) prepare(ctx context.Context, r *repo.Repository, o *Options, sn *snapshot.Snapshot, res *Result) (deal func(context.Context) (done func()), err error) {
	if o.Stdin != nil {
		name := o.StdinFilename
		if name == "" {
			name = "stdin"
		}
		full := path.Clean("/" + name)
		if full == "/" {
			return nil, fmt.Errorf("file name %q for standard input: want a name", name)
		}
		sn.Paths = []string{full}
		return func(ctx context.Context) func() {
			a.stdin(ctx, o.Stdin, strings.Split(full[1:], "/"), o.Time)
			return func() {}
		}, nil
	}
	targets := a.existing(o.Targets)
	if len(targets) == 0 {
		return nil, ErrNoTargets
	}
	if sn.Paths, err = source.Abs(targets); err != nil {
		return nil, err
	}
	if !o.Force {
		if res.Parent = o.Parent; res.Parent == nil {
			o.ParentFound = true
			if res.Parent, err = FindParent(ctx, r, o.Host, sn.Paths, o.Time, o.Log); err != nil {
				return nil, err
			}
		}
	}
	var root *blob.ID
	if p := res.Parent; p != nil {
		root = p.Tree
		if !p.ID.IsZero() {
			sn.Parent = &p.ID
		}
	}
	plan, err := source.Plan(targets)
	if err != nil {
		return nil, err
	}
	w := &walker{filter: o.Filter, log: o.Log, groups: groups(o), backwards: &a.backwards}
	a.backwards.Store(o.Backwards)
	guess := res.Parent
	if guess != nil && !coversAll(guess, sn.Paths) {
		guess = nil // there is more
	}
	return func(ctx context.Context) func() {
		stop := a.scan(ctx, o, w, plan, guess)
		a.tree(ctx, w, plan, root)
		return stop // not before: the walk of few large files is over when the first one is begun
	}, nil
}

// existing reports the targets that are not there and returns the others.
func (a *run) existing(targets []string) []string {
	var found []string
	for _, target := range targets {
		if target == "" {
			a.failed(target, errors.New("a target is an empty name"))
			continue
		}
		// Any other trouble is reported when the target is read.
		if _, err := os.Lstat(target); errors.Is(err, fs.ErrNotExist) {
			a.failed(absolute(target), fmt.Errorf("%s does not exist, skipping", target))
			continue
		}
		found = append(found, target)
	}
	return found
}

// groups is how many entries a worker is given at a time.
func groups(o *Options) int { return max(4, min(groupEntries, 256/o.ReadConcurrency)) }

// absolute is filepath.Abs for messages.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// write runs the backup in a write scope, or in a dry one.
func (a *run) write(ctx context.Context, r *repo.Repository, o *Options, res *Result, deal func(context.Context) (done func())) error {
	work := func(ctx context.Context, store Store) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		a.store, a.abort = store, cancel
		a.workers(ctx, o.ReadConcurrency, deal)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if a.root == nil {
			return ErrEmpty
		}
		return nil
	}
	if o.DryRun {
		dry := r.NewDryWriter()
		defer dry.Close()
		return work(ctx, dry)
	}
	return r.Write(ctx, func(ctx context.Context, w *repo.Writer) error {
		if o.Direction != nil && o.Stdin == nil { // one file has no direction
			stop := a.keepDirection(ctx, w, o.Direction, res.Parent == nil)
			defer stop()
		}
		return work(ctx, w)
	})
}

// silent is the Reporter of those who have none.
type silent struct{}

func (silent) Scanned(Total, bool)            {}
func (silent) Started(string, string, uint64) {}
func (silent) Read(int)                       {}
func (silent) Done(Item)                      {}
func (silent) Error(string, error)            {}
