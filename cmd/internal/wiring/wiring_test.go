package wiring

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
)

func TestDiskPath(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ location, dir, fails string }{
		{"/srv/backup", "/srv/backup", ""},
		{"local:/srv/backup", "/srv/backup", ""},
		{"local:sftp:odd", here + "/sftp:odd", ""},
		{"./a:b", here + "/a:b", ""},
		{"c:", here + "/c:", ""},
		{"dir/with:colon", here + "/dir/with:colon", ""},
		{"rest:https://user:geheim@host/", "", ""},
		{"b2:bucket:path", "", ""},
		{"", "", "is empty"},
		{"local:", "", "is empty"},
	} {
		dir, err := DiskPath(c.location)
		if c.fails == "" && (err != nil || dir != c.dir) {
			t.Errorf("DiskPath(%q) = %q, %v; want %q", c.location, dir, err, c.dir)
		}
		if c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("DiskPath(%q): error %v, want %q", c.location, err, c.fails)
		}
	}
}

// No message about a location that cannot be shows the password in it.
func TestBadLocations(t *testing.T) {
	for location, want := range map[string]string{
		"swift:user:geheim@host/":            "swift repositories are not yet supported",
		"b2+x://user:geheim@host/?k=geheim":  "b2+x repositories are not yet supported",
		"rest:ftp://user:geheim@host/":       "rest:https://",
		"rest:http://user:ge%heim@host/":     "rest:https://",
		"rest:http://user:geheim@host/?x=/y": "rest",
	} {
		_, errOpen := OpenBackend(t.Context(), location, StoreOptions{})
		_, errCreate := CreateBackend(t.Context(), location, StoreOptions{})
		for _, err := range []error{errOpen, errCreate} {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "heim") {
				t.Errorf("%s: error %v, want %q and no password", location, err, want)
			}
		}
	}
}

func TestNoRepository(t *testing.T) {
	empty := t.TempDir()
	for _, dir := range []string{empty, filepath.Join(empty, "missing")} {
		if _, err := OpenBackend(t.Context(), dir, StoreOptions{}); !errors.Is(err, repo.ErrNoRepository) {
			t.Errorf("OpenBackend(%s) = %v, want ErrNoRepository", dir, err)
		}
	}
}

// newRepository makes a repository in a directory; nothing is in it, so every check would pass.
func newRepository(t *testing.T, password string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	be, err := CreateBackend(t.Context(), dir, StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	_, err = repo.Init(t.Context(), be, repo.InitOptions{Password: []byte(password), KDF: repo.KDF{N: 2, R: 1, P: 1}})
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func open(ctx context.Context, t *testing.T, dir string, o Options) (*repo.Repository, error) {
	t.Helper()
	be, err := OpenBackend(ctx, dir, StoreOptions{})
	if err != nil {
		t.Fatal(err)
	}
	o.Log = slog.New(slog.DiscardHandler)
	return OpenRepository(ctx, be, o)
}

func TestOpenRepository(t *testing.T) {
	dir := newRepository(t, "secret")
	if _, err := CreateBackend(t.Context(), dir, StoreOptions{}); !errors.Is(err, repo.ErrExists) {
		t.Errorf("CreateBackend over a repository: %v, want ErrExists", err)
	}
	if _, err := open(t.Context(), t, dir, Options{Password: []byte("wrong")}); !errors.Is(err, repo.ErrWrongPassword) {
		t.Errorf("wrong password: %v", err)
	}
	unusable := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(unusable, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]Options{
		"no index":                 {},
		"memory":                   {Index: MemoryIndex, CacheBase: t.TempDir()},
		"cached":                   {Index: CachedIndex, CacheBase: t.TempDir()},
		"busy":                     {Index: BusyIndex, CacheBase: t.TempDir()},
		"no cache":                 {Index: CachedIndex},
		"cache that cannot be had": {Index: CachedIndex, CacheBase: filepath.Join(unusable, "below")},
		"files":                    {CacheFiles: true, CacheBase: t.TempDir()},
		"no place for files":       {CacheFiles: true},
		"files that cannot be had": {CacheFiles: true, CacheBase: filepath.Join(unusable, "below")},
		"files, index and a bound": {CacheFiles: true, CacheBytes: 1 << 20, Index: CachedIndex, CacheBase: t.TempDir()},
	} {
		o.Password = []byte("secret")
		r, err := open(t.Context(), t, dir, o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		kept, err := filepath.Glob(filepath.Join(o.CacheBase, "vitrine", "*", "packs"))
		if want := o.CacheFiles && !strings.HasPrefix(name, "no ") && !strings.HasSuffix(name, "cannot be had"); err != nil || len(kept) == 1 != want {
			t.Errorf("%s: directories for files: %v, %v; want one: %v", name, kept, err, want)
		}
		if o.Index != NoIndex {
			if err := r.RefreshIndex(t.Context()); err != nil {
				t.Errorf("%s: refresh: %v", name, err)
			}
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: close: %v", name, err)
		}
	}
}

// A store that connects when it is opened does so again when the line breaks, and not when the
// location can never be right.
func TestConnectsAgain(t *testing.T) {
	tries := 0
	far := remote{
		public: func(location string) (string, error) {
			if location == "" {
				return "", errors.New("no location")
			}
			return location, nil
		},
		open: func(context.Context, string, StoreOptions) (backend.Backend, error) {
			if tries++; tries < 3 {
				return nil, errors.New("the line broke")
			}
			return nil, backend.ErrDenied
		},
	}.connecting()
	if _, err := far.open(t.Context(), "far:", StoreOptions{}); !errors.Is(err, backend.ErrDenied) || tries != 3 {
		t.Errorf("%d tries, %v; want 3, and the end that is for good", tries, err)
	}
	if _, err := far.open(t.Context(), "", StoreOptions{}); err == nil || tries != 3 {
		t.Errorf("%d tries, %v; want none for a location that cannot be read", tries-3, err)
	}
}
