package restore

import (
	"context"
	"fmt"
	"path/filepath"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

const (
	// A batch has at most batchBytes of content, unless one chunk is longer, and batchFiles files. It is what
	// one reader asks the store for at a time.
	batchBytes = 4 << 20
	batchFiles = 256
)

// entries goes through the nodes of one directory. visit gets what is selected, and with a directory that is
// selected or leads to something that is, its tree.
func (r *run) entries(ctx context.Context, nodes []snapshot.Node, at spot, visit func(n *snapshot.Node, at spot, tree *walk.Coming)) {
	// The end of ctx is noticed by whoever began all this.
	_ = walk.Ahead(ctx, r.store.LoadTree, nodes,
		func(n *snapshot.Node) bool { return r.Select.leads(r.Select.enter(at, n.Name)) },
		func(n *snapshot.Node, tree *walk.Coming) error {
			if below := r.Select.enter(at, n.Name); tree != nil || n.Type != snapshot.Dir && r.Select.selects(below) {
				visit(n, below, tree)
			}
			return nil
		})
}

// load reads a tree.
func (r *run) load(ctx context.Context, id *blob.ID) *walk.Coming {
	return walk.Load(r.store.LoadTree).Start(ctx, id)
}

// count finds out how much is selected. The directories above that are missing in the target are counted as they are made.
func (r *run) count(ctx context.Context) {
	var entries, sizeBytes uint64
	var visit func(n *snapshot.Node, at spot, tree *walk.Coming)
	visit = func(n *snapshot.Node, at spot, tree *walk.Coming) {
		if tree == nil || r.Select.selects(at) {
			entries++
		}
		if n.Type == snapshot.File {
			sizeBytes += n.Size
		}
		if tree == nil {
			return
		}
		nodes, err := tree.Wait()
		if err != nil {
			return // the walk that writes will say so
		}
		r.Reporter.Total(entries+r.ways.Load(), sizeBytes, false)
		r.entries(ctx, nodes, at, visit)
	}
	nodes, _ := r.load(ctx, &r.Tree).Wait()
	r.entries(ctx, nodes, r.Select.root(), visit)
	if ctx.Err() == nil {
		r.Reporter.Total(entries+r.ways.Load(), sizeBytes, true)
	}
	r.entriesToDo, r.bytesToDo = entries, sizeBytes
}

// walker makes what is no file, and deals the files out.
type walker struct {
	*run
	groups map[linkKey]*links

	batch      []part // not dealt out yet
	batchBytes int64
}

// visit goes through all of it.
func (w *walker) visit(ctx context.Context) {
	root := &dir{run: w.run, kept: filepath.Clean(w.Target), fd: w.root, opened: true, absent: w.root < 0}
	root.left.Store(1)
	nodes, err := w.load(ctx, &w.Tree).Wait()
	if err != nil {
		w.unreadable(ctx, w.Target, err)
	}
	w.dir(ctx, root, nodes, w.Select.root())
	w.flush(ctx)
	root.entryDone(ctx)
}

// unreadable tells of a directory whose entries the repository does not give.
func (w *walker) unreadable(ctx context.Context, path string, err error) {
	if ctx.Err() == nil {
		w.failed(path, fmt.Errorf("read the directory in the repository: %w", err))
	}
}

func (w *walker) dir(ctx context.Context, d *dir, nodes []snapshot.Node, at spot) {
	d.names, d.known, d.at = nodes, true, at
	if d.opened {
		d.cleanOnce()
	}
	w.entries(ctx, nodes, at, func(n *snapshot.Node, at spot, tree *walk.Coming) {
		if tree == nil {
			w.entry(ctx, d, n)
			return
		}
		sub := newDir(d, n, w.Select.selects(at))
		d.left.Add(1)
		defer sub.entryDone(ctx)
		if sub.selected && sub.open() != nil {
			return
		}
		nodes, err := tree.Wait()
		if err != nil {
			w.unreadable(ctx, sub.path(), err)
			sub.failed = true
			return
		}
		w.dir(ctx, sub, nodes, at)
	})
}

// entry makes one entry that is no directory, or deals it out.
func (w *walker) entry(ctx context.Context, d *dir, n *snapshot.Node) {
	if err := d.open(); err != nil {
		return // it was told
	}
	group := w.group(n)
	if group != nil && group.first != nil {
		d.left.Add(1)
		group.add(ctx, link{d, n})
		return
	}
	if n.Type != snapshot.File {
		if group != nil {
			group.first = &place{d.rel(), n.Name}
		}
		action, ok := w.special(d, n, d.join(n.Name))
		group.made(ctx, ok, action)
		return
	}
	f := &file{run: w.run, dir: d, node: n, links: group, fd: -1}
	if group != nil {
		group.first = &place{d.rel(), n.Name}
	}
	parts, err := w.store.Parts(n.Content, int64(n.Size), batchBytes)
	if err != nil {
		w.failed(f.path(), err)
		group.made(ctx, false, Unchanged)
		return
	}
	f.left.Store(int32(len(parts)))
	d.left.Add(1)
	for _, p := range parts {
		if len(w.batch) >= batchFiles || w.batchBytes > 0 && w.batchBytes+p.SizeBytes > batchBytes {
			w.flush(ctx)
		}
		w.batch = append(w.batch, part{p, f})
		w.batchBytes += p.SizeBytes
	}
}

// flush deals the batch out.
func (w *walker) flush(ctx context.Context) {
	if len(w.batch) == 0 {
		return
	}
	w.jobs <- w.batch // the workers take all, also when ctx has ended
	w.batch, w.batchBytes = nil, 0
}
