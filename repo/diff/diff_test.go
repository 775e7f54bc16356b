package diff_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
	"vitrine/repo/diff"
	"vitrine/repo/snapshot"
)

// store holds trees, and counts how often each is read.
type store struct {
	trees map[blob.ID][]snapshot.Node
	mu    sync.Mutex      // guards loads
	loads map[blob.ID]int // trees are read in parallel
}

func newStore() *store {
	return &store{trees: map[blob.ID][]snapshot.Node{}, loads: map[blob.ID]int{}}
}

var errLost = errors.New("lost")

func (s *store) LoadTree(_ context.Context, id blob.ID) ([]snapshot.Node, error) {
	s.mu.Lock()
	s.loads[id]++
	s.mu.Unlock()
	nodes, ok := s.trees[id]
	if !ok {
		return nil, errLost
	}
	return nodes, nil
}

// LookupBlob gives every blob of data 10 bytes and every tree 1000.
func (s *store) LookupBlob(h blob.Handle) (blob.Location, bool, error) {
	size := uint32(10)
	if h.Type == blob.Tree {
		size = 1000
	}
	return blob.Location{LengthBytes: size + blob.SealOverheadBytes}, true, nil
}

// tree stores a tree.
func (s *store) tree(nodes ...snapshot.Node) blob.ID {
	slices.SortFunc(nodes, func(a, b snapshot.Node) int { return strings.Compare(a.Name, b.Name) })
	var text []byte
	for i := range nodes {
		text = nodes[i].AppendJSON(text)
	}
	id := blob.Hash(text)
	s.trees[id] = nodes
	return id
}

// file makes a file with a blob for each word.
func file(name, words string) snapshot.Node {
	n := snapshot.Node{Name: name, Type: snapshot.File, Mode: 0o644, Content: []blob.ID{}}
	for _, word := range strings.Fields(words) {
		n.Content = append(n.Content, blob.Hash([]byte(word)))
		n.Size += 10
	}
	return n
}

func dir(name string, tree blob.ID) snapshot.Node {
	return snapshot.Node{Name: name, Type: snapshot.Dir, Mode: fs.ModeDir | 0o755, Subtree: &tree}
}

func link(name, target string) snapshot.Node {
	return snapshot.Node{Name: name, Type: snapshot.Symlink, Mode: fs.ModeSymlink | 0o777, LinkTarget: target}
}

// touched is a node of a later time.
func touched(n snapshot.Node) snapshot.Node {
	n.ModTime = n.ModTime.Add(time.Hour)
	return n
}

