package fs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hanwen/go-fuse/v2/fuse"

	"vitrine/fs/tree"
	"vitrine/fs/tree/treetest"
	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// pushed is a kernel that takes pushes of the nodes it knows.
type pushed struct {
	mu      sync.Mutex // guards the rest
	content map[tree.NodeID]string
	unknown map[tree.NodeID]bool
	status  fuse.Status // for all nodes, unless OK
}

func (k *pushed) store(id tree.NodeID, p []byte) fuse.Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.unknown[id] {
		return fuse.ENOENT
	}
	if k.status == fuse.OK {
		k.content[id] = string(p)
	}
	return k.status
}

// entries returns the places of the files that were pushed.
func (k *pushed) entries() (list []int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id := range k.content {
		_, entry, _ := tree.FilePlace(id)
		list = append(list, entry)
	}
	slices.Sort(list)
	return list
}

// pushTest is a pusher over one directory d, with workers that are stepped by hand.
type pushTest struct {
	*pusher
	kernel *pushed
	dir    tree.NodeID
	number uint32
}

func newPushTest(t *testing.T, src *treetest.Source, files ...snapshot.Node) *pushTest {
	t.Helper()
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(src.Dir("d", files...)), nil)
	n := bareNodes(t, src, nil)
	dir := tree.NodeID(find(t, n, "snapshots/2020-01-02T03:04:05Z/d").NodeId)
	number, ok := n.tree.DirNumber(dir)
	if !ok {
		t.Fatal("no number for a directory")
	}
	k := &pushed{content: map[tree.NodeID]string{}, unknown: map[tree.NodeID]bool{}}
	return &pushTest{newPusher(n, k.store), k, dir, number}
}

func (p *pushTest) id(entry int) tree.NodeID { return tree.NodeID(p.number)<<24 | tree.NodeID(entry+1) }

// work does what the workers do until nothing is left.
func (p *pushTest) work(ctx context.Context) {
	for len(p.jobs) > 0 {
		dir := <-p.jobs
		var buf []byte
		for more := true; more; {
			buf, more = p.window(ctx, dir, buf)
		}
	}
	for len(p.aheads) > 0 {
		c := <-p.aheads
		for p.lookAhead(ctx, c) {
		}
	}
}

func upTo(from, to int) (list []int) {
	for i := from; i <= to; i++ {
		list = append(list, i)
	}
	return list
}

func without(list []int, not ...int) []int {
	return slices.DeleteFunc(slices.Clone(list), func(i int) bool { return slices.Contains(not, i) })
}

func smallFiles(src *treetest.Source, n int) (files []snapshot.Node) {
	for i := range n {
		files = append(files, src.File(fmt.Sprintf("f%05d", i), fmt.Sprintf("content %d", i)))
	}
	return files
}

// Programs, in the tests.
const (
	lister = 100 // lists directories
	reader = 200 // reads files
)

func TestPushWindows(t *testing.T) {
	const l = -1 // the directory is listed
	for _, tc := range []struct {
		name  string
		who   uint32 // reads
		files int
		does  []int // reads of entries
		want  []int // entries that were pushed
	}{
		{"a listing only", lister, 100, []int{l}, nil},
		{"read without a listing", reader, 100, []int{0}, nil},
		{"another one reads", reader, 100, []int{l, 0}, nil},
		{"another one reads in order", reader, 100, []int{l, 0, 1}, without(upTo(2, 33), 2)},
		{"read by who listed", lister, 100, []int{l, 0}, without(upTo(1, 32), 1)},
		{"the tripwire", lister, 1000, []int{l, 0, 1}, without(upTo(1, 96), 1, 33)},
		{"two tripwires", lister, 1000, []int{l, 0, 1, 33}, without(upTo(1, 224), 1, 33, 97)},
		{"the tripwire is passed", lister, 1000, []int{l, 0, 10}, without(upTo(1, 96), 1, 33)},
		{"to the end", lister, 20, []int{l, 0}, upTo(1, 19)},
		{"listed once more", lister, 20, []int{l, 0, l, 0}, upTo(1, 19)},
		{"backwards", reader, 100, []int{5, 4, 3, 2, 1}, nil},
		{"at random", reader, 1000, []int{5, 400, 100, 700, 2}, nil},
		{"one file", lister, 1, []int{l, 0}, nil},
		{"no files", lister, 0, []int{l}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			src := treetest.New(t)
			p := newPushTest(t, src, smallFiles(src, tc.files)...)
			for _, entry := range tc.does {
				if entry == l {
					p.noteListed(lister, p.dir)
				} else {
					p.noteRead(tc.who, p.id(entry))
				}
				p.work(t.Context())
			}
			if diff := cmp.Diff(tc.want, p.kernel.entries()); diff != "" {
				t.Error(diff)
			}
			for id, got := range p.kernel.content {
				if _, entry, _ := tree.FilePlace(id); got != fmt.Sprintf("content %d", entry) {
					t.Errorf("entry %d was pushed as %q", entry, got)
				}
			}
		})
	}
}

