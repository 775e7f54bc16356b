package fs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/fs/tree/treetest"
)

// small is a source with one snapshot of one file.
func small(t *testing.T) *treetest.Source {
	src := treetest.New(t)
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(src.File("f", "hello\n")), nil)
	return src
}

func TestRow22MountPoints(t *testing.T) {
	dir := workDir(t)
	sh(t, dir, "mkdir -p repo/data empty full outer/inner; touch file full/x; ln -s empty link; ln -s repo repolink")
	repoPath := dir + "/repo"
	mounted := mountTest(t, small(t), Options{})
	for _, tc := range []struct{ name, at, want string }{
		{"missing", "missing", "no such file"},
		{"file", "file", "is not a directory"},
		{"not empty", "full", "is not empty"},
		{"the repository", "repo", "would cover the repository"},
		{"the repository by another name", "repolink", "would cover the repository"},
		{"above the repository", ".", "would cover the repository"},
		{"in the repository", "repo/data", "lies in the repository"},
		{"mounted already", mounted, "mounted there already"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			at := tc.at
			if !filepath.IsAbs(at) {
				at = filepath.Join(dir, at)
			}
			s, err := Mount(t.Context(), at, small(t), Options{RepoPath: repoPath})
			if err == nil {
				s.Unmount()
				t.Fatal("it mounts")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v; want %q in it", err, tc.want)
			}
		})
	}
	for _, at := range []string{"full", "link"} { // allowed; and a symlink is followed
		s, err := Mount(t.Context(), filepath.Join(dir, at), small(t), Options{RepoPath: repoPath, NonEmpty: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := sh(t, dir, "cat "+at+"/snapshots/latest/f"); got != "hello\n" {
			t.Errorf("%s: %q", at, got)
		}
		if err := s.Unmount(); err != nil {
			t.Error(err)
		}
	}
}

func TestRow22KilledServer(t *testing.T) {
	dir := filepath.Join(workDir(t), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	mountDirs.Store(dir, true)
	cmd := childCommand("serve", dir)
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if got := sh(t, dir, "cat snapshots/latest/f"); got != "x" {
		t.Errorf("content %q", got)
	}
	held, err := os.Open(dir + "/snapshots/latest/f")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	cmd.Process.Kill()
	cmd.Wait()
	for _, line := range []string{"ls snapshots", "cat snapshots/latest/other", "stat -f ."} { // what nobody remembers
		out, err := try("/", "timeout", "20", "bash", "-c", fmt.Sprintf("cd '%s' && %s", dir, line))
		if err == nil || !strings.Contains(out, "Transport endpoint is not connected") {
			t.Errorf("%s, after the server was killed: %v, %s", line, err, out)
		}
	}
	if n, err := held.ReadAt(make([]byte, 10), 0); !errors.Is(err, unix.ENOTCONN) && n == 0 {
		t.Errorf("a file that was open: %v", err) // unless the kernel has its bytes
	}
	_, err = Mount(t.Context(), dir, small(t), Options{})
	if err == nil || !strings.Contains(err.Error(), "server is gone") || !strings.Contains(err.Error(), "fusermount3 -uz "+dir) {
		t.Errorf("mount over a dead server: %v", err)
	}
	run(t, "/", "fusermount3", "-uz", dir) // what it says helps
	s, err := Mount(t.Context(), dir, small(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unmount(); err != nil {
		t.Error(err)
	}
}

func TestMountFails(t *testing.T) {
	dir := workDir(t)
	src := small(t)
	src.FailLists(errors.New("offline"))
	if _, err := Mount(t.Context(), dir, src, Options{}); err == nil || !strings.Contains(err.Error(), "list snapshots: offline") {
		t.Errorf("mount without a list of snapshots: %v", err)
	}
	if _, err := Mount(t.Context(), dir, small(t), Options{PathTemplates: []string{"%x"}}); err == nil {
		t.Error("mount with a bad template")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Mount(ctx, dir, small(t), Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("mount with a context that has ended: %v", err)
	}
}

// settle waits until no more goroutines run than before.
func settle(t *testing.T, before int) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestUnmountLeavesNothing(t *testing.T) {
	dir := workDir(t)
	before := runtime.NumGoroutine()
	for _, how := range []string{"Unmount", "umount", "fusermount3"} {
		s, err := Mount(t.Context(), dir, small(t), Options{})
		if err != nil {
			t.Fatal(err)
		}
		sh(t, dir, "cat snapshots/latest/f; ls -lR . >/dev/null")
		switch how {
		case "umount":
			run(t, "/", "umount", dir)
		case "fusermount3":
			run(t, "/", "fusermount3", "-u", dir)
		}
		if how != "Unmount" {
			s.Wait()
		}
		for range 2 { // the second time it does nothing
			if err := s.Unmount(); err != nil {
				t.Errorf("after %s: %v", how, err)
			}
		}
		s.Wait()
		settle(t, before)
		if _, err := findMount(dir); err == nil {
			t.Errorf("%s: still mounted", how)
		}
	}
}

func TestRow22BusyUnmount(t *testing.T) {
	var log syncBuffer
	before := runtime.NumGoroutine()
	dir := workDir(t)
	s, err := Mount(t.Context(), dir, small(t), Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.fuse.WaitMount(); err != nil { // as mountCounted does
		t.Fatal(err)
	}
	f, err := os.Open(dir + "/snapshots/latest/f")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Unmount(); err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf(`msg="programs still use the mount %s: it is detached and ends when they leave"`+"\n", dir); !strings.Contains(log.String(), want) {
		t.Errorf("the log says: %s", log.String())
	}
	if _, err := findMount(dir); err == nil {
		t.Error("still mounted")
	}
	p := make([]byte, 100)
	if n, err := f.Read(p); err != nil || string(p[:n]) != "hello\n" {
		t.Errorf("whoever has a file open reads %q, %v", p[:n], err)
	}
	if s.stopped() {
		t.Error("the server stopped under its user")
	}
	f.Close()
	s.Wait()
	settle(t, before)
}

func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestOptionsOfTheMount(t *testing.T) {
	dir := mountTest(t, small(t), Options{})
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var line string
	for _, l := range lines(string(table)) {
		if strings.Contains(l, dir) {
			line = l
		}
	}
	for _, want := range []string{"ro,", "nosuid", "nodev", "fuse.vitrine vitrine", "default_permissions", "max_read=1048576"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %q", want, line)
		}
	}
	if strings.Contains(line, "allow_other") {
		t.Errorf("others are let in: %q", line)
	}
	m, err := findMount(dir)
	if err != nil {
		t.Fatal(err)
	}
	if kb, err := os.ReadFile("/sys/class/bdi/" + m.device + "/read_ahead_kb"); err != nil || strings.TrimSpace(string(kb)) != fmt.Sprint(kernelReadahead) {
		t.Errorf("read_ahead_kb: %q, %v", kb, err)
	}
	if err := os.WriteFile(dir+"/x", nil, 0o644); !errors.Is(err, unix.EROFS) {
		t.Errorf("writing: %v", err)
	}
}

func TestParseMountInfo(t *testing.T) {
	const table = `20 1 254:0 / / rw,relatime - ext4 /dev/vda rw
42 20 0:39 / /mnt/a\040b\134c ro,nosuid shared:1 master:2 - fuse.vitrine vitrine ro
43 20 0:40 / /mnt/a rw - tmpfs tmpfs rw
44 20 0:41 / /mnt/a rw - fuse.restic restic rw
short line
`
	for dir, want := range map[string]mountInfo{
		"/":          {"254:0", "ext4"},
		`/mnt/a b\c`: {"0:39", "fuse.vitrine"},
		"/mnt/a":     {"0:41", "fuse.restic"}, // the topmost
	} {
		if got, err := parseMountInfo([]byte(table), dir); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", dir, got, err, want)
		}
	}
	if _, err := parseMountInfo([]byte(table), "/mnt"); err == nil {
		t.Error("/mnt is found")
	}
}

// A fetch that hangs holds up neither the death of who waits for it nor the end of the mount.
func TestUnmountWhileFetching(t *testing.T) {
	t.Run("by the server", func(t *testing.T) { unmountWhileFetching(t, (*Server).Unmount) })
	t.Run("by somebody else", func(t *testing.T) {
		unmountWhileFetching(t, func(s *Server) error {
			err := unix.Unmount(s.dir, 0)
			s.Wait()
			return err
		})
	})
}

func unmountWhileFetching(t *testing.T, unmount func(s *Server) error) {
	before := runtime.NumGoroutine()
	src := treetest.New(t)
	src.AddSnapshot(time.Now(), src.Tree(src.File("f", "first chunk", "second chunk")), nil)
	dir := workDir(t)
	mountDirs.Store(dir, true)
	s, err := Mount(t.Context(), dir, src, Options{})
	if err != nil {
		t.Fatal(err)
	}
	sh(t, dir, "ls -lR snapshots/latest/ >/dev/null")
	open := src.CloseGate()
	defer open()
	cat := exec.Command("cat", dir+"/snapshots/latest/f")
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if s.nodes.blobStats().Misses == 0 {
			return errors.New("nothing is being fetched")
		}
		return nil
	})
	died := make(chan error)
	go func() {
		cat.Process.Kill()
		died <- cat.Wait()
	}()
	select {
	case <-died:
	case <-time.After(5 * time.Second):
		open()
		t.Fatal("a reader that waits for a page cannot be killed")
	}
	done := make(chan error)
	go func() { done <- unmount(s) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		open()
		t.Fatal("the end of the mount waits for the fetch")
	}
	s.Wait()
	settle(t, before)
}

// asUserScript mounts as nobody, in a mount namespace of its own where /dev/fuse is open to all as
// on any desktop, looks at it, and ends the server.
const asUserScript = `
mount --make-rprivate /
mkdir dev; mount -t tmpfs -o mode=755 tmpfs dev; mknod dev/fuse c 10 229; chmod 666 dev/fuse
mount --bind dev/fuse /dev/fuse
nobody="setpriv --reuid=65534 --regid=65534 --clear-groups"
coproc SERVER { exec $nobody ./program mnt; }
pid=$SERVER_PID
read -r line <&"${SERVER[0]}"; echo "server: $line"
$nobody cat mnt/snapshots/latest/f; echo
$nobody stat -c 'owner %u' mnt/snapshots
ls mnt && echo 'root is let in'
eval "exec ${SERVER[1]}>&-"
wait $pid; echo "exit $?"
grep -c "$PWD/mnt" /proc/self/mounts
`

// Other users than root mount and unmount through fusermount3.
func TestMountAsUser(t *testing.T) {
	dir := workDir(t)
	sh(t, dir, fmt.Sprintf("chmod 755 .; cp '%s' program; chmod 755 program; mkdir mnt; chown 65534:65534 mnt", os.Args[0]))
	cmd := exec.Command("unshare", "--mount", "bash", "-c", asUserScript)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), childEnv+"=serve", "LC_ALL=C")
	out, _ := cmd.CombinedOutput() // the last grep finds nothing, which is an error to it
	want := []string{"server: ready", "x", "owner 65534", "ls: cannot access 'mnt': Permission denied", "exit 0", "0"}
	if diff := cmp.Diff(want, lines(string(out))); diff != "" {
		t.Error(diff)
	}
}
