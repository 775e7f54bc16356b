package tree_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"vitrine/fs/tree"
	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

// A large tree is read in pieces; one that others wrote, with white space in it, in one go. Both show the
// same, and what is no tree shows nothing.
func TestRow10LargeTrees(t *testing.T) {
	const entries = 25_000 // some 7 MB
	var e snapshot.TreeEncoder
	for i := range entries {
		n := snapshot.Node{
			Name: fmt.Sprintf("file-%05d", i), Type: snapshot.File, Mode: 0o644, ModTime: day.Add(time.Duration(i)),
			User: "somebody", Group: "somebody", Inode: uint64(i), DeviceID: 7, Links: 1, Content: []blob.ID{},
		}
		if err := e.Add(&n); err != nil {
			t.Fatal(err)
		}
	}
	canonical := e.Finish()
	spaced := bytes.Replace(canonical, []byte(`[{"name"`), []byte(`[ {"name"`), 1)
	cut := bytes.Replace(canonical, []byte(`{"name":"file-20000"`), []byte(`["name":"file-20000"`), 1)
	r, _ := repotest.New(t, 2)
	for what, tt := range map[string]struct {
		json []byte
		ok   bool
	}{"canonical": {canonical, true}, "spaced": {spaced, true}, "no tree": {cut, false}} {
		var root blob.ID
		err := r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
			saved, err := w.SaveBlob(ctx, blob.Tree, tt.json)
			root = saved.ID
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		sn := &snapshot.Snapshot{Time: day, Tree: &root, Paths: []string{"/"}, Tags: []string{what}}
		if _, err := r.SaveSnapshot(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
		tr, err := tree.New(r, tree.Options{PathTemplates: []string{"%t"}, CacheBytes: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { tr.Close() })
		if _, err := tr.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		dir, err := tr.Lookup(t.Context(), tree.Root, what)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		err = tr.List(t.Context(), dir.ID, 0, func(_ uint64, name string, a *tree.Attr) bool {
			if want := fmt.Sprintf("file-%05d", n); name != want || a.MTime.Nsec != uint32(n) {
				t.Fatalf("%s: entry %d is %q of %v", what, n, name, a.MTime)
			}
			n++
			return true
		})
		if tt.ok && (err != nil || n != entries) || !tt.ok && (err == nil || n > 0) {
			t.Errorf("%s: %d entries, error %v", what, n, err)
		}
	}
}
