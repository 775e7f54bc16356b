package cache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const id = "1f2e3d4c5b6a79880011223344556677889900aabbccddeeff00112233445566"

func TestDefaultBase(t *testing.T) {
	for _, tc := range []struct {
		name string
		env  map[string]string
		want string
	}{
		{"home", map[string]string{"HOME": "/home/u"}, "/home/u/.cache/vitrine"},
		{"xdg", map[string]string{"HOME": "/home/u", "XDG_CACHE_HOME": "/x"}, "/x/vitrine"},
		{"relative xdg is ignored", map[string]string{"HOME": "/home/u", "XDG_CACHE_HOME": "x"}, "/home/u/.cache/vitrine"},
		{"restic", map[string]string{"XDG_CACHE_HOME": "/x", "RESTIC_CACHE_DIR": "/r"}, "/r"},
		{"vitrine", map[string]string{"VITRINE_CACHE_DIR": "/v", "RESTIC_CACHE_DIR": "/r"}, "/v"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := DefaultBase(func(k string) string { return tc.env[k] })
			if err != nil || got != tc.want {
				t.Errorf("got %q, %v; want %q", got, err, tc.want)
			}
		})
	}
	if _, err := DefaultBase(func(string) string { return "" }); !errors.Is(err, ErrNoBase) {
		t.Errorf("empty environment: got %v, want ErrNoBase", err)
	}
}

func TestOpen(t *testing.T) {
	for _, tc := range []struct{ base, want string }{
		{"restic", "restic/vitrine/" + id}, // never restic's own directory
		{"deep/er", "deep/er/vitrine/" + id},
		{"c/vitrine", "c/vitrine/" + id},
		{"c/vitrine/", "c/vitrine/" + id},
	} {
		root := t.TempDir()
		d, err := Open(root+"/"+tc.base, id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(filepath.Join(root, tc.want), d.Path()); diff != "" {
			t.Error(diff)
		}
		st, err := os.Stat(d.Path())
		if err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v; want mode 0700", d.Path(), st, err)
		}
		got, err := os.ReadFile(filepath.Join(filepath.Dir(d.Path()), "CACHEDIR.TAG"))
		if err != nil || !strings.HasPrefix(string(got), "Signature: 8a477f597d28d172789f06886806bc55") {
			t.Errorf("tag %q, %v", got, err)
		}
		if _, err := Open(root+"/"+tc.base, id); err != nil {
			t.Errorf("second open: %v", err)
		}
	}
}

func TestOpenClosesToOthers(t *testing.T) {
	base := t.TempDir()
	if err := os.MkdirAll(base+"/vitrine/"+id, 0o755); err != nil {
		t.Fatal(err)
	}
	d, err := Open(base, id)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{d.Path(), filepath.Dir(d.Path())} {
		if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v; want mode 0700", dir, st, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	base := t.TempDir()
	for _, bad := range []string{"", "..", "../../etc", strings.ToUpper(id), id[:63], id + "0", id[:62] + "/x"} {
		if _, err := Open(base, bad); err == nil {
			t.Errorf("repository id %q was taken", bad)
		}
	}
	if _, err := Open("", id); err == nil {
		t.Error("empty base was taken")
	}
	if got, err := os.ReadDir(base); err != nil || len(got) != 0 {
		t.Errorf("a refused open left %v, %v", got, err)
	}
}

func TestSub(t *testing.T) {
	d, err := Open(t.TempDir(), id)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := d.Sub("index")
	if err != nil || dir != filepath.Join(d.Path(), "index") {
		t.Fatalf("got %q, %v", dir, err)
	}
	// Somebody deletes the whole cache while we run.
	if err := os.RemoveAll(filepath.Dir(d.Path())); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Sub("index"); err != nil {
		t.Errorf("after deletion: %v", err)
	}
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v; want mode 0700", st, err)
	}
	for _, bad := range []string{"", ".", "..", "a/b", "/a"} {
		if _, err := d.Sub(bad); err == nil {
			t.Errorf("subdirectory %q was taken", bad)
		}
	}
}
