package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/repo"
	"vitrine/repo/backend/mem"
	"vitrine/repo/chunker"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
	"vitrine/repo/source"
	"vitrine/repo/source/sourcetest"
)

// told is a visitor that notes what it is told, groups as one word.
type told struct {
	words []string
	in    []string
}

func (v *told) enter(name string, _ *place, _ *source.Stat) { v.in = append(v.in, name) }
func (v *told) leave(context.Context) {
	v.words = append(v.words, filepath.Join(v.in...)+"/")
	v.in = v.in[:len(v.in)-1]
}
func (v *told) failed(path string, err error) { v.words = append(v.words, path+": "+err.Error()) }
func (v *told) files(_ context.Context, g group) error {
	word := filepath.Join(v.in...) + ":"
	for _, e := range g.entries {
		word += " " + e.Name
	}
	v.words = append(v.words, word)
	return nil
}

func newWalker(groups int, backwards bool) *walker {
	w := &walker{groups: groups, backwards: new(atomic.Bool), log: slog.New(slog.DiscardHandler)}
	w.backwards.Store(backwards)
	return w
}

// A walk in either direction, with targets inside of targets.
func TestWalkInBothDirections(t *testing.T) {
	dir := tree(t, map[string]string{
		"s/a1": "", "s/a2": "", "s/a3": "", "s/b/f1": "", "s/b/g/x": "", "s/b/h": "", "s/c1": "", "s/d/": "",
		"s/e/deep/y": "", "s/e/z": "", "s/f": "", "t": "",
	})
	t.Chdir(dir)
	for _, tc := range []struct {
		targets           []string
		forwards, reverse []string
	}{
		{[]string{"s", "t"}, []string{
			"s: a1 a2", "s: a3", "s/b: f1", "s/b/g: x", "s/b/g/", "s/b: h", "s/b/", "s: c1", "s/d/",
			"s/e/deep: y", "s/e/deep/", "s/e: z", "s/e/", "s: f", "s/", ": t",
		}, []string{
			": t", "s: f", "s/e: z", "s/e/deep: y", "s/e/deep/", "s/e/", "s/d/",
			"s: c1", "s/b: h", "s/b/g: x", "s/b/g/", "s/b: f1", "s/b/", "s: a2 a3", "s: a1", "s/",
		}},
		{[]string{"s/b", "s/b/g/x", "s/f", "s/a2"}, []string{
			"s: a2", "s/b: f1", "s/b/g: x", "s/b/g/", "s/b: h", "s/b/", "s: f", "s/",
		}, []string{
			"s: f", "s/b: h", "s/b/g: x", "s/b/g/", "s/b: f1", "s/b/", "s: a2", "s/",
		}},
	} {
		plan, err := source.Plan(tc.targets)
		check(t, err)
		for _, backwards := range []bool{false, true} {
			want := tc.forwards
			if backwards {
				want = tc.reverse
			}
			w := newWalker(2, backwards)
			v := &told{}
			check(t, w.root(t.Context(), plan, v))
			if diff := cmp.Diff(want, v.words); diff != "" {
				t.Errorf("%q, backwards %v (-want +got):\n%s", tc.targets, backwards, diff)
			}
		}
	}
}

// What is told not to be a directory when it is entered is a file of the group beside it.
func TestNoDirectoryBackwards(t *testing.T) {
	dir := tree(t, map[string]string{"a": "", "b": "", "c": ""})
	for _, backwards := range []bool{false, true} {
		w := newWalker(10, backwards)
		at, err := w.waypoint(dir)
		check(t, err)
		v := &told{}
		check(t, w.entries(t.Context(), at, []source.Entry{{Name: "a"}, {Name: "b", Type: unix.DT_DIR}, {Name: "c"}}, v))
		at.release()
		want := []string{": a", ": b c"}
		if backwards {
			want = []string{": c", ": a b"}
		}
		if diff := cmp.Diff(want, v.words); diff != "" {
			t.Errorf("backwards %v (-want +got):\n%s", backwards, diff)
		}
	}
}

