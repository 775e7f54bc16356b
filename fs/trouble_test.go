package fs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/blob"
)

// The tests of this file make trouble below a mount, at the repository, while it is used.

// noise writes n files of random bytes to a new directory.
func noise(t *testing.T, dir string, n, fileBytes int) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	random := rand.NewChaCha8([32]byte([]byte(fmt.Sprintf("%32s", filepath.Base(dir)))))
	for i := range n {
		p := make([]byte, fileBytes)
		random.Read(p)
		if err := os.WriteFile(fmt.Sprintf("%s/file %02d", dir, i), p, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// readDirect reads a file past the kernel's cache.
func readDirect(path string, size int) ([]byte, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	p := make([]byte, size+1)
	total := 0
	for total < len(p) {
		n, err := unix.Read(fd, p[total:])
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		total += n
	}
	return p[:total], nil
}

// Debian's restic forgets the older of two snapshots and prunes, which rewrites every pack and
// every index file, while programs read the newer one.
func TestRow15PrunedByAnother(t *testing.T) {
	const files, fileBytes = 30, 300_000
	dir := workDir(t)
	initRestic(t, dir+"/repo")
	noise(t, dir+"/src/keep", files, fileBytes)
	noise(t, dir+"/src/junk", files, fileBytes)
	// Of two snapshots of one second, the second would get another name when the first is gone.
	restic(t, dir+"/repo", dir, "backup", "--time", "2020-01-01 00:00:00", "src")
	sh(t, dir, "rm -r src/junk")
	restic(t, dir+"/repo", dir, "backup", "src")

	r, be := openCounted(t, dir+"/repo")
	mnt := mountTest(t, r, Options{CacheBytes: 1 << 20, RefreshEvery: 100 * time.Millisecond})
	kept := mnt + "/snapshots/" + strings.TrimSpace(sh(t, mnt, "readlink snapshots/latest")) + "/src"
	var (
		wg     sync.WaitGroup
		stop   = make(chan struct{})
		pruned atomic.Bool
		after  atomic.Int64 // reads that began after the prune
	)
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				name := fmt.Sprintf("keep/file %02d", rand.IntN(files))
				late := pruned.Load()
				got, err := readDirect(filepath.Join(kept, name), fileBytes)
				want, wantErr := os.ReadFile(filepath.Join(dir, "src", name))
				if err != nil || wantErr != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, after the prune %v: %d bytes, %v", name, late, len(got), err)
					return
				}
				if late {
					after.Add(1)
				}
			}
		})
	}
	const list = "cd repo; find data index -type f | sort"
	before := lines(sh(t, dir, list))
	restic(t, dir+"/repo", dir, "forget", "--keep-last", "1", "--prune", "--max-unused", "0")
	pruned.Store(true)
	left := lines(sh(t, dir, list))
	for _, f := range before {
		if slices.Contains(left, f) && strings.HasPrefix(f, "index/") {
			t.Errorf("restic left %s: the test shows nothing", f)
		}
	}
	deadline := time.Now().Add(20 * time.Second)
	for after.Load() < 200 && time.Now().Before(deadline) && !t.Failed() {
		time.Sleep(10 * time.Millisecond)
	}
	close(stop)
	wg.Wait()
	if n := after.Load(); n < 10 {
		t.Errorf("%d reads after the prune", n)
	}
	missed, read := 0, make(map[string]int)
	for _, c := range be.Trace() {
		if c.Op == fault.ReadAt && !slices.Contains(left, "data/"+c.File.Name[:2]+"/"+c.File.Name) {
			missed++
		}
		if c.File.Kind == backend.Index && c.Op == fault.ReadAll {
			read[c.File.Name]++
		}
	}
	if missed == 0 {
		t.Error("no pack that was read is gone: the test shows nothing")
	}
	for name, n := range read {
		if n > 1 {
			t.Errorf("index file %s was read %d times", name, n)
		}
	}
	sameTree(t, kept, dir+"/src")
	eventually(t, func() error {
		if got := sh(t, mnt, "ls snapshots | wc -l"); got != "2\n" { // and latest
			return fmt.Errorf("%s names in the list", got)
		}
		return nil
	})
}

