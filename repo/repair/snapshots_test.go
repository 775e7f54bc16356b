package repair_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/repair"
	"vitrine/repo/repotest"
	"vitrine/repo/rewrite"
	"vitrine/repo/snapshot"
)

// damages keeps what a SnapshotsReporter is told.
type damages struct {
	found   []string
	changes []rewrite.Change
}

func (d *damages) Snapshot(*snapshot.Snapshot)      {}
func (d *damages) Trees(int)                        {}
func (d *damages) Changed(c rewrite.Change, _ bool) { d.changes = append(d.changes, c) }
func (d *damages) Damage(path, what string)         { d.found = append(d.found, path+" "+what) }

// storeTree stores a tree.
func storeTree(ctx context.Context, w *repo.Writer, nodes ...snapshot.Node) (blob.ID, error) {
	var e snapshot.TreeEncoder
	for i := range nodes {
		if err := e.Add(&nodes[i]); err != nil {
			return blob.ID{}, err
		}
	}
	saved, err := w.SaveBlob(ctx, blob.Tree, e.Finish())
	return saved.ID, err
}

// odd is a snapshot with a bit of every damage that a tree can name, and the IDs of data that is there.
func odd(t *testing.T, be *mem.Backend, root func(sub, one, two blob.ID) []snapshot.Node) *snapshot.Snapshot {
	t.Helper()
	r := repotest.Open(t, be)
	sn := &snapshot.Snapshot{Time: time.Unix(1e9, 0), Paths: []string{"/"}}
	err := r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		one, err := w.SaveBlob(ctx, blob.Data, []byte("one"))
		if err != nil {
			return err
		}
		two, err := w.SaveBlob(ctx, blob.Data, []byte("two four"))
		if err != nil {
			return err
		}
		sub, err := storeTree(ctx, w, file("sound", 3, one.ID))
		if err != nil {
			return err
		}
		id, err := storeTree(ctx, w, root(sub, one.ID, two.ID)...)
		sn.Tree = &id
		return err
	})
	if err == nil {
		_, err = r.SaveSnapshot(t.Context(), sn)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sn
}

func file(name string, size uint64, content ...blob.ID) snapshot.Node {
	return snapshot.Node{Name: name, Type: snapshot.File, Mode: 0o600, Size: size, Content: content}
}

func TestSnapshots(t *testing.T) {
	lost := blob.Hash([]byte("lost"))
	for _, test := range []struct {
		name  string
		root  func(sub, one, two blob.ID) []snapshot.Node
		found []string
		want  func(sub, one, two blob.ID) []snapshot.Node // nil: sound
	}{
		{"sound", func(sub, one, two blob.ID) []snapshot.Node {
			return []snapshot.Node{file("a", 11, one, two), {Name: "d", Type: snapshot.Dir, Subtree: &sub}, {Name: "e", Type: snapshot.File, Content: []blob.ID{}}}
		}, nil, nil},
		{"lost content", func(sub, one, two blob.ID) []snapshot.Node {
			return []snapshot.Node{file("a", 100, one, lost, two, lost), {Name: "d", Type: snapshot.Dir, Subtree: &sub}, file("z", 4, lost)}
		}, []string{"/a some of its content is lost: left out", "/z some of its content is lost: left out"},
			func(sub, one, two blob.ID) []snapshot.Node {
				return []snapshot.Node{file("a", 11, one, two), {Name: "d", Type: snapshot.Dir, Subtree: &sub}, {Name: "z", Type: snapshot.File, Mode: 0o600, Content: []blob.ID{}}}
			}},
		{"wrong size", func(_, one, two blob.ID) []snapshot.Node { return []snapshot.Node{file("a", 100, one, two)} },
			[]string{"/a its size is not that of its content: corrected"},
			func(_, one, two blob.ID) []snapshot.Node { return []snapshot.Node{file("a", 11, one, two)} }},
		{"no list", func(_, _, _ blob.ID) []snapshot.Node { return []snapshot.Node{file("a", 0)} },
			[]string{"/a a file without a list of content: made an empty one"},
			func(_, _, _ blob.ID) []snapshot.Node {
				return []snapshot.Node{{Name: "a", Type: snapshot.File, Mode: 0o600, Content: []blob.ID{}}}
			}},
		{"unknown type", func(_, one, _ blob.ID) []snapshot.Node {
			return []snapshot.Node{file("a", 3, one), {Name: "i", Type: snapshot.Irregular}}
		}, []string{"/i its type is not known: left out"}, func(_, one, _ blob.ID) []snapshot.Node { return []snapshot.Node{file("a", 3, one)} }},
		{"lost directories", func(sub, _, _ blob.ID) []snapshot.Node {
			return []snapshot.Node{{Name: "d", Type: snapshot.Dir, Subtree: &lost}, {Name: "e", Type: snapshot.Dir, Subtree: &sub}, {Name: "f", Type: snapshot.Dir}}
		}, []string{"/d the directory cannot be read: made an empty one", "/f the directory cannot be read: made an empty one"},
			func(sub, _, _ blob.ID) []snapshot.Node {
				var e snapshot.TreeEncoder
				empty := blob.Hash(e.Finish())
				return []snapshot.Node{{Name: "d", Type: snapshot.Dir, Subtree: &empty}, {Name: "e", Type: snapshot.Dir, Subtree: &sub}, {Name: "f", Type: snapshot.Dir, Subtree: &empty}}
			}},
	} {
		for _, forget := range []bool{false, true} {
			t.Run(fmt.Sprint(test.name, " forget=", forget), func(t *testing.T) {
				be := mem.New()
				repotest.Init(t, be, 2)
				sn := odd(t, be, test.root)
				var want blob.ID
				if test.want != nil {
					want = *odd(t, be.Clone(), test.want).Tree
				}
				d := &damages{}
				res, err := repair.Snapshots(t.Context(), repotest.Open(t, be), []*snapshot.Snapshot{sn}, forget, false, d)
				if err != nil || !slices.Equal(d.found, test.found) {
					t.Fatalf("%q, %v", d.found, err)
				}
				l := &lab{t, be}
				there := l.files(backend.Snapshot)
				if test.want == nil {
					if res != (rewrite.Result{Unchanged: 1}) || len(there) != 1 {
						t.Errorf("%+v, %v", res, there)
					}
					return
				}
				got := d.changes[0].New
				if res != (rewrite.Result{Changed: 1}) || *got.Tree != want || *got.Original != sn.ID {
					t.Errorf("%+v, %+v", res, got)
				}
				if forget != (len(there) == 1) || forget == slices.Contains(got.Tags, "repaired") {
					t.Errorf("%v, tags %q", there, got.Tags)
				}
				if left := l.check(); forget && len(left) > 0 {
					t.Errorf("check finds %q", left)
				}
				again := &damages{}
				res, err = repair.Snapshots(t.Context(), repotest.Open(t, be), []*snapshot.Snapshot{got}, forget, false, again)
				if err != nil || res.Unchanged != 1 {
					t.Errorf("again: %+v, %q, %v", res, again.found, err)
				}
			})
		}
	}
}

