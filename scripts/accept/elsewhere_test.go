package accept

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitrine/repo/backend/rest/resttest"
)

// labAt is a repository that is no directory: the lab's paths stay what they are.
func labAt(t *testing.T, location func(dir string) string) *lab {
	t.Helper()
	t.Setenv("RCLONE_CONFIG", "/dev/null")
	l := newLab(t)
	l.repo = location(l.repo)
	return l
}

// wholeTour is what every store must be good for: init, two backups, check, restic's opinion and its
// snapshot, and a mount that equals the source.
func wholeTour(t *testing.T, l *lab) {
	l.vitrine("init")
	if r := l.tryVitrine("init"); r.code != 1 || !strings.Contains(r.stderr, "repository") {
		t.Errorf("a second init: %v", r)
	}
	source := filepath.Join(l.dir, "source")
	l.must("cp", "-a", "/usr/include/linux", source)
	l.vitrine("backup", source)
	write(t, source+"/more", strings.Repeat("more\n", 100_000))
	if s := parseSummary(t, l.vitrine("backup", "--json", source)); s.DataBlobs != 1 {
		t.Errorf("the second backup added %s, want 1 data blob", s.describe())
	}
	l.vitrine("check", "--read-data")
	l.restic("check", "--read-data")
	l.restic("backup", "--tag", "theirs", source)
	if trees := l.rootTrees(); len(trees) != 3 {
		t.Errorf("restic sees %d snapshots, want 3", len(trees))
	}
	m := l.mount()
	l.same(source, m.latest(source))
	content, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(content), "geheim") {
		t.Errorf("the list of mounts tells the password, or %v", err)
	}
	m.stop()
	if out := l.vitrine("list", "locks"); strings.TrimSpace(out) != "" {
		t.Errorf("locks are left: %s", out)
	}
}

func TestRESTServer(t *testing.T) {
	l := labAt(t, func(dir string) string {
		url := resttest.Serve(t, dir, "--user", "anna", "--pass", "geheim")
		return "rest:" + strings.Replace(url, "://", "://anna:geheim@", 1) + "some/where/"
	})
	wholeTour(t, l)
	l.repo = strings.Replace(l.repo, "geheim", "falsch", 1)
	if r := l.tryVitrine("snapshots"); r.code != 1 || !strings.Contains(r.stderr, "401") || strings.Contains(r.stderr, "falsch") || strings.Count(r.stderr, "\n") != 1 {
		t.Errorf("with a wrong password: %v", r)
	}
}

func TestRclone(t *testing.T) {
	wholeTour(t, labAt(t, func(dir string) string { return "rclone::local:" + dir }))
}

// TestRcloneInterrupted sends SIGINT to the whole process group of a backup, as a terminal does. rclone
// must live until the lock is removed.
func TestRcloneInterrupted(t *testing.T) {
	l := labAt(t, func(dir string) string { return "rclone::local:" + dir })
	l.vitrine("init")
	command := append(l.vitrineCommand(), "backup", "--limit-upload", "200", "/usr/include")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var log strings.Builder
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	locks := strings.TrimPrefix(l.repo, "rclone::local:") + "/locks/*"
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if found, _ := filepath.Glob(locks); len(found) > 0 {
			break
		}
	}
	if found, _ := filepath.Glob(locks); len(found) != 1 {
		t.Errorf("locks while it runs: %v", found)
	}
	syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 130 {
		t.Errorf("the backup ended with %v:\n%s", err, log.String())
	}
	if found, _ := filepath.Glob(locks); len(found) != 0 {
		t.Errorf("the lock is left: %v", found)
	}
	l.vitrine("check", "--read-data")
}
