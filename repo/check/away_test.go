package check_test

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/blob"
	"vitrine/repo/check"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

// away fails the calls that are chosen as a store does that was waited for in vain.
func away(chosen func(c fault.Call) bool) fault.Plan {
	return func(c fault.Call) fault.Fault {
		if !chosen(c) {
			return fault.Fault{}
		}
		return fault.Fault{Mode: fault.Before, Err: backend.Classed(backend.ErrAway, errors.New("no answer"))}
	}
}

// TestAway: a store that is out of reach, for one call or from one on, is not taken for a damaged one.
func TestAway(t *testing.T) {
	s := newSample(t, 2)
	for name, gone := range map[string]func(n, at int) bool{
		"once": func(n, at int) bool { return n == at },
		"from": func(n, at int) bool { return n >= at },
	} {
		for i := 0; ; i++ {
			be := fault.New(s.be, nil)
			r, err := repo.Open(t.Context(), be, repo.Options{Password: []byte(repotest.Password)})
			if err != nil {
				t.Fatal(err)
			}
			opened := be.Calls()
			be.SetPlan(away(func(c fault.Call) bool { return gone(c.N, opened+i) }))
			f := &found{}
			res, err := check.Run(t.Context(), r, check.Options{ReadData: true}, f)
			if be.Calls() <= opened+i {
				break
			}
			where := fmt.Sprintf("%s, call %d (%v)", name, i, be.Trace()[opened+i])
			if err == nil && res.Errors == 0 {
				t.Errorf("%s: nothing was said", where)
			}
			if res.Errors != res.Unread || len(f.errors) != res.Errors || len(res.BrokenPacks) > 0 || res.IndexDamaged || res.LostFiles || res.LostTrees {
				t.Errorf("%s: taken for damage: %+v\n%s", where, res, strings.Join(f.errors, "\n"))
			}
			for _, text := range f.errors {
				if !strings.Contains(text, "could not be read: ") || !strings.Contains(text, "no answer") || !strings.Contains(text, "check again") {
					t.Errorf("%s: %s", where, text)
				}
			}
		}
	}
}

// TestAwayBesideDamage: what is damaged is told, and what could not be read beside it too, each as what it is.
func TestAwayBesideDamage(t *testing.T) {
	s := newSample(t, 2)
	c, a2 := s.place(blob.Data, s.c), s.place(blob.Data, s.a2)
	s.change(packFile(c.Pack), flipAt(int(c.OffsetBytes)+20))
	open := func(be *fault.Backend) *repo.Repository {
		r, err := repo.Open(t.Context(), be, repo.Options{Password: []byte(repotest.Password)})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}

	// A pack of data.
	be := fault.New(s.be, away(func(call fault.Call) bool { return call.File == packFile(a2.Pack) }))
	res, f := run(t, open(be), check.Options{ReadData: true})
	named := func(words ...string) bool {
		return slices.ContainsFunc(f.errors, func(text string) bool { return holds(text, words) })
	}
	if !slices.Equal(res.BrokenPacks, []blob.ID{c.Pack}) || res.Unread != 1 || !res.LostFiles || res.PacksRead != 3 {
		t.Errorf("%+v", res)
	}
	if !named("pack/"+a2.Pack.Short(), "could not be read") || !named("snapshot "+s.last.Short()+": /srv/sub/c", "lost") || named("/srv/a") {
		t.Errorf("%q", f.errors)
	}

	// The trees, when they are asked which files need what is damaged.
	tree := s.place(blob.Tree, s.srv)
	var reads atomic.Int64
	be = fault.New(s.be, away(func(call fault.Call) bool {
		return call.File == packFile(tree.Pack) && reads.Add(1) > 4 // three trees, and the pack as a whole
	}))
	res, f = run(t, open(be), check.Options{ReadData: true})
	if res.LostFiles || res.Unread != 1 || !named("which files below are lost is not known", "no answer") {
		t.Errorf("%+v\n%q", res, f.errors)
	}
}