// A snapshot of which nothing is left goes only when it is to be forgotten.
func TestSnapshotsRoot(t *testing.T) {
	be := mem.New()
	repotest.Init(t, be, 2)
	r := repotest.Open(t, be)
	gone := blob.Hash([]byte("gone"))
	sn := &snapshot.Snapshot{Tree: &gone}
	if _, err := r.SaveSnapshot(t.Context(), sn); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		forget, dryRun bool
		want           rewrite.Result
		left           int
	}{{false, false, rewrite.Result{Empty: 1}, 1}, {true, true, rewrite.Result{Changed: 1}, 1}, {true, false, rewrite.Result{Changed: 1}, 0}} {
		d := &damages{}
		res, err := repair.Snapshots(t.Context(), r, []*snapshot.Snapshot{sn}, test.forget, test.dryRun, d)
		if err != nil || res != test.want || len(d.found) != 1 || !strings.HasPrefix(d.found[0], "/ the root cannot be read") {
			t.Errorf("%+v: %+v, %q, %v", test, res, d.found, err)
		}
		if there := (&lab{t, be}).files(backend.Snapshot); len(there) != test.left {
			t.Errorf("%+v: %v", test, there)
		}
	}
}

// A store that does not answer is no damage: nothing is changed, whatever call fails.
func TestSnapshotsFaults(t *testing.T) {
	l := newLab(t)
	lost := l.dataPack()
	l.change(lost, gone)
	if _, _, err := l.index(l.be, false); err != nil {
		t.Fatal(err)
	}
	run := func(be backend.Backend) ([]string, error) {
		r, err := repo.Open(t.Context(), be, repotest.Options())
		if err != nil {
			return nil, err
		}
		defer r.Close()
		all, err := r.Snapshots(t.Context())
		if err != nil {
			return nil, err
		}
		d := &damages{}
		_, err = repair.Snapshots(t.Context(), r, all, true, false, d)
		return d.found, err
	}
	for i := 0; ; i++ {
		c := &lab{t, l.be.Clone()}
		be := fault.New(c.be, fault.From(i, fault.Before))
		found, err := run(be)
		if be.Calls() <= i {
			if err != nil || len(found) != 1 || i < 12 {
				t.Fatalf("%d calls, %q, %v", be.Calls(), found, err)
			}
			if left := c.check(); len(left) > 0 {
				t.Errorf("check finds %q", left)
			}
			return
		}
		if !errors.Is(err, fault.ErrInjected) {
			t.Errorf("call %d failed and nobody noticed: %v", i, err)
		}
		if n := len(c.files(backend.Snapshot)); n < 3 || n > 4 {
			t.Errorf("call %d: %d snapshots", i, n)
		}
		if _, err := run(c.be); err != nil {
			t.Error(err)
		}
		if n := len(c.files(backend.Snapshot)); n < 3 {
			t.Errorf("call %d: %d snapshots after the next run", i, n)
		}
	}
}
