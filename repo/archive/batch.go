package archive

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/source"
)

// batch is a group of entries on its way through a worker. One that is done entry by entry needs no
// memory of its own but the nodes' JSON; larger files are finished by whoever saves their last chunk.
type batch struct {
	group
	dir     *dir
	slot    int
	results []encoded // by entry
	json    []byte    // what results points into, as far as the worker makes it

	pending atomic.Int32 // entries not finished, and one for the worker itself
}

// errVanished, errChanged are what an entry may have become since it was listed.
var (
	errVanished = errors.New("vanished since its directory was read")
	errChanged  = errors.New("became another type of file while it was read")
)

// maxPooledBatch bounds the memory that a batch in run.batches holds.
const maxPooledBatch = 256 << 10

func (r *run) newBatch(g group, d *dir) *batch {
	b := r.batches.Get().(*batch)
	b.group, b.dir, b.slot = g, d, d.nextSlot(g.back)
	b.at.retain()
	if cap(b.results) < len(g.entries) {
		b.results = make([]encoded, len(g.entries))
	}
	b.results = b.results[:len(g.entries)]
	clear(b.results)
	b.json = b.json[:0]
	b.pending.Store(1)
	return b
}

// work is what a worker keeps from file to file.
type work struct {
	b      *batch // in work
	counts counts // of b
	node   snapshot.Node
	stat   source.Stat
	// small holds some files below chunker.MinBytes and a byte more, so that their end is seen;
	// content is the list of chunks of one of them.
	small   []byte
	content [1]blob.ID
	// Files that are read and wait to be stored together; see saveSmall.
	used     int // bytes of small
	longest  int // bytes of one of the files
	files    []smallFile
	contents [][]byte // in small, by file
	saved    []repo.Saved
}

func newWork() *work {
	return &work{small: make([]byte, smallBytes), saved: make([]repo.Saved, groupEntries)}
}

// batch takes in the entries of a batch. It lets go of b also when ctx has ended.
func (r *run) batch(ctx context.Context, b *batch, w *work) {
	w.b, w.counts = b, counts{}
	old := oldNodes(r.parent.load(ctx, b.dir.old)).from(b.nameOf(0))
	for i, back := range ends(&r.backwards, len(b.entries)) {
		if ctx.Err() != nil {
			break
		}
		if !wanted(r.filter, &b.group, b.entries[i].Name) {
			continue
		}
		var node *snapshot.Node
		if name := b.nameOf(i); back {
			node = old.find(name)
		} else {
			node = old.next(name)
		}
		r.entry(ctx, i, node, w)
	}
	if ctx.Err() == nil {
		r.saveSmall(ctx, w)
	} else {
		w.dropSmall()
	}
	r.counts.add(&w.counts)
	r.batchDone(ctx, b)
}

// dropSmall forgets the files that wait.
func (w *work) dropSmall() {
	clear(w.files)
	w.files, w.contents, w.used, w.longest = w.files[:0], w.contents[:0], 0, 0
}

// nameOf returns the name of an entry in the snapshot.
func (b *batch) nameOf(i int) string {
	if b.name != "" {
		return b.name
	}
	return b.entries[i].Name
}

// batchDone is called once by the worker and once for each entry that outlived it.
func (r *run) batchDone(ctx context.Context, b *batch) {
	if b.pending.Add(-1) > 0 {
		return
	}
	b.at.release()
	if ctx.Err() != nil {
		return // entries may be missing that nothing was said about
	}
	d := b.dir
	if r.fill(d, b.slot, slot{b.results, b}) {
		r.finish(ctx, d)
	}
}

// recycle takes back a batch whose nodes are in their tree.
func (r *run) recycle(b *batch) {
	if cap(b.json) <= maxPooledBatch {
		b.group, b.dir = group{}, nil
		r.batches.Put(b)
	}
}

// fail reports an entry that is left out.
func (r *run) fail(b *batch, i int, err error) {
	if errors.Is(err, unix.ENOENT) {
		err = fmt.Errorf("%w: %w", errVanished, err)
	}
	r.failed(join(b.at.abs, b.entries[i].Name), err)
}

// entry takes in one entry; old is what the parent snapshot has under its name.
func (r *run) entry(ctx context.Context, i int, old *snapshot.Node, w *work) {
	b := w.b
	name := b.entries[i].Name
	if b.entries[i].Type == unix.DT_REG && (old == nil || old.Type != snapshot.File) {
		// Surely read, so it is opened at once and asked for its metadata by descriptor.
		r.newFile(ctx, i, old, w)
		return
	}
	if err := b.at.Stat(name, &w.stat); err != nil {
		r.fail(b, i, err)
		return
	}
	if !wantedStat(r.filter, &b.group, &w.stat) {
		return
	}
	n := &w.node
	r.nodes.Fill(n, b.nameOf(i), &w.stat)
	if n.Type == snapshot.File {
		if old != nil && r.sameFile(n, old) && r.hasContent(b, old) {
			n.Content = old.Content
			r.attributes(b, i, n)
			r.keep(i, n, Item{Type: snapshot.File, Change: Unmodified, SizeBytes: n.Size}, w)
			return
		}
		r.newFile(ctx, i, old, w)
		return
	}
	switch n.Type {
	case snapshot.Socket:
		r.log.Debug("sockets are not backed up", "path", join(b.at.abs, name))
		return
	case snapshot.Dir:
		r.fail(b, i, errChanged)
		return
	case snapshot.Irregular:
		r.fail(b, i, fmt.Errorf("file type %o is unknown", w.stat.Mode&unix.S_IFMT))
		return
	case snapshot.Symlink:
		target, err := b.at.Readlink(name)
		if err != nil {
			r.fail(b, i, err)
			return
		}
		n.LinkTarget = target
	}
	r.attributes(b, i, n)
	r.keep(i, n, Item{Type: n.Type, Change: change(n, old)}, w)
}

// attributes adds the extended attributes; the entry stays when some cannot be read.
func (r *run) attributes(b *batch, i int, n *snapshot.Node) {
	attrs, err := b.at.Xattrs(b.entries[i].Name)
	if err != nil {
		r.fail(b, i, err)
	}
	n.Xattrs = attrs
}

// hasContent reports whether the repository has every chunk of an old file.
func (r *run) hasContent(b *batch, old *snapshot.Node) bool {
	for _, id := range old.Content {
		known, err := r.store.Known(dataHandle(id))
		if err == nil && known {
			continue
		}
		what := "a chunk of an unchanged file is missing in the repository; the file is read again"
		attrs := []any{"path", join(b.at.abs, old.Name), "chunk", id.Short()}
		if err != nil {
			what = "it is not known whether the repository has a chunk of an unchanged file; the file is read again"
			attrs = append(attrs, "error", err)
		}
		r.parent.losses.warn(what, attrs...)
		return false
	}
	return true
}

// keep puts a finished node into the batch of the worker that made it.
func (r *run) keep(i int, n *snapshot.Node, it Item, w *work) {
	b := w.b
	start := len(b.json)
	b.json = n.AppendJSON(b.json)
	b.results[i] = encoded{n.Name, b.json[start:len(b.json):len(b.json)]}
	it.Dir, it.Name = b.at.abs, n.Name
	w.counts.count(&it)
	r.rep.Done(it)
}
