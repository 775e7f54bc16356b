package rewrite_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/check"
	"vitrine/repo/repotest"
	"vitrine/repo/rewrite"
	"vitrine/repo/snapshot"
	"vitrine/repo/source/pattern"
)

// lab is a repository whose snapshots are made of lists of files.
type lab struct {
	t  *testing.T
	be *mem.Backend
	r  *repo.Repository
}

func newLab(t *testing.T) *lab {
	r, be := repotest.New(t, 2)
	return &lab{t, be, r}
}

// dir is a directory: a string is a file's content, a dir a directory.
type dir map[string]any

// parse makes directories of "a/b=content" and "a/empty/".
func parse(files ...string) dir {
	root := dir{}
	for _, f := range files {
		path, content, isFile := strings.Cut(f, "=")
		d := root
		parts := strings.Split(strings.Trim(path, "/"), "/")
		for i, name := range parts {
			if i == len(parts)-1 && isFile {
				d[name] = content
				break
			}
			if d[name] == nil {
				d[name] = dir{}
			}
			d = d[name].(dir)
		}
	}
	return root
}

// snapshot stores a snapshot of the files.
func (l *lab) snapshot(sn snapshot.Snapshot, files ...string) *snapshot.Snapshot {
	l.t.Helper()
	err := l.r.Write(l.t.Context(), func(ctx context.Context, w *repo.Writer) error {
		id, err := save(ctx, w, parse(files...))
		sn.Tree = &id
		return err
	})
	if err == nil {
		_, err = l.r.SaveSnapshot(l.t.Context(), &sn)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return &sn
}

func save(ctx context.Context, w *repo.Writer, d dir) (blob.ID, error) {
	var e snapshot.TreeEncoder
	for _, name := range slices.Sorted(maps.Keys(d)) {
		n := snapshot.Node{Name: name, Mode: 0o644}
		switch v := d[name].(type) {
		case string:
			saved, err := w.SaveBlob(ctx, blob.Data, []byte(v))
			if err != nil {
				return saved.ID, err
			}
			n.Type, n.Size, n.Content = snapshot.File, uint64(len(v)), []blob.ID{saved.ID}
		case dir:
			id, err := save(ctx, w, v)
			if err != nil {
				return id, err
			}
			n.Type, n.Subtree = snapshot.Dir, &id
		}
		if err := e.Add(&n); err != nil {
			return blob.ID{}, err
		}
	}
	saved, err := w.SaveBlob(ctx, blob.Tree, e.Finish())
	return saved.ID, err
}

// list names the files and empty directories of a tree, with a slash behind directories.
func list(t *testing.T, r *repo.Repository, id blob.ID, prefix string) []string {
	t.Helper()
	nodes, err := r.LoadTree(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range nodes {
		n := &nodes[i]
		if n.Type != snapshot.Dir {
			names = append(names, prefix+n.Name)
			continue
		}
		below := list(t, r, *n.Subtree, prefix+n.Name+"/")
		if len(below) == 0 {
			below = []string{prefix + n.Name + "/"}
		}
		names = append(names, below...)
	}
	return names
}

func patterns(t *testing.T, list ...string) []*pattern.List {
	t.Helper()
	l, err := pattern.Compile(list, false)
	if err != nil {
		t.Fatal(err)
	}
	return []*pattern.List{l}
}

// teller keeps what a Reporter is told.
type teller struct {
	trees   int
	changes []rewrite.Change
	removed []bool
}

func (r *teller) Snapshot(*snapshot.Snapshot) {}
func (r *teller) Trees(done int)              { r.trees = done }
func (r *teller) Changed(c rewrite.Change, removed bool) {
	r.changes, r.removed = append(r.changes, c), append(r.removed, removed)
}

// snapshots lists the IDs of those that are there.
func (l *lab) snapshots() []blob.ID {
	l.t.Helper()
	var ids []blob.ID
	err := l.be.List(l.t.Context(), backend.Snapshot, func(info backend.Info) error {
		id, err := blob.ParseID(info.Name)
		ids = append(ids, id)
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
	return ids
}

type strict struct{ t *testing.T }

func (s strict) Error(err error)                    { s.t.Errorf("check: %v", err) }
func (s strict) Hint(string)                        {}
func (s strict) Progress(check.Phase, int64, int64) {}

// check checks the repository whole.
func (l *lab) check() {
	l.t.Helper()
	if _, err := check.Run(l.t.Context(), repotest.Open(l.t, l.be), check.Options{ReadData: true}, strict{l.t}); err != nil {
		l.t.Error(err)
	}
}

func TestPatterns(t *testing.T) {
	files := []string{"a/keep=1", "a/x.o=22", "a/b/x.o=22", "a/b/c=333", "d/only.o=4", "e/", "z=5"}
	for _, test := range []struct {
		name     string
		exclude  []string
		include  []string
		want     []string // of the snapshot; nil: nothing is left
		same     bool     // the tree stays
		told     []string
		files    uint64
		numBytes uint64
	}{
		{"exclude everywhere", []string{"*.o"}, nil, []string{"a/b/c", "a/keep", "d/", "e/", "z"}, false,
			[]string{"/a/b/x.o", "/a/x.o", "/d/only.o"}, 3, 5},
		{"exclude an anchored file", []string{"/a/x.o"}, nil, []string{"a/b/c", "a/b/x.o", "a/keep", "d/only.o", "e/", "z"}, false, []string{"/a/x.o"}, 5, 8},
		{"exclude a directory", []string{"b"}, nil, []string{"a/keep", "a/x.o", "d/only.o", "e/", "z"}, false, []string{"/a/b"}, 4, 5},
		{"exclude nothing", []string{"nosuch"}, nil, []string{"a/b/c", "a/b/x.o", "a/keep", "a/x.o", "d/only.o", "e/", "z"}, true, nil, 6, 10},
		{"take back", []string{"*.o", "!/a/x.o"}, nil, []string{"a/b/c", "a/keep", "a/x.o", "d/", "e/", "z"}, false, []string{"/a/b/x.o", "/d/only.o"}, 4, 7},
		{"exclude all", []string{"*"}, nil, []string{}, false, []string{"/a", "/d", "/e", "/z"}, 0, 0},
		{"include a file", nil, []string{"c"}, []string{"a/b/c"}, false, []string{"/a/b/c"}, 1, 3},
		{"include a directory", nil, []string{"/a/b"}, []string{"a/b/c", "a/b/x.o"}, false, []string{"/a/b", "/a/b/c", "/a/b/x.o"}, 2, 5},
		{"include an empty directory", nil, []string{"e"}, []string{"e/"}, false, []string{"/e"}, 0, 0},
		{"include all", nil, []string{"*"}, []string{"a/b/c", "a/b/x.o", "a/keep", "a/x.o", "d/only.o", "e/", "z"}, true, nil, 6, 10},
		{"include nothing", nil, []string{"nosuch"}, nil, false, nil, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			sn := l.snapshot(snapshot.Snapshot{Summary: &snapshot.Summary{DataBlobs: 3}}, files...)
			var told []string
			tell := func(path string) { told = append(told, path) }
			rules := rewrite.Excluding(patterns(t, test.exclude...), tell)
			if test.include != nil {
				rules = rewrite.Including(patterns(t, test.include...), tell)
			}
			rep := &teller{}
			res, err := rewrite.Snapshots(t.Context(), l.r, []*snapshot.Snapshot{sn}, rules, rewrite.Options{Tag: "rewrite"}, rep)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(told)
			if test.told != nil && !slices.Equal(told, test.told) {
				t.Errorf("told %q, want %q", told, test.told)
			}
			switch {
			case test.want == nil:
				if res != (rewrite.Result{Empty: 1}) || len(rep.changes) != 1 || rep.changes[0].New != nil {
					t.Errorf("%+v, %v", res, rep.changes)
				}
				return
			case test.same:
				if res != (rewrite.Result{Unchanged: 1}) || len(l.snapshots()) != 1 {
					t.Errorf("%+v, %v", res, l.snapshots())
				}
				return
			case res != (rewrite.Result{Changed: 1}) || len(l.snapshots()) != 2:
				t.Fatalf("%+v, %v", res, l.snapshots())
			}
			got := rep.changes[0].New
			if names := list(t, l.r, *got.Tree, ""); !slices.Equal(names, test.want) {
				t.Errorf("%q, want %q", names, test.want)
			}
			want := snapshot.Summary{DataBlobs: 3, TotalFilesProcessed: test.files, TotalBytesProcessed: test.numBytes}
			if *got.Summary != want {
				t.Errorf("summary %+v, want %+v", *got.Summary, want)
			}
			l.check()
		})
	}
}

// What is shared is looked at once, and what stays keeps its ID.
func TestShared(t *testing.T) {
	l := newLab(t)
	one := l.snapshot(snapshot.Snapshot{}, "a/b/secret=1", "a/b/x=2", "same/deep/y=3", "copy/b/secret=1", "copy/b/x=2")
	two := l.snapshot(snapshot.Snapshot{}, "a/b/secret=1", "a/b/x=2", "same/deep/y=3", "copy/b/secret=1", "copy/b/x=2", "new=1")
	rep := &teller{}
	// Trees: 2 roots, a (which copy equals), a/b, same, same/deep.
	res, err := rewrite.Snapshots(t.Context(), l.r, []*snapshot.Snapshot{one, two}, rewrite.Excluding(patterns(t, "secret"), func(string) {}), rewrite.Options{}, rep)
	if err != nil || res.Changed != 2 || rep.trees != 6 {
		t.Fatalf("%+v, %d trees, %v", res, rep.trees, err)
	}
	for i, old := range []*snapshot.Snapshot{one, two} {
		before, err := l.r.FindNode(t.Context(), *old.Tree, "same")
		if err != nil {
			t.Fatal(err)
		}
		after, err := l.r.FindNode(t.Context(), *rep.changes[i].New.Tree, "same")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Error(diff)
		}
	}
	// An anchored pattern tells a from copy, though they are equal.
	rep = &teller{}
	_, err = rewrite.Snapshots(t.Context(), l.r, []*snapshot.Snapshot{one}, rewrite.Excluding(patterns(t, "/a/b/secret"), func(string) {}), rewrite.Options{}, rep)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a/b/x", "copy/b/secret", "copy/b/x", "same/deep/y"}
	if names := list(t, l.r, *rep.changes[0].New.Tree, ""); !slices.Equal(names, want) {
		t.Errorf("%q, want %q", names, want)
	}
	l.check()
}

func TestMetadata(t *testing.T) {
	old := snapshot.Snapshot{Time: time.Unix(1e9, 0).UTC(), Hostname: "h", Tags: []string{"t"}, ProgramVersion: "p", Excludes: []string{"e"}}
	when := time.Unix(2e9, 0).UTC()
	for _, test := range []struct {
		name    string
		o       rewrite.Options
		summary *snapshot.Summary
		want    func(sn *snapshot.Snapshot) // nil: nothing changes
	}{
		{"nothing", rewrite.Options{Tag: "rewrite"}, nil, nil},
		{"host", rewrite.Options{Tag: "rewrite", Host: "new"}, nil, func(sn *snapshot.Snapshot) { sn.Hostname, sn.Tags = "new", []string{"t", "rewrite"} }},
		{"tag that is there", rewrite.Options{Tag: "t", Host: "new"}, nil, func(sn *snapshot.Snapshot) { sn.Hostname = "new" }},
		{"time", rewrite.Options{Tag: "rewrite", Time: when, Forget: true}, nil, func(sn *snapshot.Snapshot) { sn.Time = when }},
		{"summary", rewrite.Options{Summary: true}, nil, func(sn *snapshot.Snapshot) {
			sn.Summary = &snapshot.Summary{TotalFilesProcessed: 2, TotalBytesProcessed: 5}
		}},
		{"wrong summary", rewrite.Options{Summary: true}, &snapshot.Summary{FilesNew: 1, TotalFilesProcessed: 2, TotalBytesProcessed: 4}, func(sn *snapshot.Snapshot) {
			sn.Summary = &snapshot.Summary{FilesNew: 1, TotalFilesProcessed: 2, TotalBytesProcessed: 5}
		}},
		{"right summary", rewrite.Options{Summary: true}, &snapshot.Summary{TotalFilesProcessed: 2, TotalBytesProcessed: 5}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			sn := old
			sn.Summary = test.summary
			stored := l.snapshot(sn, "a/b=12", "c=345")
			var rules *rewrite.Rules[rewrite.Place]
			if test.o.Summary {
				rules = rewrite.Counting()
			}
			for _, dry := range []bool{true, false} {
				test.o.DryRun = dry
				rep := &teller{}
				res, err := rewrite.Snapshots(t.Context(), l.r, []*snapshot.Snapshot{stored}, rules, test.o, rep)
				if err != nil {
					t.Fatal(err)
				}
				if (res.Changed == 1) != (test.want != nil) {
					t.Fatalf("%+v", res)
				}
				there := l.snapshots()
				if test.want == nil || dry {
					if len(there) != 1 || there[0] != stored.ID {
						t.Errorf("changed: %v", there)
					}
					continue
				}
				want := *stored
				test.want(&want)
				want.Original, want.ID = &stored.ID, rep.changes[0].New.ID
				got, err := repotest.Open(t, l.be).LoadSnapshot(t.Context(), want.ID)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(&want, got); diff != "" {
					t.Error(diff)
				}
				if slices.Contains(there, stored.ID) == test.o.Forget {
					t.Errorf("forget %v: %v", test.o.Forget, there)
				}
			}
		})
	}
}

// A tree that this program would not write the same way is refused, and nothing is replaced.
func TestLossy(t *testing.T) {
	l := newLab(t)
	sound := l.snapshot(snapshot.Snapshot{}, "a=1")
	var id blob.ID
	err := l.r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		saved, err := w.SaveBlob(ctx, blob.Tree, []byte(`{"nodes":[{"name":"a","type":"fifo","novel":1,"content":null},{"name":"b","type":"fifo","content":null}]}`+"\n"))
		id = saved.ID
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	odd := &snapshot.Snapshot{Tree: &id}
	if _, err := l.r.SaveSnapshot(t.Context(), odd); err != nil {
		t.Fatal(err)
	}
	both := []*snapshot.Snapshot{sound, odd}
	_, err = rewrite.Snapshots(t.Context(), l.r, both, rewrite.Excluding(patterns(t, "a"), func(string) {}), rewrite.Options{}, &teller{})
	if !errors.Is(err, rewrite.ErrLossy) || len(l.snapshots()) != 2 {
		t.Errorf("%v, %v", err, l.snapshots())
	}
	// It may stay as it is.
	res, err := rewrite.Snapshots(t.Context(), l.r, both, rewrite.Excluding(patterns(t, "c"), func(string) {}), rewrite.Options{}, &teller{})
	if err != nil || res.Unchanged != 2 {
		t.Errorf("%+v, %v", res, err)
	}
}

// TestFaults fails each call in turn. Whatever happens, a snapshot is there in its old form or its new one, all
// of them are whole, and the next run finishes.
func TestFaults(t *testing.T) {
	for _, plan := range []struct {
		name string
		make func(i int) fault.Plan
	}{
		{"not done", func(i int) fault.Plan { return fault.Nth(i, fault.Before) }},
		{"done", func(i int) fault.Plan { return fault.Nth(i, fault.After) }},
		{"half", func(i int) fault.Plan { return fault.Nth(i, fault.Short) }},
		{"all from one on", func(i int) fault.Plan { return fault.From(i, fault.Before) }},
	} {
		t.Run(plan.name, func(t *testing.T) {
			l := newLab(t)
			var times []time.Time
			for i := range 3 {
				sn := l.snapshot(snapshot.Snapshot{Time: time.Unix(int64(1e9+i), 0)}, "a/secret=1", "a/b=2", fmt.Sprintf("c=%d", i))
				times = append(times, sn.Time)
			}
			run := func(be backend.Backend) error {
				r, err := repo.Open(t.Context(), be, repotest.Options())
				if err != nil {
					return err
				}
				defer r.Close()
				all, err := r.Snapshots(t.Context())
				if err != nil {
					return err
				}
				_, err = rewrite.Snapshots(t.Context(), r, all, rewrite.Excluding(patterns(t, "secret"), func(string) {}), rewrite.Options{Forget: true}, &teller{})
				return err
			}
			for i := 0; ; i++ {
				c := &lab{t: t, be: l.be.Clone()}
				be := fault.New(c.be, plan.make(i))
				if err := run(be); be.Calls() <= i {
					if err != nil || i < 12 {
						t.Fatalf("%d calls, %v", be.Calls(), err)
					}
					return
				}
				c.check()
				c.has(times, false)
				if err := run(c.be); err != nil {
					t.Fatal(err)
				}
				c.check()
				c.has(times, true)
			}
		})
	}
}

// has wants a snapshot of each of the times, and with clean none that has the secret.
func (l *lab) has(times []time.Time, clean bool) {
	l.t.Helper()
	r := repotest.Open(l.t, l.be)
	all, err := r.Snapshots(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	for _, when := range times {
		if !slices.ContainsFunc(all, func(sn *snapshot.Snapshot) bool { return sn.Time.Equal(when) }) {
			l.t.Errorf("the snapshot of %v is lost", when)
		}
	}
	for _, sn := range all {
		if names := list(l.t, r, *sn.Tree, ""); clean && slices.Contains(names, "a/secret") || !slices.Contains(names, "a/b") {
			l.t.Errorf("%v: %q", sn.Time, names)
		}
	}
}
