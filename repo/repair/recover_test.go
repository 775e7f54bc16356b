package repair_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/blob"
	"vitrine/repo/repair"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

func recovered(t *testing.T, be backend.Backend) (repair.RecoverResult, []string, error) {
	t.Helper()
	r, err := repo.Open(t.Context(), be, repotest.Options())
	if err != nil {
		return repair.RecoverResult{}, nil, err
	}
	defer r.Close()
	p := &problems{t: t}
	res, err := repair.Recover(t.Context(), r, repair.RecoverOptions{Host: "h", Time: time.Unix(1e9, 0), ProgramVersion: "p"}, p)
	return res, p.list, err
}

func TestRecover(t *testing.T) {
	l := newLab(t) // three snapshots of one tree each
	res, found, err := recovered(t, l.be)
	if err != nil || len(found) > 0 || res != (repair.RecoverResult{Trees: 3}) {
		t.Fatalf("%+v, %q, %v", res, found, err)
	}
	// A tree above one of those, two snapshots gone, and a pack that no index lists.
	r := repotest.Open(t, l.be)
	all, err := r.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var above blob.ID
	err = r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		above, err = storeTree(ctx, w, snapshot.Node{Name: "d", Type: snapshot.Dir, Subtree: all[1].Tree})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sn := range all[:2] {
		if err := r.RemoveFile(t.Context(), backend.Snapshot, sn.ID); err != nil {
			t.Fatal(err)
		}
	}
	l.change(l.files(backend.Index)[0], gone)
	damaged := l.be.Clone()
	res, found, err = recovered(t, l.be)
	if err != nil || len(found) > 0 || res.Trees != 4 || res.Roots != 2 || res.Lost != 0 {
		t.Fatalf("%+v, %q, %v", res, found, err)
	}
	sn := res.Snapshot
	if !slices.Equal(sn.Paths, []string{"/recover"}) || !slices.Equal(sn.Tags, []string{"recovered"}) || sn.Hostname != "h" {
		t.Errorf("%+v", sn)
	}
	nodes, err := repotest.Open(t, l.be).LoadTree(t.Context(), *sn.Tree)
	if err != nil {
		t.Fatal(err)
	}
	want := []blob.ID{*all[0].Tree, above}
	slices.SortFunc(want, blob.ID.Compare)
	for i := range nodes {
		if nodes[i].Name != want[i].Short() || *nodes[i].Subtree != want[i] {
			t.Errorf("%+v, want %s", nodes[i], want[i])
		}
	}
	if left := l.check(); len(left) > 0 {
		t.Errorf("check finds %q", left)
	}
	if res, _, err := recovered(t, l.be); err != nil || res.Roots != 0 || res.Snapshot != nil {
		t.Errorf("again: %+v, %v", res, err)
	}
	for i := 0; ; i++ {
		c := &lab{t, damaged.Clone()}
		be := fault.New(c.be, fault.From(i, fault.Before))
		if _, _, err := recovered(t, be); be.Calls() <= i {
			if i < 15 {
				t.Errorf("only %d calls", i)
			}
			return
		} else if err == nil {
			t.Errorf("call %d failed and nobody noticed", i)
		}
		// A tree of roots that was stored without its snapshot is the only root then.
		if res, _, err := recovered(t, c.be); err != nil || res.Roots < 1 {
			t.Errorf("call %d: %+v, %v", i, res, err)
		}
		if res, _, err := recovered(t, c.be); err != nil || res.Roots > 0 {
			t.Errorf("call %d: %+v, %v", i, res, err)
		}
	}
}

// A tree that cannot be read is no root; what was below it is.
func TestRecoverDamaged(t *testing.T) {
	l := newLab(t)
	r := repotest.Open(t, l.be)
	all, err := r.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var above blob.ID
	err = r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		above, err = storeTree(ctx, w, snapshot.Node{Name: "d", Type: snapshot.Dir, Subtree: all[1].Tree})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, sn := range all {
		if err := r.RemoveFile(t.Context(), backend.Snapshot, sn.ID); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.RefreshIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	loc, _, err := r.LookupBlob(blob.Handle{Type: blob.Tree, ID: above})
	if err != nil {
		t.Fatal(err)
	}
	l.change(backend.File{Kind: backend.Pack, Name: loc.Pack.String()}, flip20)
	res, found, err := recovered(t, l.be)
	if err != nil || res.Trees != 4 || res.Lost != 1 || res.Roots != 3 {
		t.Errorf("%+v, %v", res, err)
	}
	if len(found) != 1 || !strings.Contains(found[0], above.Short()) {
		t.Errorf("%q", found)
	}
	// A store that does not answer is no damage.
	be := fault.New(l.be.Clone(), func(c fault.Call) fault.Fault {
		if c.Op == fault.ReadAt {
			return fault.Fault{Mode: fault.Before}
		}
		return fault.Fault{}
	})
	if res, _, err := recovered(t, be); !errors.Is(err, fault.ErrInjected) || res.Snapshot != nil {
		t.Errorf("%+v, %v", res, err)
	}
}

// A tree that another one refers to and no index lists is told of: the snapshot that is made lacks a directory.
func TestRecoverTellsWhatIsMissing(t *testing.T) {
	l := newLab(t)
	r := repotest.Open(t, l.be)
	lost := blob.Hash([]byte("lost"))
	err := r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		for _, name := range []string{"a", "b"} {
			if _, err := storeTree(ctx, w, snapshot.Node{Name: name, Type: snapshot.Dir, Subtree: &lost}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	res, found, err := recovered(t, l.be)
	if err != nil || res.Roots != 2 || res.Lost != 1 || len(found) != 1 || !strings.Contains(found[0], lost.Short()) {
		t.Errorf("%+v, %q, %v; want 2 roots and 1 lost tree, named once", res, found, err)
	}
}
