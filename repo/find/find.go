// Package find searches the trees of snapshots, for entries by their names and times, or for blobs and trees by their IDs.
//
// What a directory holds depends on its tree alone, and what of it is found depends on its path only through
// what the patterns have matched so far. So a Finder remembers, for a tree and such a state, what is
// found in it, and a tree that many snapshots share is loaded once for all of them.
package find

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"sync"
	"time"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/source/pattern"
	"vitrine/repo/walk"
)

// Store is what is read from; *repo.Repository has it.
type Store interface {
	LoadTree(ctx context.Context, id blob.ID) ([]snapshot.Node, error)
}

// Query says what is to be found: what matches the names and lies within the times, and what has one of the IDs.
type Query struct {
	// Names are the patterns that Names has made; nil finds none by name.
	Names *pattern.List
	// Oldest and Newest bound the modification times of what is found by name; zero is no bound.
	Oldest, Newest time.Time
	// Blobs are data blobs to find in the files that have them, Trees directories.
	Blobs, Trees IDs
}

// Names compiles patterns for a Query. They mean what those of backup --exclude mean, but that "!" is a
// letter like others: without a slash at the beginning they may begin at any component, and what is below a match matches, too.
// With fold, upper and lower case are the same. An empty pattern matches everything.
func Names(patterns []string, fold bool) (*pattern.List, error) {
	escaped := make([]string, 0, len(patterns))
	for _, p := range patterns {
		switch {
		case p == "":
			p = "*"
		case p[0] == '!':
			p = `\` + p
		}
		escaped = append(escaped, p)
	}
	return pattern.Compile(escaped, fold)
}

// Kind is what a Match is.
type Kind uint8

// The kinds of Match.
const (
	Name Kind = iota // an entry, by its name
	Blob             // a data blob in a file
	Tree             // a directory, by the ID of its tree
)

// Match is something that was found.
type Match struct {
	Kind   Kind
	Path   string
	Node   *snapshot.Node // shared: do not change it; nil for the root of a snapshot
	ID     blob.ID        // of the blob or tree that was looked for
	Parent blob.ID        // the tree of the directory in which the entry is; zero for the root of a snapshot
}

// Finder searches one snapshot after the other. It keeps about 100 bytes for each directory that it has seen, and what it found.
type Finder struct {
	store Store
	q     Query

	mu     sync.Mutex // guards the fields below while a walk is under way
	dirs   map[place]*dir
	states map[string]uint32 // numbers the states, by their bytes
	known  []pattern.State   // by number
}

// place is a tree, and what the patterns have matched of its path.
type place struct {
	tree  blob.ID
	state uint32
}

// dir is what is to be found below a place.
type dir struct {
	entries []entry
	err     error // that of loading it
	settled bool  // only entries are left that are found, or lead to something
	told    bool  // of err
}

// entry is one that is found, leads to a directory to look into, or both.
type entry struct {
	name    string
	node    *snapshot.Node // nil where only what is below may be found
	named   bool           // it is found by name
	tree    bool           // it is a tree that is looked for
	blobs   []blob.ID      // those in it that are looked for, as often as they are in it
	sub     *dir
	subtree blob.ID // of sub
}

func (e *entry) found() bool { return e.node != nil }

// New returns a Finder that has seen nothing.
func New(s Store, q Query) *Finder {
	return &Finder{store: s, q: q, dirs: make(map[place]*dir), states: make(map[string]uint32)}
}

// Snapshot calls found for each match below the root tree of a snapshot, an entry before what is below it and in the
// order of the names. A directory that cannot be read is reported to damaged, with the first path at which it is
// met, and left out. An error of one of the functions ends the search and is returned, as is the end of ctx; the
// Finder is of no use then.
func (f *Finder) Snapshot(ctx context.Context, root blob.ID, found func(Match) error, damaged func(path string, err error) error) error {
	start := place{tree: root}
	if f.q.Names != nil {
		start.state = f.number(f.q.Names.Root())
	}
	top, isNew := f.at(start)
	if isNew {
		if err := f.explore(ctx, start); err != nil {
			return err
		}
	}
	if f.q.Trees.Has(root) {
		if err := found(Match{Kind: Tree, Path: "/", ID: root}); err != nil {
			return err
		}
	}
	top.settle()
	t := teller{found: found, damaged: damaged}
	return t.dir(ctx, "/", root, top)
}

// number returns the number of a state.
func (f *Finder) number(s pattern.State) uint32 {
	key := make([]byte, 0, 64)
	for _, matched := range s {
		key = binary.NativeEndian.AppendUint64(key, matched)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	n, ok := f.states[string(key)]
	if !ok {
		n = uint32(len(f.known))
		f.states[string(key)] = n
		f.known = append(f.known, s)
	}
	return n
}

func (f *Finder) state(number uint32) pattern.State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known[number]
}

// at returns the dir of a place, and whether it is new: then the caller has to see that it is filled.
func (f *Finder) at(p place) (d *dir, isNew bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d = f.dirs[p]; d == nil {
		d, isNew = new(dir), true
		f.dirs[p] = d
	}
	return d, isNew
}

// explore fills the dir of a place, and those below it that are new.
func (f *Finder) explore(ctx context.Context, start place) error {
	load := func(ctx context.Context, p place) (*dir, []place, error) {
		d, _ := f.at(p)
		nodes, err := f.store.LoadTree(ctx, p.tree)
		if err != nil {
			return d, nil, err
		}
		return d, f.look(p, d, nodes), nil
	}
	return walk.Each(ctx, []place{start}, walk.Options{}, load, func(v walk.Visit[place, *dir]) error {
		if repo.IsLost(v.Err) || errors.Is(v.Err, repo.ErrBlobMissing) {
			v.Loaded.err = v.Err
			return nil
		}
		return v.Err
	})
}

// look fills d with what is found among the nodes, and returns the places to see yet.
func (f *Finder) look(p place, d *dir, nodes []snapshot.Node) (unseen []place) {
	var state pattern.State
	if f.q.Names != nil {
		state = f.state(p.state)
	}
	for i := range nodes {
		n := &nodes[i]
		e := entry{name: n.Name}
		if f.q.Names != nil && f.q.Names.ExcludedIn(state, n.Name) {
			e.named = (f.q.Oldest.IsZero() || !n.ModTime.Before(f.q.Oldest)) && (f.q.Newest.IsZero() || !n.ModTime.After(f.q.Newest))
		}
		for _, id := range n.Content {
			if f.q.Blobs.Has(id) {
				e.blobs = append(e.blobs, id)
			}
		}
		if n.Type == snapshot.Dir {
			e.tree = n.Subtree != nil && f.q.Trees.Has(*n.Subtree)
			if below, ok := f.below(state, n); ok {
				var isNew bool
				e.subtree = below.tree
				if e.sub, isNew = f.at(below); isNew {
					unseen = append(unseen, below)
				}
			}
		}
		if e.named || e.tree || e.blobs != nil {
			node := *n // a pointer would keep all nodes
			node.Content = nil
			e.node = &node
		}
		if e.found() || e.sub != nil {
			d.entries = append(d.entries, e)
		}
	}
	return unseen
}

// below returns the place of a directory, if something may be found in it.
func (f *Finder) below(state pattern.State, n *snapshot.Node) (place, bool) {
	if n.Subtree == nil {
		return place{}, false
	}
	p := place{tree: *n.Subtree}
	leads := !f.q.Blobs.Empty() || !f.q.Trees.Empty()
	if f.q.Names != nil {
		s := f.q.Names.Enter(state, n.Name)
		p.state = f.number(s)
		leads = leads || f.q.Names.Leads(s)
	}
	return p, leads
}

// settle drops entries that lead to nothing, and reports whether any are left, or an error.
func (d *dir) settle() bool {
	if !d.settled {
		kept := d.entries[:0]
		for _, e := range d.entries {
			if e.sub != nil && !e.sub.settle() {
				e.sub = nil
			}
			if e.found() || e.sub != nil {
				kept = append(kept, e)
			}
		}
		d.settled, d.entries = true, nil
		if len(kept) > 0 {
			d.entries = append([]entry(nil), kept...)
		}
	}
	return len(d.entries) > 0 || d.err != nil
}

// teller reports the matches of one snapshot.
type teller struct {
	found   func(Match) error
	damaged func(string, error) error
}

func (t teller) dir(ctx context.Context, at string, tree blob.ID, d *dir) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d.err != nil && !d.told {
		d.told = true
		if err := t.damaged(at, fmt.Errorf("read %s: %w", at, d.err)); err != nil {
			return err
		}
	}
	for i := range d.entries {
		e := &d.entries[i]
		m := Match{Kind: Name, Path: path.Join(at, e.name), Node: e.node, Parent: tree}
		if e.named {
			if err := t.found(m); err != nil {
				return err
			}
		}
		if e.tree {
			m.Kind, m.ID = Tree, *e.node.Subtree
			if err := t.found(m); err != nil {
				return err
			}
		}
		for _, id := range e.blobs {
			m.Kind, m.ID = Blob, id
			if err := t.found(m); err != nil {
				return err
			}
		}
		if e.sub != nil {
			if err := t.dir(ctx, m.Path, e.subtree, e.sub); err != nil {
				return err
			}
		}
	}
	return nil
}

// ErrTimes is the error of a query that nothing can meet.
var ErrTimes = errors.New("the oldest time is behind the newest one")

// Check refuses a query that nothing can meet.
func (q Query) Check() error {
	if !q.Oldest.IsZero() && !q.Newest.IsZero() && q.Oldest.After(q.Newest) {
		return ErrTimes
	}
	return nil
}
