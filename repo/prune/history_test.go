package prune_test

import (
	"fmt"
	"maps"
	"sync/atomic"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/prune"
	"vitrine/repo/repotest"
	"vitrine/repo/rewrite"
	"vitrine/repo/snapshot"
	"vitrine/repo/transfer"
)

// snapshots returns those of the repository, oldest first.
func (l *lab) snapshots(r *repo.Repository) []*snapshot.Snapshot {
	l.t.Helper()
	list, err := r.Snapshots(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return list
}

// rewritten notes what becomes of snapshots.
type rewritten struct{ l *lab }

func (rewritten) Snapshot(*snapshot.Snapshot) {}
func (rewritten) Trees(int)                   {}
func (w rewritten) Changed(c rewrite.Change, removed bool) {
	if removed {
		delete(w.l.want, c.Old.ID)
	}
	w.l.want[c.New.ID] = c.New.Tree.String()
}

// rewrite leaves some files out of some snapshots, which it replaces, or to which it adds.
func (l *lab) rewrite() {
	l.t.Helper()
	r := open(l.t, l.be)
	defer r.Close()
	list := l.snapshots(r)
	digit := fmt.Sprint(l.rnd.IntN(10))
	rules := &rewrite.Rules[struct{}]{Node: func(_ struct{}, n *snapshot.Node) (rewrite.Verdict, struct{}, error) {
		if n.Type == snapshot.File && n.Name[len(n.Name)-1:] == digit {
			return rewrite.Drop, struct{}{}, nil
		}
		return rewrite.Keep, struct{}{}, nil
	}}
	o := rewrite.Options{Forget: l.rnd.IntN(2) == 0, Tag: "rewrite"}
	if _, err := rewrite.Snapshots(l.t.Context(), r, list[:1+l.rnd.IntN(len(list))], rules, o, rewritten{l}); err != nil {
		l.t.Fatal(err)
	}
}

// copied notes what comes from elsewhere.
type copied struct{ l *lab }

func (copied) Skipped(_, _ *snapshot.Snapshot) {}
func (copied) Begin(*snapshot.Snapshot)        {}
func (copied) Trees(int64)                     {}
func (copied) Copying(_, _ int64)              {}
func (c copied) Saved(sn *snapshot.Snapshot, id blob.ID) {
	c.l.want[id] = sn.Tree.String()
}
func (c copied) Failed(sn *snapshot.Snapshot, err error) {
	c.l.t.Errorf("copy snapshot %s: %v", sn.ID.Short(), err)
}

// copy brings snapshots from a repository that has some files in common with this one, and its own packs. With blind it
// writes them as a client does that has not seen the index: then blobs are there twice.
func (l *lab) copy(blind bool) {
	l.t.Helper()
	other := &lab{t: l.t, rnd: l.rnd, be: mem.New(), want: map[blob.ID]string{}, plain: l.plain, files: l.files}
	repotest.Init(l.t, other.be, 2)
	for range 2 {
		other.backup(6)
	}
	src, dst := open(l.t, other.be), open(l.t, l.be)
	defer src.Close()
	defer dst.Close()
	hidden := map[string][]byte{}
	if blind {
		for _, name := range l.names(backend.Index) {
			f := backend.File{Kind: backend.Index, Name: name}
			content, err := l.be.ReadAll(l.t.Context(), f, 1<<30)
			if err == nil {
				err = l.be.Remove(l.t.Context(), f)
			}
			if err != nil {
				l.t.Fatal(err)
			}
			hidden[name] = content
		}
	}
	o := transfer.Options{Snapshots: other.snapshots(src)}
	if _, err := transfer.Run(l.t.Context(), src, dst, o, copied{l}); err != nil {
		l.t.Fatal(err)
	}
	for name, content := range hidden {
		if err := l.be.Save(l.t.Context(), backend.File{Kind: backend.Index, Name: name}, content); err != nil {
			l.t.Fatal(err)
		}
	}
}

// life does everything that clients do, in random order, with prunes between that are interrupted.
func (l *lab) life(steps int) {
	l.t.Helper()
	l.backup(12)
	for range steps {
		switch l.rnd.IntN(8) {
		case 0, 1:
			l.backup(8)
		case 2:
			if len(l.want) > 1 {
				l.forget()
			}
		case 3:
			l.tag()
		case 4:
			l.rewrite()
		case 5:
			l.copy(l.rnd.IntN(2) == 0)
		case 6:
			l.orphan()
		default: // a prune that ends somewhere
			be := fault.New(l.be, fault.From(10+l.rnd.IntN(60), fault.Before))
			_, _ = l.prune(be, prune.Options{MaxRepackBytes: prune.NoLimit})
		}
	}
}

// TestLives prunes what backups, forgets, tags, rewrites, copies and interrupted prunes have left, and is itself ended
// behind each call of the store in turn: no snapshot loses anything, and the next prune finishes.
func TestLives(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2, 100+seed)
			l.life(14)
			l.check()
			o := prune.Options{MaxRepackBytes: prune.NoLimit}
			ends, calls := map[fault.Op]int{}, 0
			for op := fault.Save; op <= fault.Remove; op++ {
				step := 1
				if seed > 0 && op != fault.Save && op != fault.Remove { // each call of one life, every third that only reads of another
					step = 3
				}
				for n := 0; ; n += step {
					c := l.clone()
					c.t = t
					be := fault.New(c.be, fromOp(op, n))
					_, err := c.prune(be, o)
					calls = be.Calls()
					if countOp(be.Trace(), op) <= n {
						if err != nil {
							t.Fatal(err)
						}
						break
					}
					ends[op]++
					c.check()
					c.mustPrune(o)
					c.wantPruned(0)
				}
			}
			if calls < 30 || ends[fault.Remove] == 0 || ends[fault.Save] == 0 {
				t.Errorf("%d calls, ended behind %v: the prune had too little to do", calls, ends)
			}
		})
	}
}

// fromOp is the plan that lets call n of a method happen and fails it, and all calls after it. Numbers over all methods would
// not do: which call has which is a matter of scheduling.
func fromOp(op fault.Op, n int) fault.Plan {
	var seen atomic.Int64
	var over atomic.Bool
	return func(c fault.Call) fault.Fault {
		if c.Op == op && seen.Add(1) > int64(n) {
			over.Store(true)
		}
		if over.Load() {
			return fault.Fault{Mode: fault.After}
		}
		return fault.Fault{}
	}
}

func countOp(calls []fault.Call, op fault.Op) (n int) {
	for _, c := range calls {
		if c.Op == op {
			n++
		}
	}
	return n
}

// TestAllKinds makes sure that lives have what they are to have.
func TestAllKinds(t *testing.T) {
	l := newLab(t, 2, 9)
	l.backup(12)
	before := maps.Clone(l.want)
	for range 20 {
		l.rewrite()
	}
	if maps.Equal(before, l.want) {
		t.Error("nothing was rewritten")
	}
	l.copy(true)
	if res, _ := l.check(); res.DuplicateBlobs == 0 {
		t.Error("no blob is there twice")
	}
	l.mustPrune(prune.Options{MaxRepackBytes: prune.NoLimit})
	l.wantPruned(0)
}
