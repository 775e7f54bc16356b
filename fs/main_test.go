package fs

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
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vitrine/fs/tree"
	"vitrine/repo"
	"vitrine/repo/backend/local"
	"vitrine/repo/repotest"
	"vitrine/repo/source/sourcetest"
)

// childEnv makes the test binary play a program that reads from a mount.
const childEnv = "VITRINE_FS_TEST_CHILD"

// long is the full size of tests whose short form asserts the same on less.
var long = os.Getenv("VITRINE_ACCEPT") == "long"

// mountDirs are the mount points that tests used.
var mountDirs sync.Map

// TestMain fails the run when a mount is left over.
func TestMain(m *testing.M) {
	if mode := os.Getenv(childEnv); mode != "" {
		os.Exit(child(mode, os.Args[1:]))
	}
	code := m.Run()
	mountDirs.Range(func(dir, _ any) bool {
		if found, err := findMount(dir.(string)); err == nil {
			fmt.Fprintf(os.Stderr, "left over: %s is still mounted (%s)\n", dir, found.fsType)
			detach(dir.(string), true)
			code = 1
		}
		return true
	})
	fixture.remove()
	os.Exit(code)
}

// workDir returns a directory on a file system with extended attributes and holes.
func workDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "vitrine-fs-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// mountTest mounts src for the length of the test and returns the mount point.
func mountTest(t testing.TB, src Source, o Options) string {
	t.Helper()
	dir, _ := mountServer(t, src, o)
	return dir
}

func mountServer(t testing.TB, src Source, o Options) (string, *Server) {
	t.Helper()
	dir, s, _ := mountCounted(t, src, o)
	return dir, s
}

// mountPoint returns an empty directory that everybody can reach.
func mountPoint(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(workDir(t), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	mountDirs.Store(dir, true)
	return dir
}

// mountCounted also counts the requests.
func mountCounted(t testing.TB, src Source, o Options) (string, *Server, *counter) {
	t.Helper()
	dir := mountPoint(t)
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(&logWriter{t: t}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	}
	var c *counter
	s, err := mount(t.Context(), dir, src, o, func(n *nodes) fuse.RawFileSystem {
		c = &counter{nodes: n}
		return c
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.fuse.WaitMount(); err != nil { // because tests open files by package os, see Mount
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Unmount(); err != nil {
			t.Error(err)
		}
		s.Wait()
	})
	return dir, s, c
}

// logWriter sends the mount's log to the test's.
type logWriter struct{ t testing.TB }

func (w *logWriter) Write(p []byte) (int, error) {
	w.t.Logf("mount: %s", bytes.TrimSpace(p))
	return len(p), nil
}

// counter counts requests on their way to the nodes.
type counter struct {
	*nodes
	lookups, getattrs, readBytes, lists, forgets, interrupts atomic.Int64

	mu      sync.Mutex // guards the rest
	watched bool       // between watch and asked
	inside  []request
}

// request is one that asks about a node inside a snapshot.
type request struct {
	op   string
	node tree.NodeID
	name string // looked up in node, or empty
}

// watch begins to note the requests inside snapshots.
func (c *counter) watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watched, c.inside = true, nil
}

// asked ends watch and returns what the kernel asked for, in words.
func (c *counter) asked() (words []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.inside {
		words = append(words, fmt.Sprintf("%s %s %q", r.op, c.tree.Path(context.Background(), r.node), r.name))
	}
	c.watched = false
	return words
}

func (c *counter) note(op string, node uint64, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id := tree.NodeID(node); c.watched && !c.tree.IsList(id) {
		c.inside = append(c.inside, request{op, id, name})
	}
}

// interrupted is called at the end of a request.
func (c *counter) interrupted(cancel <-chan struct{}) {
	select {
	case <-cancel:
		c.interrupts.Add(1)
	default:
	}
}

func (c *counter) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	defer c.interrupted(cancel)
	c.lookups.Add(1)
	c.note("look up in", h.NodeId, name)
	return c.nodes.Lookup(cancel, h, name, out)
}

