package accept

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/backend/linetest"
)

// lineBytesPerSecond is so low that cuts fall into requests.
const lineBytesPerSecond = 64 << 20

// Backup, mount and a comparison of everything over a line that breaks several times a second, and with an rclone
// that is killed every second: nobody notices but by the clock, and the repository is the same as without.
func TestRemoteUnderCuts(t *testing.T) {
	every := map[string]time.Duration{
		"rest": 250 * time.Millisecond, "s3": 400 * time.Millisecond,
		"sftp":      900 * time.Millisecond, // a connection of ssh takes a quarter of that to be made
		"rclone s3": 900 * time.Millisecond, // has pauses of its own
		"rclone":    800 * time.Millisecond,
	}
	eachRemote(t, slices.Collect(maps.Keys(every)), func(t *testing.T, kind string) {
		l, twin, f := newRemoteLab(t, kind)
		source := fewFiles(t)
		if long {
			source = smallTree(t)
		}
		twin.vitrine("backup", "--pack-size", "4", source)
		var cut *lab
		var cuts func() int
		if kind == "rclone" {
			cut, cuts = l.killingRclone(every[kind])
		} else {
			line := linetest.New(t, f.addr, linetest.Bandwidth(lineBytesPerSecond))
			line.CutEvery(every[kind])
			cut, cuts = l.through(f, line.Addr), line.Cuts
		}

		// Fast machines are through before there were cuts that mean anything; then it is done again.
		enough := 6
		if kind == "rclone" {
			enough = 3 // another one must have begun to serve each time
		}
		start := time.Now()
		for round := 0; round == 0 || cuts() < enough; round++ {
			cut.vitrine("backup", "--force", "--pack-size", "4", source)
		}
		backup := cuts()
		for round := 0; round == 0 || cuts() < backup+enough; round++ {
			cut.cache = fmt.Sprintf("%s/cache-%d", l.dir, round)
			m := cut.mount()
			cut.same(source, m.latest(source))
			m.stop()
		}
		t.Logf("%d cuts in the backup, %d in the mount, %v", backup, cuts()-backup, time.Since(start).Round(time.Second))

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

// The server goes away while 16 programs read from a mount, and comes back: they have waited.
func TestRemoteServerAway(t *testing.T) {
	away := 8 * time.Second
	if long {
		away = 2 * time.Minute
	}
	kinds := []string{"rest", "s3", "sftp", "rest unpatient", "s3 unpatient", "sftp unpatient", "rest silent", "s3 silent"}
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
		r := startReaders(t, source, m, 16)
		<-r.begun
		f.stop()
		time.Sleep(away)
		if left := r.left.Load(); left < 16 {
			t.Errorf("only %d files are left to read after %v without a server; the test shows nothing", left, away)
		}
		f.restart()
		back := time.Now()
		r.wait(t)
		t.Logf("all has been read %v after the return of the server", time.Since(back).Round(100*time.Millisecond))
		l.same(source, m.latest(source))
	})
}

// unpatient is the mount that waits three seconds: then reads fail, with EIO and nothing else, until
// the server is there again.
func unpatient(t *testing.T, kind, source string) {
	const timeout = 3 * time.Second
	count, away := 2, 8*time.Second
	if long {
		count, away = 16, 30*time.Second
	}
	l, _, f := newRemoteLab(t, kind)
	l.checked().vitrine("backup", source)
	m := l.mount("--io-timeout", timeout.String())
	view := m.latest(source)
	l.must("find", view) // so that all names are known
	want, err := os.ReadFile(source + "/made/noise")
	if err != nil {
		t.Fatal(err)
	}

	f.stop()
	stopped := time.Now()
	var failures atomic.Int64
	each := func(read func(offset int)) { // as many readers at once, each elsewhere in the file
		var wg sync.WaitGroup
		for i := range count {
			wg.Go(func() { read(i * len(want) / count) })
		}
		wg.Wait()
	}
	each(func(offset int) {
		for first := true; first || time.Since(stopped) < away-timeout; first = false {
			began := time.Now()
			_, err := readPart(view+"/made/noise", offset)
			took := time.Since(began)
			if !errors.Is(err, syscall.EIO) {
				t.Errorf("a read without a server: %v, want EIO", err)
			}
			if first && took < timeout/3 || took > timeout*3/2 {
				t.Errorf("a read without a server failed after %v, with --io-timeout %v", took, timeout)
			}
			failures.Add(1)
		}
	})
	time.Sleep(time.Until(stopped.Add(away)))
	f.restart()
	each(func(offset int) {
		if got, err := readPart(view+"/made/noise", offset); err != nil || !bytes.Equal(got, want[offset:][:len(got)]) {
			t.Errorf("the first read with the server back, at %d: %d bytes, %v", offset, len(got), err)
		}
	})
	l.same(source, view)
	t.Logf("%d readers, server away for %v: %d reads failed with EIO, the next one of each reader was good", count, away, failures.Load())
}

// readPart opens a file and reads some of it.
func readPart(name string, offset int) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	part := make([]byte, 64<<10)
	n, err := f.ReadAt(part, int64(offset))
	return part[:n], err
}

// silent is the mount whose connections stay but carry nothing any more: it makes new ones in time.
func silent(t *testing.T, kind, source string) {
	l, _, f := newRemoteLab(t, kind)
	l.checked().vitrine("backup", source)
	line := linetest.New(t, f.addr, linetest.Bandwidth(lineBytesPerSecond))
	const timeout = 8 * time.Second
	m := l.through(f, line.Addr).mount("--io-timeout", timeout.String(), "--limit-download", "4096")
	r := startReaders(t, source, m, 4)
	<-r.begun
	line.Hold()
	began := time.Now()
	r.wait(t)
	if took := time.Since(began); took > 5*timeout {
		t.Errorf("the readers waited %v", took)
	}
	l.same(source, m.latest(source))
}
