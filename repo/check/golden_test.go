package check_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/local"
	"vitrine/repo/blob"
	"vitrine/repo/check"
	"vitrine/repo/repotest"
)

func openLocal(t *testing.T, dir, password string) *repo.Repository {
	t.Helper()
	be, err := local.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), be, repo.Options{Password: []byte(password)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestGolden(t *testing.T) {
	for _, name := range []string{"restic-v1", "restic-v2"} {
		t.Run(name, func(t *testing.T) {
			res := wantSound(t, openLocal(t, filepath.Join("../internal/testdata", name), "golden"))
			if res.Snapshots != 2 || res.Trees < 4 || res.PacksRead != res.Packs || res.Packs < 2 {
				t.Errorf("%+v", res)
			}
		})
	}
}

// TestRestic checks what restic writes, also with a pack and with an index file away: what
// restic calls damaged we call damaged.
func TestRestic(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	be, err := local.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	repotest.Init(t, be, 2) // with a key that restic derives in no time
	restic := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "restic", append([]string{"-r", dir, "--no-cache"}, args...)...)
		cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+repotest.Password)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, args := range [][]string{{"backup", "."}, {"backup", ".."}} {
		if out, err := restic(args...); err != nil {
			t.Fatalf("restic %v: %v\n%s", args, err, out)
		}
	}
	r := openLocal(t, dir, repotest.Password)
	if res := wantSound(t, r); res.Snapshots != 2 || res.Files < 10 {
		t.Errorf("%+v", res)
	}
	for _, kind := range []backend.Kind{backend.Pack, backend.Index} {
		var files []backend.File
		err := r.Backend().List(t.Context(), kind, func(info backend.Info) error {
			files = append(files, backend.File{Kind: kind, Name: info.Name})
			return nil
		})
		if err != nil || len(files) < 2 {
			t.Fatalf("%d %v files, %v", len(files), kind, err)
		}
		for _, f := range files[:1] { // each is a run of restic
			path := filepath.Join(dir, f.Path())
			if err := os.Rename(path, path+".away"); err != nil {
				t.Fatal(err)
			}
			_, f2 := run(t, r, check.Options{})
			out, err := restic("check")
			if (err != nil) != (len(f2.errors) > 0) {
				t.Errorf("%v is away: restic says %v, vitrine %q\n%s", f, err, f2.errors, out)
			}
			if id, err := blob.ParseID(f.Name); kind == backend.Pack && (err != nil || !strings.Contains(strings.Join(f2.errors, "\n"), "pack/"+id.Short()+" is missing")) {
				t.Errorf("%v is away: %q", f, f2.errors)
			}
			if err := os.Rename(path+".away", path); err != nil {
				t.Fatal(err)
			}
		}
	}
	wantSound(t, r)
}
