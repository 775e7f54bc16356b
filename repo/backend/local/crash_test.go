package local_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/local"
	"vitrine/repo/backend/local/localtest"
)

const crashRoot = "/srv/repo"

func createOn(t *testing.T, disk *localtest.CrashFS) *local.Backend {
	t.Helper()
	be, err := local.CreateFS(disk, crashRoot)
	if err != nil {
		t.Fatal(err)
	}
	return be
}

// calls returns the calls on the disk since the given one, without what is random in names.
func calls(disk *localtest.CrashFS, since int) []string {
	var list []string
	for _, op := range disk.Trace()[since:] {
		for _, name := range []*string{&op.Name, &op.To} {
			*name = strings.TrimPrefix(*name, crashRoot+"/")
			if base, _, isTemp := strings.Cut(*name, "-tmp-"); isTemp {
				*name = base + "-tmp-*"
			}
		}
		list = append(list, op.String())
	}
	return list
}

// TestOrderOfCalls holds the package documentation to its word.
func TestOrderOfCalls(t *testing.T) {
	disk := localtest.NewCrashFS()
	be := createOn(t, disk)
	content := backendtest.Content(1, 5<<20)
	f := backendtest.FileOf(backend.Pack, content)
	name, dir := f.Path(), filepath.Dir(f.Path())

	start := disk.Ops()
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	want := []string{"create " + name + "-tmp-*", "write " + name + "-tmp-*", "write " + name + "-tmp-*",
		"sync " + name + "-tmp-*", "close " + name + "-tmp-*", "rename " + name + "-tmp-* " + name, "syncdir " + dir}
	if diff := cmp.Diff(want, calls(disk, start)); diff != "" {
		t.Errorf("Save, -want +got:\n%s", diff)
	}

	for _, kind := range backend.Kinds {
		f := backendtest.FileOf(kind, []byte("x"))
		if err := be.Save(t.Context(), f, []byte("x")); err != nil {
			t.Fatal(err)
		}
		start = disk.Ops()
		if err := be.Remove(t.Context(), f); err != nil {
			t.Fatal(err)
		}
		want := []string{"remove " + f.Path()}
		if kind != backend.Pack && kind != backend.Lock {
			want = append(want, "syncdir "+strings.TrimPrefix(filepath.Dir("/"+f.Path()), "/"))
		}
		if kind == backend.Config {
			want[1] = "syncdir " + crashRoot
		}
		if diff := cmp.Diff(want, calls(disk, start)); diff != "" {
			t.Errorf("Remove %v, -want +got:\n%s", kind, diff)
		}
	}
}

// promise is a file that must be found after a power loss at or behind call from.
type promise struct {
	f       backend.File
	content []byte
	from    int
}