// The snapshot does not tell in which direction it was made; a parent of either kind serves both.
func TestBackwardsIsTheSameSnapshot(t *testing.T) {
	many := map[string]string{}
	for i := range 700 {
		many[fmt.Sprintf("many/%03d", i)] = fmt.Sprint(i)
		many[fmt.Sprintf("dirs/%03d/f", i)] = fmt.Sprint(i)
	}
	dir := tree(t, many)
	sourcetest.MakeZoo(t, filepath.Join(dir, "zoo"))
	t.Chdir(dir) // relative targets: the directories above would be in the snapshot, and others work in them
	targets := []string{"zoo", "many", "dirs"}
	pol, err := chunker.RandomPol()
	check(t, err)
	first := map[bool]Result{}
	for _, backwards := range []bool{false, true} {
		be := mem.New()
		_, err := repo.Init(t.Context(), be, repo.InitOptions{Password: []byte(repotest.Password), KDF: repotest.KDF, Polynomial: pol})
		check(t, err)
		r := repotest.Open(t, be)
		res := ours(t, r, Options{Targets: targets, Backwards: backwards})
		check(t, r.RefreshIndex(t.Context()))
		again := ours(t, r, Options{Targets: targets, Backwards: !backwards})
		if *again.Snapshot.Tree != *res.Snapshot.Tree || again.Summary.FilesNew+again.Summary.FilesChanged > 0 {
			t.Errorf("after one backwards=%v the other direction gives tree %s, not %s: %d new, %d changed", backwards,
				again.Snapshot.Tree.Short(), res.Snapshot.Tree.Short(), again.Summary.FilesNew, again.Summary.FilesChanged)
		}
		first[backwards] = res
	}
	a, b := first[false], first[true]
	if *a.Snapshot.Tree != *b.Snapshot.Tree || !slices.Equal(a.Snapshot.Paths, b.Snapshot.Paths) {
		t.Errorf("tree %s forwards, %s backwards", a.Snapshot.Tree.Short(), b.Snapshot.Tree.Short())
	}
	compareSummaries(t, a.Summary, b.Summary)
}

// turning visits what told does, and turns the walk after some of its words.
type turning struct {
	told
	w  *walker
	at []int
}

func (v *turning) files(ctx context.Context, g group) error {
	err := v.told.files(ctx, g)
	if slices.Contains(v.at, len(v.words)) {
		v.w.backwards.Store(!v.w.backwards.Load())
	}
	return err
}

// A walk that turns takes what is left from the other end, in each of the directories that it is in.
func TestWalkTurns(t *testing.T) {
	dir := tree(t, map[string]string{
		"s/a1": "", "s/a2": "", "s/a3": "", "s/b/f1": "", "s/b/f2": "", "s/b/f3": "", "s/b/g/x": "", "s/c1": "", "s/d/y": "", "t": "",
	})
	t.Chdir(dir)
	for _, tc := range []struct {
		targets []string
		at      []int
		want    []string
	}{
		{[]string{"s", "t"}, []int{1}, []string{
			"s: a1", "s/d: y", "s/d/", "s: c1", "s/b/g: x", "s/b/g/", "s/b: f3", "s/b: f2", "s/b: f1", "s/b/", "s: a3", "s: a2", "s/", ": t",
		}},
		{[]string{"s", "t"}, []int{4, 8}, []string{
			"s: a1", "s: a2", "s: a3", "s/b: f1", "s/b/g: x", "s/b/g/", "s/b: f3", "s/b: f2", "s/b/", "s: c1", "s/d: y", "s/d/", "s/", ": t",
		}},
	} {
		plan, err := source.Plan(tc.targets)
		check(t, err)
		w := newWalker(1, false)
		v := &turning{w: w, at: tc.at}
		check(t, w.root(t.Context(), plan, v))
		if diff := cmp.Diff(tc.want, v.words); diff != "" {
			t.Errorf("%q, turned at %v (-want +got):\n%s", tc.targets, tc.at, diff)
		}
	}
}

// turner is a Reporter that turns the walk by chance.
type turner struct {
	silent
	run *run
}

