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
	"vitrine/repo/backend/backendtest"
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

// TestDamage makes one kind of damage at a time. Each error and hint must hold all
// the words of one of the wanted, in order, and there must be no other.
func TestDamage(t *testing.T) {
	type words []string
	tests := []struct {
		name     string
		readData bool
		damage   func(s *sample) (errs, hints []words)
	}{
		{"key renamed", false, func(s *sample) (errs, hints []words) {
			f := s.files(backend.Key)[0]
			other := backend.File{Kind: backend.Key, Name: strings.Repeat("ab", 32)}
			content, _ := s.be.ReadAll(s.t.Context(), f, 1<<20)
			if err := s.be.Save(s.t.Context(), other, content); err != nil {
				s.t.Fatal(err)
			}
			return []words{{"key/abababab", "does not match its name"}}, nil
		}},
		{"snapshot flipped", false, func(s *sample) (errs, hints []words) {
			s.change(backend.File{Kind: backend.Snapshot, Name: s.first.String()}, flipAt(40))
			return []words{{"snapshot/" + s.first.Short(), "corrupt"}}, nil
		}},
		{"snapshot cut", false, func(s *sample) (errs, hints []words) {
			s.change(backend.File{Kind: backend.Snapshot, Name: s.first.String()}, cut(1))
			return []words{{"snapshot/" + s.first.Short(), "corrupt"}}, nil
		}},
		{"snapshot empty", false, func(s *sample) (errs, hints []words) {
			s.change(backend.File{Kind: backend.Snapshot, Name: s.first.String()}, func([]byte) []byte { return []byte{} })
			return []words{{"snapshot/" + s.first.Short(), "corrupt"}}, nil
		}},
		{"snapshot without a tree", false, func(s *sample) (errs, hints []words) {
			id, err := s.r.SaveFile(s.t.Context(), backend.Snapshot, []byte(`{"time":"2001-09-09T01:46:40Z","paths":["/srv"]}`))
			if err != nil {
				s.t.Fatal(err)
			}
			return []words{{"snapshot/" + id.Short(), "no tree"}}, nil
		}},
		{"snapshot of nonsense", false, func(s *sample) (errs, hints []words) {
			id, err := s.r.SaveFile(s.t.Context(), backend.Snapshot, []byte(`{"time":7}`))
			if err != nil {
				s.t.Fatal(err)
			}
			return []words{{"snapshot/" + id.Short(), "corrupt"}}, nil
		}},
		{"pack missing", false, func(s *sample) (errs, hints []words) {
			pack := s.place(blob.Data, s.c).Pack
			s.change(packFile(pack), gone)
			return []words{{"pack/" + pack.Short(), "missing", "1 blob"},
				{"snapshot " + s.last.Short() + ": /srv/sub/c", "1 of 1 chunk", "data/" + s.c.Short(), "pack/" + pack.Short(), "missing"}}, nil
		}},
		{"pack of trees missing", false, func(s *sample) (errs, hints []words) {
			pack := s.place(blob.Tree, s.sub).Pack
			s.change(packFile(pack), gone)
			return []words{{"pack/" + pack.Short(), "missing", "3 blobs"},
				{"snapshot " + s.last.Short() + ": ", "directory is lost", "pack/" + pack.Short(), "missing"}}, nil
		}},
		{"pack cut", false, func(s *sample) (errs, hints []words) {
			pack := s.place(blob.Data, s.c).Pack
			s.change(packFile(pack), cut(1000))
			return []words{{"pack/" + pack.Short(), "bytes", "the index makes it"},
				{"/srv/sub/c", "data/" + s.c.Short(), "pack/" + pack.Short(), "too short"}}, nil
		}},
		{"pack longer", false, func(s *sample) (errs, hints []words) {
			pack := s.place(blob.Data, s.c).Pack
			s.change(packFile(pack), func(p []byte) []byte { return append(p, 0) })
			return []words{{"pack/" + pack.Short(), "bytes", "the index makes it"}}, nil
		}},
		{"index missing", false, func(s *sample) (errs, hints []words) {
			for _, f := range s.files(backend.Index) {
				s.change(f, gone)
			}
			return []words{
				{"snapshot " + s.first.Short(), "directory is lost", "is in no index"},
				{"snapshot " + s.last.Short(), "directory is lost", "is in no index"},
			}, []words{{"in no index", "4 packs"}}
		}},
		{"index flipped", false, func(s *sample) (errs, hints []words) {
			f := s.indexOf(s.place(blob.Data, s.c).Pack)
			s.change(f, flipAt(-20))
			return []words{{"index/" + f.Name[:8], "corrupt"}, {"snapshot " + s.last.Short(), "is in no index"}},
				[]words{{"in no index", "2 packs"}}
		}},
		{"index of nonsense", false, func(s *sample) (errs, hints []words) {
			id, err := s.r.SaveFile(s.t.Context(), backend.Index, []byte(`{"packs":[{"id":"zz"}]}`))
			if err != nil {
				s.t.Fatal(err)
			}
			return []words{{"index/" + id.Short(), "corrupt"}}, nil
		}},
		{"index lists a pack that never was", false, func(s *sample) (errs, hints []words) {
			s.index(strings.Repeat("ab", 32), s.c, 0, 3032)
			return []words{{"pack/abababab", "missing", "1 blob"}}, nil
		}},
		{"index twice", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.c)
			s.index(loc.Pack.String(), s.c, loc.OffsetBytes, loc.LengthBytes)
			return nil, nil
		}},
		{"index with a wrong length", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.c)
			s.index(loc.Pack.String(), s.c, loc.OffsetBytes, loc.LengthBytes-1)
			return []words{{"pack/" + loc.Pack.Short(), "the index makes it"},
				{"pack/" + loc.Pack.Short(), "header and the index disagree", "lacks 0 blobs", "1 blob of the index"},
				{"data/" + s.c.Short(), "corrupt"}}, nil
		}},
		{"index with a blob that is not there", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.c)
			s.index(loc.Pack.String(), blob.Hash(nil), 0, 100)
			return []words{{"pack/" + loc.Pack.Short(), "the index makes it"},
				{"pack/" + loc.Pack.Short(), "header and the index disagree"}, {"data/" + blob.Hash(nil).Short(), "corrupt"}}, nil
		}},
		{"orphan", false, func(s *sample) (errs, hints []words) {
			content := backendtest.Content(9, 2048)
			f := backendtest.FileOf(backend.Pack, content)
			if err := s.be.Save(s.t.Context(), f, content); err != nil {
				s.t.Fatal(err)
			}
			return nil, []words{{"in no index", "1 pack (" + f.Name[:8] + ")", "2.0 KiB", "prune"}}
		}},
		{"tree flipped", false, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Tree, s.sub)
			s.change(packFile(loc.Pack), flipAt(int(loc.OffsetBytes)+20))
			return []words{{"snapshot " + s.last.Short() + ": /srv/sub: ", "damaged", "tree/" + s.sub.Short(), "pack " + loc.Pack.Short(), "corrupt"}}, nil
		}},
		{"data flipped, not looked at", false, func(s *sample) (errs, hints []words) {
			s.change(packFile(s.place(blob.Data, s.a2).Pack), flipAt(int(s.place(blob.Data, s.a2).OffsetBytes)+20))
			return nil, nil
		}},
		{"data flipped", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.a2)
			s.change(packFile(loc.Pack), flipAt(int(loc.OffsetBytes)+20))
			return []words{{"pack/" + loc.Pack.Short(), "does not match its name"},
				{"data/" + s.a2.Short(), "pack " + loc.Pack.Short(), "corrupt"},
				{"snapshot " + s.first.Short() + ": /srv/a: ", "1 of 2 chunks", "data/" + s.a2.Short(), "damaged"},
				{"snapshot " + s.last.Short() + ": /srv/a: ", "1 of 2 chunks", "data/" + s.a2.Short(), "damaged"}}, nil
		}},
		{"header flipped", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.c)
			s.change(packFile(loc.Pack), flipAt(-10))
			return []words{{"pack/" + loc.Pack.Short(), "does not match its name"}, {"pack/" + loc.Pack.Short(), "header", "corrupt"}}, nil
		}},
		{"header length flipped", true, func(s *sample) (errs, hints []words) {
			loc := s.place(blob.Data, s.c)
			s.change(packFile(loc.Pack), flipAt(-1))
			return []words{{"pack/" + loc.Pack.Short(), "does not match its name"}, {"pack/" + loc.Pack.Short(), "header", "corrupt"}}, nil
		}},
		{"pack under another name", true, func(s *sample) (errs, hints []words) {
			a, b := s.place(blob.Data, s.c).Pack, s.place(blob.Data, s.a1).Pack
			content, _ := s.be.ReadAll(s.t.Context(), packFile(a), 1<<30)
			s.change(packFile(b), func([]byte) []byte { return content })
			return []words{{"pack/" + b.Short(), "the index makes it"}, {"pack/" + b.Short(), "does not match its name"},
				{"pack/" + b.Short(), "header and the index disagree", "lacks 1 blob", "3 blobs of the index"},
				{"data/" + s.a1.Short(), "beyond its end"}, {"data/" + s.a2.Short(), "beyond its end"}, {"data/" + s.b.Short(), "beyond its end"},
				{"/srv/a", "2 of 2 chunks", "too short"}, {"/srv/sub/b", "too short"},
				{"/srv/a", "2 of 2 chunks", "too short"}, {"/srv/sub/b", "too short"},
				{"/srv/a", "2 of 2 chunks", "too short"}, {"/srv/sub/b", "too short"},
				{"/srv/a", "2 of 2 chunks", "too short"}, {"/srv/sub/b", "too short"}}, nil
		}},
		{"blob in no index", false, func(s *sample) (errs, hints []words) {
			s.snapshotOf(file("x", 10, s.a1, blob.Hash([]byte("nowhere"))))
			return []words{{": /x: ", "1 of 2 chunks", "data/" + blob.Hash([]byte("nowhere")).Short(), "in no index"}}, nil
		}},
		{"tree as data", false, func(s *sample) (errs, hints []words) {
			s.snapshotOf(dir("x", s.a1))
			return []words{{": /x: ", "directory is lost", "tree/" + s.a1.Short(), "in no index"}}, nil
		}},
		{"nodes", false, func(s *sample) (errs, hints []words) {
			s.snapshotOf(
				snapshot.Node{Name: "a", Type: snapshot.Dir},
				snapshot.Node{Name: "b", Type: snapshot.File},
				snapshot.Node{Name: "c\n", Type: snapshot.Symlink},
				file("d", 5, s.a1),
				snapshot.Node{Name: "e", Type: snapshot.Fifo, Content: []blob.ID{s.a1}, Subtree: &s.sub},
			)
			return []words{{": /a: ", "no tree"}, {": /b: ", "no list of blobs"}},
				[]words{{`: /"c\n": `, "symbolic link to nothing"}, {": /d: ", "noted with 5 bytes", "100000"},
					{": /e: ", "fifo with content"}, {": /e: ", "fifo with a tree"}}
		}},
		{"tree that is none", false, func(s *sample) (errs, hints []words) {
			var bad, unsorted blob.ID
			s.write(func(w *repo.Writer) {
				bad = s.blob(w, blob.Tree, []byte(`{"nodes":7}`))
				unsorted = s.blob(w, blob.Tree, []byte(`{"nodes":[{"name":"b","type":"fifo"},{"name":"a","type":"fifo"}]}`))
			})
			s.snapshotOf(dir("x", bad), dir("y", unsorted))
			return []words{{": /x: ", "directory is lost", "tree/" + bad.Short()}, {": /y: ", "tree/" + unsorted.Short(), "not sorted"}}, nil
		}},
	}
	for _, version := range []uint{1, 2} {
		sound := newSample(t, version)
		for _, test := range tests {
			t.Run(fmt.Sprintf("%s, version %d", test.name, version), func(t *testing.T) {
				s := sound.clone(t)
				wantErrs, wantHints := test.damage(s)
				_, f := run(t, s.reopen(), check.Options{ReadData: test.readData})
				compare := func(what string, want []words, got []string) {
					for _, text := range got {
						i := slices.IndexFunc(want, func(w words) bool { return holds(text, w) })
						if i < 0 {
							t.Errorf("%s that is not wanted: %s", what, text)
							continue
						}
						want = slices.Delete(slices.Clone(want), i, i+1)
					}
					if len(want) > 0 {
						t.Errorf("%ss that are missing: %q", what, want)
					}
				}
				compare("error", wantErrs, f.errors)
				compare("hint", wantHints, f.hints)
			})
		}
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
func (noIndex) Refresh(context.Context) error                   { return nil }
func (noIndex) Close() error                                    { return nil }

func TestUnused(t *testing.T) {
	s := newSample(t, 2)
	if res, _ := run(t, s.reopen(), check.Options{Unused: true}); res.UnusedBlobs != 0 {
		t.Errorf("%d unused blobs, want 0", res.UnusedBlobs)
	}
	s.change(backend.File{Kind: backend.Snapshot, Name: s.last.String()}, gone)
	res, f := run(t, s.reopen(), check.Options{Unused: true})
	if res.UnusedBlobs != 4 || res.UnusedBytes < 3000 || len(f.hints) != 1 || !strings.Contains(f.hints[0], "4 blobs") {
		t.Errorf("%d unused blobs, %d bytes, hints %q, want c and three trees", res.UnusedBlobs, res.UnusedBytes, f.hints)
	}
	// With a snapshot that cannot be read the count would be wrong.
	s.change(backend.File{Kind: backend.Snapshot, Name: s.first.String()}, cut(1))
	res, f = run(t, s.reopen(), check.Options{Unused: true})
	if res.UnusedBlobs != 0 || len(f.hints) != 1 || !strings.Contains(f.hints[0], "not counted") {
		t.Errorf("%d unused blobs, hints %q", res.UnusedBlobs, f.hints)
	}
	if _, err := check.Run(t.Context(), s.reopen(), check.Options{Unused: true, Filter: &snapshot.Filter{}}, &found{}); err == nil {
		t.Error("Unused with a Filter is no error")
	}
}

func TestFilter(t *testing.T) {
	s := newSample(t, 2)
	res, _ := run(t, s.reopen(), check.Options{ReadData: true, Filter: &snapshot.Filter{Hosts: []string{"nobody"}}})
	if res.Snapshots != 0 || res.Trees != 0 || res.PacksRead != 0 || res.Packs != 4 {
		t.Errorf("nothing matches: %+v", res)
	}
	// Only the packs of the first snapshot are read.
	s.change(backend.File{Kind: backend.Snapshot, Name: s.last.String()}, gone)
	res, _ = run(t, s.reopen(), check.Options{ReadData: true, Filter: &snapshot.Filter{Hosts: []string{"host"}}})
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
