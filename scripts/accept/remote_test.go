package accept

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// Backup, mount and a comparison of everything over a line that breaks several times a second: nobody
// notices but by the clock, and the repository is the same as without.
func TestRemoteUnderCuts(t *testing.T) {
	every := map[string]time.Duration{
		"rest": 250 * time.Millisecond, "s3": 250 * time.Millisecond,
		"sftp": 900 * time.Millisecond, // a connection of ssh takes a quarter of that to be made
	}
	eachRemote(t, []string{"rest", "s3", "sftp"}, func(t *testing.T, kind string) {
		l, twin, f := newRemoteLab(t, kind)
		source := fewFiles(t)
		if long {
			source = smallTree(t)
		}
		twin.vitrine("backup", "--pack-size", "4", source)
		line := newCutter(t, f.addr, every[kind])
		cut := l.through(f, line.addr)

		// Fast machines are through before there were cuts that mean anything; then it is done again.
		const enough = 6
		start := time.Now()
		for round := 0; round == 0 || line.count() < enough; round++ {
			cut.vitrine("backup", "--force", "--pack-size", "4", source)
		}
		backup := line.count()
		for round := 0; round == 0 || line.count() < backup+enough; round++ {
			cut.cache = fmt.Sprintf("%s/cache-%d", l.dir, round)
			m := cut.mount()
			cut.same(source, m.latest(source))
			m.stop()
		}
		t.Logf("%d connections cut in the backup, %d in the mount, %v", backup, line.count()-backup, time.Since(start).Round(time.Second))

		want, got := twin.blobs(), l.blobs()
		if diff := cmp.Diff(want["data"], got["data"]); diff != "" {
			t.Errorf("data lost (-) or stored twice (+) because of the cuts:\n%s", diff)
		}
		// Those of the directories above the source may differ, for other tests work in them.
		if trees := slices.Compact(slices.Clone(got["tree"])); len(trees) != len(got["tree"]) || len(trees) < len(want["tree"]) {
			t.Errorf("%d directories stored, %d different ones, want %d", len(got["tree"]), len(trees), len(want["tree"]))
		}
		if s := l.sound(f); s.temps != 0 {
			t.Errorf("temporary files stay: %v", s)
		}
		if n := l.locks(); n != 0 {
			t.Errorf("%d locks stay", n)
		}
		l.vitrine("check", "--read-data")
		l.restic("check")
	})
}

// readers copy the tree from the mount, each in its own order, and compare what they got.
type readers struct {
	wg    sync.WaitGroup
	begun chan struct{} // closed when the first files have been read
	left  atomic.Int64  // files not yet read
}

func startReaders(t *testing.T, source, view string, count int) *readers {
	t.Helper()
	var files []string
	err := filepath.WalkDir(source, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			files = append(files, p[len(source):])
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &readers{begun: make(chan struct{})}
	r.left.Store(int64(count * len(files)))
	begun := sync.OnceFunc(func() { close(r.begun) })
	for i := range count {
		order := rand.New(rand.NewPCG(1, uint64(i))).Perm(len(files))
		r.wg.Go(func() {
			for n, at := range order {
				want, err := os.ReadFile(source + files[at])
				if err != nil {
					t.Error(err)
				}
				got, err := os.ReadFile(view + files[at])
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("reader %d: %s: %d bytes instead of %d, or other ones: %v", i, files[at], len(got), len(want), err)
				}
				r.left.Add(-1)
				if n == 3 {
					begun()
				}
			}
		})
	}
	return r
}

// The server goes away while 16 programs read from a mount, and comes back: they have waited.
func TestRemoteServerAway(t *testing.T) {
	away := 8 * time.Second
	if long {
		away = 2 * time.Minute
	}
	kinds := []string{"rest", "s3", "rest unpatient", "s3 unpatient", "rest silent", "s3 silent"}
	eachRemote(t, kinds, func(t *testing.T, kind string) {
		source := fewFiles(t)
		kind, special, _ := strings.Cut(kind, " ")
		switch special {
		case "unpatient":
			unpatient(t, kind, source)
			return
		case "silent":
			silent(t, kind, source)
			return
		}
		l, _, f := newRemoteLab(t, kind)
		l.checked().vitrine("backup", source)
		m := l.mount("--limit-download", "4096") // so that it takes some seconds
		r := startReaders(t, source, m.latest(source), 16)
		<-r.begun
		f.stop()
		time.Sleep(away)
		if left := r.left.Load(); left < 16 {
			t.Errorf("only %d files are left to read after %v without a server; the test shows nothing", left, away)
		}
		f.restart()
		back := time.Now()
		r.wg.Wait()
		t.Logf("all has been read %v after the return of the server", time.Since(back).Round(100*time.Millisecond))
		l.same(source, m.latest(source))
	})
}

