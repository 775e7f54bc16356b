package fs

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vitrine/fs/tree/treetest"
	"vitrine/repo/snapshot"
)

// What the readers of TestRow14Stalls read.
const (
	stallReaders = 100
	stallDirs    = 50
	stallFiles   = 20
	stallPause   = 20 * time.Millisecond // between two steps of a reader
)

// steps are what a reader does, each answered from memory by the kernel or the mount, so that
// nothing but a stall makes one slow.
var steps = []func(path string) error{
	func(path string) error { // the kernel asks the mount
		var st unix.Statx_t
		return unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_FORCE_SYNC, unix.STATX_BASIC_STATS, &st)
	},
	func(path string) error { // a name, as far as possible from what the kernel knows
		_, err := os.Lstat(path)
		return err
	},
	func(path string) error { // the mount sends the bytes
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		_, err = unix.Read(fd, make([]byte, 4096))
		return err
	},
	func(path string) error { // the page cache has them
		_, err := os.ReadFile(path)
		return err
	},
	func(path string) error { // the list that changes
		_, err := os.ReadDir(filepath.Join(path, "../../.."))
		return err
	},
	func(path string) error { // the link that changes
		_, err := os.Stat(filepath.Join(path, "../../../latest"))
		return err
	},
}

// stallingReaders reads from a snapshot, which is a directory of its list, for a while with many readers at once, and
// prints how long their steps took.
func stallingReaders(dir, seconds string) error {
	length, err := time.ParseDuration(seconds)
	if err != nil {
		return err
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex // guards the rest
		took []time.Duration
		late time.Duration // how much longer than told a reader slept: the machine's own stalls
		fail error
	)
	path := func(d, f int) string { return fmt.Sprintf("%s/d%d/f%d", dir, d, f) }
	for d := range stallDirs { // fetch everything
		for f := range stallFiles {
			if _, err := os.ReadFile(path(d, f)); err != nil {
				return err
			}
		}
	}
	end := time.Now().Add(length)
	for range stallReaders {
		wg.Go(func() {
			var mine []time.Duration
			var worstLate time.Duration
			var err error
			for err == nil && time.Now().Before(end) {
				start := time.Now()
				time.Sleep(stallPause)
				worstLate = max(worstLate, time.Since(start)-stallPause)
				step := steps[rand.IntN(len(steps))]
				start = time.Now()
				err = step(path(rand.IntN(stallDirs), rand.IntN(stallFiles)))
				mine = append(mine, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			took, late = append(took, mine...), max(late, worstLate)
			if err != nil {
				fail = err
			}
		})
	}
	wg.Wait()
	slices.Sort(took)
	fmt.Println(len(took), took[len(took)/2].Microseconds(), took[len(took)*999/1000].Microseconds(), took[len(took)-1].Microseconds(), late.Microseconds())
	return fail
}

// stalls are what stallingReaders prints.
type stalls struct {
	steps                     int
	median, p999, worst, late time.Duration
}

func (s stalls) String() string {
	return fmt.Sprintf("%d steps, median %v, 99.9 %% below %v, worst %v (the machine itself: %v late)", s.steps, s.median, s.p999, s.worst, s.late)
}

// runReaders runs stallingReaders in another process.
func runReaders(t *testing.T, dir string, length time.Duration) stalls {
	t.Helper()
	out, err := childCommand("readers", dir, length.String()).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var n [5]int
	for i, f := range strings.Fields(string(out)) {
		if n[i%5], err = strconv.Atoi(f); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	micro := func(n int) time.Duration { return time.Duration(n) * time.Microsecond }
	return stalls{n[0], micro(n[1]), micro(n[2]), micro(n[3]), micro(n[4])}
}

// 100 readers, 20 new snapshots: no reader notices. What a reader's step takes beyond the same
// without new snapshots would be a stall.
func TestRow14Stalls(t *testing.T) {
	const (
		snapshots = 20
		limit     = 100 * time.Millisecond
	)
	every := 50 * time.Millisecond
	if long {
		every = 500 * time.Millisecond
	}
	src := treetest.New(t)
	var dirs []snapshot.Node
	for d := range stallDirs {
		var files []snapshot.Node
		for f := range stallFiles {
			files = append(files, src.File(fmt.Sprintf("f%d", f), strings.Repeat(fmt.Sprintf("%d %d ", d, f), 2000)))
		}
		dirs = append(dirs, src.Dir(fmt.Sprintf("d%d", d), files...))
	}
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	add := func() {
		at = at.Add(time.Minute)
		src.AddSnapshot(at, src.Tree(append(slices.Clone(dirs), src.File("new", at.String()))...), nil)
	}
	add()
	mnt := mountTest(t, src, Options{RefreshEvery: 20 * time.Millisecond})
	first := filepath.Join(mnt, "snapshots", at.Format(time.RFC3339))
	// A busy machine stalls whom it likes: only what happens each time is the mount's fault.
	for attempt := 1; ; attempt++ {
		without := runReaders(t, first, every*snapshots)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range snapshots {
				time.Sleep(every)
				add()
			}
		}()
		with := runReaders(t, first, every*(snapshots+2))
		<-done
		t.Logf("%d readers without new snapshots: %v", stallReaders, without)
		t.Logf("%d readers and %d new snapshots: %v", stallReaders, snapshots, with)
		want := at.Format(time.RFC3339)
		eventually(t, func() error { // the last look may come after the readers
			if got := strings.TrimSpace(sh(t, mnt, "readlink snapshots/latest; ls snapshots | wc -l")); got != fmt.Sprintf("%s\n%d", want, attempt*snapshots+2) {
				return fmt.Errorf("the lists say %q", got)
			}
			return nil
		})
		if with.worst < limit || with.worst < 2*max(without.worst, with.late) {
			return
		}
		if attempt == 5 {
			t.Errorf("the worst stall is %v, want less than %v", with.worst, limit)
			return
		}
	}
}
