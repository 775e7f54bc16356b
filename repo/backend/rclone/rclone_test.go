package rclone_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/linetest"
	"vitrine/repo/backend/rclone"
	"vitrine/repo/backend/retry"
	"vitrine/repo/backend/s3/miniotest"
)

func TestMain(m *testing.M) {
	if said := os.Getenv("RCLONE_TEST_SAYS"); said != "" {
		failingRclone(said)
		return
	}
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
}

// Nothing of the contract changes when the line of rclone to its store breaks all the time, when calls are made again
// as the program does.
func TestConformanceOnBrokenLine(t *testing.T) {
	server := miniotest.Start(t)
	miniotest.Setenv(t)
	line := linetest.New(t, server.Addr, linetest.Reset(20*time.Millisecond, 0.01))
	line.CutEvery(300 * time.Millisecond)
	var stores atomic.Int64
	backendtest.RunRepeating(t, 8, func() bool { return line.Cuts() >= 5 }, func(t *testing.T) backend.Backend {
		location := fmt.Sprintf("rclone::s3,provider=Minio,env_auth=true,endpoint='http://%s':broken/%d", line.Addr, stores.Add(1))
		var be backend.Backend
		err := retry.Do(t.Context(), retry.Options{Total: time.Minute}, func() (err error) {
			be, err = rclone.Create(t.Context(), config(t, location, nil))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return retry.New(be, retry.Options{Total: time.Minute})
	})
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
		"unknown remote":  {"rclone:nowhere:p", nil, "didn't find section in config file (`rclone config` makes a remote, `rclone listremotes` shows those of this user)"},
		"it ends":         {"rclone:r:p", map[string]string{"program": "sh -c 'echo it is full >&2; exit 3'"}, "rclone says: it is full"},
		"it says nothing": {"rclone:r:p", map[string]string{"program": "false"}, "the program false ended before it answered and said nothing (exit status 1)"},
		"it does nothing": {"rclone:r:p", map[string]string{"program": "true"}, "the program true ended before it answered and said nothing (exit status 0): is it rclone? See -o rclone.program"},
		"it reads only":   {"rclone:r:p", map[string]string{"program": "sh -c 'exec head -c 10 >/dev/null'"}, "the program sh ended before it answered"},
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
	for _, want := range []string{`level=INFO msg="rclone: one"`, `level=INFO msg="rclone: NOTICE: two"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log has no %s:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), "three") {
		t.Errorf("what the error says is logged, too:\n%s", log.String())
	}
}

// TestUsage: of a command line that rclone does not know, what is wrong is told and not what would be right.
func TestUsage(t *testing.T) {
	var log bytes.Buffer
	c := config(t, "rclone::memory:", map[string]string{"args": "serve restic --stdio --nonsense"})
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	_, err := rclone.Open(t.Context(), c)
	if err == nil || !strings.Contains(err.Error(), "rclone says: Fatal error: unknown flag: --nonsense") {
		t.Errorf("Open: %v", err)
	}
	if n := strings.Count(log.String(), "\n"); n > 3 || strings.Contains(log.String(), "--addr") || strings.Contains(log.String(), "WARN") {
		t.Errorf("%d lines in the log:\n%s", n, log.String())
	}
}

// TestFull: a store that says by way of rclone that it is full is full, and what else it says is in the error.
func TestFull(t *testing.T) {
	for said, class := range map[string]error{
		"no space left on device":              backend.ErrFull,
		"googleapi: Error 403: Quota exceeded": backend.ErrFails,
		"the moon is full":                     backend.ErrFails,
	} {
		// A disk that is full is not to be had without root; what rclone says of one is.
		c := config(t, "rclone::local:"+t.TempDir(), map[string]string{"program": os.Args[0]})
		var log bytes.Buffer
		c.Log = slog.New(slog.NewTextHandler(&log, nil))
		rclone.SetWordsTime(t, time.Minute) // a busy machine is late with them
		t.Setenv("RCLONE_TEST_SAYS", said)
		be, err := rclone.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		content := backendtest.Content(1, 1000)
		err = be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content)
		if !errors.Is(err, class) || !strings.Contains(err.Error(), "says rclone: Post request rcat error: "+said) {
			t.Errorf("%v, want %v", err, class)
		}
		if strings.Contains(log.String(), "WARN") {
			t.Errorf("warnings in the log:\n%s", log.String())
		}
		if err := be.Close(); err != nil {
			t.Error(err)
		}
	}
}

// failingRclone is an rclone whose store takes nothing: it answers every upload with 500, and then says why.
func failingRclone(said string) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	stdio, there := net.Pipe()
	go io.Copy(os.Stdout, there)
	go func() {
		io.Copy(there, os.Stdin)
		os.Exit(0)
	}()
	server := &http.Server{Protocols: protocols, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.Header().Set("Server", "rclone/test")
		if r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		w.WriteHeader(http.StatusInternalServerError)
		go func() {
			time.Sleep(20 * time.Millisecond)
			fmt.Fprintf(os.Stderr, "2026/01/02 03:04:05 ERROR : data/ab/%s: Post request rcat error: %s\n", path.Base(r.URL.Path), said)
		}()
	})}
	server.Serve(&once{conn: stdio})
}

// once is a listener that has one connection.
type once struct {
	net.Listener
	conn net.Conn
}

func (o *once) Accept() (conn net.Conn, err error) {
	if o.conn == nil {
		select {} // there is no other
	}
	conn, o.conn = o.conn, nil
	return conn, nil
}

func (o *once) Close() error { return nil }

// What a remote says in its own name is not repeated, whatever rclone says of it, nor seen in the list of processes.
func TestSecrets(t *testing.T) {
	for name, c := range map[string]struct {
		remote string
		says   string // besides the remote itself
		keeps  string // what the person must see
	}{
		"plain":       {`:webdav,pass=geheim1,key='geheim2',url="http://h":x`, `key=\x27geheim2\x27 at geheim1`, ":webdav:x"},
		"comma":       {`:webdav,url="http://h/",pass="a,geheim":path`, `"a,geheim" or a%2Cgeheim`, ":webdav:path"},
		"user in URL": {`:webdav,url="http://anna:geheim@127.0.0.1:1/",vendor=other:path`, `dial http://anna:geheim@127.0.0.1:1/: no`, "127.0.0.1:1/: no"},
		"quotes":      {`:webdav,pass="geheim""geheim,x",vendor=other:path`, `pass "geheim\"geheim,x"`, ":webdav:path"},
		"no quotes":   {`:webdav,url=http://anna:geheim@h/,pass=geheim2:path`, "x geheim2", ":webdav:…"},
		"open quote":  {`:webdav,url=x,pass="geheim,geheim2:path`, "x geheim2", ":webdav:…"},
		"named":       {`far,pass=geheim:path`, "x", "far:path"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			// The remote as it is, as %q writes it, and what else is said.
			script := "#!/bin/sh\ncat " + dir + "/says >&2\necho the end of $# >&2\n"
			says := fmt.Sprintf("no such remote %s\nno such remote %q\n%s\n", c.remote, c.remote, strings.ReplaceAll(c.says, `\x27`, "'"))
			for file, content := range map[string]string{"program": script, "says": says} {
				if err := os.WriteFile(dir+"/"+file, []byte(content), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			cfg := config(t, "rclone:"+c.remote, map[string]string{"program": dir + "/program"})
			cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
			_, err := rclone.Open(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), "the end of") {
				t.Fatalf("Open: %v", err)
			}
			all := err.Error() + "\n" + log.String()
			if strings.Contains(all, "geheim") || !strings.Contains(all, c.keeps) {
				t.Errorf("a secret is told, or there is no %q:\n%s", c.keeps, all)
			}
		})
	}
}

// rclone itself is given the parameters of a remote in its environment, with arguments of its own too, and understands them.
func TestParametersInEnvironment(t *testing.T) {
	t.Setenv("RCLONE_CONFIG_FAR-AWAY_TYPE", "alias")
	t.Setenv("RCLONE_CONFIG_FAR_AWAY_TYPE", "alias")
	dir := t.TempDir()
	for remote, run := range map[string]struct{ program, short string }{
		fmt.Sprintf(`:alias,remote="%s/a,b":repo`, dir):     {"rclone", ":alias:repo"},
		fmt.Sprintf(`far-away,remote='%s/it''s':repo`, dir): {"rclone", "far-away:repo"},
		fmt.Sprintf(`:alias,remote="%s/c,d":repo`, dir):     {"rclone --retries 2", ":alias:repo"},
	} {
		be, err := rclone.Create(t.Context(), config(t, "rclone:"+remote, map[string]string{"program": run.program}))
		if err != nil {
			t.Errorf("%s: %v", remote, err)
			continue
		}
		for _, pid := range children(t) {
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			if argv := strings.Split(string(line), "\x00"); err != nil || argv[len(argv)-2] != run.short {
				t.Errorf("%s runs as %q, %v", remote, argv, err)
			}
		}
		be.Close()
	}
	for _, name := range []string{"a,b", "it's", "c,d"} {
		if _, err := os.Stat(dir + "/" + name + "/repo/data"); err != nil {
			t.Error(err)
		}
	}
}

func TestParse(t *testing.T) {
	for location, public := range map[string]string{
		"rclone:remote:path":      "rclone:remote:path",
		"rclone::local:/srv/x,y:": "rclone::local:/srv/x,y:",
		`rclone::s3,secret_access_key=geheim,endpoint="http://h:1":bucket/path`: "rclone::s3:bucket/path",
		"rclone:remote,pass='ge:heim':path":                                     "rclone:remote:path",
		`rclone::webdav,pass=se"cret,url="http://h:1":x`:                        "rclone::webdav:x",
		`rclone::webdav,pass="secret,url=http://h:1:x`:                          "rclone::webdav:…", // nobody can tell where they end
		`rclone::webdav,url=http://anna:secret@h/,pass=se:cret:x`:               "rclone::webdav:…",
		`rclone::webdav,env_auth,pass="a""b,c":x`:                               "rclone::webdav:x",
		`rclone:/srv/x,y=z:`:                                                    "rclone:/srv/x,y=z:",
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