// A program that reads what it lists gets directories pushed when it has listed them; when it stops
// reading, that ends soon.
func TestPushListings(t *testing.T) {
	src := treetest.New(t)
	const dirs, files = 400, 16
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(manyDirs(src, dirs, files)), nil)
	n := bareNodes(t, src, nil)
	k := &pushed{content: map[tree.NodeID]string{}, unknown: map[tree.NodeID]bool{}}
	p := &pushTest{pusher: newPusher(n, k.store), kernel: k}
	id := func(path string) tree.NodeID {
		return tree.NodeID(find(t, n, "snapshots/2020-01-02T03:04:05Z/top/"+path).NodeId)
	}
	p.noteListed(lister, id("d000"))
	p.noteRead(lister, id("d000/f000"))
	p.work(t.Context())
	if got := len(k.content); got != files-1 {
		t.Errorf("%d files are pushed of the first directory", got)
	}
	p.noteListed(lister, id("d001"))
	p.noteListed(reader, id("d002")) // has read nothing
	p.work(t.Context())
	if got := len(k.content); got != 2*files-1 {
		t.Errorf("%d files are pushed with the second", got)
	}
	for d := 3; d < dirs; d++ {
		p.noteListed(lister, id(fmt.Sprintf("d%03d", d)))
		p.work(t.Context())
	}
	if got := len(k.content); got > distrust+2*files {
		t.Errorf("%d files are pushed for a program that reads none", got)
	}
	if got := len(k.content); got < probeAfter {
		t.Errorf("only %d files are pushed before it is asked whether they are read", got)
	}
}

// What a walk comes to is in the cache: of a walk that reads files, those too.
func TestLookAhead(t *testing.T) {
	src := treetest.New(t)
	const dirs, files = 3 * aheadTrees, 4
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(manyDirs(src, dirs, files)), nil)
	n := bareNodes(t, src, nil)
	p := &pushTest{pusher: newPusher(n, (&pushed{content: map[tree.NodeID]string{}}).store)}
	top := tree.NodeID(find(t, n, "snapshots/2020-01-02T03:04:05Z/top").NodeId)
	content := func(d, f int) blob.Handle {
		return blob.Handle{Type: blob.Data, ID: blob.Hash([]byte(manyDirsContent(d, f)))}
	}
	count := func() (read int) {
		for d := range dirs {
			for f := range files {
				read += src.Reads(content(d, f))
			}
		}
		return read
	}
	trees := src.TreeReads()
	p.noteListed(lister, top)
	p.work(t.Context())
	if got := src.TreeReads() - trees; got != aheadTrees+1 || count() != 0 { // one is the directory's own
		t.Errorf("a listing loads %d trees and %d files", got, count())
	}
	p.noteListed(lister, top)
	p.work(t.Context())
	if got := src.TreeReads() - trees; got != aheadTrees+1 {
		t.Errorf("%d trees are loaded when the walk has not gone on", got)
	}

	first := tree.NodeID(find(t, n, "snapshots/2020-01-02T03:04:05Z/top/d000").NodeId)
	p.noteListed(lister, first)
	p.noteRead(lister, tree.NodeID(find(t, n, "snapshots/2020-01-02T03:04:05Z/top/d000/f000").NodeId))
	for d := range aheadTrees {
		p.noteListed(lister, tree.NodeID(find(t, n, fmt.Sprintf("snapshots/2020-01-02T03:04:05Z/top/d%03d", d)).NodeId))
		p.work(t.Context())
	}
	for f := range files {
		if src.Reads(content(aheadTrees, f)) != 1 {
			t.Errorf("file %d of the next directory was read %d times", f, src.Reads(content(aheadTrees, f)))
		}
	}
	if got := count(); got > 3*aheadTrees*files {
		t.Errorf("%d files are loaded", got)
	}
}

