package backendtest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vitrine/repo/backend"
)

// RunUnmounted takes the disk of a repository away and brings it back, for stores that keep it in a directory: create makes
// one at dir, open opens it. While the disk is away nothing is said about files, and nothing is made in its place. saves tells
// whether that is asked of Save, too.
func RunUnmounted(t *testing.T, saves bool, create, open func(t *testing.T, dir string) backend.Backend) {
	for name, mountPoint := range map[string]bool{"MountPointIsEmpty": true, "NoMountPoint": false} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "repo")
			content := Content(1, 1000)
			first := create(t, dir)
			for _, kind := range backend.Kinds {
				save(t, first, kind, content)
			}
			if err := first.Close(); err != nil {
				t.Fatal(err)
			}
			be := open(t, dir)
			defer func() {
				if err := be.Close(); err != nil {
					t.Error(err)
				}
			}()

			if err := os.Rename(dir, dir+".away"); err != nil {
				t.Fatal(err)
			}
			if mountPoint {
				if err := os.Mkdir(dir, 0o700); err != nil {
					t.Fatal(err)
				}
			}
			wantUnknown(t, be, saves, content)
			if left, err := os.ReadDir(dir); len(left) > 0 || mountPoint && err != nil {
				t.Errorf("in the place of the repository there are %v, %v", left, err)
			}

			if err := errors.Join(os.RemoveAll(dir), os.Rename(dir+".away", dir)); err != nil {
				t.Fatal(err)
			}
			for _, kind := range backend.Kinds {
				f := FileOf(kind, content)
				wantContent(t, be, f, content)
				if found := list(t, be, kind); len(found) != 1 {
					t.Errorf("when it is back, List(%v) gives %v", kind, found)
				}
				if kind == backend.Config {
					continue
				}
				if err := os.RemoveAll(filepath.Join(dir, kind.Dir())); err != nil {
					t.Fatal(err)
				}
				if found := list(t, be, kind); len(found) != 0 {
					t.Errorf("without its directory, List(%v) gives %v", kind, found)
				}
				_, err := be.Stat(t.Context(), f)
				wantClass(t, "Stat without the directory", err, backend.ErrNotExist)
				wantContent(t, be, save(t, be, kind, content), content)
			}
		})
	}
}

// wantUnknown expects that every call fails with an error that may pass.
func wantUnknown(t *testing.T, be backend.Backend, saves bool, content []byte) {
	t.Helper()
	ctx := t.Context()
	for _, kind := range backend.Kinds {
		f := FileOf(kind, content)
		_, readAll := be.ReadAll(ctx, f, 1000)
		_, stat := be.Stat(ctx, f)
		errs := map[string]error{
			"ReadAt": be.ReadAt(ctx, f, make([]byte, 1), 0), "ReadAll": readAll, "Stat": stat, "Remove": be.Remove(ctx, f),
			"List": be.List(ctx, kind, func(info backend.Info) error {
				t.Errorf("List(%v) tells of %v", kind, info)
				return nil
			}),
		}
		if saves && kind != backend.Config {
			errs["Save"] = be.Save(ctx, f, content)
		}
		for op, err := range errs {
			if err == nil || backend.IsPermanent(err) || !strings.Contains(err.Error(), "mounted") {
				t.Errorf("%s of %v without the disk: %v, want an error that may pass", op, f, err)
			}
		}
	}
}
