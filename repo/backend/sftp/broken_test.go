package sftp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/sftp"
	"vitrine/repo/backend/sftp/sshdtest"
)

// temporary returns the temporary files below a directory.
func temporary(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(dir + "/data/*/*-tmp-*")
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// storm saves and reads in parallel, while something breaks the connections, until each worker has
// succeeded again after it. Errors must be transient and no file may be half there.
func storm(t *testing.T, be backend.Backend, dir string, breaks func(round int)) {
	shared := backendtest.Content(1, 8<<20)
	sharedFile := backendtest.FileOf(backend.Pack, shared)
	if err := be.Save(t.Context(), sharedFile, shared); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	failed, done := 0, 0
	succeeded := func() {
		mu.Lock()
		defer mu.Unlock()
		done++
	}
	transient := func(err error) {
		if backend.IsPermanent(err) {
			t.Errorf("a broken connection gives a permanent error: %v", err)
		}
		mu.Lock()
		failed++
		mu.Unlock()
	}
	stop := make(chan struct{})
	var group sync.WaitGroup
	for w := range 4 {
		group.Go(func() {
			content := backendtest.Content(uint64(10+w), 6<<20)
			f := backendtest.FileOf(backend.Pack, content)
			p := make([]byte, 4<<20)
			for over := false; !over; {
				select {
				case <-stop:
					over = true
				default:
				}
				for err := be.Save(t.Context(), f, content); err != nil; err = be.Save(t.Context(), f, content) {
					transient(err)
				}
				for err := be.ReadAt(t.Context(), sharedFile, p, 100); err != nil; err = be.ReadAt(t.Context(), sharedFile, p, 100) {
					transient(err)
				}
				succeeded()
				if !bytes.Equal(p, shared[100:][:len(p)]) {
					t.Error("a read after a broken one gives wrong bytes")
				}
			}
		})
	}
	counts := func() (int, int) {
		mu.Lock()
		defer mu.Unlock()
		return failed, done
	}
	// On a busy machine the workers take their time to begin, and connections to be made. Who meets only breaks cannot even
	// remove what is half there, so each break waits for a call that came through after the one before.
	begin := time.Now()
	inTime := func() bool { return time.Since(begin) < time.Minute }
	for round, last := 0, 0; ; round++ {
		time.Sleep(150 * time.Millisecond)
		broken, through := counts()
		for ; through == last && inTime(); broken, through = counts() {
			time.Sleep(10 * time.Millisecond)
		}
		if round >= 8 && broken > 0 || !inTime() {
			break
		}
		last = through
		breaks(round)
	}
	close(stop)
	group.Wait()
	if failed == 0 {
		t.Error("no call met a broken connection; the test tests nothing")
	}
	t.Logf("%d calls met a broken connection", failed)
	err := be.List(t.Context(), backend.Pack, func(info backend.Info) error {
		content, err := os.ReadFile(filepath.Join(dir, backend.File{Kind: backend.Pack, Name: info.Name}.Path()))
		if err == nil && backendtest.FileOf(backend.Pack, content).Name != info.Name {
			err = fmt.Errorf("%s is not whole", info.Name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if left := temporary(t, dir); len(left) != 0 {
		t.Errorf("temporary files are left: %q", left)
	}
}

func TestProcessesKilled(t *testing.T) {
	s := sshdtest.Start(t)
	dir := t.TempDir()
	be := create(t, config(t, s, s.Port, dir))
	defer be.Close()
	storm(t, be, dir, func(int) {
		for _, pid := range sftp.Pids(be) {
			syscall.Kill(pid, syscall.SIGKILL)
		}
	})
}

func TestLineBreaks(t *testing.T) {
	s := sshdtest.Start(t)
	relay := sshdtest.NewRelay(t, s.Addr(), 10*time.Millisecond)
	dir := t.TempDir()
	be := create(t, config(t, s, relay.Port, dir))
	defer be.Close()
	storm(t, be, dir, func(int) { relay.Break() })
}

// A connection that ends while nobody uses it costs the next call nothing but the wait for another.
func TestIdleConnectionEnds(t *testing.T) {
	s := sshdtest.Start(t)
	be := create(t, config(t, s, s.Port, t.TempDir()))
	defer be.Close()
	for _, pid := range sftp.Pids(be) {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	for len(sftp.Pids(be)) > 0 {
		time.Sleep(time.Millisecond)
	}
	if _, err := be.Stat(t.Context(), backend.File{Kind: backend.Config}); !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("Stat: %v", err)
	}
}

// answers waits until the server answers. On a busy machine a connection may take longer than the server may be silent;
// then whoever waits is told, and the attempt goes on.
func answers(t *testing.T, be backend.Backend) {
	t.Helper()
	for begin := time.Now(); ; {
		_, err := be.Stat(t.Context(), backendtest.FileOf(backend.Pack, nil))
		if errors.Is(err, backend.ErrNotExist) {
			return
		}
		if backend.IsPermanent(err) || time.Since(begin) > 30*time.Second {
			t.Fatalf("the server does not answer: %v", err)
		}
	}
}

// Servers that hang are given up, also by Close.
func TestSilentServer(t *testing.T) {
	be := create(t, plain(t, t.TempDir()))
	sftp.DropConnections(be)
	sftp.SetSilent(be, 300*time.Millisecond)
	answers(t, be)
	for _, pid := range sftp.Pids(be) {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	_, err := be.Stat(t.Context(), backendtest.FileOf(backend.Pack, nil))
	if err == nil || backend.IsPermanent(err) || !strings.Contains(err.Error(), "silent for") {
		t.Errorf("Stat at a server that hangs: %v", err)
	}
	answers(t, be)
	for _, pid := range sftp.Pids(be) {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	begin := time.Now()
	be.Close()
	if took := time.Since(begin); took > 8*time.Second {
		t.Errorf("Close took %v", took)
	}
}

// Who waits for another connection where none comes is told so as soon as one whose server is silent; the attempt
// goes on.
func TestSilentWhileConnecting(t *testing.T) {
	dir := t.TempDir()
	cfg := plain(t, dir)
	gate := dir + "/gate"
	cfg.Command = append([]string{"sh", "-c", `while [ -e "$0" ]; do sleep 0.05; done; exec "$@"`, gate}, cfg.Command...)
	be := create(t, cfg)
	defer be.Close()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	sftp.DropConnections(be)
	sftp.SetSilent(be, 200*time.Millisecond)
	f := backendtest.FileOf(backend.Pack, nil)
	begin := time.Now()
	for range 2 {
		if _, err := be.Stat(t.Context(), f); err == nil || backend.IsPermanent(err) || !strings.Contains(err.Error(), "no connection for 200ms") {
			t.Errorf("Stat without a connection: %v", err)
		}
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("two calls took %v", took)
	}
	if err := os.Remove(gate); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := be.Stat(t.Context(), f); errors.Is(err, backend.ErrNotExist) {
			break
		} else if time.Since(begin) > 10*time.Second {
			t.Fatalf("there is no connection again: %v", err)
		}
	}
}

// A negative time waits for ever, and none for the usual one.
func TestNeverSilent(t *testing.T) {
	for after, want := range map[time.Duration]time.Duration{0: 5 * time.Minute, time.Second: time.Second, -1: 1<<63 - 1} {
		cfg := plain(t, t.TempDir())
		cfg.SilentAfter = after
		be := create(t, cfg)
		if got := sftp.Silent(be); got != want {
			t.Errorf("SilentAfter %v waits for %v, want %v", after, got, want)
		}
		be.Close()
	}
}

// What we send is no sign of life of the server: requests that go out all the time, as those that renew a lock, keep
// no dead connection.
func TestSilentServerIsAskedOften(t *testing.T) {
	cfg := plain(t, t.TempDir())
	cfg.Connections = 1
	be := create(t, cfg)
	defer be.Close()
	sftp.DropConnections(be)
	const silent = 300 * time.Millisecond
	sftp.SetSilent(be, silent)
	f := backendtest.FileOf(backend.Pack, nil)
	answers(t, be)
	for _, pid := range sftp.Pids(be) {
		syscall.Kill(pid, syscall.SIGSTOP)
	}
	begin := time.Now()
	stop := make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		for time.Since(begin) < 25*silent {
			select {
			case <-stop:
				return
			case <-time.After(silent / 6):
				others.Go(func() { be.Stat(t.Context(), f) }) // how it ends is up to the server
			}
		}
	})
	_, err := be.Stat(t.Context(), f)
	close(stop)
	others.Wait()
	if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), "silent for") || took > 20*silent {
		t.Errorf("Stat at a server that hangs: %v after %v", err, took)
	}
}

// A context that ends in the middle of a call ends it soon, also at a server that hangs, and the
// temporary file of a Save goes away.
func TestCancelledInTheMiddle(t *testing.T) {
	dir := t.TempDir()
	s := sshdtest.Start(t)
	relay := sshdtest.NewRelay(t, s.Addr(), 40*time.Millisecond)
	be := create(t, config(t, s, relay.Port, dir))
	defer be.Close()
	content := backendtest.Content(1, 16<<20)
	f := backendtest.FileOf(backend.Pack, content)
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	other := backendtest.FileOf(backend.Pack, []byte("another"))
	for name, call := range map[string]func(context.Context) error{
		"Save":    func(ctx context.Context) error { return be.Save(ctx, other, content) },
		"ReadAt":  func(ctx context.Context) error { return be.ReadAt(ctx, f, make([]byte, len(content)), 0) },
		"ReadAll": func(ctx context.Context) error { _, err := be.ReadAll(ctx, f, 1<<30); return err },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		begin := time.Now()
		err := call(ctx)
		cancel()
		if took := time.Since(begin); !errors.Is(err, context.DeadlineExceeded) || took > 5*time.Second {
			t.Errorf("%s, cancelled in the middle: %v after %v", name, err, took)
		}
	}
	if left := temporary(t, dir); len(left) != 0 {
		t.Errorf("temporary files are left: %q", left)
	}
	if _, err := be.Stat(t.Context(), other); !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("the file of a cancelled Save: %v", err)
	}
}

func TestRefusals(t *testing.T) {
	s := sshdtest.Start(t)
	dir := t.TempDir()
	create(t, config(t, s, s.Port, dir)).Close()
	noProgram := t.TempDir() + "/program"
	if err := os.WriteFile(noProgram, []byte{1, 2, 3}, 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		config func() sftp.Config
		want   string
		class  error // nil: transient
	}{
		{"no program", func() sftp.Config {
			t.Setenv("PATH", "/nowhere")
			return config(t, s, s.Port, dir)
		}, "install openssh-client", backend.ErrDenied},
		{"no such command", func() sftp.Config {
			c := config(t, s, s.Port, dir)
			c.Command = []string{"/nowhere/ssh"}
			return c
		}, "correct sftp.command", backend.ErrDenied},
		{"command says nothing", func() sftp.Config {
			c := config(t, s, s.Port, dir)
			c.Command = []string{"true"}
			return c
		}, "true ended without an answer", backend.ErrNoServer},
		{"command without a host", func() sftp.Config {
			c := config(t, s, s.Port, dir)
			c.Command = []string{"ssh", "-p", "2222"}
			return c
		}, "the program of -o sftp.command: ssh does not understand its arguments, correct -o sftp.command: usage: ssh [", backend.ErrDenied},
		{"command with a wrong option", func() sftp.Config {
			c := config(t, s, s.Port, dir)
			c.Command = []string{"sh", "-c", "exec ssh -Z"}
			return c
		}, "correct -o sftp.command: unknown option -- Z; usage: ssh [", backend.ErrDenied},
		{"arguments with a wrong option", func() sftp.Config {
			c := config(t, s, s.Port, dir)
			c.Args = []string{"-Z"}
			return c
		}, "ssh does not understand its arguments, correct -o sftp.args: unknown option -- Z; usage: ssh [", backend.ErrDenied},
		{"greeting like a usage text", func() sftp.Config {
			c := config(t, s, s.Port, dir)
			c.Command = []string{"sh", "-c", "echo 'Usage: st''aff only' >&2; exit 255"}
			return c
		}, "Usage: staff only", nil},
		{"command in no directory", func() sftp.Config {
			c := config(t, s, s.Port, dir)
			c.Command = []string{"/dev/null/ssh"}
			return c
		}, "start /dev/null/ssh", backend.ErrDenied},
		{"command that is no program", func() sftp.Config {
			c := config(t, s, s.Port, dir)
			c.Command = []string{noProgram}
			return c
		}, "exec format error", backend.ErrDenied},
		{"command echoes", func() sftp.Config {
			c := config(t, s, s.Port, dir)
			c.Command = []string{"cat"}
			return c
		}, "not SFTP", backend.ErrNoServer},
		{"command says something else", func() sftp.Config {
			c := config(t, s, s.Port, dir)
			// It stays: of one that has ended already we would say that.
			c.Command = []string{"sh", "-c", "echo 'Welcome to example.org!'; exec sleep 20"}
			return c
		}, "not SFTP", backend.ErrNoServer},
		{"connection refused", func() sftp.Config { return config(t, s, "1", dir) }, "connection refused", nil},
		{"no such host", func() sftp.Config { return speaking(t, s, dir, "Name or service not known") }, "there is no such host", backend.ErrNoHost},
		{"no name server", func() sftp.Config { return speaking(t, s, dir, "Temporary failure in name resolution") }, "name server does not answer", nil},
		{"no directory", func() sftp.Config { return config(t, s, s.Port, dir+"/none") }, "", backend.ErrNotExist},
		{"unknown host key", func() sftp.Config {
			s.ForgetHostKey()
			return config(t, s, s.Port, dir)
		}, "host key is not known", backend.ErrUntrusted},
		{"other host key", func() sftp.Config {
			s.ChangeHostKey()
			return config(t, s, s.Port, dir)
		}, "-R \"sshdtest\"` and log in once with `ssh -", backend.ErrUntrusted},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			refuses(t, test.config(), test.want, test.class)
		})
		t.Setenv("PATH", "/usr/bin:/bin")
	}
	for says, class := range map[string]error{
		"Permission denied (publickey).":         backend.ErrDenied,
		"Host key verification failed.":          backend.ErrUntrusted,
		"REMOTE HOST IDENTIFICATION HAS CHANGED": backend.ErrUntrusted,
	} {
		cfg := config(t, s, s.Port, dir)
		cfg.Command = []string{"sh", "-c", "echo '" + says + "' >&2; exit 255", "geheim"}
		if err := refuses(t, cfg, "the program of -o sftp.command", class); strings.Contains(err.Error(), "geheim") {
			t.Errorf("a password in the command is told: %v", err)
		}
	}
	s = sshdtest.Start(t)
	s.ChangeUserKey()
	refuses(t, config(t, s, s.Port, dir), "permission denied: it accepts none of the keys", backend.ErrDenied)
	s = sshdtest.Start(t, "Subsystem nothing /bin/false")
	refuses(t, config(t, s, s.Port, dir), "it has no SFTP", backend.ErrDenied)
}

