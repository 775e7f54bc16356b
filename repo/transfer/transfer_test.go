package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/check"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
	"vitrine/repo/transfer"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// open opens a repository with small packs; o may change the options.
func open(t *testing.T, be backend.Backend, change func(*repo.Options)) *repo.Repository {
	t.Helper()
	o := repotest.Options()
	o.PackBytes = repo.MinPackBytes
	if change != nil {
		change(&o)
	}
	r, err := repo.Open(t.Context(), be, o)
	must(t, err)
	t.Cleanup(func() { r.Close() })
	return r
}

// backup stores a snapshot of directories with so many files, some of them those of other seeds.
func backup(t *testing.T, r *repo.Repository, day, files int) *snapshot.Snapshot {
	t.Helper()
	var root blob.ID
	must(t, r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		save := func(typ blob.Type, plain []byte) blob.ID {
			saved, err := w.SaveBlob(ctx, typ, plain)
			must(t, err)
			return saved.ID
		}
		tree := func(nodes []snapshot.Node) blob.ID {
			var e snapshot.TreeEncoder
			for i := range nodes {
				must(t, e.Add(&nodes[i]))
			}
			return save(blob.Tree, e.Finish())
		}
		var dirs []snapshot.Node
		for d := range 4 {
			var nodes []snapshot.Node
			for i := range files {
				seed := uint64(i + 100*d)
				if i == day {
					seed += 1000 * uint64(day+1)
				}
				n := snapshot.Node{Name: fmt.Sprintf("f%03d", i), Type: snapshot.File, Mode: 0o644, Content: []blob.ID{}}
				content := backendtest.Content(seed, 2000+rand.New(rand.NewPCG(seed, 1)).IntN(30_000))
				if i%2 == 0 {
					content = bytes.Repeat(content[:100], 100)
				}
				n.Content = append(n.Content, save(blob.Data, content), save(blob.Data, content[:10]))
				n.Size = uint64(len(content) + 10)
				nodes = append(nodes, n)
			}
			sub := tree(nodes)
			dirs = append(dirs, snapshot.Node{Name: fmt.Sprint("d", d), Type: snapshot.Dir, Mode: fs.ModeDir | 0o755, Subtree: &sub})
		}
		root = tree(dirs)
		return nil
	}))
	sn := &snapshot.Snapshot{
		Time: time.Unix(1e9+int64(day)*86400, 5), Tree: &root, Paths: []string{"/a", "/b"}, Hostname: "host",
		Username: "me", Tags: []string{"x"}, Parent: &root, ProgramVersion: "someone 1",
	}
	_, err := r.SaveSnapshot(t.Context(), sn)
	must(t, err)
	return sn
}

// log is a Reporter.
type log struct {
	skipped, begun, saved, failed []blob.ID
	errs                          []error
	done, total                   int64
}

func (l *log) Skipped(sn, _ *snapshot.Snapshot)       { l.skipped = append(l.skipped, sn.ID) }
func (l *log) Begin(sn *snapshot.Snapshot)            { l.begun = append(l.begun, sn.ID) }
func (l *log) Trees(int64)                            {}
func (l *log) Copying(done, total int64)              { l.done, l.total = done, total }
func (l *log) Saved(sn *snapshot.Snapshot, _ blob.ID) { l.saved = append(l.saved, sn.ID) }
func (l *log) Failed(sn *snapshot.Snapshot, err error) {
	l.failed, l.errs = append(l.failed, sn.ID), append(l.errs, err)
}
func (l *log) Error(err error)                    { l.errs = append(l.errs, err) }
func (l *log) Hint(string)                        {}
func (l *log) Progress(_ check.Phase, _, _ int64) {}

// checked reads the whole repository and returns its snapshots.
func checked(t *testing.T, be backend.Backend) (sns []*snapshot.Snapshot, res check.Result) {
	t.Helper()
	r := open(t, be, nil)
	l := &log{}
	res, err := check.Run(t.Context(), r, check.Options{ReadData: true, Unused: true}, l)
	if err != nil || len(l.errs) > 0 {
		t.Fatalf("check: %v, %v", err, l.errs)
	}
	sns, err = r.Snapshots(t.Context())
	must(t, err)
	return sns, res
}

// run copies all snapshots of src in the order of their times.
func run(t *testing.T, src, dst *repo.Repository, o transfer.Options) (*log, transfer.Stats, error) {
	t.Helper()
	sns, err := src.Snapshots(t.Context())
	must(t, err)
	o.Snapshots = sns
	l := &log{}
	stats, err := transfer.Run(t.Context(), src, dst, o, l)
	return l, stats, err
}

// source makes a repository with three snapshots.
func source(t *testing.T, version uint) *mem.Backend {
	be := mem.New()
	repotest.Init(t, be, version)
	r := open(t, be, nil)
	for day := range 3 {
		backup(t, r, day, 4)
	}
	return be
}

