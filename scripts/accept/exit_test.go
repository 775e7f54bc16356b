package accept

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Every way to fail that scripts look for has its exit code and one line that says what
// happened to what.
func TestExitCodes(t *testing.T) {
	l := newLab(t).checked()
	l.vitrine("init")
	master := l.quicken()
	source := l.dir + "/source"
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, source+"/file", "content")
	l.vitrine("backup", source)

	t.Run("12 wrong password", func(t *testing.T) {
		wrong := *l
		wrong.t, wrong.password = t, l.dir+"/wrong"
		write(t, wrong.password, "incorrect mule\n")
		for _, command := range []string{"snapshots", "check", "backup " + source, "mount " + l.dir} {
			wrong.fails(12, "password", strings.Fields(command)...)
		}
	})
	t.Run("10 no repository", func(t *testing.T) {
		missing := *l
		missing.t, missing.repo = t, l.dir+"/not-here"
		for _, command := range []string{"snapshots", "check", "backup " + source, "mount " + l.dir} {
			missing.fails(10, missing.repo, strings.Fields(command)...)
		}
	})
	t.Run("11 locked", func(t *testing.T) {
		held := *l
		held.t = t
		// The lock of a program that lives on this host: this one.
		host, err := os.Hostname()
		if err != nil {
			t.Fatal(err)
		}
		lock := fmt.Sprintf(`{"time":%q,"exclusive":true,"hostname":%q,"username":"test","pid":%d}`, time.Now().Format(time.RFC3339Nano), host, os.Getpid())
		held.store("locks", l.seal(master, lock))
		held.fails(11, "lock", "backup", source)
		held.vitrine("unlock", "--remove-all")
		held.vitrine("backup", source)
	})
	t.Run("1 unknown version", func(t *testing.T) {
		future := newLab(t)
		future.password = l.password
		future.must("cp", "-a", l.repo, future.repo)
		config := `{"version":3,"id":"` + strings.Repeat("5f", 32) + `","chunker_polynomial":"25b468838dcb75"}`
		if err := os.Remove(future.repo + "/config"); err != nil {
			t.Fatal(err)
		}
		write(t, future.repo+"/config", string(l.seal(master, config)))
		for _, command := range []string{"snapshots", "check", "backup " + source, "mount " + l.dir} {
			future.fails(1, "version 3", strings.Fields(command)...)
		}
	})
	t.Run("130 interrupted", func(t *testing.T) {
		stopped := *l
		stopped.t = t
		stopped.interrupted(syscall.SIGINT)
		stopped.interrupted(syscall.SIGTERM)
	})
}

// fails expects the exit code and exactly one line on standard error that has the word.
func (l *lab) fails(code int, word string, args ...string) {
	l.t.Helper()
	r := l.tryVitrine(args...)
	line := strings.TrimSuffix(r.stderr, "\n")
	if r.code != code || r.stdout != "" || !strings.Contains(line, word) || strings.Contains(line, "\n") || len(line) > 500 {
		l.t.Errorf("want exit code %d and one line on standard error with %q:\n%v", code, word, r)
	}
}

// interrupted stops a backup that waits for its input, once it holds its lock, and expects
// that nothing of it stays.
func (l *lab) interrupted(signal syscall.Signal) {
	l.t.Helper()
	before := len(l.files("snapshots"))
	command := append(l.vitrineCommand(), "backup", "--stdin")
	cmd := exec.Command(command[0], command[1:]...)
	endless, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	defer endless.Close()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	if _, err := endless.Write(make([]byte, 100_000)); err != nil {
		l.t.Error(err)
	}
	for deadline := time.Now().Add(time.Minute); len(l.files("locks")) == 0 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond) // past the lock's own waiting or not: both must hold
	cmd.Process.Signal(signal)
	timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	l.sane("interrupted backup", stderr.String())
	said := strings.TrimPrefix(stderr.String(), cleaningUp) // on a machine that is slow
	if code := cmd.ProcessState.ExitCode(); code != 130 || strings.Replace(said, "; the lock on the repository is removed", "", 1) != "interrupted by a signal\n" {
		l.t.Errorf("after %v: exit code %d and %q, want 130 and one line that says interrupted", signal, code, stderr.String())
	}
	if left := l.files("locks"); len(left) != 0 {
		l.t.Errorf("after %v a lock stays: %v", signal, left)
	}
	if after := len(l.files("snapshots")); after != before {
		l.t.Errorf("after %v there are %d snapshots instead of %d", signal, after, before)
	}
	if left, _ := filepath.Glob(l.repo + "/*/*tmp*"); len(left) != 0 {
		l.t.Errorf("after %v temporary files stay: %v", signal, left)
	}
}
