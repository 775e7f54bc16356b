package tree_test

import (
	"context"
	"errors"
	iofs "io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/fs/tree"
	"vitrine/fs/tree/treetest"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

var day = time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)

// open returns a refreshed tree over src.
func open(t *testing.T, src *treetest.Source, o tree.Options) *tree.Tree {
	t.Helper()
	tr, err := tree.New(src, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	refresh(t, tr)
	return tr
}

func refresh(t *testing.T, tr *tree.Tree) []tree.Change {
	t.Helper()
	changed, err := tr.Refresh(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

// at looks a path up.
func at(t *testing.T, tr *tree.Tree, path string) tree.Attr {
	t.Helper()
	a, err := lookup(t.Context(), tr, path)
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return a
}

func lookup(ctx context.Context, tr *tree.Tree, path string) (tree.Attr, error) {
	a, err := tr.Attr(ctx, tree.Root)
	for _, name := range strings.Split(path, "/") {
		if err == nil && name != "" {
			a, err = tr.Lookup(ctx, a.ID, name)
		}
	}
	return a, err
}

// names lists a directory.
func names(t *testing.T, tr *tree.Tree, path string) []string {
	t.Helper()
	var list []string
	err := tr.List(t.Context(), at(t, tr, path).ID, 0, func(_ uint64, name string, a *tree.Attr) bool {
		list = append(list, name)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// walk returns every path of the lists, with -> for symlinks and / behind snapshots.
func walk(t *testing.T, tr *tree.Tree, path string) []string {
	t.Helper()
	var all []string
	for _, name := range names(t, tr, path) {
		p := path + "/" + name
		a := at(t, tr, p)
		switch {
		case a.Mode&iofs.ModeSymlink != 0:
			target, err := tr.Readlink(t.Context(), a.ID)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, p+" -> "+target)
		case !tr.IsList(a.ID):
			all = append(all, p+"/")
		default:
			all = append(all, append([]string{p}, walk(t, tr, p)...)...)
		}
	}
	return all
}

func TestLayout(t *testing.T) {
	src := treetest.New(t)
	root := src.Tree(src.File("f", "x"))
	a := src.AddSnapshot(day, root, func(s *snapshot.Snapshot) { s.Hostname, s.Tags = "h1", []string{"a/b", "c", "a_b"} })
	b := src.AddSnapshot(day, root, func(s *snapshot.Snapshot) { s.Hostname, s.Tags = "h2/x", []string{".."} })
	c := src.AddSnapshot(day.Add(24*time.Hour), root, func(s *snapshot.Snapshot) { s.Hostname, s.Username = "h1", "" })
	for _, tc := range []struct {
		name      string
		templates []string
		timeForm  string
		filter    snapshot.Filter
		want      []string
	}{
		{
			name: "default", want: []string{
				"/hosts", "/hosts/h1", "/hosts/h1/2020-01-02T03:04:05Z/", "/hosts/h1/2020-01-03T03:04:05Z/",
				"/hosts/h1/latest -> 2020-01-03T03:04:05Z",
				"/hosts/h2_x", "/hosts/h2_x/2020-01-02T03:04:05Z/", "/hosts/h2_x/latest -> 2020-01-02T03:04:05Z",
				"/ids", "IDS", "/ids/latest -> " + c.ID.Short(),
				"/snapshots", "/snapshots/2020-01-02T03:04:05Z/", "/snapshots/2020-01-02T03:04:05Z-1/",
				"/snapshots/2020-01-03T03:04:05Z/", "/snapshots/latest -> 2020-01-03T03:04:05Z",
				"/tags", "/tags/__", "/tags/__/2020-01-02T03:04:05Z/", "/tags/__/latest -> 2020-01-02T03:04:05Z",
				"/tags/a_b", "/tags/a_b/2020-01-02T03:04:05Z/", "/tags/a_b/latest -> 2020-01-02T03:04:05Z",
				"/tags/c", "/tags/c/2020-01-02T03:04:05Z/", "/tags/c/latest -> 2020-01-02T03:04:05Z",
			},
		}, {
			name: "host", filter: snapshot.Filter{Hosts: []string{"h2/x"}}, want: []string{
				"/hosts", "/hosts/h2_x", "/hosts/h2_x/2020-01-02T03:04:05Z/", "/hosts/h2_x/latest -> 2020-01-02T03:04:05Z",
				"/ids", "IDS", "/ids/latest -> " + b.ID.Short(),
				"/snapshots", "/snapshots/2020-01-02T03:04:05Z/", "/snapshots/latest -> 2020-01-02T03:04:05Z",
				"/tags", "/tags/__", "/tags/__/2020-01-02T03:04:05Z/", "/tags/__/latest -> 2020-01-02T03:04:05Z",
			},
		}, {
			name: "templates", templates: []string{"%h/100%%-%u/%T", "all/%I"}, timeForm: "2006", want: []string{
				"/all", "IDS", "/all/latest -> " + c.ID.String(),
				"/h1", "/h1/100%-", "/h1/100%-/2020/", "/h1/100%-/latest -> 2020",
				"/h1/100%-user", "/h1/100%-user/2020/", "/h1/100%-user/latest -> 2020",
				"/h2_x", "/h2_x/100%-user", "/h2_x/100%-user/2020/", "/h2_x/100%-user/latest -> 2020",
			},
		}, {
			name: "a snapshot and a list of one name", templates: []string{"%h", "h1/%T"}, timeForm: "2006", want: []string{
				"/h1/", "/h1-1/",
				"/h1-2", "/h1-2/2020/", "/h1-2/2020-1/", "/h1-2/2020-2/", "/h1-2/latest -> 2020-2",
				"/h2_x/", "/latest -> h1-1",
			},
		}, {
			name: "nothing matches", filter: snapshot.Filter{Hosts: []string{"nobody"}}, want: []string{
				"/hosts", "/ids", "/snapshots", "/tags",
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tr := open(t, src, tree.Options{PathTemplates: tc.templates, TimeTemplate: tc.timeForm, Filter: tc.filter})
			var got []string
			for _, p := range walk(t, tr, "") {
				if (strings.HasPrefix(p, "/ids/") || strings.HasPrefix(p, "/all/")) && strings.HasSuffix(p, "/") {
					if p = "IDS"; got[len(got)-1] == p {
						continue
					}
				}
				got = append(got, p)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	tr := open(t, src, tree.Options{})
	if got := at(t, tr, "ids/"+a.ID.Short()); got.Mode != iofs.ModeDir|0o555 {
		t.Errorf("mode of a snapshot: %v", got.Mode)
	}
}

func TestTemplateErrors(t *testing.T) {
	for _, tc := range []struct{ path, time, want string }{
		{"ids/%x", "", "unknown verb %x"},
		{"ids/%", "", "lone %"},
		{"a/../b", "", `".." is no name`},
		{"", "", `"" is no name`},
		{"a//b", "", `"" is no name`},
		{"%T", "2006/01/02", "slash"},
	} {
		_, err := tree.New(treetest.New(t), tree.Options{PathTemplates: []string{tc.path}, TimeTemplate: tc.time})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("template %q, time %q: error %v, want %q in it", tc.path, tc.time, err, tc.want)
		}
	}
}

func TestRefresh(t *testing.T) {
	src := treetest.New(t)
	root := src.Tree(src.File("f", "x"))
	src.AddSnapshot(day, root, nil)
	tr := open(t, src, tree.Options{})
	before := at(t, tr, "snapshots")
	link := at(t, tr, "snapshots/latest")
	if changed := refresh(t, tr); changed != nil {
		t.Errorf("nothing new, yet %v changed", changed)
	}
	if n := src.SnapshotLoads(); n != 1 {
		t.Errorf("%d snapshot files read, want 1", n)
	}

	if n := src.IndexRefreshes(); n != 0 {
		t.Errorf("the index was read %d times before there was a new snapshot", n)
	}
	added := src.AddSnapshot(day.Add(time.Hour), root, nil)
	want := map[string][]string{"/hosts/host": {"latest"}, "/ids": {"latest"}, "/snapshots": {"latest"}}
	if diff := cmp.Diff(want, changes(t, tr)); diff != "" {
		t.Errorf("changed lists: %s", diff)
	}
	if n := src.IndexRefreshes(); n != 1 {
		t.Errorf("the index was read %d times, want 1", n)
	}
	if n := src.SnapshotLoads(); n != 2 {
		t.Errorf("%d snapshot files read, want 2", n)
	}
	after := at(t, tr, "snapshots")
	if after.ID != before.ID || after.Ino != before.Ino {
		t.Errorf("the list became another node: %v, %v", before, after)
	}
	if after.MTime == before.MTime {
		t.Error("the list changed, its time did not")
	}
	now := at(t, tr, "snapshots/latest")
	if target, err := tr.Readlink(t.Context(), now.ID); err != nil || target != "2020-01-02T04:04:05Z" {
		t.Errorf("latest -> %q, %v", target, err)
	}
	if now.ID == link.ID {
		t.Error("latest points elsewhere but is the same node: the kernel would keep its target")
	}
	// Who met the old one just before gets its answer; much later it is gone, and the kernel looks
	// it up again.
	if target, err := tr.Readlink(t.Context(), link.ID); err != nil || target != "2020-01-02T03:04:05Z" {
		t.Errorf("the latest of just before -> %q, %v", target, err)
	}
	another := src.AddSnapshot(day.Add(time.Minute), root, nil)
	refresh(t, tr)
	src.RemoveSnapshot(another.ID)
	refresh(t, tr)
	if _, err := tr.Readlink(t.Context(), link.ID); !errors.Is(err, tree.ErrStale) {
		t.Errorf("the latest of long ago: %v", err)
	}
	if _, err := tr.Readlink(t.Context(), after.ID); !errors.Is(err, tree.ErrInvalid) {
		t.Errorf("target of a list: %v", err)
	}

	held := at(t, tr, "ids/"+added.ID.Short()) // somebody sits in it
	src.RemoveSnapshot(added.ID)
	if diff := cmp.Diff(want, changes(t, tr)); diff != "" {
		t.Errorf("changed lists: %s", diff)
	}
	if _, err := lookup(t.Context(), tr, "ids/"+added.ID.Short()); !errors.Is(err, tree.ErrNoEntry) {
		t.Errorf("a removed snapshot: %v", err)
	}
	if _, err := tr.Lookup(t.Context(), held.ID, "f"); err != nil {
		t.Errorf("whoever sits in a removed snapshot cannot read on: %v", err)
	}
	if got := tr.Path(t.Context(), held.ID); got != "/ids/"+added.ID.Short() {
		t.Errorf("path of a removed snapshot: %s", got)
	}
}

// changes refreshes and returns the symlinks that are not what they were, by the path of their list.
func changes(t *testing.T, tr *tree.Tree) map[string][]string {
	t.Helper()
	names := make(map[string][]string)
	for _, c := range refresh(t, tr) {
		names[tr.Path(t.Context(), c.List)] = c.Links
	}
	return names
}

// A list that goes, and a name that goes to another snapshot.
func TestRefreshReplaces(t *testing.T) {
	src := treetest.New(t)
	tr := open(t, src, tree.Options{PathTemplates: []string{"%h/%t/x"}})
	tag := func(tags ...string) func(*snapshot.Snapshot) { return func(sn *snapshot.Snapshot) { sn.Tags = tags } }
	first := src.AddSnapshot(day, src.Tree(), tag("a", "b"))
	src.AddSnapshot(day.Add(time.Hour), src.Tree(), tag("a"))
	want := map[string][]string{"/": nil, "/host": nil, "/host/a": nil, "/host/b": nil}
	if diff := cmp.Diff(want, changes(t, tr)); diff != "" {
		t.Errorf("the first ones: %s", diff)
	}
	src.RemoveSnapshot(first.ID)
	got := changes(t, tr)
	if links := got["/host/a"]; !cmp.Equal(links, []string{"latest"}) { // x-1 is now x
		t.Errorf("in the list that stays: %q", links)
	}
	if len(got) != 3 { // and the list b, which has no path any more
		t.Errorf("lists that changed: %v", got)
	}
}

// A new snapshot shows up even if the index cannot be read: what it has in common with others reads.
func TestRefreshWithoutIndex(t *testing.T) {
	src := treetest.New(t)
	root := src.Tree()
	src.AddSnapshot(day, root, nil)
	tr := open(t, src, tree.Options{})
	src.AddSnapshot(day.Add(time.Hour), root, nil)
	src.FailIndex(errors.New("index is away"))
	changed, err := tr.Refresh(t.Context())
	if err == nil || len(changed) != 3 {
		t.Errorf("%v changed, %v", changed, err)
	}
	if got := names(t, tr, "snapshots"); len(got) != 3 {
		t.Errorf("snapshots: %q", got)
	}
	if changed, err := tr.Refresh(t.Context()); err != nil || changed != nil {
		t.Errorf("the next time: %v changed, %v", changed, err)
	}
}

func TestRefreshTroubles(t *testing.T) {
	src := treetest.New(t)
	root := src.Tree()
	src.AddSnapshot(day, root, nil)
	bad := src.AddSnapshot(day.Add(time.Hour), root, nil)
	src.Break(blob.Handle{ID: bad.ID}, errors.New("damaged"))
	var log strings.Builder
	tr := open(t, src, tree.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	refresh(t, tr)
	if got := names(t, tr, "snapshots"); len(got) != 2 {
		t.Errorf("snapshots: %q", got)
	}
	if n := strings.Count(log.String(), bad.ID.Short()); n != 1 {
		t.Errorf("the bad snapshot is %d times in the log:\n%s", n, log.String())
	}
	src.Break(blob.Handle{ID: bad.ID}, nil)
	refresh(t, tr)
	if got := names(t, tr, "snapshots"); len(got) != 3 {
		t.Errorf("snapshots after the trouble: %q", got)
	}
	src.FailLists(errors.New("offline"))
	if _, err := tr.Refresh(t.Context()); err == nil || !strings.Contains(err.Error(), "offline") {
		t.Errorf("refresh while offline: %v", err)
	}
	if got := names(t, tr, "snapshots"); len(got) != 3 {
		t.Errorf("snapshots while offline: %q", got)
	}
}

func TestNextFiles(t *testing.T) {
	src := treetest.New(t)
	root := src.Tree(
		src.File("a", "12345"), src.Dir("b", src.File("x", "y")), src.File("c"), src.File("d", "two", "chunks"),
		treetest.Symlink("e", "a"), src.File("f", "1234567890"), src.File("g", "123456789012345"), src.File("h", "123"),
	)
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), root, nil)
	tr := open(t, src, tree.Options{})
	dir := at(t, tr, "snapshots/2020-01-02T03:04:05Z")
	number, ok := tr.DirNumber(dir.ID)
	if !ok {
		t.Fatal("the root directory of a snapshot has no number")
	}
	if _, ok := tr.DirNumber(tree.Root); ok {
		t.Error("a list has a number")
	}
	for _, tc := range []struct {
		name string
		from int
		most tree.Files
		want string // large ones in brackets
		more bool
	}{
		{"all", 0, tree.Files{Most: 100, SmallBytes: 100, SumBytes: 1000, LargeBytes: 10}, "a [d] f g h", false},
		{"from one on", 1, tree.Files{Most: 100, SmallBytes: 100, SumBytes: 1000, LargeBytes: 10}, "[d] f g h", false},
		{"behind all", 8, tree.Files{Most: 100, SmallBytes: 100, SumBytes: 1000, LargeBytes: 10}, "", false},
		{"few", 0, tree.Files{Most: 2, SmallBytes: 100, SumBytes: 1000, LargeBytes: 10}, "a [d]", true},
		{"exactly as many", 0, tree.Files{Most: 5, SmallBytes: 100, SumBytes: 1000, LargeBytes: 10}, "a [d] f g h", false},
		{"small ones", 0, tree.Files{Most: 100, SmallBytes: 12, SumBytes: 1000, LargeBytes: 10}, "a [d] f [g] h", false},
		{"few bytes", 0, tree.Files{Most: 100, SmallBytes: 100, SumBytes: 26, LargeBytes: 10}, "a [d] f", true},
		{"large files count", 0, tree.Files{Most: 100, SmallBytes: 100, SumBytes: 26, LargeBytes: 20}, "a [d]", true},
		{"always one", 5, tree.Files{Most: 100, SmallBytes: 100, SumBytes: 1, LargeBytes: 10}, "f", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files, more, err := tr.NextFiles(t.Context(), number, tc.from, tc.most)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, f := range files {
				name := string(rune('a' + f.Entry))
				a := at(t, tr, "snapshots/2020-01-02T03:04:05Z/"+name)
				n, entry, ok := tree.FilePlace(f.ID)
				if a.ID != f.ID || f.Small() && int(a.Size) != f.Bytes || !ok || n != number || entry != f.Entry {
					t.Errorf("%s: %+v, attributes %+v", name, f, a)
				}
				if !f.Small() {
					name = "[" + name + "]"
				}
				names = append(names, name)
			}
			if got := strings.Join(names, " "); got != tc.want || more != tc.more {
				t.Errorf("%q, more %v; want %q, %v", got, more, tc.want, tc.more)
			}
		})
	}
	if _, _, err := tr.NextFiles(t.Context(), 1<<30, 0, tree.Files{}); !errors.Is(err, tree.ErrStale) {
		t.Errorf("a number that nothing has: %v", err)
	}
}

func TestAhead(t *testing.T) {
	src := treetest.New(t)
	dir := func(name string, nodes ...snapshot.Node) snapshot.Node {
		return src.Dir(name, append(nodes, src.File("of "+name, name))...)
	}
	root := src.Tree(
		dir("a", dir("b", dir("c")), dir("d")), src.File("e", "1"), treetest.Symlink("f", "a"), dir("g", dir("h")), dir("i"),
	)
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), root, nil)
	tr := open(t, src, tree.Options{})
	const top = "snapshots/2020-01-02T03:04:05Z"
	names := map[uint32]string{}
	for _, path := range []string{"a", "a/b", "a/b/c", "a/d", "g", "g/h", "i"} {
		number, ok := tr.DirNumber(at(t, tr, top+"/"+path).ID)
		if !ok {
			t.Fatalf("%s has no number", path)
		}
		names[number] = path
	}
	for _, tc := range []struct {
		from, want string
		most       int
	}{
		{"", "a a/b a/b/c a/d g g/h i", 100},
		{"/a", "a/b a/b/c a/d g g/h i", 100},
		{"/a/b", "a/b/c a/d g g/h i", 100},
		{"/a/b/c", "a/d g g/h i", 100},
		{"/g", "g/h i", 100},
		{"/i", "", 100},
		{"", "a a/b a/b/c", 3},
		{"/a/b/c", "a/d", 1},
	} {
		var got []string
		tr.Ahead(t.Context(), at(t, tr, top+tc.from).ID, func(number uint32) bool {
			got = append(got, names[number])
			return len(got) < tc.most
		})
		if diff := cmp.Diff(tc.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("from %q: %s", tc.from, diff)
		}
	}
	tr.Ahead(t.Context(), tree.Root, func(uint32) bool {
		t.Error("something is ahead of the list of snapshots")
		return false
	})
}

// Inode numbers grow in the order of a walk: the files of a directory by name, then its directories.
func TestInodeOrder(t *testing.T) {
	src := treetest.New(t)
	root := src.Tree(src.Dir("a"), src.File("b", "x"), src.Dir("c"), src.File("d", "y"), treetest.Symlink("e", "z"), src.Dir("f"))
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), root, nil)
	tr := open(t, src, tree.Options{})
	last := uint64(0)
	for _, name := range []string{"b", "d", "e", "a", "c", "f"} {
		a := at(t, tr, "snapshots/2020-01-02T03:04:05Z/"+name)
		if a.Ino <= last {
			t.Errorf("%s: %d after %d", name, a.Ino, last)
		}
		last = a.Ino
		if a.Mode.IsDir() && tr.Ino(a.ID) != a.Ino {
			t.Errorf("%s: Ino says %d, its attributes %d", name, tr.Ino(a.ID), a.Ino)
		}
	}
}