// TestVersions copies between all versions and levels, a second time, and in batches.
func TestVersions(t *testing.T) {
	for _, from := range []uint{1, 2} {
		for _, to := range []uint{1, 2} {
			for _, level := range []string{"auto", "off", "max"} {
				for _, batch := range []int{0, 1} {
					t.Run(fmt.Sprint("v", from, " to v", to, " ", level, " ", batch), func(t *testing.T) {
						srcBE, dstBE := source(t, from), mem.New()
						repotest.Init(t, dstBE, to)
						src, dst := open(t, srcBE, nil), open(t, dstBE, func(o *repo.Options) { o.Compression = level })
						l, stats, err := run(t, src, dst, transfer.Options{BatchBlobs: batch, Recompress: level == "max"})
						must(t, err)
						if stats.Saved != 3 || stats.Skipped != 0 || stats.Failed != 0 || l.done != l.total || len(l.saved) != 3 {
							t.Errorf("%+v, %+v", stats, l)
						}
						copies, res := checked(t, dstBE)
						sns, srcRes := checked(t, srcBE)
						if res.UnusedBlobs != 0 || res.DuplicateBlobs != 0 || res.DataBlobs != srcRes.DataBlobs || res.TreeBlobs != srcRes.TreeBlobs || int64(stats.Blobs) != int64(res.DataBlobs)+int64(res.TreeBlobs) {
							t.Errorf("%+v, source %+v, %+v", res, srcRes, stats)
						}
						for i, sn := range sns {
							want := *sn
							want.ID, want.Parent, want.Original = copies[i].ID, nil, &sn.ID
							if diff := cmp.Diff(&want, copies[i]); diff != "" {
								t.Errorf("snapshot %d: -want +got:\n%s", i, diff)
							}
						}
						l, stats, err = run(t, src, dst, transfer.Options{})
						must(t, err)
						if stats.Skipped != 3 || stats.Blobs != 0 || stats.Saved != 0 || len(l.begun) != 0 {
							t.Errorf("again: %+v", stats)
						}
						// Copies of copies are known by the original, also where it came from.
						_, stats, err = run(t, dst, src, transfer.Options{})
						must(t, err)
						if stats.Skipped != 3 || stats.Saved != 0 {
							t.Errorf("back: %+v", stats)
						}
					})
				}
			}
		}
	}
}

// TestReads: packs are read once, in order, and what the destination has is not read.
func TestReads(t *testing.T) {
	srcBE, dstBE := mem.New(), mem.New()
	repotest.Init(t, srcBE, 2)
	repotest.Init(t, dstBE, 2)
	r := open(t, srcBE, nil)
	for day := range 3 {
		backup(t, r, day, 200) // several packs
	}
	first := open(t, dstBE, nil)
	backup(t, first, 0, 200) // as if it were backed up there, too
	counted := fault.New(srcBE, nil)
	src := open(t, counted, nil)
	trees := make(map[string]bool)
	infos, err := src.ListFiles(t.Context(), backend.Pack)
	must(t, err)
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		must(t, err)
		entries, err := src.ListPack(t.Context(), id, info.SizeBytes)
		must(t, err)
		trees[info.Name] = entries[0].Type == blob.Tree
	}
	reads := func(from int) (n int, order []string) {
		for _, c := range counted.Trace()[from:] {
			if c.Op == fault.ReadAt && c.File.Kind == backend.Pack && !trees[c.File.Name] {
				n++
				if !slices.Contains(order, c.File.Name) {
					order = append(order, c.File.Name)
				}
			}
		}
		return n, order
	}
	dst := open(t, dstBE, nil)
	before := counted.Calls()
	_, stats, err := run(t, src, dst, transfer.Options{})
	must(t, err)
	// Of the first day all data is there; four files of each other day are new.
	if n, _ := reads(before); stats.Saved != 3 || n == 0 || n > 8 {
		t.Errorf("%d reads, %+v", n, stats)
	}
	empty := mem.New()
	repotest.Init(t, empty, 2)
	before = counted.Calls()
	_, stats, err = run(t, src, open(t, empty, nil), transfer.Options{})
	must(t, err)
	n, order := reads(before)
	if want := int(stats.ReadBytes/(4<<20)) + 2*len(order); len(order) < 3 || n > want {
		t.Errorf("%d reads of %d packs, want at most %d for %d bytes", n, len(order), want, stats.ReadBytes)
	}
	checked(t, dstBE)
	checked(t, empty)
}

