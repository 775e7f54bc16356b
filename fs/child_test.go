package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vitrine/fs/tree/treetest"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// syncBuffer is a bytes.Buffer for several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

type treeLoader interface {
	Snapshots(ctx context.Context) ([]*snapshot.Snapshot, error)
	FindNode(ctx context.Context, root blob.ID, p string) (*snapshot.Node, error)
}

// slowSource takes its time for every blob.
type slowSource struct {
	*treetest.Source
	delay time.Duration
}

func (s slowSource) ReadBlob(ctx context.Context, h blob.Handle, buf []byte) ([]byte, error) {
	time.Sleep(s.delay)
	return s.Source.ReadBlob(ctx, h, buf)
}

// childCommand prepares the test binary to play another program.
func childCommand(mode string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), childEnv+"="+mode)
	return cmd
}

// child is what the test binary does as another program; the result is its exit code.
func child(mode string, args []string) int {
	var err error
	switch mode {
	case "interrupted":
		err = interruptedReader(args[0])
	case "readers":
		err = stallingReaders(args[0], args[1])
	case "serve":
		err = serveUntilKilled(args[0], Options{})
	case "serve others":
		err = serveUntilKilled(args[0], Options{AllowOther: true})
	default:
		err = fmt.Errorf("no such mode: %q", mode)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// interruptedReader walks and reads a tree with plain system calls, on several threads, while
// signals rain down on them: those of this program, and those that the Go runtime sends to itself to
// preempt and to collect garbage. It does not try again after EINTR.
func interruptedReader(dir string) error {
	const readers = 4
	stop := make(chan struct{})
	errs := make(chan error)
	for range readers {
		go func() {
			runtime.LockOSThread()
			go interrupt(unix.Gettid(), stop)
			errs <- readTree(dir)
		}()
	}
	go func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	}()
	var err error
	for range readers {
		err = errors.Join(err, <-errs)
	}
	close(stop)
	return err
}

// interrupt sends signals to a thread of this process.
func interrupt(thread int, stop chan struct{}) {
	pid := os.Getpid()
	for {
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Microsecond):
			unix.Tgkill(pid, thread, unix.SIGURG)
		}
	}
}

func readTree(dir string) error {
	entries, err := rawNames(dir)
	if err != nil {
		return err
	}
	for _, name := range entries {
		path := filepath.Join(dir, name)
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return fmt.Errorf("lstat %s: %w", name, err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			if err := readTree(path); err != nil {
				return err
			}
			continue
		}
		// Direct reads wait for the reply itself, others for the page.
		for _, flags := range []int{unix.O_RDONLY | unix.O_DIRECT, unix.O_RDONLY} {
			if err := rawRead(path, flags, st.Size); err != nil {
				return fmt.Errorf("%s, flags %#x: %w", name, flags, err)
			}
		}
	}
	return nil
}

func rawNames(dir string) ([]string, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fmt.Errorf("open directory: %w", err)
	}
	defer unix.Close(fd)
	var names []string
	buf := make([]byte, 4096)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n == 0 {
			return names, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func rawRead(path string, flags int, want int64) error {
	fd, err := unix.Open(path, flags, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf := make([]byte, 8192)
	total := int64(0)
	for {
		n, err := unix.Read(fd, buf)
		if err != nil {
			return fmt.Errorf("after %d bytes: %w", total, err)
		}
		if n == 0 {
			break
		}
		total += int64(n)
	}
	if total != want {
		return fmt.Errorf("%d bytes of %d", total, want)
	}
	return nil
}

func TestRow21InterruptedReaders(t *testing.T) {
	src := treetest.New(t)
	var dirs []snapshot.Node
	for i := range 20 {
		chunks := make([]string, 5)
		for k := range chunks {
			chunks[k] = strings.Repeat(fmt.Sprintf("chunk %d %d ", i, k), 600)
		}
		dirs = append(dirs, src.Dir(fmt.Sprintf("d%d", i), src.File("f", chunks...)))
	}
	src.AddSnapshot(time.Now(), src.Tree(dirs...), nil)
	dir, _, c := mountCounted(t, slowSource{src, 5 * time.Millisecond}, Options{})
	out, err := childCommand("interrupted", dir+"/snapshots/latest/").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
	if c.interrupts.Load() == 0 {
		t.Error("no request was interrupted")
	}
	t.Logf("%d requests were interrupted", c.interrupts.Load())
}

// serveUntilKilled serves a small tree until its standard input ends.
func serveUntilKilled(dir string, o Options) error {
	t := &childTB{}
	src := treetest.New(t)
	src.AddSnapshot(time.Now(), src.Tree(src.File("f", "x")), nil)
	s, err := Mount(context.Background(), dir, src, o)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin) // until it is closed
	err = s.Unmount()
	s.Wait()
	return err
}

// childTB is the testing.TB of a program that is no test.
type childTB struct{ testing.TB }

func (*childTB) Helper()           {}
func (*childTB) Fatal(args ...any) { panic(fmt.Sprint(args...)) }
