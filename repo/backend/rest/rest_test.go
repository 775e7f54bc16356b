package rest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/linetest"
	"vitrine/repo/backend/rest"
	"vitrine/repo/backend/rest/resttest"
	"vitrine/repo/backend/retry"
	"vitrine/repo/backend/transport"
)

// config parses a location and gives it a transport.
func config(t *testing.T, location string) rest.Config {
	t.Helper()
	c, err := rest.Parse(location)
	if err != nil {
		t.Fatal(err)
	}
	if c.Transport, err = transport.New(transport.Options{Socket: c.Socket}); err != nil {
		t.Fatal(err)
	}
	return c
}

// opened makes the backend at a location, without asking whether it is there.
func opened(t *testing.T, location string) backend.Backend {
	t.Helper()
	be, err := rest.Open(t.Context(), config(t, location))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { be.Close() })
	return be
}

// The objects of rclone's memory remote are replaced as those of most stores are, at once. Its local
// remote writes over a file in place, which somebody who reads that file at the moment would see.
func TestConformance(t *testing.T) {
	var stores atomic.Int64
	for name, c := range map[string]struct {
		args        []string
		credentials string
	}{
		"open":     {nil, ""},
		"password": {[]string{"--user", "anna", "--pass", "ge:h@im"}, "anna:ge%3Ah%40im@"},
	} {
		t.Run(name, func(t *testing.T) {
			url := resttest.Serve(t, ":memory:", c.args...)
			backendtest.Run(t, func(t *testing.T) backend.Backend {
				location := fmt.Sprintf("rest:%sstore/%d", strings.Replace(url, "://", "://"+c.credentials, 1), stores.Add(1))
				be, err := rest.Create(t.Context(), config(t, location))
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(be.Location(), "h@im") || strings.Contains(be.Location(), "anna") {
					t.Errorf("Location %q tells the password", be.Location())
				}
				return retry.New(be, retry.Options{Total: time.Minute})
			})
		})
	}
}

