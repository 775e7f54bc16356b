package find_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/find"
	"vitrine/repo/snapshot"
)

// forest holds trees and counts how often each is loaded.
type forest struct {
	trees map[blob.ID][]snapshot.Node
	bad   map[blob.ID]error

	mu    sync.Mutex // guards loads
	loads map[blob.ID]int
}

func newForest() *forest {
	return &forest{trees: map[blob.ID][]snapshot.Node{}, bad: map[blob.ID]error{}, loads: map[blob.ID]int{}}
}

func (f *forest) LoadTree(_ context.Context, id blob.ID) ([]snapshot.Node, error) {
	f.mu.Lock()
	f.loads[id]++
	f.mu.Unlock()
	if err := f.bad[id]; err != nil {
		return nil, err
	}
	return f.trees[id], nil
}

// add stores a tree under an ID that its content gives, as a repository does.
func (f *forest) add(nodes ...snapshot.Node) blob.ID {
	var text string
	for i := range nodes {
		text += string(nodes[i].AppendJSON(nil))
	}
	id := blob.Hash([]byte(text))
	f.trees[id] = nodes
	return id
}

func file(name string, content ...blob.ID) snapshot.Node {
	return snapshot.Node{Name: name, Type: snapshot.File, Content: content}
}

func dir(name string, tree blob.ID) snapshot.Node {
	return snapshot.Node{Name: name, Type: snapshot.Dir, Subtree: &tree}
}

// names makes the query of find with patterns.
func names(t *testing.T, patterns ...string) find.Query {
	t.Helper()
	list, err := find.Names(patterns, false)
	if err != nil {
		t.Fatal(err)
	}
	return find.Query{Names: list}
}