// What cannot be right is not pushed, and what is not small neither.
func TestPushOnlyWhatIsSure(t *testing.T) {
	src := treetest.New(t)
	big := strings.Repeat("b", pushFileBytes+1)
	files := []snapshot.Node{
		src.File("a", "first"), src.File("b", "second"), src.File("c", "x"), // c becomes the tripwire
		src.File("d", "damaged"), src.File("e", "length"), src.File("f"), src.File("g", big),
		src.File("h", "two", "chunks"), treetest.Symlink("i", "a"), src.Dir("j"), src.File("k", "good"), src.File("z", "last"),
	}
	files[4].Size++
	for i := range 40 {
		files = append(files, src.File(fmt.Sprintf("zz%02d", i), "filler"))
	}
	p := newPushTest(t, src, files...)
	src.Break(blob.Handle{Type: blob.Data, ID: files[3].Content[0]}, repo.ErrCorrupt)
	p.noteRead(reader, p.id(0))
	p.noteRead(reader, p.id(1))
	p.work(t.Context())
	p.noteRead(reader, p.id(2)) // large files fill the first window
	p.work(t.Context())
	for entry, want := range map[int]bool{2: false, 3: false, 4: false, 5: false, 6: false, 7: false, 8: false, 9: false, 10: true, 11: true} {
		if _, ok := p.kernel.content[p.id(entry)]; ok != want {
			t.Errorf("entry %d (%s): pushed %v", entry, files[entry].Name, ok)
		}
	}
	for _, entry := range []int{2, 4} { // they will be asked for
		if _, ok := p.blobs.Peek(blob.Handle{Type: blob.Data, ID: files[entry].Content[0]}); !ok {
			t.Errorf("entry %d is not in the cache", entry)
		}
	}
}

// A file that is asked for is not pushed until the kernel has its answer, whoever asks: the push would wait for it.
func TestPushNothingThatIsAskedFor(t *testing.T) {
	src := treetest.New(t)
	p := newPushTest(t, src, smallFiles(src, 100)...)
	read := func(entry int) fuse.ReadResult {
		t.Helper()
		in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: uint64(p.id(entry))}, Size: 4096}
		r, st := p.nodes.Read(nil, in, nil)
		if st != fuse.OK {
			t.Fatal(st)
		}
		return r
	}
	asked, answered := read(5), read(6)
	answered.Done()
	in := &fuse.ReadIn{InHeader: fuse.InHeader{NodeId: uint64(p.dir)}, Size: 4096}
	if _, st := p.nodes.Read(nil, in, nil); st == fuse.OK {
		t.Fatal("a directory was read")
	}
	p.noteRead(reader, p.id(0))
	p.noteRead(reader, p.id(1))
	p.work(t.Context())
	if got, want := p.kernel.entries(), without(upTo(3, 33), 5); !slices.Equal(got, want) { // 2 is the tripwire
		t.Errorf("pushed %v, want %v", got, want)
	}
	in.NodeId, in.Offset = uint64(p.id(7)), 4096
	if r, st := p.nodes.Read(nil, in, nil); st != fuse.OK || r.Size() != 0 { // go-fuse does not call Done of such
		t.Errorf("behind the end: %v, %v", r, st)
	}
	asked.Done()
	if p.asked.has(p.id(5)) || p.asked.has(p.dir) || len(p.asked.files) != 0 {
		t.Errorf("still asked for: %v", p.asked.files)
	}
}

// A kernel that does not know the files gets no more than one ahead.
func TestPushUnknown(t *testing.T) {
	src := treetest.New(t)
	p := newPushTest(t, src, smallFiles(src, 300)...)
	for i := range 300 {
		p.kernel.unknown[p.id(i)] = true
	}
	for i := range 300 {
		p.noteRead(reader, p.id(i))
		p.work(t.Context())
	}
	if len(p.kernel.content) > 0 {
		t.Error("something was pushed")
	}
	reads := 0
	for i := range 300 {
		reads += src.Reads(blob.Handle{Type: blob.Data, ID: blob.Hash(fmt.Appendf(nil, "content %d", i))})
	}
	if reads > 310 {
		t.Errorf("%d reads of 300 files", reads)
	}
}

// A kernel that knows no pushes is asked once.
func TestPushUnsupported(t *testing.T) {
	src := treetest.New(t)
	p := newPushTest(t, src, smallFiles(src, 100)...)
	p.kernel.status = fuse.ENOSYS
	for i := range 10 {
		p.noteRead(reader, p.id(i))
		p.work(t.Context())
	}
	if !p.off || len(p.jobs) > 0 {
		t.Error("it goes on")
	}
}

