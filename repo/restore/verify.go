package restore

import (
	"context"
	"fmt"
	"sync"

	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

// verify reads all files of the snapshot in the target and compares their hashes.
func (r *run) verify(ctx context.Context) error {
	type job struct {
		dirs []string
		node *snapshot.Node
	}
	jobs := make(chan job)
	var workers sync.WaitGroup
	for range r.Workers {
		workers.Go(func() {
			for j := range jobs {
				if ctx.Err() == nil {
					r.verifyFile(ctx, j.dirs, j.node)
				}
			}
		})
	}
	var dir func(dirs []string, nodes []snapshot.Node, at spot)
	dir = func(dirs []string, nodes []snapshot.Node, at spot) {
		r.entries(ctx, nodes, at, func(n *snapshot.Node, at spot, tree *walk.Coming) {
			if tree == nil {
				if n.Type == snapshot.File {
					jobs <- job{dirs, n}
				}
			} else if nodes, err := tree.Wait(); err == nil { // else it was told before
				dir(append(dirs[:len(dirs):len(dirs)], n.Name), nodes, at)
			}
		})
	}
	if nodes, err := r.load(ctx, &r.Tree).Wait(); err == nil {
		dir(nil, nodes, r.Select.root())
	}
	close(jobs)
	workers.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

func (r *run) verifyFile(ctx context.Context, dirs []string, n *snapshot.Node) {
	f := &file{run: r, node: n}
	fd, err := openPath(r.root, dirs)
	if err == nil {
		defer closeFD(fd)
		var same bool
		if same, err = f.same(ctx, fd); err == nil && !same {
			err = fmt.Errorf("the content is not that of the snapshot")
		}
	}
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		r.failed(joined(r.Target, dirs, n.Name), fmt.Errorf("verify: %w", err))
		return
	}
	r.verified.Add(1)
}
