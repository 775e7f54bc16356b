package accept

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitrine/repo/backend/sftp/sshdtest"
)

// newFarLab is a lab whose repository is behind an sshd.
func newFarLab(t *testing.T) (*lab, *sshdtest.Server) {
	s := sshdtest.Start(t)
	l := newLab(t)
	l.repo = s.Location(l.dir + "/repo")
	l.vitrineOptions = []string{"-o", "sftp.args=" + strings.Join(s.Args(), " ")}
	l.resticOptions = []string{"-o", "sftp.command=" + s.Command()}
	return l.checked(), s
}

// A repository on a server, made and read by vitrine, read and continued by restic.
func TestSFTP(t *testing.T) {
	source := realTree(t)
	l, s := newFarLab(t)
	l.plain().vitrine("init")
	l.vitrine("backup", source)
	l.vitrine("check", "--read-data")
	l.restic("check", "--read-data")
	l.restic("backup", source)
	m := l.mount()
	l.same(source, m.latest(source))
	m.stop()
	if left := ssh(t, s); len(left) > 0 {
		t.Errorf("ssh still runs: %q", left)
	}
	if r := l.tryVitrine("init"); r.code == 0 || !strings.Contains(r.stderr, "exists") {
		t.Errorf("a second init: %v", r)
	}
}

// Ctrl-C in the terminal goes to all of its processes, and yet the lock on the server is removed.
func TestSFTPInterrupted(t *testing.T) {
	l, s := newFarLab(t)
	l.vitrine("init")
	command := append(l.vitrineCommand(), "backup", "--stdin")
	cmd := exec.Command(command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	locks := func() []string {
		found, err := filepath.Glob(l.dir + "/repo/locks/*")
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	for deadline := time.Now().Add(time.Minute); len(locks()) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no lock within a minute")
		}
	}
	time.Sleep(300 * time.Millisecond) // into the backup itself
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit code %d, want 130", code)
	}
	if left := locks(); len(left) > 0 {
		t.Errorf("locks are left: %q", left)
	}
	if left := ssh(t, s); len(left) > 0 {
		t.Errorf("ssh still runs: %q", left)
	}
}

// ssh returns the clients of this server that run.
func ssh(t *testing.T, s *sshdtest.Server) []string {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, name := range names {
		content, _ := os.ReadFile(name) // it may have ended
		if line := strings.ReplaceAll(string(content), "\x00", " "); strings.HasPrefix(line, "ssh ") && strings.Contains(line, s.Dir) {
			found = append(found, line)
		}
	}
	return found
}
