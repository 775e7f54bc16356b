package rclone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/rclone"
	"vitrine/repo/backend/retry"
)

func TestMain(m *testing.M) {
	os.Setenv("RCLONE_CONFIG", "/dev/null")
	os.Exit(m.Run())
}

func config(t *testing.T, location string, options map[string]string) rclone.Config {
	t.Helper()
	c, err := rclone.Parse(location)
	if err == nil {
		err = c.Apply(options)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// children returns the processes that this one has.
func children(t *testing.T) []int {
	t.Helper()
	var pids []int
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		content, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		var pid, parent int
		var state string
		_, rest, _ := strings.Cut(string(content), ") ")
		fmt.Sscan(string(content), &pid)
		if fmt.Sscan(rest, &state, &parent); parent == os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// The memory remote replaces objects at once, as most stores do; the local one does not.
func TestConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		be, err := rclone.Create(t.Context(), config(t, "rclone::memory:bucket/path", nil))
		if err != nil {
			t.Fatal(err)
		}
		return retry.New(be, retry.Options{Total: time.Minute})
	})
	if pids := children(t); len(pids) != 0 {
		t.Errorf("processes %v are left", pids)
	}
}

func TestLocalRemote(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "repo")
	c := config(t, "rclone::local:"+dir, nil)
	be, err := rclone.Create(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	content := backendtest.Content(1, 3<<20)
	for _, kind := range backend.Kinds {
		f := backendtest.FileOf(kind, content)
		if err := be.Save(t.Context(), f, content); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(dir, f.Path())); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%v is not at its place: %v", f, err)
		}
	}
	if be.Location() != "rclone::local:"+dir {
		t.Errorf("Location %q", be.Location())
	}
	if _, err := rclone.Create(t.Context(), c); !errors.Is(err, backend.ErrExist) {
		t.Errorf("Create over a repository: %v, want ErrExist", err)
	}
}

// rclone has a process group of its own, so that a terminal's SIGINT does not reach it.
func TestOwnGroup(t *testing.T) {
	be, err := rclone.Open(t.Context(), config(t, "rclone::memory:", nil))
	if err != nil {
		t.Fatal(err)
	}
	defer be.Close()
	pids := children(t)
	if len(pids) != 1 {
		t.Fatalf("processes %v, want one", pids)
	}
	if group, err := syscall.Getpgid(pids[0]); err != nil || group != pids[0] {
		t.Errorf("rclone %d is in group %d, %v", pids[0], group, err)
	}
	// When it dies, calls fail for good and say so.
	if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err = be.Stat(t.Context(), backend.File{}); errors.Is(err, backend.ErrDenied) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if !errors.Is(err, backend.ErrDenied) || !strings.Contains(err.Error(), "rclone has ended: signal: killed") {
		t.Errorf("Stat with a dead rclone: %v", err)
	}
}

func TestFailures(t *testing.T) {
	if _, err := exec.LookPath("sleep"); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		location string
		options  map[string]string
		want     string
	}{
		"missing program": {"rclone:r:p", map[string]string{"program": "no-such-rclone"}, "no program no-such-rclone"},
		"missing path":    {"rclone:r:p", map[string]string{"program": "/no/such/rclone"}, "no program /no/such/rclone"},
		"unknown remote":  {"rclone:nowhere:p", nil, "rclone says: "},
		"it ends":         {"rclone:r:p", map[string]string{"program": "sh -c 'echo it is full >&2; exit 3'"}, "rclone says: it is full"},
		"it says nothing": {"rclone:r:p", map[string]string{"program": "false"}, "rclone says: exit status 1"},
		"it hangs":        {"rclone:r:p", map[string]string{"program": "sh -c 'exec sleep 100'", "timeout": "200ms"}, "rclone has not answered for 200ms"},
		"no HTTP":         {"rclone:r:p", map[string]string{"program": "sh -c 'exec head -c 100 /dev/zero'"}, "rclone:r:p: "},
	} {
		began := time.Now()
		_, err := rclone.Open(t.Context(), config(t, c.location, c.options))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want %q in one line", name, err, c.want)
		}
		if d := time.Since(began); d > 20*time.Second {
			t.Errorf("%s took %v", name, d)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := rclone.Open(ctx, config(t, "rclone::memory:", nil)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if pids := children(t); len(pids) != 0 {
		t.Errorf("processes %v are left", pids)
	}
}

func TestLog(t *testing.T) {
	var log bytes.Buffer
	c := config(t, "rclone:r:p", map[string]string{"program": "sh -c 'echo one; echo NOTICE: two; echo \"2026/01/02 03:04:05 ERROR : three\"' ", "args": "x"})
	c.Program[2] = "(" + c.Program[2] + ") >&2"
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	if _, err := rclone.Open(t.Context(), c); err == nil || !strings.Contains(err.Error(), "rclone says: ERROR : three") {
		t.Errorf("Open: %v", err)
	}
	for _, want := range []string{`level=WARN msg="rclone: one"`, `level=INFO msg="rclone: NOTICE: two"`, `level=WARN msg="rclone: ERROR : three"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log has no %s:\n%s", want, log.String())
		}
	}
}

// What a remote says in its own name is not repeated, whatever rclone says of it.
func TestLogHidesSecrets(t *testing.T) {
	var log bytes.Buffer
	c := config(t, "rclone::webdav,pass=geheim1,key='geheim2',url=http://h:x", map[string]string{
		"program": `sh -c 'echo "no file system for :webdav,pass=geheim1,key=\x27geheim2\x27 at geheim2" >&2'`, "args": "x",
	})
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	_, err := rclone.Open(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "no file system for") {
		t.Fatalf("Open: %v", err)
	}
	if all := err.Error() + log.String(); strings.Contains(all, "geheim") {
		t.Errorf("a secret is told: %s", all)
	}
}

func TestParse(t *testing.T) {
	for location, public := range map[string]string{
		"rclone:remote:path":      "rclone:remote:path",
		"rclone::local:/srv/x,y:": "rclone::local:/srv/x,y:",
		`rclone::s3,secret_access_key=geheim,endpoint="http://h:1":bucket/path`: "rclone::s3:bucket/path",
		"rclone:remote,pass='ge:heim':path":                                     "rclone:remote:path",
		`rclone::webdav,pass=se"cret,url="http://h:1":x`:                        "rclone::webdav:…", // nobody can tell where they end
	} {
		c, err := rclone.Parse(location)
		if err != nil || c.Public() != public || "rclone:"+c.Remote != location {
			t.Errorf("%s: %+v, %v; public %s, want %s", location, c, err, c.Public(), public)
		}
	}
	for _, location := range []string{"rclone:", "rclone:remote", "rclone:--config:x", "sftp:x:y"} {
		if _, err := rclone.Parse(location); err == nil {
			t.Errorf("%s: no error", location)
		}
	}
}

func TestApply(t *testing.T) {
	c := config(t, "rclone:r:p", map[string]string{
		"program": `ssh  -i 'my key' "a b" r`, "args": "", "timeout": "3s", "connections": "4",
	})
	if diff := cmp.Diff([]string{"ssh", "-i", "my key", "a b", "r"}, c.Program); diff != "" || len(c.Args) != 0 || c.Timeout != 3*time.Second || c.Connections != 4 {
		t.Errorf("%+v, program -want +got:\n%s", c, diff)
	}
	for key, value := range map[string]string{"timeout": "3", "program": "'x", "connections": "0", "prog": "x"} {
		if err := c.Apply(map[string]string{key: value}); err == nil || !strings.Contains(err.Error(), "rclone."+key) {
			t.Errorf("%s=%s: error %v", key, value, err)
		}
	}
}