// search returns what is found in each of the snapshots, as lines.
func search(t *testing.T, f *forest, q find.Query, roots ...blob.ID) [][]string {
	t.Helper()
	var all [][]string
	finder := find.New(f, q)
	for _, root := range roots {
		var lines []string
		err := finder.Snapshot(t.Context(), root, func(m find.Match) error {
			line := m.Path
			if m.Kind != find.Name {
				line = fmt.Sprint([]string{"", "blob ", "tree "}[m.Kind], m.ID.Short(), " ", m.Path)
			}
			lines = append(lines, line)
			return nil
		}, func(p string, err error) error {
			lines = append(lines, "damaged "+p+": "+err.Error())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, lines)
	}
	return all
}

// TestNames searches two snapshots that have a directory in common, in different places.
func TestNames(t *testing.T) {
	f := newForest()
	shared := f.add(dir("deep", f.add(file("x.go"))), file("x.txt"))
	other := f.add(file("x.txt"), file("y.txt"))
	one := f.add(dir("a", f.add(dir("b", shared))), dir("c", other), file("!z"))
	two := f.add(dir("b", shared), dir("c", other))
	for _, test := range []struct {
		patterns []string
		want     [][]string
	}{
		{[]string{"nothing"}, [][]string{nil, nil}},
		{[]string{"x.txt"}, [][]string{{"/a/b/x.txt", "/c/x.txt"}, {"/b/x.txt", "/c/x.txt"}}},
		{[]string{"/b/*.txt"}, [][]string{nil, {"/b/x.txt"}}},
		{[]string{"a/b"}, [][]string{{"/a/b", "/a/b/deep", "/a/b/deep/x.go", "/a/b/x.txt"}, nil}},
		{[]string{"/a/**/x.*", "y*"}, [][]string{{"/a/b/deep/x.go", "/a/b/x.txt", "/c/y.txt"}, {"/c/y.txt"}}},
		{[]string{"b/deep"}, [][]string{{"/a/b/deep", "/a/b/deep/x.go"}, {"/b/deep", "/b/deep/x.go"}}},
		{[]string{"!z"}, [][]string{{"/!z"}, nil}},
		{[]string{""}, [][]string{
			{"/a", "/a/b", "/a/b/deep", "/a/b/deep/x.go", "/a/b/x.txt", "/c", "/c/x.txt", "/c/y.txt", "/!z"},
			{"/b", "/b/deep", "/b/deep/x.go", "/b/x.txt", "/c", "/c/x.txt", "/c/y.txt"}}},
	} {
		if diff := cmp.Diff(test.want, search(t, f, names(t, test.patterns...), one, two)); diff != "" {
			t.Errorf("%q: -want +got:\n%s", test.patterns, diff)
		}
	}
	// A pattern that begins anywhere makes nothing else of the shared tree below another path.
	clear(f.loads)
	search(t, f, names(t, "x.txt"), one, two, one)
	for id, n := range f.loads {
		if n != 1 {
			t.Errorf("tree %v was loaded %d times", id.Short(), n)
		}
	}
	// Where nothing can match nothing is read.
	clear(f.loads)
	search(t, f, names(t, "/c/y.txt"), one, two)
	if f.loads[shared] != 0 || f.loads[other] != 1 {
		t.Errorf("loads %v", f.loads)
	}
	if _, err := find.Names([]string{"a[b"}, false); err == nil {
		t.Error("a malformed pattern was accepted")
	}
}

func TestTimes(t *testing.T) {
	f := newForest()
	at := func(name string, hour int) snapshot.Node {
		n := file(name)
		n.ModTime = time.Date(2024, 1, 1, hour, 0, 0, 0, time.FixedZone("", 3600))
		return n
	}
	root := f.add(at("1", 1), at("2", 2), at("3", 3), at("4", 4))
	hour := func(h int) time.Time { return time.Date(2024, 1, 1, h, 0, 0, 0, time.FixedZone("", 3600)) }
	for _, test := range []struct {
		oldest, newest time.Time
		want           []string
	}{
		{want: []string{"/1", "/2", "/3", "/4"}},
		{oldest: hour(2), want: []string{"/2", "/3", "/4"}},
		{newest: hour(2).UTC(), want: []string{"/1", "/2"}},
		{oldest: hour(2).UTC(), newest: hour(3), want: []string{"/2", "/3"}},
	} {
		q := names(t, "*")
		q.Oldest, q.Newest = test.oldest, test.newest
		if diff := cmp.Diff([][]string{test.want}, search(t, f, q, root)); diff != "" {
			t.Errorf("%v to %v: -want +got:\n%s", test.oldest, test.newest, diff)
		}
	}
	if err := (find.Query{Oldest: hour(2), Newest: hour(1)}).Check(); !errors.Is(err, find.ErrTimes) {
		t.Errorf("error %v", err)
	}
	if err := (find.Query{Oldest: hour(2), Newest: hour(2)}).Check(); err != nil {
		t.Error(err)
	}
}

func TestIDs(t *testing.T) {
	id := func(digits string) (id blob.ID) {
		for len(digits) < 64 {
			digits += "0"
		}
		if err := id.UnmarshalText([]byte(digits)); err != nil {
			t.Fatal(err)
		}
		return id
	}
	for _, test := range []struct {
		arg string
		id  string
		has bool
	}{
		{"ab", "ab12", true}, {"ab1", "ab12", true}, {"ab2", "ab12", false}, {"AB12", "ab12", true}, {"a", "ab", true}, {"b", "ab", false},
		{id("ab12").String(), "ab12", true}, {id("ab12").String(), "ab13", false}, {id("ab12").String()[:63], "ab12", true},
	} {
		ids, err := find.ParseIDs([]string{"ff", test.arg})
		if err != nil || ids.Empty() || ids.Has(id(test.id)) != test.has {
			t.Errorf("%s of %s: error %v, want %v", test.arg, test.id, err, test.has)
		}
	}
	for _, bad := range []string{"", "xy", "ab-", id("ab").String() + "0"} {
		if _, err := find.ParseIDs([]string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if ids, err := find.ParseIDs(nil); err != nil || !ids.Empty() {
		t.Errorf("no IDs: %v, %v", ids, err)
	}

	f := newForest()
	a, b := blob.Hash([]byte("a")), blob.Hash([]byte("b"))
	leaf := f.add(file("1", a, b, a), file("2", b), dir("3", f.add()))
	root := f.add(dir("x", leaf), dir("y", leaf))
	q := find.Query{}
	q.Blobs.Add(a)
	want := []string{"blob " + a.Short() + " /x/1", "blob " + a.Short() + " /x/1", "blob " + a.Short() + " /y/1", "blob " + a.Short() + " /y/1"}
	if diff := cmp.Diff([][]string{want}, search(t, f, q, root)); diff != "" {
		t.Errorf("blobs: -want +got:\n%s", diff)
	}
	q = find.Query{}
	q.Trees.Add(leaf)
	q.Trees.Add(root)
	want = []string{"tree " + root.Short() + " /", "tree " + leaf.Short() + " /x", "tree " + leaf.Short() + " /y"}
	if diff := cmp.Diff([][]string{want}, search(t, f, q, root)); diff != "" {
		t.Errorf("trees: -want +got:\n%s", diff)
	}
}

// TestDamage: what cannot be read is told once, and what else there is is found; a store that does not answer ends the search.
func TestDamage(t *testing.T) {
	f := newForest()
	lost := f.add(file("x"), file("lost"))
	corrupt := f.add(file("x"), file("corrupt"))
	root := f.add(dir("a", lost), dir("b", corrupt), dir("c", lost), file("x"))
	f.bad[lost] = fmt.Errorf("load it: %w", repo.ErrBlobMissing)
	f.bad[corrupt] = fmt.Errorf("load it: %w", repo.ErrCorrupt)
	want := [][]string{{
		"damaged /a: read /a: load it: blob is in no index", "damaged /b: read /b: load it: corrupt", "/x",
	}, {"/x"}}
	if diff := cmp.Diff(want, search(t, f, names(t, "x"), root, root)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	broken := errors.New("no answer")
	f.bad[corrupt] = broken
	nobody := func(find.Match) error { t.Error("found something"); return nil }
	err := find.New(f, names(t, "x")).Snapshot(t.Context(), root, nobody, func(string, error) error { return nil })
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	clear(f.bad)
	stop := errors.New("stop")
	err = find.New(f, names(t, "x")).Snapshot(t.Context(), root, func(find.Match) error { return stop }, nil)
	if !errors.Is(err, stop) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := find.New(f, names(t, "x")).Snapshot(ctx, root, nobody, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestRandom compares with a search that goes through each snapshot for itself and matches whole paths.
func TestRandom(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	words := []string{"a", "b", "c", "ab", "bc"}
	patterns := []string{"a", "b/c", "/a/b", "/a/**/c", "*b", "a/*/c", "**/b/**/a", "/b", "c/a/b"}
	hits := 0
	for range 300 {
		f := newForest()
		pool := []blob.ID{f.add()}
		for range 12 {
			var nodes []snapshot.Node
			for _, w := range words {
				switch rng.IntN(3) {
				case 0:
					nodes = append(nodes, dir(w, pool[rng.IntN(len(pool))]))
				case 1:
					nodes = append(nodes, file(w))
				}
			}
			pool = append(pool, f.add(nodes...))
		}
		roots := []blob.ID{pool[12], pool[11], pool[10], pool[12]}
		q := names(t, patterns[rng.IntN(len(patterns))], patterns[rng.IntN(len(patterns))])
		var want [][]string
		for _, root := range roots {
			var lines []string
			var visit func(at string, tree blob.ID)
			visit = func(at string, tree blob.ID) {
				for _, n := range f.trees[tree] {
					p := path.Join(at, n.Name)
					if q.Names.Match(p) {
						lines = append(lines, p)
					}
					if n.Subtree != nil {
						visit(p, *n.Subtree)
					}
				}
			}
			visit("/", root)
			hits += len(lines)
			want = append(want, lines)
		}
		if diff := cmp.Diff(want, search(t, f, q, roots...)); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
	}
	if hits < 1000 {
		t.Errorf("only %d matches", hits)
	}
}