// TestSilent: a store that does not answer any more is not waited for file by file. One that fails for some is asked for all.
func TestSilent(t *testing.T) {
	s := newSample(t, 2)
	const dirs = 60
	for i := range dirs {
		s.write(func(w *repo.Writer) { // a pack of data and one of trees for each
			content := s.blob(w, blob.Data, fmt.Append(nil, "content ", i))
			tree := s.tree(w, file("f", uint64(len(fmt.Sprint("content ", i))), content))
			root := s.tree(w, dir("d", tree))
			s.snapshot(&root)
		})
	}
	res, calls, err := s.checkAway(t, backend.Pack, func(int) bool { return false })
	if err != nil || res.Errors > 0 {
		t.Fatalf("%+v, %v", res, err)
	}
	trees := int(res.Trees) // the reads before those of whole packs
	for name, first := range map[string]int{"trees": trees / 2, "data": trees + 10} {
		res, n, err := s.checkAway(t, backend.Pack, func(n int) bool { return n > first })
		if !errors.Is(err, backend.ErrAway) || n > first+50 || res.Unread == 0 || res.Unread != res.Errors {
			t.Errorf("away from the %s on: %d of %d calls, %+v, %v", name, n, calls, res, err)
		}
	}
	res, n, err := s.checkAway(t, backend.Pack, func(n int) bool { return n%2 == 0 && n > trees })
	if err != nil || n != calls || res.Unread != (calls-trees)/2 || res.Errors != res.Unread {
		t.Errorf("every second pack: %d of %d calls, %+v, %v", n, calls, res, err)
	}
	for _, kind := range []backend.Kind{backend.Snapshot, backend.Index} {
		files, first := len(s.files(kind)), 10
		res, n, err := s.checkAway(t, kind, func(n int) bool { return n > first })
		if !errors.Is(err, backend.ErrAway) || files < dirs || n > first+8+2*runtime.GOMAXPROCS(0) || res.Unread != res.Errors {
			t.Errorf("away from %v files on: %d of %d were asked for, %+v, %v", kind, n, files, res, err)
		}
	}
}

// TestSilentKeys: key files are read several at a time, and not all are waited for in vain.
func TestSilentKeys(t *testing.T) {
	s := newSample(t, 2)
	hint := s.files(backend.Key)[0].Name
	for i := range 60 {
		content := fmt.Appendf(nil, "key %d", i)
		if err := s.be.Save(t.Context(), backend.File{Kind: backend.Key, Name: blob.Hash(content).String()}, content); err != nil {
			t.Fatal(err)
		}
	}
	be := fault.New(s.be, nil)
	r, err := repo.Open(t.Context(), be, repo.Options{Password: []byte(repotest.Password), KeyHint: hint})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		be.SetPlan(func(c fault.Call) fault.Fault {
			if c.File.Kind != backend.Key || c.Op == fault.List {
				return fault.Fault{}
			}
			calls.Add(1)
			time.Sleep(time.Minute)
			return fault.Fault{Mode: fault.Before, Err: backend.Classed(backend.ErrAway, errors.New("no answer"))}
		})
		began := time.Now()
		_, err := check.Run(t.Context(), r, check.Options{}, &found{})
		if took := time.Since(began); !errors.Is(err, backend.ErrAway) || calls.Load() > 8+2*int64(runtime.GOMAXPROCS(0)) || took > 8*time.Minute {
			t.Errorf("%d keys were asked for in %v: %v", calls.Load(), took, err)
		}
		calls.Store(0)
		began = time.Now()
		_, err = r.Keys(t.Context())
		if took := time.Since(began); !errors.Is(err, backend.ErrAway) || calls.Load() > 16 || took > 2*time.Minute {
			t.Errorf("list: %d keys were asked for in %v: %v", calls.Load(), took, err)
		}
	})
}

// checkAway checks with a store that does not answer the reads that are chosen, by their number, of those of a kind: each is
// waited for as long as a store is, which is what keeps others from being asked for. It returns how many there were.
func (s *sample) checkAway(t *testing.T, kind backend.Kind, chosen func(n int) bool) (res check.Result, n int, err error) {
	t.Helper()
	be := fault.New(s.be, nil)
	r, err := repo.Open(t.Context(), be, repo.Options{Password: []byte(repotest.Password)})
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	gone := away(func(c fault.Call) bool {
		return c.File.Kind == kind && c.Op != fault.List && chosen(int(calls.Add(1)))
	})
	synctest.Test(t, func(t *testing.T) {
		be.SetPlan(func(c fault.Call) fault.Fault {
			f := gone(c)
			if f.Err != nil {
				time.Sleep(time.Minute)
			}
			return f
		})
		res, err = check.Run(t.Context(), r, check.Options{ReadData: true}, &found{})
	})
	return res, int(calls.Load()), err
}

// TestSilentPath: a store that does not answer any more is not asked for the names above what could not be read.
func TestSilentPath(t *testing.T) {
	s := newSample(t, 2)
	const above, leaves = 400, 100
	before, _, err := s.checkAway(t, backend.Pack, func(int) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	s.write(func(w *repo.Writer) {
		var nodes []snapshot.Node
		for i := range leaves {
			nodes = append(nodes, dir(fmt.Sprintf("leaf%03d", i), s.tree(w, dir(fmt.Sprint(i), s.tree(w)))))
		}
		tree := s.tree(w, nodes...)
		for range above {
			tree = s.tree(w, dir("d", tree))
		}
		s.snapshot(&tree)
	})
	first := int(before.Trees) + above + leaves/2
	res, n, err := s.checkAway(t, backend.Pack, func(n int) bool { return n > first })
	if !errors.Is(err, backend.ErrAway) || n > first+above/2 || res.Unread == 0 || res.Unread != res.Errors {
		t.Errorf("%d calls, of which %d were answered: %+v, %v", n, first, res, err)
	}
}