func (c *counter) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	c.getattrs.Add(1)
	c.note("stat", in.NodeId, "")
	return c.nodes.GetAttr(cancel, in, out)
}

func (c *counter) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	defer c.interrupted(cancel)
	c.readBytes.Add(int64(in.Size))
	c.note("read", in.NodeId, "")
	return c.nodes.Read(cancel, in, buf)
}

func (c *counter) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	defer c.interrupted(cancel)
	c.lists.Add(1)
	c.note("list", in.NodeId, "")
	return c.nodes.ReadDirPlus(cancel, in, out)
}

func (c *counter) Forget(id, n uint64) {
	c.forgets.Add(1)
	c.nodes.Forget(id, n)
}

// run runs a command and returns what it printed; it must succeed.
func run(t testing.TB, dir, name string, args ...string) string {
	t.Helper()
	out, err := try(dir, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// try is run for commands that may fail. The command goes to its directory after it has
// begun, by env: a child of ours that does so before holds up our garbage collector, which holds up
// the answer that the child waits for, when the directory is in a mount that we serve.
func try(dir, name string, args ...string) (string, error) {
	cmd := exec.Command("env", append([]string{"-C", dir, name}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TZ=UTC")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// sh runs a line of shell.
func sh(t testing.TB, dir, line string) string {
	t.Helper()
	return run(t, dir, "bash", "-euo", "pipefail", "-c", line)
}

const resticPassword = "geheim"

// restic runs Debian's restic on the repository.
func restic(t testing.TB, repoDir, workDir string, args ...string) string {
	t.Helper()
	cmd := exec.Command("restic", args...)
	cmd.Dir = workDir
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+resticPassword, "RESTIC_REPOSITORY="+repoDir, "TZ=UTC",
		"RESTIC_CACHE_DIR="+filepath.Join(filepath.Dir(repoDir), "restic-cache"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("restic %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// initRestic makes a repository for restic, with a key that costs nothing to derive: restic's own
// takes half a second each time it is used, and ten times that under the race detector.
func initRestic(t testing.TB, repoDir string) {
	t.Helper()
	be, err := local.Create(repoDir)
	if err != nil {
		t.Fatal(err)
	}
	_, err = repo.Init(t.Context(), be, repo.InitOptions{Password: []byte(resticPassword), KDF: repotest.KDF})
	if err := errors.Join(err, be.Close()); err != nil {
		t.Fatal(err)
	}
}

// openRestic opens a repository that restic uses, too.
func openRestic(t testing.TB, repoDir string) *repo.Repository {
	t.Helper()
	be, err := local.Open(repoDir)
	if err != nil {
		t.Fatal(err)
	}
	r, err := repo.Open(t.Context(), be, repo.Options{Password: []byte(resticPassword), OpenIndex: repotest.OpenMapIndex})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// zooFixture is a zoo backed up by restic, made once for all tests.
type zooFixture struct {
	once           sync.Once
	dir, src, repo string
}

var fixture zooFixture

// zoo returns the source tree and a repository with a snapshot of it: its root directory holds
// the directory zoo.
func zoo(t testing.TB) (src string, r *repo.Repository) {
	t.Helper()
	fixture.once.Do(func() {
		dir, err := os.MkdirTemp("/dev/shm", "vitrine-fs-zoo-")
		if err != nil {
			t.Fatal(err)
		}
		fixture.dir, fixture.src, fixture.repo = dir, filepath.Join(dir, "zoo"), filepath.Join(dir, "repo")
		if err := errors.Join(os.Mkdir(fixture.src, 0o755), os.Chmod(dir, 0o755)); err != nil {
			t.Fatal(err)
		}
		sourcetest.MakeZoo(t, fixture.src)
		initRestic(t, fixture.repo)
		restic(t, fixture.repo, dir, "backup", "zoo")
	})
	return fixture.src, openRestic(t, fixture.repo)
}

func (f *zooFixture) remove() {
	if f.dir != "" {
		os.RemoveAll(f.dir)
	}
}

// lines splits what a command printed.
func lines(s string) []string {
	if s = strings.TrimSuffix(s, "\n"); s == "" {
		return nil
	}
	return strings.Split(s, "\n")
}
