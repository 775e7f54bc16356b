package fs

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/fs/tree/treetest"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// The tests of this file hold a mount to costs that grow as they should. The times that a person
// feels are scripts/bench's to measure: here a time is only told, or compared with one that a mistake
// would make many times longer.

// wideTree adds a directory of n files of one content, without the cost of encoding each.
func wideTree(t *testing.T, src *treetest.Source, n int) blob.ID {
	t.Helper()
	root := src.Tree(src.File("entry 0000000", "same"))
	one, err := src.ReadBlob(t.Context(), blob.Handle{Type: blob.Tree, ID: root}, nil)
	if err != nil {
		t.Fatal(err)
	}
	from, to := bytes.IndexByte(one, '[')+1, bytes.LastIndexByte(one, ']')
	node := append(bytes.Clone(one[from:to]), ',')
	digits := bytes.Index(node, []byte("0000000"))
	json := append(make([]byte, 0, len(one)+n*len(node)), one[:from]...)
	for i := range n {
		copy(node[digits:], fmt.Sprintf("%07d", i))
		json = append(json, node...)
	}
	return src.RawTree(append(json[:len(json)-1], one[to:]...))
}

// heapBytes is what is in use.
func heapBytes() int64 {
	runtime.GC()
	runtime.GC() // pools are emptied by the second one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestRow10ManyEntries(t *testing.T) {
	n := 100_000
	if long {
		n = 1_000_000
	}
	src := treetest.New(t)
	src.AddSnapshot(time.Now(), wideTree(t, src, n), nil)
	before := heapBytes()
	mnt, _, c := mountCounted(t, src, Options{})
	mnt += "/snapshots/latest"
	start := time.Now()
	if first := sh(t, mnt, "ls -U | head -1 || true"); first != "entry 0000000\n" {
		t.Errorf("first name: %q", first)
	}
	toFirst := time.Since(start)
	if got := strings.TrimSpace(sh(t, mnt, "find . -size 1 | wc -l")); got != fmt.Sprint(n) {
		t.Errorf("find saw %s files", got)
	}
	all := time.Since(start)
	each := (heapBytes() - before) / int64(n)
	t.Logf("first name after %v, all attributes after %v, in %d requests; %d bytes of memory for each entry",
		toFirst, all, c.lists.Load()+c.lookups.Load()+c.getattrs.Load(), each)
	if all > 2*time.Minute { // quadratic would take far longer
		t.Errorf("listing took %v", all)
	}
	if n := c.lookups.Load() + c.getattrs.Load(); n > 100 {
		t.Errorf("%d requests for single entries", n)
	}
	if each > 200 { // its JSON takes twice that
		t.Errorf("%d bytes of memory for each entry", each)
	}
}

// readsSource counts the blobs that are asked for.
type readsSource struct {
	*treetest.Source
	reads, lookups atomic.Int64
}

func (s *readsSource) ReadBlob(ctx context.Context, h blob.Handle, buf []byte) ([]byte, error) {
	s.reads.Add(1)
	return s.Source.ReadBlob(ctx, h, buf)
}

func (s *readsSource) LookupBlob(h blob.Handle) (blob.Location, bool, error) {
	s.lookups.Add(1)
	return s.Source.LookupBlob(h)
}

// To open a repository costs something for each snapshot, and nothing for what they hold.
func TestRow03Opening(t *testing.T) {
	const snapshots = 500
	src := &readsSource{Source: treetest.New(t)}
	root := src.Tree(src.Dir("dir", src.File("f", "x")))
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range snapshots {
		src.AddSnapshot(at.Add(time.Duration(i)*time.Hour), root, nil)
	}
	before := heapBytes()
	start := time.Now()
	mnt := mountTest(t, src, Options{})
	ready := time.Since(start)
	if got := sh(t, mnt, "ls -l snapshots | grep -c ^d"); strings.TrimSpace(got) != fmt.Sprint(snapshots) {
		t.Errorf("ls shows %s snapshots", got)
	}
	if reads, lookups := src.reads.Load(), src.lookups.Load(); reads+lookups != 0 {
		t.Errorf("before anybody looks into a snapshot, %d blobs are read and %d looked up", reads, lookups)
	}
	each := (heapBytes() - before) / snapshots
	t.Logf("%d snapshots: ready after %v, %d bytes of memory for each", snapshots, ready, each)
	if each > 10_000 {
		t.Errorf("%d bytes of memory for each snapshot", each)
	}
	if got := sh(t, mnt, "cat snapshots/latest/dir/f"); got != "x" {
		t.Errorf("content %q", got)
	}
}

// cp -a asks for each directory and each file's bytes once, and for nothing else.
func TestRow02RequestsOfACopy(t *testing.T) {
	const dirs, files = 20, 25
	src := treetest.New(t)
	var in []snapshot.Node
	for d := range dirs {
		var nodes []snapshot.Node
		for f := range files {
			nodes = append(nodes, src.File(fmt.Sprintf("f%d", f), fmt.Sprintf("%d %d", d, f)))
		}
		in = append(in, src.Dir(fmt.Sprintf("d%d", d), nodes...))
	}
	src.AddSnapshot(time.Now(), src.Tree(in...), nil)
	// Four for each directory: it is looked up, listed in two parts (the second is the end), and
	// statted; and nothing for a file.
	const most = 4 * (dirs + 1)
	var asked []string
	for attempt := 0; attempt == 0 || attempt < 5 && len(asked) > most; attempt++ { // a machine may drop what it knows meanwhile, see quiet
		mnt, _, c := mountCounted(t, src, Options{RefreshEvery: -1})
		c.watch()
		run(t, "/", "cp", "-a", mnt+"/snapshots/latest/", workDir(t)+"/copy")
		asked = slices.DeleteFunc(c.asked(), func(r string) bool { return strings.HasPrefix(r, "read ") })
		t.Logf("%d files in %d directories: %d requests for metadata inside the snapshot", dirs*files, dirs, len(asked))
	}
	if len(asked) > most {
		t.Errorf("%d requests for %d directories, beginning with:\n%s", len(asked), dirs+1, strings.Join(asked[:20], "\n"))
	}
}

// Who reads a large file from a store with latency does not wait for one chunk after another: most
// requests begin while another is under way.
func TestRow12LatencyIsHidden(t *testing.T) {
	dir := workDir(t)
	initRestic(t, dir+"/repo")
	noise(t, dir+"/src", 1, 48<<20)
	restic(t, dir+"/repo", dir, "backup", "src")
	r, be := openCounted(t, dir+"/repo")
	mnt := mountTest(t, r, Options{RefreshEvery: -1}) + "/snapshots/latest/src"
	sh(t, mnt, "ls -l")
	var now, requests, overlapping atomic.Int64
	be.SetPlan(func(c fault.Call) fault.Fault {
		if c.Op == fault.ReadAt && c.File.Kind == backend.Pack {
			requests.Add(1)
			if now.Add(1) > 1 {
				overlapping.Add(1)
			}
			time.Sleep(50 * time.Millisecond)
			now.Add(-1)
		}
		return fault.Fault{}
	})
	run(t, "/", "cmp", mnt+"/file 00", dir+"/src/file 00")
	t.Logf("%d of %d requests overlap", overlapping.Load(), requests.Load())
	if 3*overlapping.Load() < requests.Load() {
		t.Errorf("only %d of %d requests begin while another is under way", overlapping.Load(), requests.Load())
	}
}
