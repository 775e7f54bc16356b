package archive

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/repo"
	"vitrine/repo/backend/mem"
	"vitrine/repo/chunker"
	"vitrine/repo/repotest"
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
			w := &walker{groups: 2, backwards: backwards, log: slog.New(slog.DiscardHandler)}
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
		w := &walker{groups: 10, backwards: backwards, log: slog.New(slog.DiscardHandler)}
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