// speaking is with an ssh that knows no host, for the reason that the C library says.
func speaking(t *testing.T, s *sshdtest.Server, dir, reason string) sftp.Config {
	c := config(t, s, s.Port, dir)
	c.Command = []string{"sh", "-c", "echo 'ssh: Could not resolve hostname nosuch.invalid: " + reason + "' >&2; exit 255"}
	return c
}

func refuses(t *testing.T, cfg sftp.Config, want string, class error) error {
	t.Helper()
	be, err := sftp.Open(t.Context(), cfg)
	if err == nil {
		be.Close()
		t.Fatal("it opens")
	}
	t.Log(err)
	if _, said, _ := strings.Cut(err.Error(), ": connect to "); len(cfg.Command) > 0 && strings.Contains(said, cfg.Host) {
		t.Errorf("error %q names the host, which with a command has no effect", err)
	}
	if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %q, want one line with %q", err, want)
	}
	if class == nil && (backend.IsPermanent(err) || errors.Is(err, backend.ErrNoHost) || errors.Is(err, backend.ErrNoServer)) || class != nil && !errors.Is(err, class) {
		t.Errorf("error %q, want class %v", err, class)
	}
	return err
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Fatalf("mount a small disk (the test needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := sshdtest.Start(t)
	be := create(t, config(t, s, s.Port, dir+"/repo"))
	defer be.Close()
	content := backendtest.Content(1, 3<<20)
	err := be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content)
	if err == nil || !strings.Contains(err.Error(), "is full") || !strings.Contains(err.Error(), "make room") {
		t.Errorf("Save on a full disk: %v", err)
	}
	t.Log(err)
	if left := temporary(t, dir+"/repo"); len(left) != 0 {
		t.Errorf("temporary files are left: %q", left)
	}
	if err := be.Save(t.Context(), backendtest.FileOf(backend.Pack, content[:1<<20]), content[:1<<20]); err != nil {
		t.Errorf("Save of what fits: %v", err)
	}
}

