package check_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/blob"
	"vitrine/repo/check"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

// found is a Reporter that keeps everything.
type found struct {
	errors, hints []string
	last          map[check.Phase][2]int64
}

func (f *found) Error(err error)  { f.errors = append(f.errors, err.Error()) }
func (f *found) Hint(text string) { f.hints = append(f.hints, text) }
func (f *found) Progress(phase check.Phase, done, total int64) {
	if f.last == nil {
		f.last = map[check.Phase][2]int64{}
	}
	f.last[phase] = [2]int64{done, total}
}

func run(t *testing.T, r *repo.Repository, o check.Options) (check.Result, *found) {
	t.Helper()
	f := &found{}
	o.Each = true
	res, err := check.Run(t.Context(), r, o, f)
	if err != nil {
		t.Fatal(err)
	}
	if res.Errors != len(f.errors) || res.Hints != len(f.hints) {
		t.Errorf("counted %d errors and %d hints, told %d and %d", res.Errors, res.Hints, len(f.errors), len(f.hints))
	}
	return res, f
}

// wantSound checks the repository whole and wants nothing found.
func wantSound(t *testing.T, r *repo.Repository) check.Result {
	t.Helper()
	res, f := run(t, r, check.Options{ReadData: true})
	if len(f.errors)+len(f.hints) > 0 {
		t.Errorf("errors %q, hints %q", f.errors, f.hints)
	}
	return res
}

func TestSound(t *testing.T) {
	for _, version := range []uint{1, 2} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			s := newSample(t, version)
			res := wantSound(t, s.reopen())
			want := check.Result{Snapshots: 2, IndexFiles: 2, Trees: 6, Files: 7, DataBlobs: 4, TreeBlobs: 6,
				Packs: 4, PackBytes: res.PackBytes, PacksRead: 4, BytesRead: res.PackBytes}
			if version == 1 { // may mix
				want.Packs, want.PacksRead = res.Packs, res.Packs
			}
			if diff := cmp.Diff(want, res); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if res.PackBytes < 150_000 {
				t.Errorf("%d bytes in packs", res.PackBytes)
			}
		})
	}
}

// holds reports whether the words are in the text, in this order.
func holds(text string, words []string) bool {
	for _, w := range words {
		_, after, ok := strings.Cut(text, w)
		if !ok {
			return false
		}
		text = after
	}
	return true
}

// TestBrokenPacks: which packs are to be repaired, and when it is the index.
func TestBrokenPacks(t *testing.T) {
	sound := newSample(t, 2)
	c, a2 := sound.place(blob.Data, sound.c), sound.place(blob.Data, sound.a2)
	for _, test := range []struct {
		name   string
		damage func(s *sample)
		packs  []blob.ID
		index  bool
	}{
		{"nothing", func(*sample) {}, nil, false},
		{"a blob and a header", func(s *sample) {
			s.change(packFile(a2.Pack), flipAt(int(a2.OffsetBytes)+20))
			s.change(packFile(c.Pack), flipAt(-10))
		}, []blob.ID{a2.Pack, c.Pack}, false},
		{"cut", func(s *sample) { s.change(packFile(c.Pack), cut(1000)) }, []blob.ID{c.Pack}, false},
		{"missing", func(s *sample) { s.change(packFile(c.Pack), gone) }, nil, true},
		{"index", func(s *sample) { s.change(s.indexOf(c.Pack), flipAt(-20)) }, nil, true},
		{"index with a wrong offset", func(s *sample) {
			s.change(s.indexOf(c.Pack), gone)
			s.index(c.Pack.String(), s.c, c.OffsetBytes+1, c.LengthBytes)
		}, nil, true},
	} {
		s := sound.clone(t)
		test.damage(s)
		res, _ := run(t, s.reopen(), check.Options{ReadData: true})
		slices.SortFunc(test.packs, blob.ID.Compare)
		if !slices.Equal(res.BrokenPacks, test.packs) || res.IndexDamaged != test.index {
			t.Errorf("%s: packs %v, index %v; want %v, %v", test.name, res.BrokenPacks, res.IndexDamaged, test.packs, test.index)
		}
	}
}

// TestSecondCopy: a blob that is damaged in one pack and whole in another is not lost.
func TestSecondCopy(t *testing.T) {
	s := newSample(t, 2)
	loc := s.place(blob.Data, s.c)
	tree := s.place(blob.Tree, s.sub)
	// A repository whose index is empty stores everything again.
	openNone := func(context.Context, *repo.Repository) (repo.Index, error) { return noIndex{}, nil }
	r, err := repo.Open(t.Context(), s.be, repo.Options{Password: []byte(repotest.Password), OpenIndex: openNone})
	if err != nil {
		t.Fatal(err)
	}
	s.r = r
	s.backup(true)
	res := wantSound(t, s.reopen())
	if res.DuplicateBlobs != 7 {
		t.Errorf("%d further copies of blobs, want 4 of data and 3 of trees", res.DuplicateBlobs)
	}
	s.change(packFile(loc.Pack), flipAt(int(loc.OffsetBytes)+20))
	s.change(packFile(tree.Pack), flipAt(int(tree.OffsetBytes)+20))
	_, f := run(t, s.reopen(), check.Options{ReadData: true})
	for _, text := range f.errors {
		if strings.Contains(text, "lost") {
			t.Errorf("lost in spite of a second copy: %s", text)
		}
	}
	if !slices.ContainsFunc(f.errors, func(text string) bool { return holds(text, []string{"data/" + s.c.Short(), "corrupt"}) }) {
		t.Errorf("the damaged copy is not named: %q", f.errors)
	}
}

