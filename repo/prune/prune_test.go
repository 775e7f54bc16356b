package prune_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/prune"
	"vitrine/repo/repotest"
)

// TestHistories prunes between backups, tags and removals of snapshots in random order.
func TestHistories(t *testing.T) {
	options := map[string]struct {
		o       prune.Options
		percent float64 // that may be unused afterwards; 100: not compared
	}{
		"defaults":     {defaults, 5},
		"nothing":      {prune.Options{MaxRepackBytes: prune.NoLimit}, 0},
		"small":        {prune.Options{MaxRepackBytes: prune.NoLimit, Small: true}, 0},
		"uncompressed": {prune.Options{MaxRepackBytes: prune.NoLimit, Uncompressed: true}, 0},
		"unlimited":    {prune.Options{MaxRepackBytes: prune.NoLimit, MaxUnused: prune.Unlimited}, 100},
		"trees":        {prune.Options{MaxRepackBytes: prune.NoLimit, CacheableOnly: true}, 100},
		"no space":     {prune.Options{MaxRepackBytes: prune.NoLimit, NoFreeSpace: true}, 100},
	}
	for name, test := range options {
		for _, version := range []uint{1, 2} {
			t.Run(fmt.Sprint(name, " v", version), func(t *testing.T) {
				l := newLab(t, version, uint64(len(name))<<8+uint64(version))
				for range 16 {
					switch l.rnd.IntN(6) {
					case 0, 1, 2:
						l.backup(l.rnd.IntN(15))
					case 3:
						l.forget()
					case 4:
						l.tag()
					default:
						l.orphan()
					}
					if l.rnd.IntN(3) == 0 {
						l.mustPrune(test.o)
						l.wantPruned(test.percent)
					}
				}
				l.mustPrune(test.o)
				l.wantPruned(test.percent)
				l.wantNothingLeft(test.o)
			})
		}
	}
}

// history makes a repository with all that a prune has to do.
func history(t *testing.T, seed uint64) *lab {
	l := newLab(t, 2, seed)
	for i := range 6 {
		l.backup(12)
		if i%3 == 1 {
			l.forget()
		}
	}
	l.orphan()
	l.tag()
	return l
}

// TestFaults fails each call of the store in turn: the snapshots are whole each time, and the next prune finishes.
func TestFaults(t *testing.T) {
	l := history(t, 3)
	for _, test := range []struct {
		name string
		plan func(i int) fault.Plan
		o    prune.Options
	}{
		{"not done", func(i int) fault.Plan { return fault.Nth(i, fault.Before) }, prune.Options{MaxRepackBytes: prune.NoLimit}},
		{"done", func(i int) fault.Plan { return fault.Nth(i, fault.After) }, prune.Options{MaxRepackBytes: prune.NoLimit}},
		{"half", func(i int) fault.Plan { return fault.Nth(i, fault.Short) }, prune.Options{MaxRepackBytes: prune.NoLimit}},
		{"all from one on", func(i int) fault.Plan { return fault.From(i, fault.Before) }, prune.Options{MaxRepackBytes: prune.NoLimit}},
		{"small packs", func(i int) fault.Plan { return fault.From(i, fault.Before) }, prune.Options{MaxRepackBytes: prune.NoLimit, Small: true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for i := 0; ; i++ {
				c := l.clone()
				c.t = t
				be := fault.New(c.be, test.plan(i))
				_, err := c.prune(be, test.o)
				if calls := be.Calls(); calls <= i {
					if err != nil || i < 40 {
						t.Fatalf("%d calls, error %v", calls, err)
					}
					c.wantPruned(0)
					return
				}
				trace := be.Trace()
				// The first removal is of a file that is not there, which is no error when it is "done".
				asks := test.name == "done" && i == slices.IndexFunc(trace, func(c fault.Call) bool { return c.Op == fault.Remove })
				if err == nil && !asks && trace[i].Op != fault.ReadAt { // that is tried again in another way
					t.Fatalf("call %d (%v) failed and nobody noticed", i, trace[i])
				}
				c.check()
				c.mustPrune(test.o)
				c.wantPruned(0)
				c.wantNothingLeft(test.o)
			}
		})
	}
}

// TestAppendOnly: on a store that lets nobody remove nothing is written either, each time anew.
func TestAppendOnly(t *testing.T) {
	l := history(t, 4)
	for _, class := range []error{backend.ErrDenied, backend.ErrReadOnly} {
		be := fault.New(l.be, func(c fault.Call) fault.Fault {
			if c.Op == fault.Remove {
				return fault.Fault{Mode: fault.Before, Err: class}
			}
			return fault.Fault{}
		})
		plan, err := l.prune(be, prune.Options{MaxRepackBytes: prune.NoLimit})
		if !errors.Is(err, class) || !strings.Contains(err.Error(), "nothing is changed") {
			t.Errorf("error %v", err)
		}
		for _, c := range be.Trace() {
			if c.Op == fault.Save {
				t.Errorf("%v was written", c.File)
			}
		}
		if plan.Stats.RepackPacks == 0 {
			t.Errorf("there was nothing to write: %+v", plan.Stats)
		}
	}
	l.check()
}

