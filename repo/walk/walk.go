// Package walk visits the trees of snapshots: each tree blob once, however many directories and
// snapshots share it.
//
// Trees are loaded in parallel, a few ahead of the visitor, and visited in a fixed order from one
// goroutine: level by level below the roots, so every parent comes before its children, and
// two walks over the same repository see the same order and stop at the same error. Memory: the ID
// of every tree met so far (about 80 bytes each), and at most Parallel loaded trees.
package walk

import (
	"context"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// Tree is one visit.
type Tree[T any] struct {
	N      int // number of the visit, from 0
	ID     blob.ID
	Parent int // N of the tree through which it was found first; -1-i for roots[i]
	Loaded T
	Err    error // what load returned; Loaded is what it returned beside it
}

// Options bound a walk.
type Options struct {
	// Parallel is how many trees are loaded, or wait loaded, at a time; 0 means DefaultParallel.
	Parallel int
}

// DefaultParallel hides the latency of a local disk.
const DefaultParallel = 8

// Each loads every tree that the roots reach and calls visit for it. load is called in
// parallel and returns what visit is to get, and the IDs of the subtrees, which are
// visited later also when it returned an error. visit is called from the caller's goroutine; its error ends the walk
// and is returned as it is. When ctx ends its error is returned. All loads have ended
// when Each returns.
func Each[T any](ctx context.Context, roots []blob.ID, o Options,
	load func(ctx context.Context, id blob.ID) (T, []blob.ID, error), visit func(Tree[T]) error) error {
	panic("not yet")
}

// Trees is Each over the nodes of every tree.
func Trees(ctx context.Context, load func(ctx context.Context, id blob.ID) ([]snapshot.Node, error), roots []blob.ID, o Options,
	visit func(Tree[[]snapshot.Node]) error) error {
	panic("not yet")
}
