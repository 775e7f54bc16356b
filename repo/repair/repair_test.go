package repair_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/check"
	"vitrine/repo/repair"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

// lab is a repository of some snapshots with one file each.
type lab struct {
	t  *testing.T
	be *mem.Backend
}

func newLab(t *testing.T) *lab {
	l := &lab{t, mem.New()}
	repotest.Init(t, l.be, 2)
	for i := range 3 {
		r := repotest.Open(t, l.be)
		var root blob.ID
		err := r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
			n := snapshot.Node{Name: "f", Type: snapshot.File, Mode: 0o644}
			for k := range 4 {
				plain := backendtest.Content(uint64(10*i+k), 1000)
				saved, err := w.SaveBlob(ctx, blob.Data, plain)
				if err != nil {
					return err
				}
				n.Content, n.Size = append(n.Content, saved.ID), n.Size+1000
			}
			var e snapshot.TreeEncoder
			if err := e.Add(&n); err != nil {
				return err
			}
			saved, err := w.SaveBlob(ctx, blob.Tree, e.Finish())
			root = saved.ID
			return err
		})
		if err == nil {
			_, err = r.SaveSnapshot(t.Context(), &snapshot.Snapshot{Time: time.Unix(1e9, 0), Tree: &root, Paths: []string{"/"}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func (l *lab) files(kind backend.Kind) []backend.File {
	var files []backend.File
	err := l.be.List(l.t.Context(), kind, func(info backend.Info) error {
		files = append(files, backend.File{Kind: kind, Name: info.Name})
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	slices.SortFunc(files, func(a, b backend.File) int { return bytes.Compare([]byte(a.Name), []byte(b.Name)) })
	return files
}

// change replaces a file by what fn makes of it; nil removes it.
func (l *lab) change(f backend.File, fn func([]byte) []byte) {
	l.t.Helper()
	content, err := l.be.ReadAll(l.t.Context(), f, 1<<30)
	if err == nil {
		err = l.be.Remove(l.t.Context(), f)
	}
	if content = fn(content); err == nil && content != nil {
		err = l.be.Save(l.t.Context(), f, content)
	}
	if err != nil {
		l.t.Fatal(err)
	}
}

// dataPack returns a pack of data, which is larger than those of trees.
func (l *lab) dataPack() backend.File {
	for _, f := range l.files(backend.Pack) {
		if info, err := l.be.Stat(l.t.Context(), f); err == nil && info.SizeBytes > 3000 {
			return f
		}
	}
	l.t.Fatal("no pack of data")
	return backend.File{}
}

func open(t *testing.T, be backend.Backend) (*repo.Repository, error) {
	return repo.Open(t.Context(), be, repo.Options{Password: []byte(repotest.Password)})
}

type problems struct {
	t    *testing.T
	list []string
}

func (p *problems) Problem(err error) { p.list = append(p.list, err.Error()) }
func (p *problems) Progress(phase repair.Phase, done, total int64) {
	if done > total {
		p.t.Errorf("phase %d: %d of %d", phase, done, total)
	}
}

func (p *problems) Error(err error) { p.list = append(p.list, err.Error()) }
func (p *problems) Hint(s string)   { p.list = append(p.list, s) }

type quiet struct{ *problems }

func (quiet) Progress(check.Phase, int64, int64) {}

// check returns what a check of everything finds.
func (l *lab) check() []string {
	l.t.Helper()
	r, err := open(l.t, l.be)
	if err != nil {
		l.t.Fatal(err)
	}
	defer r.Close()
	p := &problems{t: l.t}
	if _, err := check.Run(l.t.Context(), r, check.Options{ReadData: true}, quiet{p}); err != nil {
		l.t.Fatal(err)
	}
	return p.list
}

func (l *lab) index(be backend.Backend, readAll bool) (repair.IndexResult, []string, error) {
	l.t.Helper()
	r, err := open(l.t, be)
	if err != nil {
		return repair.IndexResult{}, nil, err
	}
	defer r.Close()
	p := &problems{t: l.t}
	res, err := repair.Index(l.t.Context(), r, readAll, p)
	return res, p.list, err
}

func gone([]byte) []byte     { return nil }
func cut(p []byte) []byte    { return p[:len(p)-1] }
func flip(p []byte) []byte   { p[len(p)/2] ^= 1; return p }
func flip20(p []byte) []byte { p[20] ^= 1; return p }

func TestIndex(t *testing.T) {
	for _, test := range []struct {
		name    string
		damage  func(l *lab)
		readAll bool
		want    repair.IndexResult
		left    bool // check finds something afterwards
	}{
		{"sound", func(*lab) {}, false, repair.IndexResult{}, false},
		{"sound, all packs", func(*lab) {}, true, repair.IndexResult{ReadPacks: 6, Changed: true}, false},
		{"no index file", func(l *lab) {
			for _, f := range l.files(backend.Index) {
				l.change(f, gone)
			}
		}, false, repair.IndexResult{ReadPacks: 6, Changed: true}, false},
		{"one index file gone", func(l *lab) { l.change(l.files(backend.Index)[0], gone) }, false,
			repair.IndexResult{ReadPacks: 2, Changed: true}, false},
		{"damaged index file", func(l *lab) { l.change(l.files(backend.Index)[1], flip) }, false,
			repair.IndexResult{BadIndexFiles: 1, ReadPacks: 2, Changed: true}, false},
		{"pack gone", func(l *lab) { l.change(l.dataPack(), gone) }, false, repair.IndexResult{GonePacks: 1, Changed: true}, true},
		{"short pack", func(l *lab) { l.change(l.dataPack(), cut) }, false, repair.IndexResult{ReadPacks: 1, BadPacks: 1}, true},
		{"very short pack", func(l *lab) { l.change(l.dataPack(), func(p []byte) []byte { return p[:2500] }) }, false,
			repair.IndexResult{ReadPacks: 1, BadPacks: 1, Changed: true}, true},
		{"short pack, no index", func(l *lab) {
			l.change(l.dataPack(), cut)
			for _, f := range l.files(backend.Index) {
				l.change(f, gone)
			}
		}, false, repair.IndexResult{ReadPacks: 6, BadPacks: 1, Changed: true}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			test.damage(l)
			res, found, err := l.index(l.be, test.readAll)
			if err != nil || res != test.want {
				t.Errorf("%+v, want %+v; %v", res, test.want, err)
			}
			if n := res.BadIndexFiles + res.BadPacks + res.GonePacks; len(found) != n {
				t.Errorf("problems %q, want %d", found, n)
			}
			if left := l.check(); len(left) > 0 != test.left {
				t.Errorf("check finds %q", left)
			}
			if again, _, err := l.index(l.be, false); err != nil || again.Changed {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

// TestIndexFaults fails each call in turn; the next run finishes.
func TestIndexFaults(t *testing.T) {
	l := newLab(t)
	l.change(l.files(backend.Index)[1], flip)
	for i := 0; ; i++ {
		c := &lab{t, l.be.Clone()}
		be := fault.New(c.be, fault.From(i, fault.Before))
		_, _, err := c.index(be, false)
		if be.Calls() <= i {
			if err != nil || i < 10 {
				t.Fatalf("%d calls, %v", be.Calls(), err)
			}
			return
		}
		if err == nil {
			t.Errorf("call %d failed and nobody noticed", i)
		}
		if _, _, err := c.index(c.be, false); err != nil {
			t.Fatal(err)
		}
		if left := c.check(); len(left) > 0 {
			t.Errorf("call %d: check finds %q", i, left)
		}
	}
}

func TestPacks(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func([]byte) []byte
		want   repair.PacksResult
		copies int
	}{
		{"one damaged blob", flip20, repair.PacksResult{SavedBlobs: 3, LostBlobs: 1}, 1},
		{"damaged header", func(p []byte) []byte { p[len(p)-10] ^= 1; return p }, repair.PacksResult{SavedBlobs: 4}, 1},
		{"cut", func(p []byte) []byte { return p[:2500] }, repair.PacksResult{SavedBlobs: 2, LostBlobs: 2}, 1},
		{"gone", gone, repair.PacksResult{LostBlobs: 4}, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := newLab(t)
			f := l.dataPack()
			l.change(f, test.change)
			id, err := blob.ParseID(f.Name)
			if err != nil {
				t.Fatal(err)
			}
			run := func(be backend.Backend) (res repair.PacksResult, copies int, err error) {
				r, err := open(t, be)
				if err != nil {
					return res, 0, err
				}
				defer r.Close()
				res, err = repair.Packs(t.Context(), r, []blob.ID{id}, func(blob.ID, []byte) error { copies++; return nil }, &problems{t: t})
				return res, copies, err
			}
			damaged := l.be.Clone()
			res, copies, err := run(l.be)
			if err != nil || res != test.want || copies != test.copies {
				t.Errorf("%+v, %d copies, want %+v, %d; %v", res, copies, test.want, test.copies, err)
			}
			found := l.check()
			if len(found) > 0 != (test.want.LostBlobs > 0) {
				t.Errorf("check finds %q", found)
			}
			if slices.Contains(l.files(backend.Pack), f) {
				t.Error("the pack is still there")
			}
			if again, _, err := l.index(l.be, false); err != nil || again.Changed {
				t.Errorf("the index is not that of the packs: %+v, %v", again, err)
			}
			for i := 0; ; i++ { // interrupted, and run again
				c := &lab{t, damaged.Clone()}
				be := fault.New(c.be, fault.From(i, fault.Before))
				if _, _, err := run(be); be.Calls() <= i {
					break
				} else if err == nil {
					t.Errorf("call %d failed and nobody noticed", i)
				}
				if _, _, err := run(c.be); err != nil && !errors.Is(err, backend.ErrNotExist) {
					t.Fatal(err)
				}
				orphan := func(hint string) bool { return strings.HasPrefix(hint, "in no index") } // for prune
				if diff := cmp.Diff(found, slices.DeleteFunc(c.check(), orphan), cmpopts.EquateEmpty()); diff != "" {
					t.Errorf("call %d: -uninterrupted +found:\n%s", i, diff)
				}
			}
		})
	}
}

// TestPacksRefuses: without a copy nothing changes, and an unknown pack is an error.
func TestPacksRefuses(t *testing.T) {
	l := newLab(t)
	r, err := open(t, l.be)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	full := errors.New("disk full")
	before := fmt.Sprint(l.files(backend.Pack), l.files(backend.Index))
	id, _ := blob.ParseID(l.dataPack().Name)
	_, err = repair.Packs(t.Context(), r, []blob.ID{id}, func(blob.ID, []byte) error { return full }, &problems{t: t})
	if !errors.Is(err, full) {
		t.Error(err)
	}
	_, err = repair.Packs(t.Context(), r, []blob.ID{{1}}, func(blob.ID, []byte) error { return nil }, &problems{t: t})
	if !errors.Is(err, backend.ErrNotExist) {
		t.Error(err)
	}
	if after := fmt.Sprint(l.files(backend.Pack), l.files(backend.Index)); after != before {
		t.Error("something was changed")
	}
}