// work saves files in parallel, also into directories that are missing, and returns the
// promises that Save made.
func work(t *testing.T, disk *localtest.CrashFS) []promise {
	t.Helper()
	be := createOn(t, disk)
	if err := disk.Remove(crashRoot + "/locks"); err != nil {
		t.Fatal(err)
	}
	for i := range 256 {
		if i%2 == 0 {
			if err := disk.Remove(fmt.Sprintf("%s/data/%02x", crashRoot, i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	var mu sync.Mutex
	var promises []promise
	save := func(f backend.File, content []byte) {
		if err := be.Save(t.Context(), f, content); err != nil {
			t.Error(err)
			return
		}
		from := disk.Ops()
		mu.Lock()
		defer mu.Unlock()
		promises = append(promises, promise{f, content, from})
	}
	save(backend.File{}, []byte("config"))
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			for i := range 12 {
				content := backendtest.Content(uint64(100*w+i), 3000)
				kind := backend.Kinds[1+i%5]
				save(backendtest.FileOf(kind, content), content)
			}
		})
	}
	group.Wait()
	return promises
}

// broken returns what a power loss has left of the promises, nil when all is well: every file that was
// promised is whole, and no file is there in part.
func broken(t *testing.T, disk *localtest.CrashFS, n int, promises []promise) error {
	contents := map[backend.File][]byte{}
	for _, p := range promises {
		contents[p.f] = p.content
	}
	be, err := local.OpenFS(disk, crashRoot)
	if err != nil {
		for _, p := range promises {
			if p.from <= n {
				return fmt.Errorf("%v was promised: %w", p.f, err)
			}
		}
		return nil // Create had not ended
	}
	for _, p := range promises {
		if p.from > n {
			continue
		}
		got, err := be.ReadAll(t.Context(), p.f, 1<<30)
		if err != nil {
			return fmt.Errorf("promised: %w", err)
		}
		if !bytes.Equal(got, p.content) {
			return fmt.Errorf("promised file %v is damaged", p.f)
		}
	}
	for _, kind := range backend.Kinds {
		err := be.List(t.Context(), kind, func(info backend.Info) error {
			f := backend.File{Kind: kind, Name: info.Name}
			got, err := be.ReadAll(t.Context(), f, 1<<30)
			if err == nil && !bytes.Equal(got, contents[f]) {
				err = fmt.Errorf("%v has its final name and %d of %d bytes, or wrong ones", f, len(got), len(contents[f]))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func TestPowerLoss(t *testing.T) {
	disk := localtest.NewCrashFS()
	promises := work(t, disk)
	if len(promises) != 49 {
		t.Fatalf("%d promises, want 49", len(promises))
	}
	firstSave := slices.IndexFunc(disk.Trace(), func(op localtest.Op) bool { return op.Call == "create" })
	for n := range disk.Ops() + 1 {
		losses := localtest.Losses
		if n < firstSave {
			losses = losses[:1] // hundreds of mkdir
		}
		for _, loss := range losses {
			if err := broken(t, disk.After(n, loss), n, promises); err != nil {
				t.Fatalf("power lost (%v) behind call %d, %v: %v", loss, n, disk.Trace()[max(0, n-1)], err)
			}
		}
	}
	// Work goes on after a power loss, on the directories that are left of it.
	after := disk.After(disk.Ops(), localtest.LoseAll)
	be, err := local.OpenFS(after, crashRoot)
	if err != nil {
		t.Fatal(err)
	}
	content := []byte("more")
	f := backendtest.FileOf(backend.Index, content)
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	promises = append(promises, promise{f, content, 0})
	for i := range promises {
		promises[i].from = 0
	}
	if err := broken(t, after.After(after.Ops(), localtest.LoseAll), 0, promises); err != nil {
		t.Errorf("second power loss: %v", err)
	}
}

// careless drops one kind of sync, to show that TestPowerLoss would notice.
type careless struct {
	*localtest.CrashFS
	noSync, noSyncDir bool
}

func (c careless) SyncDir(name string) error {
	if c.noSyncDir {
		return nil
	}
	return c.CrashFS.SyncDir(name)
}

type unsynced struct{ local.WriteFile }

func (unsynced) Sync() error { return nil }

func (c careless) Create(name string, mode fs.FileMode) (local.WriteFile, error) {
	file, err := c.CrashFS.Create(name, mode)
	if c.noSync && err == nil {
		file = unsynced{file}
	}
	return file, err
}

func TestPowerLossIsNoticed(t *testing.T) {
	for _, test := range []struct {
		name              string
		noSync, noSyncDir bool
		loss              localtest.Loss
	}{
		{"no fsync of files", true, false, localtest.LoseAll},
		{"no fsync of files, names kept", true, false, localtest.KeepNames},
		{"no fsync of directories", false, true, localtest.LoseAll},
		{"none", true, true, localtest.Torn(1)},
	} {
		t.Run(test.name, func(t *testing.T) {
			disk := localtest.NewCrashFS()
			createOn(t, disk)
			be, err := local.OpenFS(careless{disk, test.noSync, test.noSyncDir}, crashRoot)
			if err != nil {
				t.Fatal(err)
			}
			var promises []promise
			for i := range 10 {
				content := backendtest.Content(uint64(i), 3000)
				f := backendtest.FileOf(backend.Snapshot, content)
				if err := be.Save(t.Context(), f, content); err != nil {
					t.Fatal(err)
				}
				promises = append(promises, promise{f, content, disk.Ops()})
			}
			for n := range disk.Ops() + 1 {
				if broken(t, disk.After(n, test.loss), n, promises) != nil {
					return
				}
			}
			t.Error("nothing was noticed")
		})
	}
}

// TestFaultAtEachCall fails each call on the disk in turn: the Save says so, the file is whole or
// not there, no temporary file stays, and the next Save works.
func TestFaultAtEachCall(t *testing.T) {
	content := backendtest.Content(1, 5<<20)
	f := backendtest.FileOf(backend.Pack, content)
	for i := 0; ; i++ {
		disk := localtest.NewCrashFS()
		be := createOn(t, disk)
		if err := disk.Remove(filepath.Dir(crashRoot + "/" + f.Path())); err != nil {
			t.Fatal(err)
		}
		n, failed := 0, ""
		disk.SetFault(func(op localtest.Op) error {
			n++
			if n == i+1 {
				failed = op.Call
				return syscall.EIO
			}
			return nil
		})
		err := be.Save(t.Context(), f, content)
		disk.SetFault(nil)
		if failed == "" {
			if err != nil || i < 7 {
				t.Errorf("Save without a fault: %v, after %d faults", err, i)
			}
			return
		}
		if !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), f.String()) {
			t.Errorf("%s fails: error %v", failed, err)
		}
		if failed != "remove" {
			entries, err := disk.ReadDir(filepath.Dir(crashRoot + "/" + f.Path()))
			for _, entry := range entries {
				if strings.Contains(entry.Name(), "-tmp-") {
					t.Errorf("%s fails: %v is left (%v)", failed, entry.Name(), err)
				}
			}
		}
		got, err := be.ReadAll(t.Context(), f, 1<<30)
		if !errors.Is(err, backend.ErrNotExist) && !bytes.Equal(got, content) {
			t.Errorf("%s fails: the file is there in part", failed)
		}
		start := disk.Ops()
		if err := be.Save(t.Context(), f, content); err != nil {
			t.Errorf("after %s failed: %v", failed, err)
		}
		if err := broken(t, disk.After(disk.Ops(), localtest.LoseAll), disk.Ops(), []promise{{f, content, start}}); err != nil {
			t.Errorf("after %s failed, Save, power loss: %v", failed, err)
		}
	}
}