// TestAbandoned ends the prune of a full store, which has no index for some packs meanwhile: they are all there.
func TestAbandoned(t *testing.T) {
	l := history(t, 5)
	kept := map[string]bool{}
	plan := l.clone().mustPrune(prune.Options{NoFreeSpace: true, MaxRepackBytes: prune.NoLimit})
	if plan.Stats.RepackPacks != 0 || plan.Stats.RemovePacks == 0 {
		t.Fatalf("%+v", plan.Stats)
	}
	c := l.clone()
	c.mustPrune(prune.Options{NoFreeSpace: true, MaxRepackBytes: prune.NoLimit})
	for _, name := range c.names(backend.Pack) {
		kept[name] = true
	}
	for i := 0; ; i++ {
		c := l.clone()
		be := fault.New(c.be, fault.From(i, fault.Before))
		_, err := c.prune(be, prune.Options{NoFreeSpace: true, MaxRepackBytes: prune.NoLimit})
		there := 0
		for _, name := range c.names(backend.Pack) {
			if kept[name] {
				there++
			}
		}
		if there != len(kept) {
			t.Fatalf("call %d: %d of %d packs are left", i, there, len(kept))
		}
		if be.Calls() <= i {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

// TestDryRun makes plans with and without some snapshots, and changes nothing.
func TestDryRun(t *testing.T) {
	l := history(t, 4)
	before := l.be.Clone()
	r := open(t, l.be)
	defer r.Close()
	ignore := map[blob.ID]bool{}
	for id := range l.want {
		ignore[id] = true
	}
	for _, test := range []struct {
		o    prune.Options
		used bool
	}{{defaults, true}, {prune.Options{Ignore: ignore}, false}} {
		p, err := prune.MakePlan(t.Context(), r, test.o, silent{t})
		if err != nil {
			t.Fatal(err)
		}
		if p.Stats.Used.Blobs > 0 != test.used || p.Nothing() {
			t.Errorf("%+v", p.Stats)
		}
		if !test.used && p.Execute(t.Context(), silent{t}) == nil {
			t.Error("a plan that ignores snapshots was executed")
		}
	}
	if diff := cmp.Diff(contents(t, before), contents(t, l.be)); diff != "" {
		t.Error(diff)
	}
}

// TestIgnoreDamaged: a snapshot that counts as removed may be damaged itself, as forget removes it unread.
func TestIgnoreDamaged(t *testing.T) {
	l := history(t, 5)
	other, id := l.backup(3), l.backup(3)
	f := backend.File{Kind: backend.Snapshot, Name: id.String()}
	if err := l.be.Remove(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	plan := func(o prune.Options) (prune.Stats, error) {
		r := open(t, l.be)
		defer r.Close()
		p, err := prune.MakePlan(t.Context(), r, o, silent{t})
		if err != nil {
			return prune.Stats{}, err
		}
		return p.Stats, nil
	}
	want, err := plan(defaults)
	if err == nil {
		err = l.be.Save(t.Context(), f, []byte("not what the name says"))
	}
	if err != nil {
		t.Fatal(err)
	}
	o := defaults
	for _, ignored := range []map[blob.ID]bool{nil, {other: true}} {
		o.Ignore = ignored
		if _, err := plan(o); !errors.Is(err, prune.ErrDamaged) {
			t.Errorf("a damaged snapshot, %d others ignored: %v", len(ignored), err)
		}
	}
	o.Ignore = map[blob.ID]bool{id: true}
	got, err := plan(o)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v; -removed +ignored\n%s", err, diff)
	}
}

func contents(t *testing.T, be *mem.Backend) map[string]int64 {
	files := map[string]int64{}
	for _, kind := range backend.Kinds {
		err := be.List(t.Context(), kind, func(info backend.Info) error {
			files[kind.String()+info.Name] = info.SizeBytes
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// TestOthers: what appears between plan and removal stops it.
func TestOthers(t *testing.T) {
	for _, kind := range []backend.Kind{backend.Snapshot, backend.Index} {
		l := history(t, 6)
		r := open(t, l.be)
		defer r.Close()
		p, err := prune.MakePlan(t.Context(), r, defaults, silent{t})
		if err != nil {
			t.Fatal(err)
		}
		id := l.backup(3)
		if kind == backend.Index {
			delete(l.want, id)
			if err := l.be.Remove(t.Context(), backend.File{Kind: backend.Snapshot, Name: id.String()}); err != nil {
				t.Fatal(err)
			}
		}
		before := l.be.Clone()
		if err := p.Execute(t.Context(), silent{t}); !errors.Is(err, prune.ErrChanged) {
			t.Errorf("%v: %v", kind, err)
		}
		if diff := cmp.Diff(contents(t, before), contents(t, l.be)); diff != "" {
			t.Error(diff)
		}
		l.check()
	}
}

// TestLateSnapshot comes while packs are written: new ones stay, and so do the old ones.
func TestLateSnapshot(t *testing.T) {
	l := history(t, 8)
	packs := l.names(backend.Pack)
	late := false
	be := fault.New(l.be, nil)
	be.SetPlan(func(c fault.Call) fault.Fault {
		if c.Op == fault.Save && c.File.Kind == backend.Index && !late {
			late = true
			l.backup(3)
		}
		return fault.Fault{}
	})
	_, err := l.prune(be, prune.Options{MaxRepackBytes: prune.NoLimit})
	if !errors.Is(err, prune.ErrChanged) || !late {
		t.Errorf("%v", err)
	}
	l.check()
	now := l.names(backend.Pack)
	if len(now) <= len(packs)-2 { // without those that no index file listed
		t.Errorf("%d packs, %d before", len(now), len(packs))
	}
	l.mustPrune(prune.Options{MaxRepackBytes: prune.NoLimit})
	l.wantPruned(0)
}

// TestDamage: nothing is removed when it is not known what is needed, or when it is not there.
func TestDamage(t *testing.T) {
	spoil := func(l *lab, kind backend.Kind, change func(content []byte) []byte) {
		for _, name := range l.names(kind) {
			f := backend.File{Kind: kind, Name: name}
			content, err := l.be.ReadAll(t.Context(), f, 1<<30)
			if err == nil {
				err = l.be.Remove(t.Context(), f)
			}
			if content = change(content); err == nil && content != nil {
				err = l.be.Save(t.Context(), f, content)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	flip := func(p []byte) []byte { p[len(p)/2] ^= 1; return p }
	gone := func([]byte) []byte { return nil }
	cut := func(p []byte) []byte { return p[:len(p)-1] }
	for _, test := range []struct {
		name   string
		kind   backend.Kind
		change func([]byte) []byte
	}{
		{"damaged snapshots", backend.Snapshot, flip},
		{"damaged index", backend.Index, flip},
		{"no index", backend.Index, gone},
		{"no packs", backend.Pack, gone},
		{"damaged packs", backend.Pack, func(p []byte) []byte {
			for i := range p {
				p[i] ^= 1
			}
			return p
		}},
		{"short packs", backend.Pack, cut},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := history(t, 9)
			spoil(l, test.kind, test.change)
			before := l.be.Clone()
			_, err := l.prune(l.be, defaults)
			if !errors.Is(err, prune.ErrDamaged) {
				t.Errorf("error %v", err)
			}
			// For a snapshot there is no better advice than the general one.
			if advised := errors.Is(err, repo.ErrAdvised); advised != (test.kind != backend.Snapshot) {
				t.Errorf("advised %t: %v", advised, err)
			}
			if diff := cmp.Diff(contents(t, before), contents(t, l.be)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestOtherCopy: a damaged copy in a pack that is written again is replaced by a sound one, and without one the
// prune ends before it removes a pack.
func TestDamagedBlob(t *testing.T) {
	l := history(t, 10)
	packs := l.names(backend.Pack)
	be := fault.New(l.be, nil)
	be.SetPlan(func(c fault.Call) fault.Fault {
		if c.Op == fault.ReadAt && c.File.Kind == backend.Pack && corruptNow(be) {
			return fault.Fault{Mode: fault.Corrupt}
		}
		return fault.Fault{}
	})
	_, err := l.prune(be, prune.Options{MaxRepackBytes: prune.NoLimit})
	if !errors.Is(err, prune.ErrDamaged) {
		t.Fatalf("error %v", err)
	}
	l.check()
	for _, name := range packs {
		if _, err := l.be.Stat(t.Context(), backend.File{Kind: backend.Pack, Name: name}); err != nil {
			if listed := l.listed(name); listed {
				t.Errorf("pack %.8s is gone", name)
			}
		}
	}
	l.mustPrune(prune.Options{MaxRepackBytes: prune.NoLimit})
	l.wantPruned(0)
}

// corruptNow is true once the plan has been made: its last call is the listing before the first removal.
func corruptNow(be *fault.Backend) bool {
	lists := 0
	for _, c := range be.Trace() {
		if c.Op == fault.List && c.File.Kind == backend.Snapshot {
			lists++
		}
	}
	return lists >= 2
}

// listed reports whether an index file lists the pack.
func (l *lab) listed(pack string) bool {
	r := open(l.t, l.be)
	defer r.Close()
	x, err := repotest.OpenMapIndex(l.t.Context(), r)
	if err != nil {
		l.t.Fatal(err)
	}
	is := false
	if err := x.Packs(func(id blob.ID) { is = is || id.String() == pack }); err != nil {
		l.t.Fatal(err)
	}
	return is
}

// TestMerge: many small index files become one.
func TestMerge(t *testing.T) {
	l := newLab(t, 2, 11)
	for range 9 {
		l.backup(3)
	}
	before, _ := l.check()
	l.mustPrune(prune.Options{MaxUnused: prune.Unlimited, CacheableOnly: true, MaxRepackBytes: 0})
	after, _ := l.check()
	if before.IndexFiles < 8 || after.IndexFiles != 1 {
		t.Errorf("%d index files, then %d", before.IndexFiles, after.IndexFiles)
	}
	before.IndexFiles, after.IndexFiles = 0, 0
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}
