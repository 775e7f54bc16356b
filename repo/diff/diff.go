// Package diff compares two trees. Subtrees that both share are not looked at, but for the blobs that are counted.
package diff

import (
	"bytes"
	"context"
	"fmt"
	"path"
	"strings"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

// Store is what is read from; *repo.Repository has it.
type Store interface {
	LoadTree(ctx context.Context, id blob.ID) ([]snapshot.Node, error)
	LookupBlob(h blob.Handle) (blob.Location, bool, error)
}

// Change is a difference.
type Change struct {
	Path     string // with a slash at the end of directories
	Modifier string // "+" added, "-" removed, or some of T (type), M (content), U (metadata)
}

// Side counts what only one of the trees has.
type Side struct {
	Files, Dirs, Others  int
	DataBlobs, TreeBlobs int
	Bytes                uint64 // of the blobs, plain
}

// Stats counts the differences.
type Stats struct {
	ChangedFiles   int
	Added, Removed Side
}

// The sides of a blob, as bits.
const (
	before = 1 << iota
	after
)

// comparison is one comparison at work.
type comparison struct {
	store    Store
	metadata bool
	report   func(Change) error
	stats    Stats
	seen     map[blob.Handle]uint8 // in the trees that differ
	common   []blob.ID             // subtrees that both have
}

// Trees compares the trees from and to, and calls report for each difference in the order of the paths. With metadata it
// also reports entries of which only the metadata differ. An error of report ends it.
func Trees(ctx context.Context, s Store, from, to blob.ID, metadata bool, report func(Change) error) (Stats, error) {
	c := &comparison{store: s, metadata: metadata, report: report, seen: map[blob.Handle]uint8{}}
	if from != to {
		c.seen[blob.Handle{Type: blob.Tree, ID: from}] |= before
		c.seen[blob.Handle{Type: blob.Tree, ID: to}] |= after
		err := c.trees(ctx, "/", c.start(ctx, &from), c.start(ctx, &to))
		if err == nil {
			err = c.count(ctx)
		}
		if err != nil {
			return c.stats, err
		}
	}
	return c.stats, nil
}

func (c *comparison) start(ctx context.Context, id *blob.ID) *walk.Coming {
	return walk.Load(c.store.LoadTree).Start(ctx, id)
}

// pair is an entry of a directory, nil where a side has none.
type pair struct {
	a, b *snapshot.Node
}

func (p pair) name() string {
	if p.a != nil {
		return p.a.Name
	}
	return p.b.Name
}

// bothDirs reports whether the entry is a directory on both sides.
func (p pair) bothDirs() bool {
	return p.a != nil && p.b != nil && p.a.Type == snapshot.Dir && p.b.Type == snapshot.Dir
}

// same reports whether it is one that both sides share.
func (p pair) same() bool {
	return p.bothDirs() && p.a.Subtree != nil && p.b.Subtree != nil && *p.a.Subtree == *p.b.Subtree
}

// pairs merges two sorted lists.
func pairs(a, b []snapshot.Node) []pair {
	var all []pair
	for len(a) > 0 || len(b) > 0 {
		switch {
		case len(b) == 0 || len(a) > 0 && a[0].Name < b[0].Name:
			all = append(all, pair{a: &a[0]})
			a = a[1:]
		case len(a) == 0 || b[0].Name < a[0].Name:
			all = append(all, pair{b: &b[0]})
			b = b[1:]
		default:
			all = append(all, pair{&a[0], &b[0]})
			a, b = a[1:], b[1:]
		}
	}
	return all
}

// ahead is how many directories are loaded ahead on each level.
const ahead = 4

// trees compares two directories of the same path.
func (c *comparison) trees(ctx context.Context, dir string, first, second *walk.Coming) error {
	a, err := first.Wait()
	b, err2 := second.Wait()
	for _, err := range []error{err, err2} {
		if err != nil {
			return fmt.Errorf("read %s: %w", dir, err)
		}
	}
	all := pairs(a, b)
	// The trees of the next directories are on their way.
	type two [2]*walk.Coming
	coming := make(map[int]two)
	defer func() {
		for _, t := range coming {
			t[0].Wait()
			t[1].Wait()
		}
	}()
	next := 0
	for i, p := range all {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		for ; next < len(all) && len(coming) < ahead; next++ {
			if q := all[next]; q.bothDirs() && !q.same() {
				coming[next] = two{c.start(ctx, q.a.Subtree), c.start(ctx, q.b.Subtree)}
			}
		}
		t := coming[i]
		if err := c.entry(ctx, dir, p, t[0], t[1]); err != nil {
			return err
		}
		delete(coming, i)
	}
	return nil
}

func (c *comparison) entry(ctx context.Context, dir string, p pair, first, second *walk.Coming) error {
	name := path.Join(dir, p.name())
	if p.a != nil {
		c.note(p.a, before)
	}
	if p.b != nil {
		c.note(p.b, after)
	}
	switch {
	case p.a == nil:
		return c.onlyOn(ctx, name, p.b, after, "+", &c.stats.Added)
	case p.b == nil:
		return c.onlyOn(ctx, name, p.a, before, "-", &c.stats.Removed)
	}
	mod := ""
	if p.a.Type != p.b.Type {
		mod = "T"
	}
	if p.a.Type == snapshot.File && p.b.Type == snapshot.File && !sameContent(p.a, p.b) {
		mod += "M"
		c.stats.ChangedFiles++
	} else if c.metadata && !equal(p.a, p.b) {
		mod += "U"
	}
	if mod != "" {
		if err := c.report(Change{slashed(name, p.b), mod}); err != nil {
			return err
		}
	}
	switch {
	case p.same():
		c.common = append(c.common, *p.a.Subtree)
	case first != nil:
		return c.trees(ctx, name, first, second)
	}
	return nil
}

// slashed is the path as it is shown.
func slashed(name string, n *snapshot.Node) string {
	if n.Type == snapshot.Dir && !strings.HasSuffix(name, "/") {
		return name + "/"
	}
	return name
}

func sameContent(a, b *snapshot.Node) bool {
	if len(a.Content) != len(b.Content) {
		return false
	}
	for i := range a.Content {
		if a.Content[i] != b.Content[i] {
			return false
		}
	}
	return true
}

// equal compares everything but the zones that times were written in.
func equal(a, b *snapshot.Node) bool {
	x, y := *a, *b
	for _, n := range []*snapshot.Node{&x, &y} {
		n.ModTime, n.AccessTime, n.ChangeTime = n.ModTime.UTC(), n.AccessTime.UTC(), n.ChangeTime.UTC()
	}
	return bytes.Equal(x.AppendJSON(nil), y.AppendJSON(nil))
}

// onlyOn reports an entry that one side has, and all below it.
func (c *comparison) onlyOn(ctx context.Context, name string, n *snapshot.Node, side uint8, mod string, counts *Side) error {
	switch n.Type {
	case snapshot.File:
		counts.Files++
	case snapshot.Dir:
		counts.Dirs++
	default:
		counts.Others++
	}
	if err := c.report(Change{slashed(name, n), mod}); err != nil || n.Type != snapshot.Dir {
		return err
	}
	nodes, err := c.start(ctx, n.Subtree).Wait()
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return c.below(ctx, name, nodes, side, mod, counts)
}

func (c *comparison) below(ctx context.Context, dir string, nodes []snapshot.Node, side uint8, mod string, counts *Side) error {
	for i := range nodes {
		c.note(&nodes[i], side)
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if err := c.onlyOn(ctx, path.Join(dir, nodes[i].Name), &nodes[i], side, mod, counts); err != nil {
			return err
		}
	}
	return nil
}

// note remembers the blobs that a node names.
func (c *comparison) note(n *snapshot.Node, side uint8) {
	if n.Subtree != nil {
		c.seen[blob.Handle{Type: blob.Tree, ID: *n.Subtree}] |= side
	}
	for _, id := range n.Content {
		c.seen[blob.Handle{Type: blob.Data, ID: id}] |= side
	}
}

// count finds out which blobs only one side needs. Those below the directories that both share are needed by both.
func (c *comparison) count(ctx context.Context) error {
	for h, sides := range c.seen {
		if sides == before|after {
			delete(c.seen, h)
		}
	}
	if len(c.seen) > 0 {
		err := walk.Trees(ctx, c.store.LoadTree, c.common, walk.Options{}, func(t walk.Tree[[]snapshot.Node]) error {
			if t.Err != nil {
				return fmt.Errorf("read a directory that both have: %w", t.Err)
			}
			delete(c.seen, blob.Handle{Type: blob.Tree, ID: t.ID})
			for i := range t.Loaded {
				for _, id := range t.Loaded[i].Content {
					delete(c.seen, blob.Handle{Type: blob.Data, ID: id})
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	for h, side := range c.seen {
		counts := &c.stats.Removed
		if side == after {
			counts = &c.stats.Added
		}
		if h.Type == blob.Tree {
			counts.TreeBlobs++
		} else {
			counts.DataBlobs++
		}
		loc, ok, err := c.store.LookupBlob(h)
		if err != nil {
			return err
		}
		if ok {
			counts.Bytes += uint64(loc.Size())
		}
	}
	return nil
}