// The store is away for a while: what was fetched still reads, the rest waits or is EIO, and
// when it is back everything reads, without a new mount.
func TestRow16StoreAway(t *testing.T) {
	src, _ := zoo(t)
	r, be := openCounted(t, fixture.repo)
	var log syncBuffer
	mnt, s := mountServer(t, r, Options{
		CacheBytes: 32 << 20, RefreshEvery: 20 * time.Millisecond, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	latest := mnt + "/snapshots/latest/zoo"
	known := sh(t, latest, "ls names; cat files/text")

	unreachable := errors.New("network is unreachable")
	be.SetPlan(func(fault.Call) fault.Fault { return fault.Fault{Mode: fault.Before, Err: unreachable} })
	eventually(t, func() error {
		if !strings.Contains(log.String(), "cannot look for new snapshots") {
			return errors.New("the log does not say that the store is away")
		}
		return nil
	})
	if got := sh(t, latest, "ls names; cat files/text"); got != known {
		t.Errorf("what was read before: %q", got)
	}
	for _, line := range []string{"cat 'files/several chunks'", "ls deep"} {
		if out, err := try(latest, "bash", "-c", line); err == nil || !strings.Contains(out, "Input/output error") {
			t.Errorf("%s while the store is away: %v, %.200q", line, err, out)
		}
	}

	// Or it does not answer at all, and does so later.
	back := make(chan struct{})
	be.SetPlan(func(fault.Call) fault.Fault { <-back; return fault.Fault{} })
	answer := make(chan string)
	go func() {
		out, err := try(latest, "cmp", "files/several chunks", src+"/files/several chunks")
		answer <- fmt.Sprint(out, err)
	}()
	select {
	case got := <-answer:
		t.Errorf("without an answer of the store: %s", got)
	case <-time.After(200 * time.Millisecond):
	}
	if got := sh(t, latest, "ls names; cat files/text"); got != known {
		t.Errorf("what was read before, while others wait: %q", got)
	}
	close(back)
	if got := <-answer; got != "<nil>" {
		t.Errorf("when the store is back: %s", got)
	}
	be.SetPlan(nil)
	sameTree(t, latest, src)
	eventually(t, func() error {
		if last := s.nodes.stats.lastRefresh(); last.err != nil {
			return fmt.Errorf("the last look for new snapshots: %w", last.err)
		}
		return nil
	})
	if n := strings.Count(log.String(), "cannot look for new snapshots"); n != 1 {
		t.Errorf("the log tells %d times that the store is away:\n%s", n, log.String())
	}
}

// One damaged and one missing pack: cp -a copies all else, and cp and the log name the paths.
func TestRow17CopyWithDamage(t *testing.T) {
	const files = 40
	dir := workDir(t)
	initRestic(t, dir+"/repo")
	noise(t, dir+"/src", files, 500_000)
	restic(t, dir+"/repo", dir, "backup", "--pack-size", "4", "src")
	r := openRestic(t, dir+"/repo")
	in := make(map[blob.ID][]string) // files with something in a data pack
	at := make(map[string]blob.Location)
	for i := range files {
		name := fmt.Sprintf("file %02d", i)
		for _, id := range contentOf(t, r, "src/"+name) {
			loc, ok, err := r.LookupBlob(blob.Handle{Type: blob.Data, ID: id})
			if !ok || err != nil {
				t.Fatal(ok, err)
			}
			at[name] = loc
			if !slices.Contains(in[loc.Pack], name) {
				in[loc.Pack] = append(in[loc.Pack], name)
			}
		}
	}
	if len(in) < 3 {
		t.Fatalf("restic made %d packs only", len(in))
	}
	damaged, missing := at["file 00"].Pack, blob.ID{}
	for pack := range in {
		if pack != damaged && !slices.Contains(in[pack], "file 00") {
			missing = pack
		}
	}
	file := func(pack blob.ID) string { return filepath.Join(dir, "repo/data", pack.String()[:2], pack.String()) }
	sh(t, "/", fmt.Sprintf("chmod u+w %s; printf XXXX | dd of=%[1]s bs=1 seek=%d conv=notrunc status=none; rm %s",
		file(damaged), at["file 00"].OffsetBytes+100, file(missing)))
	lost := append([]string{"file 00"}, in[missing]...)
	slices.Sort(lost)

	var log syncBuffer
	mnt := mountTest(t, r, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}) + "/snapshots/latest/src"
	out, err := try("/", "cp", "-a", mnt, dir+"/copy")
	if err == nil {
		t.Error("cp says that all is well")
	}
	var named, logged []string
	for _, name := range lines(sh(t, dir, "ls src")) {
		if strings.Contains(out, "/src/"+name+"': Input/output error") {
			named = append(named, name)
		}
		if strings.Contains(log.String(), "/src/"+name+`"`) {
			logged = append(logged, name)
		}
	}
	if diff := cmp.Diff(lost, named); diff != "" {
		t.Errorf("cp names others than what is lost: %s", diff)
	}
	if diff := cmp.Diff(lost, logged); diff != "" {
		t.Errorf("the log names others than what is lost: %s\n%s", diff, log.String())
	}
	for _, pack := range []blob.ID{damaged, missing} {
		if !strings.Contains(log.String(), pack.String()) {
			t.Errorf("the log does not name pack %s", pack)
		}
	}
	for _, name := range lost {
		sh(t, dir, fmt.Sprintf("rm -f 'copy/%s' 'src/%[1]s'", name))
	}
	sameTree(t, dir+"/copy", dir+"/src")
	t.Logf("%d of %d files are lost", len(lost), files)
}
