package accept

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"vitrine/repo"
	"vitrine/repo/archive"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/local"
	"vitrine/repo/backend/local/localtest"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/check"
	"vitrine/repo/lock"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
	"vitrine/repo/source/sourcetest"
)

// backup runs a whole locked backup of dir, as the command does, and returns its snapshot.
func backup(ctx context.Context, be backend.Backend, dir string) (id blob.ID, err error) {
	o := repotest.Options()
	o.PackBytes = repo.MinPackBytes // more packs to fail at
	r, err := repo.Open(ctx, be, o)
	if err != nil {
		return blob.ID{}, err
	}
	defer r.Close()
	ctx, held, err := lock.Acquire(ctx, r, lock.Options{})
	if err != nil {
		return blob.ID{}, err
	}
	defer held.Release() // a lock that could not be removed is the next test of unlock
	result, err := archive.Run(ctx, r, archive.Options{Targets: []string{dir}, Host: "host", NoScan: true})
	if err != nil {
		return blob.ID{}, err
	}
	if result.Errors > 0 {
		return blob.ID{}, fmt.Errorf("%d source errors", result.Errors)
	}
	if result.Snapshot == nil {
		return blob.ID{}, errors.New("no snapshot and no error")
	}
	return result.Snapshot.ID, nil
}

// complaints collects what check finds.
type complaints struct{ errs []error }

func (c *complaints) Error(err error)                    { c.errs = append(c.errs, err) }
func (c *complaints) Hint(string)                        {}
func (c *complaints) Progress(check.Phase, int64, int64) {}

// spareReaders holds *reader, so that the many inspections do not each make their buffers.
var spareReaders = sync.Pool{New: func() any { return new(reader) }}

// inspect checks the repository byte by byte and returns the files of each snapshot.
func inspect(ctx context.Context, be backend.Backend) (map[blob.ID]map[string]blob.ID, error) {
	r, err := repo.Open(ctx, be, repotest.Options())
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if _, err := lock.Unlock(ctx, r, true, nil); err != nil {
		return nil, fmt.Errorf("unlock: %w", err)
	}
	var found complaints
	if _, err := check.Run(ctx, r, check.Options{ReadData: true}, &found); err != nil {
		return nil, err
	}
	if err := errors.Join(found.errs...); err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	sns, err := r.Snapshots(ctx)
	if err != nil {
		return nil, err
	}
	all := make(map[blob.ID]map[string]blob.ID)
	files := spareReaders.Get().(*reader)
	defer spareReaders.Put(files)
	files.r = r
	for _, sn := range sns {
		files.found = make(map[string]blob.ID)
		if err := files.read(ctx, *sn.Tree, ""); err != nil {
			return nil, err
		}
		all[sn.ID] = files.found
	}
	return all, nil
}

// reader restores files into their hashes. It keeps one buffer for all of them, because new memory
// is what costs most under the race detector.
type reader struct {
	r       *repo.Repository
	found   map[string]blob.ID // by path
	content []byte             // of one file
	chunk   []byte
}

// read restores every file below a tree.
func (f *reader) read(ctx context.Context, tree blob.ID, dir string) error {
	nodes, err := f.r.LoadTree(ctx, tree)
	if err != nil {
		return err
	}
	for _, n := range nodes {
		path := dir + "/" + n.Name
		f.content = f.content[:0]
		switch n.Type {
		case snapshot.Dir:
			if err := f.read(ctx, *n.Subtree, path); err != nil {
				return err
			}
		case snapshot.File:
			for _, id := range n.Content {
				if f.chunk, err = f.r.ReadBlob(ctx, blob.Handle{Type: blob.Data, ID: id}, f.chunk); err != nil {
					return err
				}
				f.content = append(f.content, f.chunk...)
			}
		}
		f.content = fmt.Appendf(f.content, "|%v %v", n.Type, n.Mode)
		f.found[path] = blob.Hash(f.content)
	}
	return nil
}

// twoStates makes a directory, calls first, changes the directory, and returns it.
func twoStates(t *testing.T, first func(dir string)) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "source")
	write := func(name string, content []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// In both forms the first backup has a file of several chunks, and the second one makes two
	// packs of data, so the calls that can fail are the same.
	big, added := 3<<20, 6<<20
	if !long {
		big, added = 5<<18, repo.MinPackBytes+9<<16
	}
	for i := range 12 {
		write(fmt.Sprintf("d%d/f%d", i%3, i), sourcetest.Noise(uint64(i), 5000*i))
	}
	write("big", sourcetest.Noise(99, big))
	first(dir)
	write("d1/f1", []byte("changed"))
	write("d4/new", sourcetest.Noise(100, added))
	return dir
}

// sampled returns where to begin and how far to go on in a test of each call. Under the race detector,
// where new memory costs ten times as much, it is one call in four, and others in the next run; scripts/test
// goes through all of them without it.
func sampled(t *testing.T) (first, step int) {
	t.Helper()
	if !raceDetector || long {
		return 0, 1
	}
	step = 4
	first = rand.IntN(step)
	t.Logf("every fourth call, from call %d", first)
	return first, step
}