// compare returns the changes as lines.
func (s *store) compare(t *testing.T, from, to blob.ID, metadata bool) ([]string, diff.Stats) {
	t.Helper()
	var lines []string
	stats, err := diff.Trees(t.Context(), s, from, to, metadata, func(c diff.Change) error {
		lines = append(lines, c.Modifier+" "+c.Path)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines, stats
}

func TestTrees(t *testing.T) {
	zone := time.FixedZone("elsewhere", 3600)
	moment := time.Date(2024, 1, 2, 3, 4, 5, 6, time.UTC)
	at := func(n snapshot.Node, when time.Time) snapshot.Node {
		n.ModTime, n.AccessTime, n.ChangeTime = when, when, when
		return n
	}
	for _, test := range []struct {
		name     string
		from, to func(s *store) blob.ID
		metadata bool
		want     []string
		stats    diff.Stats
	}{
		{
			name: "nothing",
			from: func(s *store) blob.ID { return s.tree(file("a", "x")) },
			to:   func(s *store) blob.ID { return s.tree(file("a", "x")) },
		},
		{
			name:  "a file more",
			from:  func(s *store) blob.ID { return s.tree(file("a", "x")) },
			to:    func(s *store) blob.ID { return s.tree(file("a", "x"), file("b", "x y")) },
			want:  []string{"+ /b"},
			stats: diff.Stats{Added: diff.Side{Files: 1, DataBlobs: 1, TreeBlobs: 1, Bytes: 1010}, Removed: diff.Side{TreeBlobs: 1, Bytes: 1000}},
		},
		{
			name:  "a file less",
			from:  func(s *store) blob.ID { return s.tree(file("a", "x"), file("b", "y")) },
			to:    func(s *store) blob.ID { return s.tree(file("b", "y")) },
			want:  []string{"- /a"},
			stats: diff.Stats{Added: diff.Side{TreeBlobs: 1, Bytes: 1000}, Removed: diff.Side{Files: 1, DataBlobs: 1, TreeBlobs: 1, Bytes: 1010}},
		},
		{
			name: "a directory with all below it",
			from: func(s *store) blob.ID { return s.tree() },
			to: func(s *store) blob.ID {
				return s.tree(dir("d", s.tree(dir("e", s.tree(file("f", "x"), link("l", "f"))), file("g", "x"))))
			},
			want:  []string{"+ /d/", "+ /d/e/", "+ /d/e/f", "+ /d/e/l", "+ /d/g"},
			stats: diff.Stats{Added: diff.Side{Files: 2, Dirs: 2, Others: 1, DataBlobs: 1, TreeBlobs: 3, Bytes: 3010}, Removed: diff.Side{TreeBlobs: 1, Bytes: 1000}},
		},
		{
			name:  "content, and its order",
			from:  func(s *store) blob.ID { return s.tree(file("a", "x y"), file("b", "x"), file("c", "x")) },
			to:    func(s *store) blob.ID { return s.tree(file("a", "y x"), file("b", "z"), file("c", "x")) },
			want:  []string{"M /a", "M /b"},
			stats: diff.Stats{ChangedFiles: 2, Added: diff.Side{DataBlobs: 1, TreeBlobs: 1, Bytes: 1010}, Removed: diff.Side{TreeBlobs: 1, Bytes: 1000}},
		},
		{
			name:  "metadata that nobody asked for",
			from:  func(s *store) blob.ID { return s.tree(file("a", "x")) },
			to:    func(s *store) blob.ID { return s.tree(touched(file("a", "x"))) },
			stats: diff.Stats{Added: diff.Side{TreeBlobs: 1, Bytes: 1000}, Removed: diff.Side{TreeBlobs: 1, Bytes: 1000}},
		},
		{
			name:     "metadata of a file, a link, a directory and what is in it",
			metadata: true,
			from: func(s *store) blob.ID {
				return s.tree(file("a", "x"), file("b", "x"), dir("d", s.tree(file("in", "x"))), dir("e", s.tree(file("in", "x"))), link("l", "a"))
			},
			to: func(s *store) blob.ID {
				return s.tree(touched(file("a", "x")), file("b", "x"), dir("d", s.tree(touched(file("in", "x")))), touched(dir("e", s.tree(file("in", "x")))), link("l", "b"))
			},
			// The directory d differs in the tree that it names.
			want:  []string{"U /a", "U /d/", "U /d/in", "U /e/", "U /l"},
			stats: diff.Stats{Added: diff.Side{TreeBlobs: 2, Bytes: 2000}, Removed: diff.Side{TreeBlobs: 1, Bytes: 1000}},
		},
		{
			name:     "content and metadata are told as content",
			metadata: true,
			from:     func(s *store) blob.ID { return s.tree(file("a", "x")) },
			to:       func(s *store) blob.ID { return s.tree(touched(file("a", "y"))) },
			want:     []string{"M /a"},
			stats:    diff.Stats{ChangedFiles: 1, Added: diff.Side{DataBlobs: 1, TreeBlobs: 1, Bytes: 1010}, Removed: diff.Side{DataBlobs: 1, TreeBlobs: 1, Bytes: 1010}},
		},
		{
			name:     "the same moment in another zone",
			metadata: true,
			from:     func(s *store) blob.ID { return s.tree(at(file("a", "x"), moment)) },
			to:       func(s *store) blob.ID { return s.tree(at(file("a", "x"), moment.In(zone))) },
			stats:    diff.Stats{Added: diff.Side{TreeBlobs: 1, Bytes: 1000}, Removed: diff.Side{TreeBlobs: 1, Bytes: 1000}},
		},
		{
			name:     "types",
			metadata: true,
			from: func(s *store) blob.ID {
				return s.tree(file("a", "x"), dir("b", s.tree(file("in", "y"))), link("c", "a"))
			},
			to: func(s *store) blob.ID {
				return s.tree(link("a", "b"), file("b", "x"), dir("c", s.tree(file("in", "x"))))
			},
			want:  []string{"TU /a", "TU /b", "TU /c/"},
			stats: diff.Stats{Added: diff.Side{TreeBlobs: 2, Bytes: 2000}, Removed: diff.Side{TreeBlobs: 2, Bytes: 2000}},
		},
		{
			name: "names in between, in the order of the paths",
			from: func(s *store) blob.ID { return s.tree(file("a", ""), file("c", ""), file("e", "")) },
			to: func(s *store) blob.ID {
				return s.tree(file("b", ""), dir("c", s.tree()), file("d", ""), file("e", ""), file("f", ""))
			},
			want: []string{"- /a", "+ /b", "T /c/", "+ /d", "+ /f"},
			stats: diff.Stats{Added: diff.Side{Files: 3, TreeBlobs: 2, Bytes: 2000},
				Removed: diff.Side{Files: 1, TreeBlobs: 1, Bytes: 1000}},
		},
		{
			name: "a blob that a shared directory has is not new",
			from: func(s *store) blob.ID { return s.tree(dir("d", s.tree(dir("e", s.tree(file("f", "x")))))) },
			to: func(s *store) blob.ID {
				return s.tree(file("copy", "x"), dir("d", s.tree(dir("e", s.tree(file("f", "x"))))))
			},
			want:  []string{"+ /copy"},
			stats: diff.Stats{Added: diff.Side{Files: 1, TreeBlobs: 1, Bytes: 1000}, Removed: diff.Side{TreeBlobs: 1, Bytes: 1000}},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newStore()
			got, stats := s.compare(t, test.from(s), test.to(s), test.metadata)
			if d := cmp.Diff(test.want, got); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if d := cmp.Diff(test.stats, stats); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
		})
	}
}

// TestShared: a directory that both sides have is not compared. It is read once, for its blobs, however often it is
// met; and trees that are the same are not read at all.
func TestShared(t *testing.T) {
	s := newStore()
	deep := s.tree(file("f", "x"))
	shared := s.tree(dir("deep", deep), file("g", "y"))
	from := s.tree(dir("a", shared), dir("b", shared), file("z", "1"))
	to := s.tree(dir("a", shared), dir("b", shared), file("z", "2"))
	if got, _ := s.compare(t, from, to, true); !slices.Equal(got, []string{"M /z"}) {
		t.Errorf("%q", got)
	}
	if want := map[blob.ID]int{from: 1, to: 1, shared: 1, deep: 1}; !cmp.Equal(want, s.loads) {
		t.Errorf("%v", s.loads)
	}

	clear(s.loads)
	if got, stats := s.compare(t, from, from, true); len(got) > 0 || stats != (diff.Stats{}) || len(s.loads) > 0 {
		t.Errorf("%q, %+v, read %v", got, stats, s.loads)
	}
}

// TestWide: of a directory with many others only a few trees are on their way at a time.
func TestWide(t *testing.T) {
	s := newStore()
	var before, after []snapshot.Node
	var want []string
	for i := range 100 {
		name := fmt.Sprintf("%02d", i)
		before = append(before, dir(name, s.tree(file("f", "old"+name))))
		after = append(after, dir(name, s.tree(file("f", "new"+name))))
		want = append(want, "M /"+name+"/f")
	}
	from, to := s.tree(before...), s.tree(after...)
	reported := 0
	var got []string
	stats, err := diff.Trees(t.Context(), s, from, to, false, func(c diff.Change) error {
		reported++
		got = append(got, c.Modifier+" "+c.Path)
		s.mu.Lock()
		defer s.mu.Unlock()
		if ahead := len(s.loads) - 2 - 2*reported; ahead > 2*4 {
			t.Errorf("%d trees were read ahead", ahead)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	side := diff.Side{DataBlobs: 100, TreeBlobs: 101, Bytes: 102_000}
	if want := (diff.Stats{ChangedFiles: 100, Added: side, Removed: side}); stats != want {
		t.Errorf("%+v", stats)
	}
}

// TestEnds: an error of whoever hears of a change, a tree that is lost, and the end of the context.
func TestEnds(t *testing.T) {
	s := newStore()
	lost := blob.Hash([]byte("lost"))
	from := s.tree(file("a", "x"), dir("d", s.tree(file("f", "x"))))
	to := s.tree(file("b", "x"), dir("d", lost), dir("e", s.tree()))
	errFull := errors.New("full")
	ctx, cancel := context.WithCancelCause(t.Context())
	for _, test := range []struct {
		name   string
		report func(c diff.Change) error
		want   error
		words  string
	}{
		{"nobody listens", func(diff.Change) error { return errFull }, errFull, ""},
		{"lost", func(diff.Change) error { return nil }, errLost, "read /d: "},
		{"cancelled", func(diff.Change) error { cancel(errFull); return nil }, errFull, ""},
	} {
		calls := 0
		_, err := diff.Trees(ctx, s, from, to, false, func(c diff.Change) error {
			calls++
			return test.report(c)
		})
		if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.words) {
			t.Errorf("%s: %v", test.name, err)
		}
		if want := 1; test.want == errFull && calls != want {
			t.Errorf("%s: %d calls, want %d", test.name, calls, want)
		}
	}
	// A lost directory of one side only, and one that both have.
	for name, pair := range map[string][2]blob.ID{
		"read /d: ":                       {s.tree(), s.tree(dir("d", lost))},
		"read a directory that both have": {s.tree(dir("d", lost)), s.tree(dir("d", lost), file("new", "x"))},
	} {
		_, err := diff.Trees(t.Context(), s, pair[0], pair[1], false, func(diff.Change) error { return nil })
		if !errors.Is(err, errLost) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
