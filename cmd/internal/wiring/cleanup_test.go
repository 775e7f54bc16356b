package wiring

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRemoveOldCaches(t *testing.T) {
	base := t.TempDir()
	if n, err := RemoveOldCaches(base, time.Hour); n != 0 || err != nil {
		t.Errorf("nothing there: %d, %v", n, err)
	}
	made := func(name string, age time.Duration) string {
		dir := filepath.Join(base, "vitrine", name)
		if err := os.MkdirAll(filepath.Join(dir, "index"), 0o700); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(dir, then, then); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	stale := made(strings.Repeat("a", 64), 2*time.Hour)
	fresh := made(strings.Repeat("b", 64), time.Minute)
	foreign := made("notes", 2*time.Hour)
	if n, err := RemoveOldCaches(base, time.Hour); n != 1 || err != nil {
		t.Errorf("removed %d, %v; want 1", n, err)
	}
	for dir, want := range map[string]bool{stale: false, fresh: true, foreign: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: there is %v, want %v", dir, err == nil, want)
		}
	}
}

// Opening a repository counts as use of its cache.
func TestOpenNotesUse(t *testing.T) {
	dir, base := newRepository(t, "secret"), t.TempDir()
	use := func() {
		r, err := open(t.Context(), t, dir, Options{Password: []byte("secret"), Index: CachedIndex, CacheBase: base})
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	use()
	caches, err := filepath.Glob(filepath.Join(base, "vitrine", "*", "index"))
	if err != nil || len(caches) != 1 {
		t.Fatalf("caches %v, %v", caches, err)
	}
	long := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Dir(caches[0]), long, long); err != nil {
		t.Fatal(err)
	}
	use()
	if n, err := RemoveOldCaches(base, time.Minute); n != 0 || err != nil {
		t.Errorf("removed %d, %v", n, err)
	}
}
