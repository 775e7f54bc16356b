package walk

import (
	"context"
	"errors"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// aheadTrees is how many directories are loaded before Ahead comes to them.
const aheadTrees = 8

// ErrNoTree is the error of a directory that names no tree.
var ErrNoTree = errors.New("the directory names no tree")

// Load reads a tree, as Repository.LoadTree does.
type Load func(ctx context.Context, id blob.ID) ([]snapshot.Node, error)

// Coming is a tree on its way.
type Coming struct {
	done  chan struct{}
	nodes []snapshot.Node
	err   error
}

// Start begins to load a tree; without an ID the result is ErrNoTree.
func (load Load) Start(ctx context.Context, id *blob.ID) *Coming {
	c := &Coming{done: make(chan struct{})}
	go func() {
		defer close(c.done)
		if id == nil {
			c.err = ErrNoTree
			return
		}
		c.nodes, c.err = load(ctx, *id)
	}()
	return c
}

// Wait returns the tree.
func (c *Coming) Wait() ([]snapshot.Node, error) {
	<-c.done
	return c.nodes, c.err
}

// Ahead goes through the nodes of one directory in their order, and visits each. With a directory that
// enter wants, visit gets its tree, which may still be on its way; those of the next directories are loaded
// meanwhile. A visit that calls Ahead for that tree makes a walk in the order in which tar or cp goes,
// with the same directory met as often as the snapshot shows it. When visit returns an error, or ctx ends, that ends it
// and is returned. No load is under way when it returns.
func Ahead(ctx context.Context, load Load, nodes []snapshot.Node, enter func(n *snapshot.Node) bool,
	visit func(n *snapshot.Node, tree *Coming) error) error {
	var dirs []int // to enter
	for i := range nodes {
		if nodes[i].Type == snapshot.Dir && enter(&nodes[i]) {
			dirs = append(dirs, i)
		}
	}
	var coming []*Coming // of the first of dirs
	defer func() {
		for _, c := range coming {
			<-c.done
		}
	}()
	for i := range nodes {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var tree *Coming
		if len(dirs) > 0 && dirs[0] == i {
			for len(coming) < min(len(dirs), aheadTrees) {
				coming = append(coming, load.Start(ctx, nodes[dirs[len(coming)]].Subtree))
			}
			tree = coming[0]
		}
		err := visit(&nodes[i], tree)
		if tree != nil {
			<-tree.done
			dirs, coming = dirs[1:], append(coming[:0], coming[1:]...)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