// A disk without inodes is full as well, which the open of a new file meets first.
func TestNoInodes(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,nr_inodes=400"); err != nil {
		t.Fatalf("mount a small disk (the test needs root): %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	s := sshdtest.Start(t)
	be := create(t, config(t, s, s.Port, dir+"/repo"))
	defer be.Close()
	for i := range 400 {
		if err := os.WriteFile(fmt.Sprintf("%s/%d", dir, i), nil, 0o600); errors.Is(err, unix.ENOSPC) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	content := backendtest.Content(1, 1000)
	err := be.Save(t.Context(), backendtest.FileOf(backend.Pack, content), content)
	if !errors.Is(err, backend.ErrFull) || !strings.Contains(err.Error(), "0 inodes are free") {
		t.Errorf("Save without inodes: %v", err)
	}
}

func TestCreateTwice(t *testing.T) {
	dir := t.TempDir()
	be := create(t, plain(t, dir))
	if err := be.Save(t.Context(), backend.File{Kind: backend.Config}, []byte("x")); err != nil {
		t.Fatal(err)
	}
	be.Close()
	if _, err := sftp.Create(t.Context(), plain(t, dir)); !errors.Is(err, backend.ErrExist) {
		t.Errorf("Create where a repository is: %v", err)
	}
	for name, want := range map[string]os.FileMode{"": 0o700, "data": 0o700, "data/00": 0o700, "locks": 0o700, "config": 0o400} {
		info, err := os.Stat(filepath.Join(dir, name))
		if name != "" && (err != nil || info.Mode().Perm() != want) {
			t.Errorf("%q has mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
}
