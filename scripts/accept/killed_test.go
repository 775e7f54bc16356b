package accept

import (
	"bytes"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vitrine/repo/source/sourcetest"
)

// A backup is killed when it has stored some packs, at any moment from then on, and made again. What it
// stored is used: the repository is as large as if nothing had happened. Stored again is only what had not
// arrived, four packs at most: two open ones (data and trees) and the two that are stored at a time. A server that writes in
// place may have halves of them, which are in no index, and the half of an index file, which goes.
func TestRemoteKilled(t *testing.T) {
	rounds := 1
	if long {
		rounds = 10
	}
	eachRemote(t, []string{"rest", "s3", "sftp", "rclone", "local"}, func(t *testing.T, kind string) {
		source := fewFiles(t)
		for round := range rounds {
			l, twin, f := newRemoteLab(t, kind)
			f.inPlace = kind == "rest" || kind == "rclone"
			// Two packs are on their way at a time, with up to 12 MiB each: so much more that there is always a rest to store
			// when two of them have arrived. It must not be the noise that the source has.
			more := l.dir + "/more"
			write(t, more, string(sourcetest.Noise(99, 16<<20)))
			backup := []string{"backup", "--pack-size", "4", source, more}
			twin.vitrine(backup...)
			undisturbed := twin.sound(&far{stored: func(*testing.T) string { return twin.repo }})

			l.killBackup(f, 2, f.inPlace && round%2 == 0, backup)
			time.Sleep(500 * time.Millisecond) // until the server has noticed
			killed := l.sound(f)
			if f.inPlace && l.halveIndex(f) {
				killed.halfIndexes = l.sound(f).halfIndexes
			}

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
			half := killed.halfIndexes > 0
			if half != f.inPlace && round%2 == 0 || strings.Contains(out, "not stored whole") != half || after.halfIndexes > 0 {
				t.Errorf("of %d index files that were not whole %d stay:\n%s", killed.halfIndexes, after.halfIndexes, out)
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

// killBackup starts a backup, slowly, and kills it some moment after that many packs are stored, with listed also an
// index file.
func (l *lab) killBackup(f *far, packs int, listed bool, backup []string) {
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
		if n >= packs && (!listed || len(indexesOf(l.t, f)) > 0) || time.Now().After(end) {
			break
		}
	}
	time.Sleep(rand.N(600 * time.Millisecond))
	cmd.Process.Kill()
	cmd.Wait()
	if cmd.ProcessState.Exited() {
		l.t.Errorf("the backup ended with code %d before it was killed; the test shows nothing:\n%s", cmd.ProcessState.ExitCode(), out.String())
	}
	l.sane("killed backup", out.String())
}

// halveIndex cuts an index file, as a server that writes in place has it when a kill falls into its upload, unless one is cut.
// It tells whether there was one.
func (l *lab) halveIndex(f *far) bool {
	l.t.Helper()
	names := indexesOf(l.t, f)
	if len(names) == 0 {
		return false
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			l.t.Fatal(err)
		}
		if !whole(filepath.Base(name), content) {
			return true
		}
	}
	if err := os.Truncate(names[0], 100); err != nil {
		l.t.Fatal(err)
	}
	return true
}

// indexesOf returns the paths of the index files on a server that keeps files in a directory.
func indexesOf(t *testing.T, f *far) []string {
	t.Helper()
	paths, err := filepath.Glob(f.stored(t) + "/index/*")
	if err != nil {
		t.Fatal(err)
	}
	return paths
}