// TestFaults fails each call of one store in turn: what snapshots there are is whole, and the next copy finishes.
func TestFaults(t *testing.T) {
	srcBE := source(t, 2)
	plans := map[string]func(i int) fault.Plan{
		"not done":        func(i int) fault.Plan { return fault.Nth(i, fault.Before) },
		"done":            func(i int) fault.Plan { return fault.Nth(i, fault.After) },
		"half":            func(i int) fault.Plan { return fault.Nth(i, fault.Short) },
		"corrupt":         func(i int) fault.Plan { return fault.Nth(i, fault.Corrupt) },
		"all from one on": func(i int) fault.Plan { return fault.From(i, fault.Before) },
	}
	// Each where it makes a difference.
	for where, names := range map[string][]string{
		"source":      {"not done", "half", "corrupt"},
		"destination": {"not done", "done", "all from one on"},
	} {
		for _, name := range names {
			plan := plans[name]
			t.Run(where+" "+name, func(t *testing.T) {
				t.Parallel()
				for i := 0; ; i++ {
					dstBE := mem.New()
					repotest.Init(t, dstBE, 2)
					var from, to backend.Backend = srcBE, dstBE
					be := fault.New(srcBE, nil)
					if where == "destination" {
						be = fault.New(dstBE, nil)
						to = be
					} else {
						from = be
					}
					src, dst := open(t, from, nil), open(t, to, nil)
					sns, err := src.Snapshots(t.Context())
					must(t, err)
					offset := be.Calls()
					be.SetPlan(plan(offset + i))
					stats, err := transfer.Run(t.Context(), src, dst, transfer.Options{Snapshots: sns, BatchBlobs: 1}, &log{})
					calls := be.Calls() - offset
					be.SetPlan(nil)
					there, _ := checked(t, dstBE)
					if len(there) < stats.Saved {
						t.Fatalf("call %d: %d snapshots, %d saved", i, len(there), stats.Saved)
					}
					if _, again, err := run(t, open(t, srcBE, nil), open(t, dstBE, nil), transfer.Options{}); err != nil || again.Failed > 0 {
						t.Fatalf("call %d: again: %v, %+v", i, err, again)
					}
					if there, _ = checked(t, dstBE); len(there) != 3 {
						t.Fatalf("call %d: %d snapshots", i, len(there))
					}
					if calls <= i {
						if err != nil || stats.Saved != 3 || i < 10 {
							t.Fatalf("%d calls, error %v, %+v", calls, err, stats)
						}
						return
					}
				}
			})
		}
	}
}

// TestLost damages and removes packs of the source: snapshots that need them are not written, the others are.
func TestLost(t *testing.T) {
	for _, typ := range []blob.Type{blob.Data, blob.Tree} {
		for _, how := range []string{"damaged", "gone", "unlisted"} {
			for _, batch := range []int{0, 1} {
				t.Run(fmt.Sprint(typ, " ", how, " ", batch), func(t *testing.T) {
					srcBE, dstBE := mem.New(), mem.New()
					repotest.Init(t, srcBE, 2)
					repotest.Init(t, dstBE, 2)
					writer := open(t, srcBE, nil)
					whole := backup(t, writer, 0, 8)
					packs := map[string]bool{}
					infos, err := writer.ListFiles(t.Context(), backend.Pack)
					must(t, err)
					for _, info := range infos {
						packs[info.Name] = true
					}
					index, err := writer.ListFiles(t.Context(), backend.Index)
					must(t, err)
					spoiled := backup(t, writer, 1, 8)
					// Another one that has nothing of its own shares what is lost.
					twin := *spoiled
					twin.Time = twin.Time.Add(time.Hour)
					_, err = writer.SaveSnapshot(t.Context(), &twin)
					must(t, err)
					spoil(t, writer, srcBE, packs, index[0].Name, typ, how)

					l, stats, err := run(t, open(t, srcBE, nil), open(t, dstBE, nil), transfer.Options{BatchBlobs: batch})
					must(t, err)
					if stats.Saved != 1 || stats.Failed != 2 || !cmp.Equal(l.saved, []blob.ID{whole.ID}) || !cmp.Equal(l.failed, []blob.ID{spoiled.ID, twin.ID}) {
						t.Errorf("%+v, saved %v, failed %v", stats, l.saved, l.failed)
					}
					for _, err := range l.errs {
						if !repo.IsLost(err) && !errors.Is(err, repo.ErrBlobMissing) {
							t.Errorf("error %v", err)
						}
					}
					if sns, _ := checked(t, dstBE); len(sns) != 1 {
						t.Errorf("%d snapshots", len(sns))
					}
				})
			}
		}
	}
}

