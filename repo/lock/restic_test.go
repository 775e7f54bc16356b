package lock_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/local"
	"vitrine/repo/lock"
	"vitrine/repo/repotest"
)

// shared is a repository that restic uses too.
type shared struct {
	t   *testing.T
	dir string
	r   *repo.Repository
}

func newShared(t *testing.T, version uint) *shared {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "repo")
	be, err := local.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	repotest.Init(t, be, version)
	return &shared{t, dir, repotest.Open(t, be)}
}

func (s *shared) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(s.t.Context(), "restic", append([]string{"-r", s.dir, "--no-cache"}, args...)...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+repotest.Password)
	return cmd
}

// restic runs it to its end; words must be in what it prints, and failed says whether it must fail.
func (s *shared) restic(failed bool, words string, args ...string) {
	s.t.Helper()
	out, err := s.command(args...).CombinedOutput()
	if (err != nil) != failed || !strings.Contains(string(out), words) {
		s.t.Errorf("restic %v: %v, want failed %v and %q\n%s", args, err, failed, words, out)
	}
}

// start runs restic until its lock is there and returns it.
func (s *shared) start(cmd *exec.Cmd) {
	s.t.Helper()
	before := s.locks()
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for s.locks() == before {
		time.Sleep(2 * time.Millisecond)
	}
}

func (s *shared) locks() int {
	s.t.Helper()
	infos, err := s.r.ListFiles(s.t.Context(), backend.Lock)
	if err != nil {
		s.t.Fatal(err)
	}
	return len(infos)
}

func (s *shared) acquire(exclusive bool) (*lock.Lock, error) {
	_, l, err := lock.Acquire(s.t.Context(), s.r, lock.Options{Exclusive: exclusive})
	return l, err
}

// hold takes a lock, calls fn, and releases it.
func (s *shared) hold(exclusive bool, fn func()) {
	s.t.Helper()
	l, err := s.acquire(exclusive)
	if err != nil {
		s.t.Fatal(err)
	}
	fn()
	if err := l.Release(); err != nil {
		s.t.Error(err)
	}
}

// wantLockedBy wants the lock refused because of this process.
func (s *shared) wantLockedBy(exclusive bool, pid int, words string) *lock.LockedError {
	s.t.Helper()
	l, err := s.acquire(exclusive)
	var locked *lock.LockedError
	if !errors.As(err, &locked) {
		if l != nil {
			l.Release()
		}
		s.t.Fatalf("error %v, want a LockedError", err)
	}
	host, _ := os.Hostname()
	if locked.Holder.PID != pid || locked.Holder.Hostname != host || !strings.Contains(err.Error(), words) {
		s.t.Errorf("%v; want pid %d on %s, and %q", err, pid, host, words)
	}
	return locked
}

func TestResticRespectsUs(t *testing.T) {
	for _, version := range []uint{1, 2} {
		t.Run(fmt.Sprint("version ", version), func(t *testing.T) {
			s := newShared(t, version)
			us := fmt.Sprintf("PID %d", os.Getpid())
			s.hold(true, func() {
				s.restic(true, "already locked exclusively by "+us, "backup", "lock.go")
			})
			s.hold(false, func() {
				s.restic(false, "snapshot", "backup", "lock.go")
				s.restic(true, "already locked by "+us, "prune")
				s.restic(false, "", "unlock") // we are alive: our lock stays
				if s.locks() != 1 {
					t.Error("restic removed the lock of a live process")
				}
			})
			s.restic(false, "no errors", "check")

			// A lock of ours that was left behind.
			stale := fmt.Sprintf(`{"time":"%s","exclusive":true,"hostname":"elsewhere","username":"u","pid":1}`, time.Now().Add(-time.Hour).Format(time.RFC3339Nano))
			if _, err := s.r.SaveFile(t.Context(), backend.Lock, []byte(stale)); err != nil {
				t.Fatal(err)
			}
			s.restic(false, "removed", "unlock")
			if s.locks() != 0 {
				t.Error("restic left a stale lock of ours")
			}
		})
	}
}

func TestWeRespectRestic(t *testing.T) {
	s := newShared(t, 2)
	// A backup that waits for its input holds a shared lock.
	backup := s.command("backup", "--stdin")
	input, err := backup.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.start(backup)
	s.wantLockedBy(true, backup.Process.Pid, "--retry-lock")
	s.hold(false, func() {})
	if n, err := lock.Unlock(t.Context(), s.r, false, nil); n.Removed != 0 || err != nil {
		t.Errorf("%d locks of a live restic removed, %v", n, err)
	}
	if _, err := input.Write([]byte("content")); err != nil {
		t.Error(err)
	}
	input.Close()
	if err := backup.Wait(); err != nil {
		t.Error(err)
	}
	s.hold(true, func() {})

	// restic waits 200 ms between writing its lock and working: time to stop it.
	prune := s.command("prune")
	s.start(prune)
	if err := prune.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.wantLockedBy(false, prune.Process.Pid, "exclusively")
	if err := prune.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	prune.Wait()
	if locked := s.wantLockedBy(false, prune.Process.Pid, "`vitrine unlock`"); !locked.Stale {
		t.Error("the lock of a killed restic is not stale")
	}
	if n, err := lock.Unlock(t.Context(), s.r, false, nil); n.Removed != 1 || err != nil {
		t.Errorf("%d locks removed, %v, want 1", n, err)
	}
	s.hold(true, func() {})
}
