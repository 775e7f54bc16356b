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
)

func TestLocalDir(t *testing.T) {
	for _, c := range []struct{ location, dir, fails string }{
		{"/srv/backup", "/srv/backup", ""},
		{"local:/srv/backup", "/srv/backup", ""},
		{"local:sftp:odd", "sftp:odd", ""},
		{"./a:b", "./a:b", ""},
		{"c:", "c:", ""},
		{"dir/with:colon", "dir/with:colon", ""},
		{"sftp:user@host:/srv", "", "sftp repositories are not yet supported"},
		{"s3:s3.amazonaws.com/bucket", "", "s3 repositories are not yet supported"},
		{"rest:https://user:geheim@host/", "", "rest repositories are not yet supported"},
		{"rclone:remote:path", "", "rclone repositories"},
		{"", "", "is empty"},
		{"local:", "", "is empty"},
	} {
		dir, err := LocalDir(c.location)
		if c.fails == "" && (err != nil || dir != c.dir) {
			t.Errorf("LocalDir(%q) = %q, %v; want %q", c.location, dir, err, c.dir)
		}
		if c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("LocalDir(%q): error %v, want %q", c.location, err, c.fails)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("the password is in the message: %v", err)
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
	be, err := CreateBackend(dir, StoreOptions{})
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
	if _, err := CreateBackend(dir, StoreOptions{}); !errors.Is(err, repo.ErrExists) {
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
		"no cache":                 {Index: CachedIndex},
		"cache that cannot be had": {Index: CachedIndex, CacheBase: filepath.Join(unusable, "below")},
	} {
		o.Password = []byte("secret")
		r, err := open(t.Context(), t, dir, o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
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
