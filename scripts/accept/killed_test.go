package accept

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vitrine/repo/source/sourcetest"
)

// A backup is killed when it has stored some packs, at any moment from then on, and made again. What it
// stored is used: the repository is as large as if nothing had happened. Stored again is only what had not
// arrived, four packs at most: two open ones (data and trees) and the two that are stored at a time.
func TestRemoteKilled(t *testing.T) {
	rounds := 1
	if long {
		rounds = 10
	}
	eachRemote(t, []string{"rest", "s3", "sftp", "rclone", "local"}, func(t *testing.T, kind string) {
		source := fewFiles(t)
		for round := range rounds {
			l, twin, f := newRemoteLab(t, kind)
			f.inPlace = kind == "rest" || kind == "rclone" // such a pack is in no index, as the checks below show
			// Two packs are on their way at a time, with up to 12 MiB each: so much more that there is always a rest to store
			// when two of them have arrived. It must not be the noise that the source has.
			more := l.dir + "/more"
			write(t, more, string(sourcetest.Noise(99, 16<<20)))
			backup := []string{"backup", "--pack-size", "4", source, more}
			twin.vitrine(backup...)
			undisturbed := twin.sound(&far{stored: func(*testing.T) string { return twin.repo }})

			l.killBackup(f, 2, backup)
			time.Sleep(500 * time.Millisecond) // until the server has noticed
			killed := l.sound(f)

			out := l.vitrine(backup...)
			after := l.sound(f)
			t.Logf("round %d: killed with %v; in the end %v, undisturbed %v", round, killed, after, undisturbed)
			// The directories above the source may differ, for other tests work in them, and a pack has a header.
			const slackBytes = 256 << 10
			if twice := after.dataBytes - undisturbed.dataBytes; twice > slackBytes {
				t.Errorf("%.1f MB were stored twice, of %.1f MB that were there when it was killed", float64(twice)/1e6, float64(killed.dataBytes)/1e6)
			}
			if missing := undisturbed.dataBytes - after.dataBytes; missing > slackBytes {
				t.Errorf("%d bytes fewer than undisturbed", missing)
			}
			if !strings.Contains(out, "an earlier run was cut off") && !t.Failed() {
				t.Errorf("nothing tells of what was found:\n%s", out)
			}
			if n := l.locks(); n != 0 {
				t.Errorf("%d locks stay", n)
			}
			l.vitrine("check", "--read-data")
			l.restic("check")
			m := l.mount()
			l.same(source, m.latest(source))
			m.stop()
			if t.Failed() {
				return
			}
		}
	})
}

// killBackup starts a backup, slowly, and kills it some moment after that many packs are stored.
func (l *lab) killBackup(f *far, packs int, backup []string) {
	l.t.Helper()
	command := append(append(l.vitrineCommand(), "--limit-upload", "3000"), backup...)
	cmd := exec.CommandContext(l.t.Context(), command[0], command[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second // rclone has the same standard error and lives a little longer
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		n, err := f.packs()
		if err != nil {
			l.t.Error(err)
		}
		if n >= packs || time.Now().After(end) {
			break
		}
	}
	time.Sleep(rand.N(600 * time.Millisecond))
	for f.inPlace { // no client can help when such a server has the half of an index file, and the next backup says so
		cmd.Process.Signal(syscall.SIGSTOP)
		time.Sleep(100 * time.Millisecond) // until the server has what is on its way
		if l.wholeIndex(f) {
			break
		}
		cmd.Process.Signal(syscall.SIGCONT)
		time.Sleep(100 * time.Millisecond)
	}
	cmd.Process.Kill()
	cmd.Wait()
	if cmd.ProcessState.Exited() {
		l.t.Errorf("the backup ended with code %d before it was killed; the test shows nothing:\n%s", cmd.ProcessState.ExitCode(), out.String())
	}
	l.sane("killed backup", out.String())
}

// wholeIndex tells whether no index file in the directory of a server is half there.
func (l *lab) wholeIndex(f *far) bool {
	l.t.Helper()
	names, err := filepath.Glob(f.stored(l.t) + "/index/*")
	if err != nil {
		l.t.Fatal(err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil || !whole(filepath.Base(name), content) {
			return false
		}
	}
	return true
}