// An init saves the key and then the config, and can be made again when it was interrupted between the two.
func TestConfigAfterKeys(t *testing.T) {
	c := config(t, "rest:"+resttest.Serve(t, t.TempDir()))
	for _, kind := range []backend.Kind{backend.Key, backend.Config} {
		be, err := rest.Create(t.Context(), c)
		if err != nil {
			t.Fatalf("before the %v is saved: %v", kind, err)
		}
		content := []byte("content")
		if err := be.Save(t.Context(), backendtest.FileOf(kind, content), content); err != nil {
			t.Error(err)
		}
		if err := be.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestCreateOverRepository(t *testing.T) {
	c := config(t, "rest:"+resttest.Serve(t, t.TempDir()))
	be, err := rest.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := be.Save(t.Context(), backend.File{Kind: backend.Config}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := rest.Create(t.Context(), c); !errors.Is(err, backend.ErrExist) {
		t.Errorf("Create over a repository: %v, want ErrExist", err)
	}
}

func TestWrongPassword(t *testing.T) {
	url := resttest.Serve(t, t.TempDir(), "--user", "anna", "--pass", "geheim")
	ctx := t.Context()
	for _, credentials := range []string{"", "anna:falsch@"} {
		be := opened(t, "rest:"+strings.Replace(url, "://", "://"+credentials, 1))
		_, err := be.Stat(ctx, backend.File{Kind: backend.Config})
		if !errors.Is(err, backend.ErrDenied) || !strings.Contains(err.Error(), "VITRINE_REST_PASSWORD") || strings.Contains(err.Error(), "falsch") {
			t.Errorf("%q: %v", credentials, err)
		}
	}
}

// An append-only server lets nobody delete or replace; that the same bytes come again is no error.
func TestAppendOnly(t *testing.T) {
	be := opened(t, "rest:"+resttest.Serve(t, t.TempDir(), "--append-only"))
	ctx := t.Context()
	content := backendtest.Content(1, 1000)
	pack, lock := backendtest.FileOf(backend.Pack, content), backendtest.FileOf(backend.Lock, content)
	for _, f := range []backend.File{pack, lock, {Kind: backend.Config}} {
		if err := be.Save(ctx, f, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := be.Save(ctx, pack, content); err != nil {
		t.Errorf("the same bytes once more: %v", err)
	}
	for name, err := range map[string]error{
		"remove pack":  be.Remove(ctx, pack),
		"other bytes":  be.Save(ctx, pack, bytes.Repeat([]byte("x"), 1000)),
		"fewer bytes":  be.Save(ctx, pack, content[:10]),
		"further pack": be.Save(ctx, pack, append(bytes.Clone(content), 1)),
	} {
		if !errors.Is(err, backend.ErrDenied) || !strings.Contains(err.Error(), "append-only") {
			t.Errorf("%s: error %v, want ErrDenied that tells of append-only", name, err)
		}
	}
	if err := be.Save(ctx, backend.File{Kind: backend.Config}, content); !errors.Is(err, backend.ErrExist) {
		t.Errorf("second config: %v, want ErrExist", err)
	}
	if err := be.Remove(ctx, lock); err != nil {
		t.Errorf("remove a lock: %v", err)
	}
	got, err := be.ReadAll(ctx, pack, 1000)
	if err != nil || !bytes.Equal(got, content) {
		t.Errorf("the pack has changed, or %v", err)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct{ location, url, socket, user, password, public, fails string }{
		{location: "rest:http://host:8000", url: "http://host:8000/", public: "rest:http://host:8000/"},
		{location: "rest:https://anna:ge%40heim@host/a/b", url: "https://host/a/b/", user: "anna", password: "ge@heim", public: "rest:https://host/a/b/"},
		{location: "rest:http+unix:///run/rest.sock:/anna/", url: "http://localhost/anna/", socket: "/run/rest.sock", public: "rest:http+unix:///run/rest.sock:/anna/"},
		{location: "rest:http+unix:///run/rest.sock", url: "http://localhost/", socket: "/run/rest.sock", public: "rest:http+unix:///run/rest.sock:/"},
		{location: "rest:http+unix://anna:ge%40heim@/run/rest.sock:/r/", url: "http://localhost/r/", socket: "/run/rest.sock", user: "anna", password: "ge@heim", public: "rest:http+unix:///run/rest.sock:/r/"},
		{location: "rest:http+unix://anna@/run/a@b.sock:/r/", url: "http://localhost/r/", socket: "/run/a@b.sock", user: "anna", public: "rest:http+unix:///run/a@b.sock:/r/"},
		{location: "rest:http+unix:///run/a@b.sock:/r/", url: "http://localhost/r/", socket: "/run/a@b.sock", public: "rest:http+unix:///run/a@b.sock:/r/"},
		{location: "rest:http+unix://rest.sock:/a", fails: "absolute path"},
		{location: "rest:http+unix://anna:geheim%40/run/rest.sock:/r/", fails: "VITRINE_REST_PASSWORD"},
		{location: "rest:http+unix://anna:x/geheim@/run/rest.sock:/r/", fails: "%XX"},
		{location: "rest:http+unix://anna:2024/geheim@/run/rest.sock:/r/", fails: "%2F"},
		{location: "rest:http+unix://anna:2024?geheim@/run/rest.sock:/r/", fails: "?"},
		{location: "rest:host/path", fails: "URL of a server"},
		{location: "rest:ftp://anna:geheim@host/path", fails: "URL of a server"},
		{location: "rest:", fails: "URL of a server"},
		{location: "rest:http://anna:geheim%@host/", fails: "no URL"},
		{location: "rest:http://host/?x=1", fails: "?"},
		{location: "rest:http://anna:2024/geheim@host:8000/", fails: "%40"}, // by the rules it is host anna and port 2024
		{location: "rest:http://host/anna%40example.org/r", url: "http://host/anna%40example.org/r/", public: "rest:http://host/anna%40example.org/r/"},
		{location: "s3:host/bucket", fails: "rest:"},
	} {
		got, err := rest.Parse(c.location)
		if c.fails != "" {
			if err == nil || !strings.Contains(err.Error(), c.fails) || strings.Contains(err.Error(), "geheim") {
				t.Errorf("%s: error %v, want %q and no password", c.location, err, c.fails)
			}
			continue
		}
		if err != nil || got.URL != c.url || got.Socket != c.socket || got.Username != c.user || got.Password != c.password || got.Public() != c.public {
			t.Errorf("%s: %+v, %v; public %s", c.location, got, err, got.Public())
		}
	}
}

func TestApply(t *testing.T) {
	var c rest.Config
	if err := c.Apply(map[string]string{"connections": "7"}); err != nil || c.Connections != 7 {
		t.Errorf("%+v, %v", c, err)
	}
	for key, value := range map[string]string{"connections": "0", "conections": "7"} {
		if err := c.Apply(map[string]string{key: value}); err == nil || !strings.Contains(err.Error(), "rest."+key) {
			t.Errorf("%s=%s: error %v", key, value, err)
		}
	}
}

// A call waits for a free connection, but not longer than its context lives.
func TestConnections(t *testing.T) {
	c := config(t, "rest:"+resttest.Serve(t, t.TempDir()))
	c.Connections = 1
	be, err := rest.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	for i := range 3 {
		content := backendtest.Content(uint64(i), 100)
		if err := be.Save(t.Context(), backendtest.FileOf(backend.Index, content), content); err != nil {
			t.Fatal(err)
		}
	}
	removed := 0
	err = be.List(t.Context(), backend.Index, func(info backend.Info) error {
		removed++
		return be.Remove(context.WithoutCancel(t.Context()), backend.File{Kind: backend.Index, Name: info.Name})
	})
	if err != nil || removed != 3 {
		t.Errorf("removed %d, %v", removed, err)
	}
}

// Nothing of the contract changes on a line that breaks, when calls are made again as the program does.
func TestConformanceOnBrokenLine(t *testing.T) {
	t.Parallel()
	line := linetest.New(t, resttest.Start(t, ":memory:").Addr(), linetest.Reset(20*time.Millisecond, 0.05), linetest.Latency(10*time.Millisecond))
	line.CutEvery(300 * time.Millisecond)
	var stores atomic.Int64
	backendtest.RunRepeating(t, 16, func() bool { return line.Cuts() >= 10 }, func(t *testing.T) backend.Backend {
		be := opened(t, fmt.Sprintf("rest:http://%s/store/%d", line.Addr, stores.Add(1)))
		return retry.New(be, retry.Options{Total: time.Minute})
	})
}