func TestPushForgets(t *testing.T) {
	src := treetest.New(t)
	p := newPushTest(t, src, smallFiles(src, 1)...)
	for i := range uint32(3 * pushStreams) {
		p.noteRead(reader, tree.NodeID(i+1)<<24|1)
	}
	if len(p.streams) > pushStreams {
		t.Errorf("%d directories are remembered", len(p.streams))
	}
}

// Readers jump to and fro while a worker is at their directory; the race detector looks on.
func TestPushWhileReadersJump(t *testing.T) {
	src := treetest.New(t)
	p := newPushTest(t, src, smallFiles(src, 500)...)
	var wg sync.WaitGroup
	wg.Go(func() { p.run(t.Context()) })
	for i := range 2000 {
		p.noteRead(lister, p.id(i%2*400+i/2%50))
		p.noteRead(lister, p.id(i%2*400+i/2%50+1))
	}
	p.close()
	wg.Wait()
	for entry := range 500 {
		if got, ok := p.kernel.content[p.id(entry)]; ok && got == "" {
			t.Errorf("file %d was pushed without its content", entry)
		}
	}
}

// manyDirs returns a directory tree of small files.
func manyDirs(src *treetest.Source, dirs, files int) snapshot.Node {
	var top []snapshot.Node
	for d := range dirs {
		var in []snapshot.Node
		for f := range files {
			in = append(in, src.File(fmt.Sprintf("f%03d", f), manyDirsContent(d, f)))
		}
		top = append(top, src.Dir(fmt.Sprintf("d%03d", d), in...))
	}
	return src.Dir("top", top...)
}

func manyDirsContent(d, f int) string { return strings.Repeat(fmt.Sprintf("%d/%d ", d, f), 1+100*f) }

// Programs that read directories in order get the right bytes, and few of their reads come to
// us.
func TestPushSavesReads(t *testing.T) {
	src := treetest.New(t)
	const dirs, files = 30, 40
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(manyDirs(src, dirs, files)), nil)
	for name, line := range map[string]string{
		"tar":   "tar -C %s -cf - top | tar -C %s -xf -",
		"cp":    "cp -a %s/top %s",
		"rsync": "rsync -a %s/top %s",
	} {
		t.Run(name, func(t *testing.T) {
			at, _, count := mountCounted(t, src, Options{})
			from, to := filepath.Join(at, "snapshots/2020-01-02T03:04:05Z"), workDir(t)
			sh(t, to, fmt.Sprintf(line, from, to))
			for d := range dirs {
				for f := range files {
					got, err := os.ReadFile(fmt.Sprintf("%s/top/d%03d/f%03d", to, d, f))
					if want := manyDirsContent(d, f); err != nil || string(got) != want {
						t.Fatalf("d%03d/f%03d: %v, %d bytes, want %d", d, f, err, len(got), len(want))
					}
				}
			}
			n := int64(0)
			for i := range count.stats.reads.steps {
				n += count.stats.reads.steps[i].Load()
			}
			if n > dirs*files*3/4 { // a third to a tenth, when there is a processor for it
				t.Errorf("%d reads for %d files", n, dirs*files)
			}
		})
	}
}

// A file that is damaged is an error of its own, pushed neighbours or not.
func TestPushAroundDamage(t *testing.T) {
	src := treetest.New(t)
	files := smallFiles(src, 60)
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(files...), nil)
	for _, i := range []int{0, 7, 30, 59} {
		src.Break(blob.Handle{Type: blob.Data, ID: files[i].Content[0]}, errors.Join(repo.ErrCorrupt))
	}
	at := filepath.Join(mountTest(t, src, Options{}), "snapshots/2020-01-02T03:04:05Z")
	names, err := os.ReadDir(at)
	if err != nil || len(names) != len(files) {
		t.Fatal(len(names), err)
	}
	for i, f := range files {
		got, err := os.ReadFile(filepath.Join(at, f.Name))
		if slices.Contains([]int{0, 7, 30, 59}, i) {
			if err == nil {
				t.Errorf("%s is read: %q", f.Name, got)
			}
		} else if err != nil || !bytes.Equal(got, fmt.Appendf(nil, "content %d", i)) {
			t.Errorf("%s: %q, %v", f.Name, got, err)
		}
	}
}
