// Package walk visits the trees of snapshots, each tree blob once, however many directories
// and snapshots share it.
//
// Trees are loaded in parallel, a few ahead of the visitor, and visited in a fixed order
// from one goroutine: level by level below the roots. So a parent comes before its
// children, the visitor needs no lock, and two walks over the same trees make the same visits
// and stop at the same error.
//
// Memory is bounded by the number of trees, about 100 bytes for each that was met so far, and by
// Options.Parallel for trees that are loaded; neither width nor depth adds to it.
package walk

import (
	"context"
	"sync"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// Visit is one visit of what K names.
type Visit[K comparable, T any] struct {
	N      int   // number of the visit, from 0
	ID     K     // of the tree blob, or whatever else names what is visited once
	Parent int   // N of the tree in which it was found first; -1-i for roots[i]
	Loaded T     // what load returned
	Err    error // what load returned
}

// Tree is a visit of a tree that counts as the same wherever it is.
type Tree[T any] = Visit[blob.ID, T]

// Options bound a walk.
type Options struct {
	// Parallel is how many trees are loaded, or wait loaded, at a time; 0 means
	// DefaultParallel.
	Parallel int
}

// DefaultParallel keeps some cores busy and hides the latency of a local disk.
const DefaultParallel = 8

// Each calls visit for every tree that the roots reach. For whoever makes something else of a tree in one place than
// in another, K is more than its ID.
//
// load is called in parallel. It returns what visit is to get, and the subtrees to visit later;
// an error goes to visit and does not end the walk. visit is called from the caller's
// goroutine; its error ends the walk and is returned as it is. When ctx ends, its error is
// returned. All calls of load have ended when Each returns.
func Each[K comparable, T any](ctx context.Context, roots []K, o Options,
	load func(ctx context.Context, id K) (T, []K, error), visit func(Visit[K, T]) error) error {
	parallel := o.Parallel
	if parallel <= 0 {
		parallel = DefaultParallel
	}
	var loads sync.WaitGroup
	defer loads.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	f := newFrontier(roots)
	var ahead []*loading[K, T] // the first trees of the frontier
	for n := 0; ; n++ {
		for len(ahead) < parallel && len(ahead) < f.len() {
			l := &loading[K, T]{done: make(chan struct{})}
			id := f.at(len(ahead)).id
			loads.Go(func() {
				defer close(l.done)
				l.loaded, l.subtrees, l.err = load(ctx, id)
			})
			ahead = append(ahead, l)
		}
		if len(ahead) == 0 {
			return ctx.Err()
		}
		l := ahead[0]
		ahead = append(ahead[:0], ahead[1:]...)
		select {
		case <-l.done:
		case <-ctx.Done():
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		next := f.take()
		f.add(l.subtrees, n)
		if err := visit(Visit[K, T]{N: n, ID: next.id, Parent: next.parent, Loaded: l.loaded, Err: l.err}); err != nil {
			return err
		}
	}
}

// Trees is Each over the nodes of every tree.
func Trees(ctx context.Context, load func(ctx context.Context, id blob.ID) ([]snapshot.Node, error), roots []blob.ID, o Options,
	visit func(Tree[[]snapshot.Node]) error) error {
	return Each(ctx, roots, o, func(ctx context.Context, id blob.ID) ([]snapshot.Node, []blob.ID, error) {
		nodes, err := load(ctx, id)
		return nodes, Subtrees(nodes), err
	}, visit)
}

// Subtrees returns the trees of the directories among the nodes, in their order.
func Subtrees(nodes []snapshot.Node) []blob.ID {
	var ids []blob.ID
	for i := range nodes {
		if nodes[i].Type == snapshot.Dir && nodes[i].Subtree != nil {
			ids = append(ids, *nodes[i].Subtree)
		}
	}
	return ids
}

// loading is a tree on its way; the fields above done may be read once done is closed.
type loading[K comparable, T any] struct {
	loaded   T
	subtrees []K
	err      error
	done     chan struct{}
}

// waiting is a tree that was met and not visited.
type waiting[K comparable] struct {
	id     K
	parent int
}

// frontier is the queue of the trees to visit and the memory of all that ever were in it.
type frontier[K comparable] struct {
	met   map[K]struct{}
	queue []waiting[K]
	head  int // queue[:head] was taken
}

func newFrontier[K comparable](roots []K) *frontier[K] {
	f := &frontier[K]{met: make(map[K]struct{}, len(roots))}
	for i, id := range roots {
		f.add([]K{id}, -1-i)
	}
	return f
}

func (f *frontier[K]) add(ids []K, parent int) {
	for _, id := range ids {
		if _, known := f.met[id]; !known {
			f.met[id] = struct{}{}
			f.queue = append(f.queue, waiting[K]{id, parent})
		}
	}
}

func (f *frontier[K]) len() int            { return len(f.queue) - f.head }
func (f *frontier[K]) at(i int) waiting[K] { return f.queue[f.head+i] }

func (f *frontier[K]) take() waiting[K] {
	w := f.queue[f.head]
	f.head++
	if f.head >= 1024 && f.head >= len(f.queue)/2 {
		f.queue = append(f.queue[:0], f.queue[f.head:]...)
		f.head = 0
	}
	return w
}
