package archive

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"time"

	"vitrine/repo/snapshot"
)

// stdin makes a snapshot of one file that has content and nothing else: its metadata, and that of the
// directories it is placed in, are those of restic.
func (r *run) stdin(ctx context.Context, in io.Reader, components []string, at time.Time) {
	node := snapshot.Node{Type: snapshot.File, Mode: 0o644, ModTime: at, AccessTime: at, ChangeTime: at}
	d := &dir{slots: 1}
	abs := ""
	last := len(components) - 1
	for _, name := range components[:last] {
		n := node
		n.Name, n.Type, n.Mode = name, snapshot.Dir, fs.ModeDir|0o755
		abs += "/" + name
		d = &dir{up: d, abs: abs, node: n, slots: 1}
	}
	node.Name = components[last]
	f := newLarge(&node, func(ctx context.Context, f *largeFile) {
		if f.failed {
			return
		}
		n, it := &f.node, &f.it
		it.Type, it.SizeBytes, it.Change = snapshot.File, n.Size, New
		it.Dir, it.Name = abs, n.Name
		var c counts
		c.count(it)
		r.counts.add(&c)
		r.rep.Done(*it)
		if r.fill(d, 0, slot{nodes: []encoded{{n.Name, n.AppendJSON(nil)}}}) {
			r.finish(ctx, d)
		}
	})
	r.rep.Started(abs, node.Name, 0)
	if err := r.readChunks(ctx, in, nil, maxSegment, f); err != nil {
		f.fail()
		r.abort(fmt.Errorf("%s: %w", node.Name, err))
	}
	f.letGo(ctx)
}
