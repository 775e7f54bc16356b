package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
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

func create(t *testing.T) *local.Backend {
	t.Helper()
	be, err := local.Create(filepath.Join(t.TempDir(), "repo"))
	if err != nil {
		t.Fatal(err)
	}
	return be
}

func save(t *testing.T, be backend.Backend, kind backend.Kind, content []byte) backend.File {
	t.Helper()
	f := backendtest.FileOf(kind, content)
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	return f
}

func path(be *local.Backend, f backend.File) string { return filepath.Join(be.Root(), f.Path()) }

func TestConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Backend { return create(t) })
}

func TestConformanceOnCrashFS(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		be, err := local.CreateFS(localtest.NewCrashFS(), "/srv/repo")
		if err != nil {
			t.Fatal(err)
		}
		return be
	})
}

// TestLayout compares directories, files and modes with a repository that restic made.
func TestLayout(t *testing.T) {
	theirs := filepath.Join(t.TempDir(), "repo")
	restic(t, "init", "-r", theirs)
	be := create(t)
	save(t, be, backend.Config, []byte("config"))
	save(t, be, backend.Key, []byte("key"))
	if diff := cmp.Diff(modes(t, theirs), modes(t, be.Root())); diff != "" {
		t.Errorf("-restic +vitrine:\n%s", diff)
	}
}

