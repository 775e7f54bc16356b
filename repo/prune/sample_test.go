package prune_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/check"
	"vitrine/repo/prune"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

// lab is a repository with some history, and what its snapshots have to hold.
type lab struct {
	t    *testing.T
	rnd  *rand.Rand
	be   *mem.Backend
	want map[blob.ID]string // by snapshot: its root tree

	files []snapshot.Node    // of the tree that is backed up
	plain map[blob.ID][]byte // their content
}

func newLab(t *testing.T, version uint, seed uint64) *lab {
	l := &lab{t: t, rnd: rand.New(rand.NewPCG(seed, 7)), be: mem.New(), want: map[blob.ID]string{}, plain: map[blob.ID][]byte{}}
	repotest.Init(t, l.be, version)
	return l
}

// clone returns a copy that can be spoiled.
func (l *lab) clone() *lab {
	c := *l
	c.be = l.be.Clone()
	return &c
}

func open(t *testing.T, be backend.Backend) *repo.Repository {
	t.Helper()
	o := repotest.Options()
	o.PackBytes = repo.MinPackBytes
	r, err := repo.Open(t.Context(), be, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// content is random bytes, or a text for every third.
func (l *lab) content() []byte {
	n := 1 + l.rnd.IntN(6000)
	if l.rnd.IntN(3) == 0 {
		return bytes.Repeat(fmt.Appendf(nil, "line %d\n", l.rnd.Uint64()), n/20+1)
	}
	return backendtest.Content(l.rnd.Uint64(), n)
}

// backup changes some files and stores them, a few in each directory, in one write scope.
func (l *lab) backup(changes int) blob.ID {
	l.t.Helper()
	r := open(l.t, l.be)
	defer r.Close()
	ctx := l.t.Context()
	var root blob.ID
	err := r.Write(ctx, func(ctx context.Context, w *repo.Writer) error {
		save := func(t blob.Type, plain []byte) blob.ID {
			saved, err := w.SaveBlob(ctx, t, plain)
			if err != nil {
				l.t.Error(err)
			}
			return saved.ID
		}
		for range changes {
			n := snapshot.Node{Name: fmt.Sprintf("f%03d", l.rnd.IntN(24)), Type: snapshot.File, Mode: 0o644, Content: []blob.ID{}}
			for range l.rnd.IntN(4) {
				plain := l.content()
				n.Size += uint64(len(plain))
				id := blob.Hash(plain)
				n.Content, l.plain[id] = append(n.Content, id), plain
			}
			l.files = slices.DeleteFunc(slices.Clone(l.files), func(f snapshot.Node) bool { return f.Name == n.Name })
			if l.rnd.IntN(4) > 0 {
				l.files = append(l.files, n)
			}
		}
		slices.SortFunc(l.files, func(a, b snapshot.Node) int { return strings.Compare(a.Name, b.Name) })
		for i := range l.files {
			for _, id := range l.files[i].Content {
				save(blob.Data, l.plain[id])
			}
		}
		tree := func(nodes []snapshot.Node) blob.ID {
			var e snapshot.TreeEncoder
			for i := range nodes {
				if err := e.Add(&nodes[i]); err != nil {
					l.t.Error(err)
				}
			}
			return save(blob.Tree, e.Finish())
		}
		var dirs []snapshot.Node
		for part := range slices.Chunk(l.files, 5) {
			sub := tree(part)
			dirs = append(dirs, snapshot.Node{Name: "d" + part[0].Name, Type: snapshot.Dir, Mode: fs.ModeDir | 0o755, Subtree: &sub})
		}
		empty := tree(nil) // does not get smaller by compressing it
		dirs = append(dirs, snapshot.Node{Name: "empty", Type: snapshot.Dir, Mode: fs.ModeDir | 0o755, Subtree: &empty})
		root = tree(dirs)
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	sn := &snapshot.Snapshot{Time: time.Unix(1e9+int64(l.rnd.IntN(1e6)), 0), Tree: &root, Paths: []string{"/"}, Hostname: "host"}
	id, err := r.SaveSnapshot(ctx, sn)
	if err != nil {
		l.t.Fatal(err)
	}
	l.want[id] = root.String()
	return id
}

// forget removes a snapshot by chance.
func (l *lab) forget() {
	l.t.Helper()
	for id := range l.want {
		if err := l.be.Remove(l.t.Context(), backend.File{Kind: backend.Snapshot, Name: id.String()}); err != nil {
			l.t.Fatal(err)
		}
		delete(l.want, id)
		return
	}
}

// tag writes a snapshot again under another name.
func (l *lab) tag() {
	l.t.Helper()
	r := open(l.t, l.be)
	defer r.Close()
	for id, root := range l.want {
		sn, err := r.LoadSnapshot(l.t.Context(), id)
		if err != nil {
			l.t.Fatal(err)
		}
		tagged := *sn
		tagged.Tags = append(slices.Clone(sn.Tags), fmt.Sprint(l.rnd.IntN(1000)))
		tagged.Original = &id
		newID, err := r.SaveSnapshot(l.t.Context(), &tagged)
		if err != nil {
			l.t.Fatal(err)
		}
		if err := r.RemoveFile(l.t.Context(), backend.Snapshot, id); err != nil {
			l.t.Fatal(err)
		}
		l.want[newID] = root
		delete(l.want, id)
		return
	}
}

// orphan leaves a pack that no index file lists, as an interrupted backup does.
func (l *lab) orphan() {
	l.t.Helper()
	before := l.names(backend.Index)
	files := l.files
	id := l.backup(5)
	l.files = files
	delete(l.want, id)
	if err := l.be.Remove(l.t.Context(), backend.File{Kind: backend.Snapshot, Name: id.String()}); err != nil {
		l.t.Fatal(err)
	}
	for _, name := range l.names(backend.Index) {
		if !slices.Contains(before, name) {
			if err := l.be.Remove(l.t.Context(), backend.File{Kind: backend.Index, Name: name}); err != nil {
				l.t.Fatal(err)
			}
		}
	}
}

func (l *lab) names(kind backend.Kind) []string {
	l.t.Helper()
	var names []string
	err := l.be.List(l.t.Context(), kind, func(info backend.Info) error {
		names = append(names, info.Name)
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// silent is a Reporter that looks whether progress makes sense.
type silent struct{ t *testing.T }

func (s silent) Progress(phase prune.Phase, done, total int64) {
	if total > 0 && done > total {
		s.t.Errorf("phase %d: %d of %d", phase, done, total)
	}
}

var defaults = prune.Options{MaxUnused: prune.Percent(5), MaxRepackBytes: prune.NoLimit}

// prune plans and executes over be, which leads to the store of the lab.
func (l *lab) prune(be backend.Backend, o prune.Options) (*prune.Plan, error) {
	r, err := repo.Open(l.t.Context(), be, repo.Options{Password: []byte(repotest.Password), PackBytes: repo.MinPackBytes}) // needs no index
	if err != nil {
		return nil, err
	}
	defer r.Close()
	p, err := prune.MakePlan(l.t.Context(), r, o, silent{l.t})
	if err != nil {
		return nil, err
	}
	return p, p.Execute(l.t.Context(), silent{l.t})
}

func (l *lab) mustPrune(o prune.Options) *prune.Plan {
	l.t.Helper()
	p, err := l.prune(l.be, o)
	if err != nil {
		l.t.Fatal(err)
	}
	return p
}

// found collects what a check says.
type found struct{ errors, hints []string }

func (f *found) Error(err error)                  { f.errors = append(f.errors, err.Error()) }
func (f *found) Hint(message string)              { f.hints = append(f.hints, message) }
func (*found) Progress(_ check.Phase, _, _ int64) {}
func (f *found) is(words string) bool             { return len(f.errors) == 0 && !f.has(words) }
func (f *found) has(words string) bool            { return strings.Contains(strings.Join(f.hints, "\n"), words) }

// check reads the whole repository and compares the snapshots with what they have to be.
func (l *lab) check() (check.Result, *found) {
	l.t.Helper()
	r := open(l.t, l.be)
	defer r.Close()
	f := &found{}
	res, err := check.Run(l.t.Context(), r, check.Options{ReadData: true, Unused: true}, f)
	if err != nil || len(f.errors) > 0 {
		l.t.Fatalf("check: %v, %q", err, f.errors)
	}
	sns, err := r.Snapshots(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	got := map[blob.ID]string{}
	for _, sn := range sns {
		got[sn.ID] = sn.Tree.String()
	}
	for id, root := range l.want {
		if got[id] != root {
			l.t.Fatalf("snapshot %s has the root tree %q, want %s", id.Short(), got[id], root)
		}
	}
	if len(got) != len(l.want) {
		l.t.Fatalf("%d snapshots, want %d", len(got), len(l.want))
	}
	return res, f
}

// wantPruned checks what has to be after a prune with so many percent allowed.
func (l *lab) wantPruned(percent float64) {
	l.t.Helper()
	res, f := l.check()
	if !f.is("in no index") || !f.is("together") {
		l.t.Errorf("after prune: %q", f.hints)
	}
	if allowed := percent / 100 * float64(res.PackBytes); float64(res.UnusedBytes) > allowed {
		l.t.Errorf("%d of %d bytes are unused, more than %v %%", res.UnusedBytes, res.PackBytes, percent)
	}
	if percent == 0 && res.DuplicateBlobs > 0 {
		l.t.Errorf("%d blobs are there twice", res.DuplicateBlobs)
	}
}

// wantNothingLeft prunes until there is nothing to do. When small packs are repacked, those that are left of the
// others may make it ten once more.
func (l *lab) wantNothingLeft(o prune.Options) {
	l.t.Helper()
	p := l.mustPrune(o)
	if !p.Nothing() && o.Small {
		p = l.mustPrune(o)
	}
	if !p.Nothing() {
		l.t.Fatalf("another prune finds something to do: %+v", p.Stats)
	}
}