// noIndex knows no blob.
type noIndex struct{}

func (noIndex) Lookup(blob.Handle) (blob.Location, bool, error) { return blob.Location{}, false, nil }
func (noIndex) Locations(blob.Handle) ([]blob.Location, error)  { return nil, nil }
func (noIndex) Packs(func(blob.ID)) error                       { return nil }
func (noIndex) Refresh(context.Context) error                   { return nil }
func (noIndex) Close() error                                    { return nil }

func TestUnused(t *testing.T) {
	s := newSample(t, 2)
	if res, _ := run(t, s.reopen(), check.Options{Unused: true}); res.UnusedBlobs != 0 || !res.UnusedCounted {
		t.Errorf("%d unused blobs, counted %v, want 0", res.UnusedBlobs, res.UnusedCounted)
	}
	s.change(backend.File{Kind: backend.Snapshot, Name: s.last.String()}, gone)
	res, f := run(t, s.reopen(), check.Options{Unused: true})
	if res.UnusedBlobs != 4 || res.UnusedBytes < 3000 || !res.UnusedCounted || len(f.hints) != 0 {
		t.Errorf("%d unused blobs, %d bytes, hints %q, want c and three trees", res.UnusedBlobs, res.UnusedBytes, f.hints)
	}
	// With a snapshot that cannot be read the count would be wrong.
	s.change(backend.File{Kind: backend.Snapshot, Name: s.first.String()}, cut(1))
	res, f = run(t, s.reopen(), check.Options{Unused: true})
	if res.UnusedBlobs != 0 || res.UnusedCounted || len(f.hints) != 1 || !strings.Contains(f.hints[0], "not counted") {
		t.Errorf("%d unused blobs, hints %q", res.UnusedBlobs, f.hints)
	}
	if _, err := check.Run(t.Context(), s.reopen(), check.Options{Unused: true, Only: func(*snapshot.Snapshot) bool { return true }}, &found{}); err == nil {
		t.Error("Unused with Only is no error")
	}
}

func TestOnly(t *testing.T) {
	s := newSample(t, 2)
	res, _ := run(t, s.reopen(), check.Options{ReadData: true, Only: snapshot.Filter{Hosts: []string{"nobody"}}.Match})
	if res.Snapshots != 0 || res.Trees != 0 || res.PacksRead != 0 || res.Packs != 4 {
		t.Errorf("nothing matches: %+v", res)
	}
	// Only the packs of the first snapshot are read.
	s.change(backend.File{Kind: backend.Snapshot, Name: s.last.String()}, gone)
	res, _ = run(t, s.reopen(), check.Options{ReadData: true, Only: snapshot.Filter{Hosts: []string{"host"}}.Match})
	if res.Snapshots != 1 || res.Trees != 3 || res.PacksRead != 2 {
		t.Errorf("one matches: %+v", res)
	}
}

func TestProgressEndsFull(t *testing.T) {
	s := newSample(t, 2)
	res, f := run(t, s.reopen(), check.Options{ReadData: true})
	want := map[check.Phase][2]int64{check.Snapshots: {2, 2}, check.Index: {2, 2}, check.Packs: {4, 4}, check.Trees: {6, 0}, check.Data: {res.PackBytes, res.PackBytes}}
	if diff := cmp.Diff(want, f.last); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestFaults fails each call of the backend: the check says so, as a finding or as its
// error, and never passes.
func TestFaults(t *testing.T) {
	s := newSample(t, 2)
	for i := 0; ; i++ {
		be := fault.New(s.be, nil)
		r, err := repo.Open(t.Context(), be, repo.Options{Password: []byte(repotest.Password)})
		if err != nil {
			t.Fatal(err)
		}
		opened := be.Calls()
		be.SetPlan(fault.Nth(opened+i, fault.Before))
		f := &found{}
		res, err := check.Run(t.Context(), r, check.Options{ReadData: true}, f)
		if be.Calls() <= opened+i {
			if err != nil || res.Errors > 0 || i < 10 {
				t.Errorf("without a fault: %v, %q, %d calls", err, f.errors, i)
			}
			return
		}
		if err == nil && res.Errors == 0 {
			t.Errorf("%v failed and nothing was said", be.Trace()[opened+i])
		}
	}
}

// TestCancel ends the context at each call of the backend.
func TestCancel(t *testing.T) {
	s := newSample(t, 2)
	for i := 0; ; i++ {
		ctx, cancel := context.WithCancel(t.Context())
		be := fault.New(s.be, nil)
		r, err := repo.Open(ctx, be, repo.Options{Password: []byte(repotest.Password)})
		if err != nil {
			t.Fatal(err)
		}
		opened := be.Calls()
		be.SetPlan(func(c fault.Call) fault.Fault {
			if c.N == opened+i {
				cancel()
			}
			return fault.Fault{}
		})
		f := &found{}
		_, err = check.Run(ctx, r, check.Options{ReadData: true}, f)
		cancel()
		if be.Calls() <= opened+i {
			if err != nil {
				t.Error(err)
			}
			return
		}
		if !errors.Is(err, context.Canceled) || len(f.errors) > 0 {
			t.Errorf("call %d: error %v, found %q", i, err, f.errors)
		}
	}
}