func (t turner) Done(Item) {
	if rand.IntN(20) == 0 {
		if back := rand.IntN(2) == 0; t.run.backwards.Swap(back) != back {
			t.run.jobs.turn()
		}
	}
}

// However often a walk turns, the snapshot is the same, and each file is found in its parent.
func TestTurningIsTheSameSnapshot(t *testing.T) {
	many := map[string]string{}
	for i := range 700 {
		many[fmt.Sprintf("s/many/%03d", i)] = fmt.Sprint(i)
		many[fmt.Sprintf("s/dirs/%03d/f", i)] = fmt.Sprint(i)
	}
	for i := range 30 {
		many[fmt.Sprintf("s%02d/f", i)] = fmt.Sprint(i)
	}
	dir := tree(t, many)
	sourcetest.MakeZoo(t, filepath.Join(dir, "s/zoo"))
	t.Chdir(dir)
	r, _ := repotest.New(t, 2)
	targets := []string{"s", "s/zoo"}
	for i := range 30 {
		targets = append(targets, fmt.Sprintf("s%02d", i))
	}
	want := ours(t, r, Options{Targets: targets})
	for range 10 {
		o := withDefaults(Options{Targets: targets, Parent: want.Snapshot, DryRun: true})
		a := newRun(r, &o)
		a.rep = turner{run: a}
		var sn snapshot.Snapshot
		var res Result
		deal, err := a.prepare(t.Context(), r, &o, &sn, &res)
		check(t, err)
		check(t, a.write(t.Context(), r, &o, &res, deal))
		if *a.root != *want.Snapshot.Tree {
			t.Fatalf("tree %s, want %s", a.root.Short(), want.Snapshot.Tree.Short())
		}
		a.counts.summary(&res.Summary)
		if s := &res.Summary; s.FilesNew+s.FilesChanged > 0 || s.FilesUnmodified != want.Summary.FilesNew {
			t.Fatalf("of %d files %d are new and %d changed, %d as they were", want.Summary.FilesNew, s.FilesNew, s.FilesChanged, s.FilesUnmodified)
		}
	}
}

// A first backup asks for its direction again and again, and goes that way; one with a parent does not ask.
func TestDirectionIsAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := repotest.New(t, 2)
		for _, tc := range []struct {
			first bool
			asked int
		}{{true, 9}, {false, 0}} { // after 0.03, 0.12, 0.48, 1, 2, 4, 8, 16 and 32 s
			o := withDefaults(Options{})
			a := newRun(r, &o)
			asked := 0
			direction := func(context.Context) (bool, error) {
				if asked++; asked == 4 {
					return false, errors.New("no answer")
				}
				return asked >= 3, nil
			}
			check(t, r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
				stop := a.keepDirection(ctx, w, direction, tc.first)
				a.jobs.push(filled(1))
				a.jobs.push(filled(2))
				time.Sleep(300 * time.Millisecond)
				if a.backwards.Load() {
					t.Error("backwards at once")
				}
				time.Sleep(time.Minute)
				stop()
				return nil
			}))
			if asked != tc.asked || a.backwards.Load() != tc.first {
				t.Errorf("first %v: asked %d times, backwards %v", tc.first, asked, a.backwards.Load())
			}
			if j, _ := a.jobs.pop(); (j.entries() == 2) != tc.first {
				t.Errorf("first %v: what waits begins with %d entries", tc.first, j.entries())
			}
		}
	})
}

// slowInput gives a byte after a while.
type slowInput struct{ left int }

func (s *slowInput) Read(p []byte) (int, error) {
	time.Sleep(3 * time.Second)
	if s.left == 0 {
		return 0, io.EOF
	}
	s.left--
	return 1, nil
}

// Standard input has no direction, so nobody is asked for one, which costs requests.
func TestNoDirectionOfStdin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := repotest.New(t, 2)
		_, err := Run(t.Context(), r, Options{Stdin: &slowInput{3}, Direction: func(context.Context) (bool, error) {
			t.Error("asked for a direction")
			return false, nil
		}})
		check(t, err)
	})
}