// TestFaultAtEachBackendCall fails call i of a backup, for every i and in every way. Whatever
// the backup said, the repository then checks clean, the earlier snapshot restores, and a
// snapshot that was reported is there; nothing half made is visible.
func TestFaultAtEachBackendCall(t *testing.T) {
	store := mem.New()
	repotest.Init(t, store, 2)
	var earlier blob.ID
	dir := twoStates(t, func(dir string) {
		var err error
		if earlier, err = backup(t.Context(), store, dir); err != nil {
			t.Fatal(err)
		}
	})
	want, err := inspect(t.Context(), store)
	if err != nil || len(want) != 1 {
		t.Fatal(len(want), err)
	}
	plans := map[string]func(n int) fault.Plan{
		"once before":   func(n int) fault.Plan { return fault.Nth(n, fault.Before) },
		"once after":    func(n int) fault.Plan { return fault.Nth(n, fault.After) },
		"once short":    func(n int) fault.Plan { return fault.Nth(n, fault.Short) },
		"once corrupt":  func(n int) fault.Plan { return fault.Nth(n, fault.Corrupt) },
		"for good":      func(n int) fault.Plan { return fault.From(n, fault.Before) },
		"for good late": func(n int) fault.Plan { return fault.From(n, fault.After) },
	}
	for name, plan := range plans {
		t.Run(name, func(t *testing.T) {
			var done atomic.Bool
			var failed, calls atomic.Int64
			var group errgroup.Group
			group.SetLimit(8) // most of the time goes by in the waits of the lock protocol
			first, step := sampled(t)
			for n := first; !done.Load(); n += step {
				group.Go(func() error {
					honest := store.Clone()
					be := fault.New(honest, plan(n))
					reported, backupErr := backup(t.Context(), be, dir)
					if be.Calls() <= n {
						done.Store(true)
						if backupErr != nil {
							return fmt.Errorf("without a fault: %w", backupErr)
						}
					}
					if backupErr != nil {
						failed.Add(1)
					}
					calls.Store(max(calls.Load(), int64(n)))
					got, err := inspect(t.Context(), honest)
					if err != nil {
						return fmt.Errorf("call %d of %v, backup said %v: %w", n, be.Trace(), backupErr, err)
					}
					if !maps.Equal(got[earlier], want[earlier]) {
						return fmt.Errorf("call %d: the earlier snapshot changed", n)
					}
					if backupErr == nil && len(got[reported]) <= len(want[earlier]) {
						return fmt.Errorf("call %d: the reported snapshot %s is not whole", n, reported.Short())
					}
					return nil
				})
			}
			if err := group.Wait(); err != nil {
				t.Error(err)
			}
			if calls.Load() < 10 || failed.Load() == 0 && name != "once corrupt" {
				t.Errorf("%d calls, %d failed backups: the faults did not reach the backup", calls.Load(), failed.Load())
			}
		})
	}
}

// TestPowerLossAtEachDiskCall cuts the power behind each call to the disk of two backups,
// keeping only what was synced, or mixtures. A snapshot reported before the cut is there and
// whole, and the repository checks clean.
func TestPowerLossAtEachDiskCall(t *testing.T) {
	disk := localtest.NewCrashFS()
	be, err := local.CreateFS(disk, "/repo")
	if err != nil {
		t.Fatal(err)
	}
	repotest.Init(t, be, 2)
	start := disk.Ops()
	type promise struct {
		id    blob.ID
		op    int
		files map[string]blob.ID
	}
	var promises []promise
	run := func(dir string) {
		t.Helper()
		id, err := backup(t.Context(), be, dir)
		if err != nil {
			t.Fatal(err)
		}
		promises = append(promises, promise{id: id, op: disk.Ops()})
	}
	run(twoStates(t, run))
	end := disk.Ops() // inspect removes locks
	for i := range promises {
		files, err := inspect(t.Context(), be)
		if err != nil {
			t.Fatal(err)
		}
		promises[i].files = files[promises[i].id]
	}
	if end-start < 40 {
		t.Fatalf("only %d calls to the disk", end-start)
	}
	var group errgroup.Group
	group.SetLimit(2)
	first, step := sampled(t)
	for n := start + first; n <= end; n += step {
		for _, loss := range localtest.Losses {
			group.Go(func() error {
				be, err := local.OpenFS(disk.After(n, loss), "/repo")
				if err != nil {
					return fmt.Errorf("call %d, %v: %w", n, loss, err)
				}
				got, err := inspect(t.Context(), be)
				if err != nil {
					return fmt.Errorf("call %d, %v: %w", n, loss, err)
				}
				for _, p := range promises {
					if files, ok := got[p.id]; p.op <= n && !ok || ok && !maps.Equal(files, p.files) {
						return fmt.Errorf("call %d, %v: snapshot %s, promised at call %d, is not whole", n, loss, p.id.Short(), p.op)
					}
				}
				return nil
			})
		}
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}