// unpatient is the mount that waits three seconds: then reads fail, with EIO and nothing else, until
// the server is there again.
func unpatient(t *testing.T, kind, source string) {
	const timeout, away = 3 * time.Second, 8 * time.Second
	l, _, f := newRemoteLab(t, kind)
	l.checked().vitrine("backup", source)
	m := l.mount("--io-timeout", timeout.String())
	view := m.latest(source)
	l.must("find", view) // so that all names are known
	f.stop()
	stopped := time.Now()
	failures := 0
	for time.Since(stopped) < away-timeout {
		began := time.Now()
		_, err := os.ReadFile(view + "/made/noise")
		took := time.Since(began)
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("a read without a server: %v, want EIO", err)
		}
		if failures == 0 && took < timeout/3 || took > 2*timeout {
			t.Errorf("a read without a server failed after %v, with --io-timeout %v", took, timeout)
		}
		failures++
	}
	time.Sleep(time.Until(stopped.Add(away)))
	f.restart()
	want, err := os.ReadFile(source + "/made/noise")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(view + "/made/noise"); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the first read with the server back: %d bytes, %v", len(got), err)
	}
	l.same(source, view)
	t.Logf("%d reads failed", failures)
}

// silent is the mount whose connections stay but carry nothing any more: it makes new ones in time.
func silent(t *testing.T, kind, source string) {
	l, _, f := newRemoteLab(t, kind)
	l.checked().vitrine("backup", source)
	line := newCutter(t, f.addr, 0)
	const timeout = 8 * time.Second
	m := l.through(f, line.addr).mount("--io-timeout", timeout.String(), "--limit-download", "4096")
	r := startReaders(t, source, m.latest(source), 4)
	<-r.begun
	line.hold()
	began := time.Now()
	r.wg.Wait()
	if took := time.Since(began); took > 5*timeout {
		t.Errorf("the readers waited %v", took)
	}
	l.same(source, m.latest(source))
}

// A backup is killed at any moment and then made again.
func TestRemoteKilled(t *testing.T) {
	rounds := 1
	if long {
		rounds = 10
	}
	eachRemote(t, []string{"rest", "s3", "sftp"}, func(t *testing.T, kind string) {
		source := fewFiles(t)
		for round := range rounds {
			l, twin, f := newRemoteLab(t, kind)
			backup := []string{"backup", "--pack-size", "4", source}
			twin.vitrine(backup...)
			undisturbed := twin.sound(&far{stored: func(*testing.T) string { return twin.repo }})

			at := 500*time.Millisecond + rand.N(2500*time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), at) // its end is kill -9
			command := append(append(l.vitrineCommand(), "--limit-upload", "10000"), backup...)
			out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
			cancel()
			l.sane("killed backup", string(out))
			time.Sleep(500 * time.Millisecond) // until the server has noticed
			killed := l.sound(f)

			l.vitrine(backup...)
			after := l.sound(f)
			t.Logf("round %d: killed after %v (%v): %v; in the end %v, undisturbed %v", round, at.Round(time.Millisecond), err, killed, after, undisturbed)
			const packBytes = 4 << 20
			if most := undisturbed.dataBytes + killed.dataBytes + packBytes; after.dataBytes > most {
				t.Errorf("%d bytes are stored, %d undisturbed and %d when it was killed", after.dataBytes, undisturbed.dataBytes, killed.dataBytes)
			}
			l.vitrine("check", "--read-data")
			m := l.mount()
			l.same(source, m.latest(source))
			m.stop()
			if t.Failed() {
				return
			}
		}
	})
}
