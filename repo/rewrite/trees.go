// Package rewrite makes new snapshots of old ones: others trees, other metadata. It holds what the commands rewrite
// and repair snapshots have in common.
//
// Trees are rewritten from the leaves to the root: Rules say what becomes of each node, and a directory of which
// something has changed gets a new tree. A tree that stays as it is keeps its ID and is not stored again. What several
// snapshots, or directories, share is rewritten once.
//
// Snapshots are replaced in the order of package repo: all trees of all snapshots and their index files are durable,
// then a new snapshot is stored, then, if that is wanted, the old one is removed. Interrupted at any point, it
// loses nothing: each snapshot is there in its old form, in its new one, or in both.
package rewrite

import (
	"context"
	"errors"
	"fmt"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

// ErrLossy is the class of errors of a tree that holds something this program would lose by writing it again.
var ErrLossy = errors.New("the tree cannot be written again without a loss; it is of another program, or of a newer one")

// Verdict is what becomes of a node.
type Verdict uint8

// The verdicts. Where a directory is not dropped, its content is rewritten.
const (
	Keep    Verdict = iota // as it is
	Changed                // what Node has made of it
	Drop                   // it, and all below it, is left out
)

// Rules say what becomes of the nodes of a tree. S is a place: what the rules know of a directory from the way to it.
// They are used by one goroutine.
type Rules[S any] struct {
	// Root is the place of the root directory.
	Root S
	// Key returns the same for places at which a tree becomes the same, so that it is rewritten once for
	// all of them. Nil means that it becomes the same everywhere.
	Key func(at S) string
	// Node is asked for each node of a directory. It may change *n, if it then says Changed, but not
	// what n refers to. The place is that of a directory's content.
	Node func(at S, n *snapshot.Node) (Verdict, S, error)
	// Empty says whether a directory without anything in it stays. Nil means that it does.
	Empty func(at S) bool
	// Lost is told of a directory whose tree is damaged or missing, and says whether it stays, as an empty one. Without Lost
	// the error ends the work, as one of another class always does.
	Lost func(at S, err error) (stays bool)
	// Lossy lets a tree be written again though something in it is not known here.
	Lossy bool
}

// Store is where trees are read; *repo.Repository is one.
type Store interface {
	LoadTree(ctx context.Context, id blob.ID) ([]snapshot.Node, error)
}

// Save stores the plain bytes of a tree, which stay the caller's.
type Save func(ctx context.Context, plain []byte) (blob.ID, error)

// Outcome is what has become of a tree.
type Outcome struct {
	Tree  *blob.ID // nil when nothing is left of it
	Files uint64   // in it and below
	Bytes uint64   // of these files, plain
}

// Trees rewrites trees and remembers those that it has met, at about 150 bytes each. It is used by one goroutine.
type Trees[S any] struct {
	store  Store
	rules  *Rules[S]
	places map[string]uint32
	met    map[spot]Outcome
	visit  func() // is called for each tree that is read
}

// spot is a tree at a place, by the number of its key.
type spot struct {
	id    blob.ID
	place uint32
}

// NewTrees returns a rewriter; visit is called after each tree that was looked at.
func NewTrees[S any](store Store, rules *Rules[S], visit func()) *Trees[S] {
	return &Trees[S]{store: store, rules: rules, places: map[string]uint32{}, met: map[spot]Outcome{}, visit: visit}
}

// Rewrite rewrites the tree of a root directory. A tree that this Trees has saved before is not saved again.
func (t *Trees[S]) Rewrite(ctx context.Context, root blob.ID, save Save) (Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // stops what is loaded ahead
	node := snapshot.Node{Name: "/", Type: snapshot.Dir, Subtree: &root}
	var out Outcome
	err := walk.Ahead(ctx, t.store.LoadTree, []snapshot.Node{node}, func(n *snapshot.Node) bool {
		_, known := t.met[t.spot(root, t.rules.Root)]
		return !known
	}, func(n *snapshot.Node, tree *walk.Coming) (err error) {
		out, err = t.dir(ctx, t.rules.Root, n, tree, save)
		return err
	})
	return out, err
}

func (t *Trees[S]) spot(id blob.ID, at S) spot {
	if t.rules.Key == nil {
		return spot{id: id}
	}
	key := t.rules.Key(at)
	number, known := t.places[key]
	if !known {
		number = uint32(len(t.places))
		t.places[key] = number
	}
	return spot{id, number}
}

// dir rewrites the content of a directory. Its tree is not needed, and may be nil, when it was met before.
func (t *Trees[S]) dir(ctx context.Context, at S, n *snapshot.Node, tree *walk.Coming, save Save) (Outcome, error) {
	var here spot
	if n.Subtree != nil {
		here = t.spot(*n.Subtree, at)
		if out, known := t.met[here]; known {
			return out, nil
		}
	}
	nodes, err := tree.Wait()
	var out Outcome
	switch {
	case err == nil:
		out, err = t.content(ctx, at, *n.Subtree, nodes, save)
	case t.rules.Lost != nil && isLost(err):
		if t.rules.Lost(at, err) {
			out, err = t.saved(ctx, nil, save)
		} else {
			out, err = Outcome{}, nil
		}
	default:
		err = fmt.Errorf("read directory %.300q: %w", n.Name, err)
	}
	if err != nil {
		return out, err
	}
	t.visit()
	if n.Subtree != nil {
		t.met[here] = out
	}
	return out, nil
}

func isLost(err error) bool {
	return repo.IsLost(err) || errors.Is(err, repo.ErrBlobMissing) || errors.Is(err, walk.ErrNoTree)
}

// content rewrites what is in a directory.
func (t *Trees[S]) content(ctx context.Context, at S, id blob.ID, nodes []snapshot.Node, save Save) (Outcome, error) {
	kept := make([]snapshot.Node, 0, len(nodes))
	var inside []S // of the directories in kept
	changed := false
	for i := range nodes {
		n := nodes[i]
		verdict, below, err := t.rules.Node(at, &n)
		if err != nil {
			return Outcome{}, err
		}
		changed = changed || verdict != Keep
		if verdict == Drop {
			continue
		}
		kept = append(kept, n)
		if n.Type == snapshot.Dir {
			inside = append(inside, below)
		}
	}
	var sum Outcome
	left := kept[:0:0]
	dir, asked := 0, 0
	err := walk.Ahead(ctx, t.store.LoadTree, kept, func(n *snapshot.Node) bool {
		asked++
		if n.Subtree == nil {
			return true // it will be lost
		}
		_, known := t.met[t.spot(*n.Subtree, inside[asked-1])]
		return !known
	}, func(n *snapshot.Node, tree *walk.Coming) error {
		m := *n
		if n.Type == snapshot.Dir {
			dir++
			out, err := t.dir(ctx, inside[dir-1], n, tree, save)
			if err != nil {
				return err
			}
			sum.Files += out.Files
			sum.Bytes += out.Bytes
			changed = changed || out.Tree == nil || n.Subtree == nil || *out.Tree != *n.Subtree
			if out.Tree == nil {
				return nil
			}
			m.Subtree = out.Tree
		} else if n.Type == snapshot.File {
			sum.Files++
			sum.Bytes += n.Size
		}
		left = append(left, m)
		return nil
	})
	if err != nil {
		return Outcome{}, err
	}
	if len(left) == 0 && t.rules.Empty != nil && !t.rules.Empty(at) {
		return Outcome{}, nil
	}
	if !changed {
		sum.Tree = &id
		return sum, nil
	}
	if err := t.lossless(id, nodes); err != nil {
		return Outcome{}, err
	}
	out, err := t.saved(ctx, left, save)
	sum.Tree = out.Tree
	return sum, err
}

// saved stores a tree.
func (t *Trees[S]) saved(ctx context.Context, nodes []snapshot.Node, save Save) (Outcome, error) {
	plain, err := encode(nodes)
	if err != nil {
		return Outcome{}, err
	}
	id, err := save(ctx, plain)
	return Outcome{Tree: &id}, err
}

// lossless returns an error when the nodes of a tree do not give the tree again.
func (t *Trees[S]) lossless(id blob.ID, nodes []snapshot.Node) error {
	if t.rules.Lossy {
		return nil
	}
	plain, err := encode(nodes)
	if err == nil && blob.Hash(plain) != id {
		err = ErrLossy
	}
	if err != nil {
		return fmt.Errorf("tree %s: %w", id.Short(), err)
	}
	return nil
}

func encode(nodes []snapshot.Node) ([]byte, error) {
	var e snapshot.TreeEncoder
	for i := range nodes {
		if err := e.Add(&nodes[i]); err != nil {
			return nil, err
		}
	}
	return e.Finish(), nil
}