// spoil damages the pack of a type that is not among those given, or its index.
func spoil(t *testing.T, r *repo.Repository, be *mem.Backend, old map[string]bool, oldIndex string, typ blob.Type, how string) {
	t.Helper()
	if how == "unlisted" {
		infos, err := r.ListFiles(t.Context(), backend.Index)
		must(t, err)
		for _, info := range infos {
			if info.Name != oldIndex {
				must(t, be.Remove(t.Context(), backend.File{Kind: backend.Index, Name: info.Name}))
			}
		}
		return
	}
	infos, err := r.ListFiles(t.Context(), backend.Pack)
	must(t, err)
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		must(t, err)
		entries, err := r.ListPack(t.Context(), id, info.SizeBytes)
		must(t, err)
		if old[info.Name] || entries[0].Type != typ {
			continue
		}
		f := backend.File{Kind: backend.Pack, Name: info.Name}
		content, err := be.ReadAll(t.Context(), f, info.SizeBytes)
		must(t, err)
		must(t, be.Remove(t.Context(), f))
		if how == "damaged" {
			for i := range entries {
				content[entries[i].OffsetBytes+20] ^= 1
			}
			must(t, be.Save(t.Context(), f, content))
		}
	}
}

// TestSame: a snapshot that was changed since is another one.
func TestSame(t *testing.T) {
	other := blob.Hash(nil)
	for name, change := range map[string]func(*snapshot.Snapshot){
		"tags":   func(sn *snapshot.Snapshot) { sn.Tags = []string{"x", "y"} },
		"paths":  func(sn *snapshot.Snapshot) { sn.Paths = []string{"/a"} },
		"host":   func(sn *snapshot.Snapshot) { sn.Hostname = "other" },
		"user":   func(sn *snapshot.Snapshot) { sn.Username = "other" },
		"time":   func(sn *snapshot.Snapshot) { sn.Time = sn.Time.Add(1) },
		"uid":    func(sn *snapshot.Snapshot) { sn.UID = 7 },
		"except": func(sn *snapshot.Snapshot) { sn.Excludes = []string{"*.o"} },
		"": func(sn *snapshot.Snapshot) {
			sn.Parent = &other
			sn.Paths = []string{"/b", "/a"}
			sn.Time = sn.Time.UTC()
		},
	} {
		srcBE, dstBE := source(t, 2), mem.New()
		repotest.Init(t, dstBE, 2)
		src, dst := open(t, srcBE, nil), open(t, dstBE, nil)
		_, _, err := run(t, src, dst, transfer.Options{})
		must(t, err)
		sns, err := src.Snapshots(t.Context())
		must(t, err)
		changed := *sns[0]
		changed.Original = &sns[0].ID
		change(&changed)
		_, err = src.SaveSnapshot(t.Context(), &changed)
		must(t, err)
		_, stats, err := run(t, src, dst, transfer.Options{})
		must(t, err)
		want := transfer.Stats{Saved: 1, Skipped: 3}
		if name == "" {
			want = transfer.Stats{Skipped: 4}
		}
		if diff := cmp.Diff(want, stats); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
}

// TestMissing: of a snapshot whose parts are not all there nothing counts as looked at, so another one that shares the parts is not
// copied either.
func TestMissing(t *testing.T) {
	nowhere := blob.Hash([]byte("nowhere"))
	for name, node := range map[string]snapshot.Node{
		"data": {Name: "z", Type: snapshot.File, Content: []blob.ID{nowhere}},
		"tree": {Name: "z", Type: snapshot.Dir, Subtree: &nowhere},
	} {
		t.Run(name, func(t *testing.T) {
			srcBE, dstBE := mem.New(), mem.New()
			repotest.Init(t, srcBE, 2)
			repotest.Init(t, dstBE, 2)
			src := open(t, srcBE, nil)
			whole := backup(t, src, 0, 4)
			var root blob.ID
			must(t, src.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
				var e snapshot.TreeEncoder
				must(t, e.Add(&snapshot.Node{Name: "a", Type: snapshot.Dir, Subtree: whole.Tree}))
				must(t, e.Add(&node))
				saved, err := w.SaveBlob(ctx, blob.Tree, e.Finish())
				root = saved.ID
				return err
			}))
			for hour := range 2 {
				sn := &snapshot.Snapshot{Time: whole.Time.Add(-time.Duration(1+hour) * time.Hour), Tree: &root, Paths: []string{"/"}}
				_, err := src.SaveSnapshot(t.Context(), sn)
				must(t, err)
			}
			l, stats, err := run(t, src, open(t, dstBE, nil), transfer.Options{})
			must(t, err)
			if stats.Saved != 1 || stats.Failed != 2 || !cmp.Equal(l.saved, []blob.ID{whole.ID}) {
				t.Errorf("%+v, saved %v", stats, l.saved)
			}
			if _, res := checked(t, dstBE); res.UnusedBlobs != 0 {
				t.Errorf("%d blobs were copied in vain", res.UnusedBlobs)
			}
		})
	}
}
