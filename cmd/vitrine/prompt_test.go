package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a pseudo-terminal.
func openTerminal(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	fd := int(ours.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetUint32(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	return ours, theirs
}

func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// screen collects what is written to it, and tells when a text is there.
type screen struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// prompted starts `vitrine snapshots` on a terminal, up to the prompt.
func prompted(t *testing.T) (cmd *exec.Cmd, keyboard, terminal *os.File, typed, stderr *screen) {
	t.Helper()
	ours, theirs := openTerminal(t)
	dir := filepath.Join(t.TempDir(), "repo")
	if err := makeRepository(dir, 2); err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command("vitrine", "-r", dir, "snapshots")
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	typed, stderr = new(screen), new(screen)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirs, io.Discard, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	go io.Copy(typed, ours) // ends when the terminal is closed
	awaitPrompt(t, stderr, theirs, 1)
	return cmd, ours, theirs, typed, stderr
}

// awaitPrompt waits until the prompt is there so often. Whoever sees it may type, so the echo must be off by then.
func awaitPrompt(t *testing.T, stderr *screen, terminal *os.File, times int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); strings.Count(stderr.String(), "enter password for repository: ") < times; {
		if time.Now().After(end) {
			t.Fatalf("there is no prompt: %q", stderr)
		}
		runtime.Gosched() // the moment between prompt and echo is short
	}
	if echoes(t, terminal) {
		t.Fatal("the prompt is there and the echo is on")
	}
}

// Who mistypes the password is asked again, twice.
func TestPromptAgain(t *testing.T) {
	for _, test := range []struct {
		typed []string
		code  int
	}{{[]string{"wrong", "wronger", password}, 0}, {[]string{"a", "b", "c"}, 12}} {
		cmd, keyboard, terminal, typed, stderr := prompted(t)
		for i, line := range test.typed {
			awaitPrompt(t, stderr, terminal, i+1)
			if _, err := io.WriteString(keyboard, line+"\n"); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != test.code || strings.Count(stderr.String(), "wrong password, try again") != 2 {
			t.Errorf("typed %q: exit code %d and %q", test.typed, code, stderr)
		}
		if strings.TrimSpace(typed.String()) != "" || !echoes(t, terminal) {
			t.Errorf("typed %q: shown is %q, or the echo stays off", test.typed, typed)
		}
	}
}

// What is typed at the prompt is not shown, and the terminal is as before afterwards.
func TestPrompt(t *testing.T) {
	cmd, keyboard, terminal, typed, stderr := prompted(t)
	if _, err := io.WriteString(keyboard, password+"\n"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if strings.Contains(typed.String(), "horse") || strings.Contains(stderr.String(), "horse") {
		t.Errorf("the password is shown: %q and %q", typed, stderr)
	}
	if !echoes(t, terminal) {
		t.Error("the echo stays off")
	}
}

// A signal at the prompt ends the program and leaves the terminal as it was.
func TestPromptInterrupted(t *testing.T) {
	cmd, _, terminal, _, stderr := prompted(t)
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit code %d and %q", code, stderr)
	}
	if !echoes(t, terminal) {
		t.Error("the echo stays off")
	}
}
