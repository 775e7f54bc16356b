package archive

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"

	"vitrine/repo/blob"
	"vitrine/repo/chunker"
	"vitrine/repo/source"
)

// run is one backup at work:
//
//	walk (one goroutine)      lists directories and deals their entries out in batches
//	   │ jobs                 see queue; a batch holds names only, and its directory open
//	file workers              metadata, small files whole; larger ones are read and cut here, and hashed; see readersHash
//	   │ chunks               bounded by the budget of buffers
//	chunk workers             store chunks of larger files; a reader that finds no room in
//	                          the queue stores the chunk itself
//
// A directory is finished by whoever completes its last entry. When ctx ends, or something ends
// it by abort, everybody goes on letting go of what they hold and does nothing else.
type run struct {
	store   Store
	parent  parentReader
	filter  *source.Filter
	chunker *chunker.Chunker
	nodes   *source.NodeMaker
	rep     Reporter
	log     *slog.Logger
	abort   context.CancelCauseFunc // ends the backup with an error

	ignoreInode, ignoreCtime bool
	readersHash              bool

	scanning bool // how much there is has not been found out yet; to be read when the scan has stopped

	jobs    *queue
	chunks  chan chunkJob
	buffers *buffers
	batches sync.Pool // of *batch
	trees   sync.Pool // of *[]byte, for the JSON of a directory

	backwards atomic.Bool // the walk takes what is in a directory from its back

	counts total
	errors atomic.Int64
	root   *blob.ID // of the root tree once all is done; nil when that is empty
}

// job is for a file worker: a batch, or else a directory that has no entry left to complete it.
type job struct {
	batch *batch
	dir   *dir
}

func (j job) entries() int {
	if j.batch == nil {
		return 0
	}
	return len(j.batch.entries)
}

// failed reports something that the snapshot will lack.
func (r *run) failed(path string, err error) {
	r.errors.Add(1)
	r.rep.Error(path, err)
}

// workers runs the workers while deal deals out the work, and calls what that returns when all is done.
func (r *run) workers(ctx context.Context, files int, deal func(context.Context) (done func())) {
	var fileWorkers, chunkWorkers sync.WaitGroup
	// The reader of a large file is the one more that makes a goroutine for each processor.
	for range max(1, processors()-1) {
		chunkWorkers.Go(func() {
			for c := range r.chunks {
				r.chunk(ctx, c)
			}
		})
	}
	for range files {
		fileWorkers.Go(func() {
			w := newWork()
			for j, ok := r.jobs.pop(); ok; j, ok = r.jobs.pop() {
				if j.batch != nil {
					r.batch(ctx, j.batch, w)
				} else {
					r.finish(ctx, j.dir)
				}
			}
		})
	}
	done := deal(ctx)
	r.jobs.close()
	fileWorkers.Wait()
	close(r.chunks)
	chunkWorkers.Wait()
	done()
	r.parent.losses.end(ctx)
}

// builder turns the walk into directories and batches; it is used by the walk's goroutine only.
type builder struct {
	*run
	cur *dir
}

func (b *builder) enter(name string, at *place, st *source.Stat) {
	d := &dir{up: b.cur, slot: b.cur.nextSlot(at.back), abs: at.abs, old: b.cur.old.child(name), slots: -1}
	b.run.nodes.Fill(&d.node, name, st)
	attrs, err := at.Xattrs(".")
	if err != nil {
		b.run.failed(at.abs, err)
	}
	d.node.Xattrs = attrs
	b.cur = d
}

func (b *builder) leave(ctx context.Context) {
	d := b.cur
	b.cur = d.up
	if b.run.left(d) {
		b.jobs.push(job{dir: d})
	}
}

func (b *builder) files(ctx context.Context, g group) error {
	b.jobs.push(job{batch: b.newBatch(g, b.cur)})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (b *builder) failed(path string, err error) { b.run.failed(path, err) }

// tree backs up what is planned.
func (r *run) tree(ctx context.Context, w *walker, plan *source.Branch, root *blob.ID) {
	b := &builder{run: r, cur: &dir{slots: -1}}
	if root != nil {
		b.cur.old = &oldDir{root: root, name: "/"}
	}
	if err := w.root(ctx, plan, b); err != nil {
		r.abort(err)
		return
	}
	b.leave(ctx)
}
