package accept

import (
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitrine/repo/backend/rest/resttest"
	"vitrine/repo/source/sourcetest"
)

// cleaningUp is what is said after half a second when the end after a signal takes longer.
const cleaningUp = "interrupted; cleaning up, the lock comes last (again: end now and leave it)\n"

// backupOf is a backup of standard input, and endless is not at its end when all of the input has come.
func (l *lab) backupOf(input []byte, args ...string) (cmd *exec.Cmd, stderr *strings.Builder, endless io.Closer) {
	l.t.Helper()
	command := append(append(l.vitrineCommand(), "backup", "--stdin", "--pack-size", "4"), args...)
	cmd, stderr = exec.Command(command[0], command[1:]...), new(strings.Builder)
	cmd.Stderr = stderr
	pipe, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	go pipe.Write(input) // it fails when the program ends
	return cmd, stderr, pipe
}

// awaitFiles waits until so many files of that pattern are there.
func (l *lab) awaitFiles(n int, pattern string) {
	l.t.Helper()
	found := 0
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		names, _ := filepath.Glob(pattern)
		if found = len(names); found >= n {
			return
		}
	}
	l.t.Fatalf("there are %d %s, want %d", found, pattern, n)
}

// packNames is a pattern for the packs of a repository in a directory.
func packNames(dir string) string { return dir + "/data/??/" + strings.Repeat("?", 64) }

// TestInterruptedWhileAway: with a store that does not answer the end takes its time, and says so; a second signal
// does not wait for it. There are packs that an index file should list, which is tried first.
func TestInterruptedWhileAway(t *testing.T) {
	l := newLab(t)
	served := l.dir + "/served"
	server := resttest.Start(t, served)
	l.repo = "rest:" + server.URL
	l.vitrine("init")
	const lost = "Warning: packs stored by this interrupted run are in no index and will be stored again: the store does not take the index file in time\n"
	for i, test := range []struct {
		signals     int
		least, most time.Duration // from the first signal to the end
		last        string
	}{
		{1, 5 * time.Second, 11500 * time.Millisecond, lost + "interrupted by a signal; the store does not answer; the lock on the repository stays, `vitrine unlock` removes it\n"},
		{2, time.Second, 5 * time.Second, "interrupted by two signals; the lock on the repository stays, `vitrine unlock` removes it\n"},
	} {
		// In the end it waits for its input with a pack that is not full.
		before, err := filepath.Glob(packNames(served))
		if err != nil {
			t.Fatal(err)
		}
		cmd, stderr, endless := l.backupOf(sourcetest.Noise(uint64(i), 40<<20))
		l.awaitFiles(len(before)+3, packNames(served)) // it stores two at a time, so it knows of one, and has not listed it
		l.awaitFiles(1, served+"/locks/*")
		server.Stop()
		began := time.Now()
		for range test.signals {
			cmd.Process.Signal(syscall.SIGINT)
			if test.signals > 1 {
				time.Sleep(1200 * time.Millisecond)
			}
		}
		timer := time.AfterFunc(30*time.Second, func() { cmd.Process.Kill() })
		cmd.Wait()
		took := time.Since(began)
		timer.Stop()
		endless.Close()
		l.sane("interrupted backup", stderr.String())
		want := cleaningUp + test.last
		if code := cmd.ProcessState.ExitCode(); code != 130 || stderr.String() != want || took < test.least || took > test.most {
			t.Errorf("after %d signals: exit code %d after %v and %q, want 130 and %q", test.signals, code, took, stderr.String(), want)
		}
		server.Restart(t)
		locks, _ := filepath.Glob(served + "/locks/*")
		if len(locks) != 1 {
			t.Errorf("after %d signals there are the locks %q, want one", test.signals, locks)
		}
		l.vitrine("unlock")
	}
	l.vitrine("check")
}

// TestInterruptedLimited: what a limit holds back is given up at once, and the index file of what is stored and the removal
// of the lock do not wait behind it.
func TestInterruptedLimited(t *testing.T) {
	for name, prepare := range map[string]func(*lab){
		"local": func(*lab) {},
		"sftp":  func(l *lab) { farServer(l) },
		"rest":  func(l *lab) { l.repo = "rest:" + resttest.Start(l.t, l.repo).URL },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			dir := l.repo
			prepare(l)
			l.vitrine("init")
			cmd, stderr, endless := l.backupOf(sourcetest.Noise(1, 40<<20), "--limit-upload", "700")
			defer endless.Close()
			l.awaitFiles(1, packNames(dir))
			time.Sleep(time.Second) // until the program knows of the pack; the next ones take six more
			began := time.Now()
			cmd.Process.Signal(syscall.SIGINT)
			cmd.Wait()
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("the end takes %v", took)
			}
			want := "interrupted by a signal; the lock on the repository is removed\n"
			if code := cmd.ProcessState.ExitCode(); code != 130 || strings.TrimPrefix(stderr.String(), cleaningUp) != want {
				t.Errorf("exit code %d and %q, want 130 and %q", code, stderr, want)
			}
			// rclone shows a pack while it comes, so that none may be stored yet.
			if said := l.vitrine("list", "index"); name != "rest" && strings.Count(said, "\n") == 0 {
				t.Error("the pack that was stored is in no index file")
			}
			l.vitrine("check")
		})
	}
}