// modes maps the paths below root to their modes; the names of files that are hashes are cut.
func modes(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		if len(filepath.Base(rel)) == 64 {
			rel = filepath.Dir(rel) + "/…"
		}
		found[rel] = info.Mode().String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func restic(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "restic", args...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=password", "RESTIC_CACHE_DIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("restic %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestResticPrunesWhatWeWrote copies a repository through this package, file by file, and lets
// restic remove all of its packs.
func TestResticPrunesWhatWeWrote(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "theirs")
	restic(t, "init", "-r", dir)
	restic(t, "-r", dir, "backup", ".")
	theirs, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	ours := create(t)
	packs := 0
	for _, kind := range backend.Kinds {
		err := theirs.List(t.Context(), kind, func(info backend.Info) error {
			if kind == backend.Pack {
				packs++
			}
			f := backend.File{Kind: kind, Name: info.Name}
			content, err := theirs.ReadAll(t.Context(), f, info.SizeBytes)
			return errors.Join(err, ours.Save(t.Context(), f, content))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if packs == 0 {
		t.Fatal("restic wrote no pack")
	}
	restic(t, "-r", ours.Root(), "check", "--read-data")
	restic(t, "-r", ours.Root(), "forget", "latest", "--prune")
	err = ours.List(t.Context(), backend.Pack, func(info backend.Info) error {
		t.Errorf("restic left pack %v", info.Name)
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCreateTwice(t *testing.T) {
	be := create(t)
	if _, err := local.Create(be.Root()); err != nil {
		t.Errorf("Create again, without a config: %v", err)
	}
	save(t, be, backend.Config, []byte("x"))
	if _, err := local.Create(be.Root()); !errors.Is(err, backend.ErrExist) {
		t.Errorf("Create over a repository: %v", err)
	}
}

func TestOpenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := local.Open(filepath.Join(dir, "missing")); !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("Open of nothing: %v", err)
	}
	if _, err := local.Open(file); err == nil || !strings.Contains(err.Error(), "not a directory") {
		t.Errorf("Open of a file: %v", err)
	}
	if _, err := local.Open(""); err == nil {
		t.Error("Open of an empty name is no error")
	}
	if _, err := local.Create(filepath.Join(file, "below")); err == nil {
		t.Error("Create below a file is no error")
	}
}

// TestForeignFiles: what a repository's directories may hold beside its files is not listed.
func TestForeignFiles(t *testing.T) {
	be := create(t)
	pack := save(t, be, backend.Pack, []byte("pack"))
	index := save(t, be, backend.Index, []byte("index"))
	elsewhere := "00"
	if pack.Name[:2] == elsewhere {
		elsewhere = "01"
	}
	for _, name := range []string{
		pack.Path() + "-tmp-123456789",        // a dead writer, restic's or ours
		"data/" + elsewhere + "/" + pack.Name, // a pack in the wrong place
		"data/" + pack.Name,
		"index/.DS_Store", "index/README", index.Path() + "~", "data/00/notes.txt",
		"locks/" + strings.ToUpper(pack.Name),
	} {
		if err := os.WriteFile(filepath.Join(be.Root(), name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(be.Root(), "keys", pack.Name), 0o700); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{pack.String(): true, index.String(): true}
	got := map[string]bool{}
	for _, kind := range backend.Kinds {
		err := be.List(t.Context(), kind, func(info backend.Info) error {
			got[backend.File{Kind: kind, Name: info.Name}.String()] = true
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMissingDirectories(t *testing.T) {
	be := create(t)
	for _, dir := range []string{"data", "locks", "index", "snapshots"} {
		if err := os.RemoveAll(filepath.Join(be.Root(), dir)); err != nil {
			t.Fatal(err)
		}
		for _, kind := range backend.Kinds {
			if err := be.List(t.Context(), kind, func(backend.Info) error { return nil }); err != nil {
				t.Errorf("without %s: %v", dir, err)
			}
		}
	}
	var group sync.WaitGroup
	for i := range 20 {
		group.Go(func() {
			content := backendtest.Content(uint64(i), 10)
			if err := be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if info, err := os.Stat(filepath.Join(be.Root(), "data")); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("data was made again as %v, %v", info, err)
	}

	// The repository itself is not made again.
	if err := os.RemoveAll(be.Root()); err != nil {
		t.Fatal(err)
	}
	if err := be.Save(t.Context(), backendtest.FileOf(backend.Index, nil), nil); !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("Save without a repository: %v", err)
	}
	if _, err := os.Stat(be.Root()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the repository came back: %v", err)
	}
}

func TestUnmounted(t *testing.T) {
	use := func(do func(string) (*local.Backend, error)) func(t *testing.T, dir string) backend.Backend {
		return func(t *testing.T, dir string) backend.Backend {
			t.Helper()
			be, err := do(dir)
			if err != nil {
				t.Fatal(err)
			}
			return be
		}
	}
	backendtest.RunUnmounted(t, true, use(local.Create), use(local.Open))
}

func TestGroupReadable(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	be := create(t)
	config := save(t, be, backend.Config, []byte("x"))
	if err := os.Chmod(path(be, config), 0o440); err != nil {
		t.Fatal(err)
	}
	be, err := local.Open(be.Root())
	if err != nil {
		t.Fatal(err)
	}
	f := save(t, be, backend.Snapshot, []byte("y"))
	if info, err := os.Stat(path(be, f)); err != nil || info.Mode() != 0o440 {
		t.Errorf("mode %v, %v, want 0440", info.Mode(), err)
	}
}

// temps returns the files below the root that List does not show.
func temps(t *testing.T, be *local.Backend) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(be.Root(), "*", "*-tmp-*"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(filepath.Join(be.Root(), "data", "*", "*-tmp-*"))
	if err != nil {
		t.Fatal(err)
	}
	return append(found, more...)
}

// ctxAfter ends when its error was asked for n times.
type ctxAfter struct {
	context.Context
	n int
}

func (c *ctxAfter) Err() error {
	if c.n--; c.n < 0 {
		return context.Canceled
	}
	return nil
}

func TestCancelWhileSaving(t *testing.T) {
	be := create(t)
	content := backendtest.Content(1, 20<<20)
	f := backendtest.FileOf(backend.Pack, content)
	for n := 0; ; n++ {
		ctx := &ctxAfter{t.Context(), n}
		err := be.Save(ctx, f, content)
		if left := temps(t, be); len(left) != 0 {
			t.Fatalf("look %d at the context: temporary files %v are left", n, left)
		}
		if err == nil {
			if n < 6 {
				t.Errorf("20 MiB were written with only %d looks at the context", n)
			}
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if _, err := be.Stat(t.Context(), f); !errors.Is(err, backend.ErrNotExist) {
			t.Fatalf("look %d at the context: the file is there: %v", n, err)
		}
	}
}

// TestFullDisk uses a tmpfs of 1 MiB.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("vitrine-test", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatalf("mount a small tmpfs (the tests run as root): %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	be, err := local.Create(filepath.Join(dir, "repo"))
	if err != nil {
		t.Fatal(err)
	}
	content := backendtest.Content(1, 2<<20)
	err = be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content)
	if !errors.Is(err, syscall.ENOSPC) || !errors.Is(err, backend.ErrFull) {
		t.Fatalf("error %v, want ENOSPC of class ErrFull", err)
	}
	for _, part := range []string{"save pack/", "no space left on device", be.Root(), "make room"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("message %q lacks %q", err, part)
		}
	}
	if left := temps(t, be); len(left) != 0 {
		t.Errorf("temporary files %v are left", left)
	}
	save(t, be, backend.Pack, content[:1000]) // there is room again

	if err := syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	err = be.Save(t.Context(), backendtest.FileOf(backend.Pack, nil), nil)
	if !errors.Is(err, backend.ErrReadOnly) {
		t.Errorf("Save on a read-only disk: %v", err)
	}
}

// TestConfigIsNeverReplaced lets several inits race.
func TestConfigIsNeverReplaced(t *testing.T) {
	be := create(t)
	const inits = 8
	var group sync.WaitGroup
	var mu sync.Mutex
	var winners [][]byte
	for i := range inits {
		group.Go(func() {
			content := bytes.Repeat([]byte{byte('a' + i)}, 100)
			err := be.Save(t.Context(), backend.File{}, content)
			if err != nil && !errors.Is(err, backend.ErrExist) {
				t.Error(err)
			}
			if err == nil {
				mu.Lock()
				defer mu.Unlock()
				winners = append(winners, content)
			}
		})
	}
	group.Wait()
	if len(winners) != 1 {
		t.Fatalf("%d of %d inits won", len(winners), inits)
	}
	if got, err := be.ReadAll(t.Context(), backend.File{}, 1000); err != nil || !bytes.Equal(got, winners[0]) {
		t.Errorf("config is %.10q, %v; the winner wrote %.10q", got, err, winners[0])
	}
	if left := temps(t, be); len(left) != 0 {
		t.Errorf("temporary files %v are left", left)
	}
}

// BenchmarkReadAt compares packs, which are kept open, with index files, which are not.
func BenchmarkReadAt(b *testing.B) {
	be, err := local.Create(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer be.Close()
	content := backendtest.Content(1, 16<<20)
	for _, size := range []int{1 << 10, 4 << 10, 64 << 10, 1 << 20} {
		for _, kind := range []backend.Kind{backend.Index, backend.Pack} {
			f := backendtest.FileOf(kind, content)
			if err := be.Save(b.Context(), f, content); err != nil {
				b.Fatal(err)
			}
			b.Run(fmt.Sprintf("%v/%dKiB", kind, size>>10), func(b *testing.B) {
				p := make([]byte, size)
				b.SetBytes(int64(size))
				for i := 0; b.Loop(); i++ {
					if err := be.ReadAt(b.Context(), f, p, int64(i*size%(15<<20))); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
