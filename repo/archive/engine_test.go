package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/chunker"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
	"vitrine/repo/source"
	"vitrine/repo/source/sourcetest"
)

// contentOf returns a digest of each file below a tree, by path, and the type of everything else.
func contentOf(t testing.TB, r *repo.Repository, tree blob.ID, dir string, into map[string]string) {
	t.Helper()
	nodes, err := r.LoadTree(t.Context(), tree)
	check(t, err)
	for _, n := range nodes {
		p := join(dir, n.Name)
		switch n.Type {
		case snapshot.Dir:
			contentOf(t, r, *n.Subtree, p, into)
		case snapshot.File:
			h := sha256.New()
			length := uint64(0)
			for _, id := range n.Content {
				plain, err := r.ReadBlob(t.Context(), dataHandle(id), nil)
				check(t, err)
				h.Write(plain)
				length += uint64(len(plain))
			}
			if length != n.Size {
				t.Errorf("%q has %d bytes, its size is %d", p, length, n.Size)
			}
			into[p] = fmt.Sprintf("%x", h.Sum(nil))
		default:
			into[p] = n.Type.String()
		}
	}
}

// contentOnDisk is contentOf for the source.
func contentOnDisk(t testing.TB, root string) map[string]string {
	t.Helper()
	into := make(map[string]string)
	check(t, filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		var st source.Stat
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		name := strings.TrimPrefix(p, root)
		into[name] = source.NodeType(&st).String()
		if d.Type().IsRegular() {
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			into[name] = fmt.Sprintf("%x", sha256.Sum256(content))
		}
		return nil
	}))
	return into
}

// TestContent reads back all that was stored: of every kind of file with one reader and with the
// defaults, and of large files when there is memory for one segment and eight want it.
func TestContent(t *testing.T) {
	zoo, big := scratch(t), scratch(t)
	sourcetest.MakeZoo(t, zoo)
	sourcetest.AddNewer(t, zoo)
	for i := range 3 {
		check(t, os.WriteFile(filepath.Join(big, fmt.Sprint(i)), sourcetest.Noise(uint64(i), 17<<20+i*1000), 0o644))
	}
	for _, tc := range []struct {
		name, dir string
		o         Options
	}{
		{"defaults", zoo, Options{}},
		{"one reader", zoo, Options{ReadConcurrency: 1}},
		{"one segment", big, Options{InFlightBytes: 1, ReadConcurrency: 8}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			want := contentOnDisk(t, tc.dir)
			t.Chdir(tc.dir)
			r, _ := repotest.New(t, 2)
			rep := &recorder{t: t}
			tc.o.Targets, tc.o.Reporter = []string{"."}, rep
			res := ours(t, r, tc.o)
			check(t, r.RefreshIndex(t.Context()))
			got := make(map[string]string)
			contentOf(t, r, *res.Snapshot.Tree, "", got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-source +repository):\n%s", diff)
			}
			checkReported(t, rep, res.Summary)
			if uint64(rep.read) != res.Summary.TotalBytesProcessed {
				t.Errorf("%d bytes reported as read, %d processed", rep.read, res.Summary.TotalBytesProcessed)
			}
			if s := res.Summary; rep.done && (rep.scanned.Files != s.TotalFilesProcessed || rep.scanned.Bytes != s.TotalBytesProcessed || rep.scanned.Dirs != s.DirsNew) {
				t.Errorf("scan found %+v, summary %+v", rep.scanned, s)
			}
		})
	}
}

// memStore keeps blobs.
type memStore struct {
	mu    sync.Mutex // guards blobs
	blobs map[blob.Handle][]byte
}

func (s *memStore) SaveBlobs(ctx context.Context, t blob.Type, plains [][]byte, saved []repo.Saved) error {
	for i, plain := range plains {
		var err error
		if saved[i], err = s.SaveBlob(ctx, t, plain); err != nil {
			return err
		}
	}
	return nil
}

func (s *memStore) SaveBlob(ctx context.Context, t blob.Type, plain []byte) (repo.Saved, error) {
	return s.SaveHashed(ctx, blob.Handle{Type: t, ID: blob.Hash(plain)}, plain)
}

func (s *memStore) SaveHashed(ctx context.Context, h blob.Handle, plain []byte) (repo.Saved, error) {
	if h.ID != blob.Hash(plain) {
		return repo.Saved{}, fmt.Errorf("%d bytes are not %v", len(plain), h)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.blobs[h]
	s.blobs[h] = slices.Clone(plain)
	return repo.Saved{ID: h.ID, New: !known, StoredBytes: len(plain)}, ctx.Err()
}

func (s *memStore) Known(h blob.Handle) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.blobs[h]
	return known, nil
}

// engine runs deal with all workers on a store in memory.
func engine(t testing.TB, o Options, deal func(ctx context.Context, r *run)) (*run, *memStore, error) {
	t.Helper()
	repository, _ := repotest.New(t, 2)
	o = withDefaults(o)
	r := newRun(repository, &o)
	store := &memStore{blobs: make(map[blob.Handle][]byte)}
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	r.store, r.abort = store, cancel
	r.workers(ctx, o.ReadConcurrency, func(ctx context.Context) (done func()) {
		deal(ctx, r)
		return func() {}
	})
	return r, store, context.Cause(ctx)
}

func TestReadChunks(t *testing.T) { bothWays(t, testReadChunks) }

func testReadChunks(t *testing.T, readersHash bool) {
	noise := sourcetest.Noise(7, 35<<20)
	broken := errors.New("disk is broken")
	for _, tc := range []struct {
		name     string
		in       func() io.Reader
		prefix   int
		expected int64
		want     int // length of noise that is stored; -1 if an error is
	}{
		{"as expected", func() io.Reader { return bytes.NewReader(noise[:9<<20]) }, 0, 9 << 20, 9 << 20},
		{"empty", func() io.Reader { return bytes.NewReader(nil) }, 0, 9 << 20, 0},
		{"a byte", func() io.Reader { return bytes.NewReader(noise[:1]) }, 0, 600 << 10, 1},
		{"prefix only", func() io.Reader { return bytes.NewReader(nil) }, 512 << 10, maxSegment, 512 << 10},
		{"prefix", func() io.Reader { return bytes.NewReader(noise[512<<10 : 3<<20]) }, 512 << 10, maxSegment, 3 << 20},
		{"shorter", func() io.Reader { return bytes.NewReader(noise[:1<<20]) }, 0, 35 << 20, 1 << 20},
		{"outgrows its buffer", func() io.Reader { return bytes.NewReader(noise[:17<<20]) }, 0, 600 << 10, 17 << 20},
		{"outgrows 8 MiB", func() io.Reader { return bytes.NewReader(noise[:17<<20]) }, 0, 8<<20 - 1, 17 << 20},
		{"fills its buffer", func() io.Reader { return bytes.NewReader(noise[:1<<20]) }, 0, 1<<20 - 1, 1 << 20},
		{"many segments", func() io.Reader { return bytes.NewReader(noise) }, 0, 35 << 20, 35 << 20},
		{"small reads", func() io.Reader { return iotest.HalfReader(bytes.NewReader(noise[:3<<20])) }, 0, 3 << 20, 3 << 20},
		{"data with the end", func() io.Reader { return iotest.DataErrReader(bytes.NewReader(noise[:3<<20])) }, 0, 3 << 20, 3 << 20},
		{"breaks at once", func() io.Reader { return iotest.ErrReader(broken) }, 0, 1 << 20, -1},
		{"breaks later", func() io.Reader { return io.MultiReader(bytes.NewReader(noise[:20<<20]), iotest.ErrReader(broken)) }, 0, 35 << 20, -1},
	} {
		budgets := []int64{1, 0} // one segment, or more than are needed
		if tc.want < maxSegment {
			budgets = budgets[1:]
		}
		for _, budget := range budgets {
			t.Run(fmt.Sprintf("%s, budget %d", tc.name, budget), func(t *testing.T) {
				var node snapshot.Node
				var failed, done bool
				r, store, err := engine(t, Options{InFlightBytes: budget}, func(ctx context.Context, r *run) {
					r.readersHash = readersHash
					f := newLarge(&snapshot.Node{}, func(_ context.Context, f *largeFile) { node, failed, done = f.node, f.failed, true })
					err := r.readChunks(ctx, tc.in(), noise[:tc.prefix], tc.expected, f)
					if err != nil {
						f.fail()
					}
					if (tc.want < 0) != errors.Is(err, broken) {
						t.Errorf("error %v", err)
					}
					f.letGo(ctx)
				})
				check(t, err)
				if !done || failed != (tc.want < 0) {
					t.Fatalf("done %v, failed %v", done, failed)
				}
				if failed {
					return
				}
				want := cutsOf(r.chunker, noise[:tc.want])
				if diff := cmp.Diff(want, node.Content); diff != "" || node.Size != uint64(tc.want) {
					t.Errorf("size %d, want %d; chunks (-want +got):\n%s", node.Size, tc.want, diff)
				}
				for _, id := range node.Content {
					if _, ok := store.blobs[dataHandle(id)]; !ok {
						t.Errorf("chunk %s is not stored", id.Short())
					}
				}
			})
		}
	}
}

func TestReadSmall(t *testing.T) {
	for _, tc := range []struct {
		name     string
		in       io.Reader
		expected int
		length   int
		whole    bool
		err      error
	}{
		{"as expected", strings.NewReader("hello"), 5, 5, true, nil},
		{"one call", io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(io.ErrUnexpectedEOF)), 5, 5, true, nil},
		{"empty", strings.NewReader(""), 0, 0, true, nil},
		{"shrunk to nothing", strings.NewReader(""), 5, 0, true, nil},
		{"shrunk", strings.NewReader("hell"), 5, 4, true, nil},
		{"like /proc", strings.NewReader("hello"), 0, 5, true, nil},
		{"in pieces", iotest.OneByteReader(strings.NewReader("hello")), 5, 5, true, nil},
		{"grown", strings.NewReader("hello"), 3, 5, true, nil},
		{"just fits", strings.NewReader("hello w"), 0, 7, true, nil},
		{"too long", strings.NewReader("hello world"), 3, 8, false, nil},
		{"exactly the buffer", strings.NewReader("hello wo"), 8, 8, true, nil},
		{"breaks", io.MultiReader(strings.NewReader("he"), iotest.ErrReader(io.ErrNoProgress)), 5, 2, false, io.ErrNoProgress},
	} {
		length, whole, err := readSmall(tc.in, make([]byte, 8), tc.expected)
		if length != tc.length || whole != tc.whole || !errors.Is(err, tc.err) {
			t.Errorf("%s: %d %v %v", tc.name, length, whole, err)
		}
	}
}

func TestSegmentClasses(t *testing.T) {
	for expected, want := range map[int64]int{
		0: 0, 1: 0, 1<<20 - 1: 0, 1 << 20: 1, 2<<20 - 1: 1, 2 << 20: 2, 4<<20 - 1: 2, 4 << 20: 3, 8<<20 - 1: 3, 8 << 20: 3, 1 << 40: 3,
	} {
		if got := classOf(expected); got != want {
			t.Errorf("classOf(%d) = %d, want %d", expected, got, want)
		}
		if length := int64(minSegment) << want; expected < maxSegment && length <= expected {
			t.Errorf("class %d does not hold the end of %d bytes", want, expected)
		}
	}
	if minSegment<<(classes-1) != maxSegment {
		t.Error("the largest class is not the largest segment")
	}
	if maxSegment < chunker.MaxBytes {
		t.Error("a segment must hold any chunk")
	}
}

// TestSegmentBudget takes and returns segments of all classes at random: none overlaps another, and when all are
// back the arena is whole again.
func TestSegmentBudget(t *testing.T) {
	s := newBuffers(44 << 20)
	whole := slices.Clone(s.free[classes-1])
	if len(s.arena) != 48<<20 || len(whole) != 6 {
		t.Fatalf("%d bytes in %d blocks", len(s.arena), len(whole))
	}
	var used []*segment
	owned := make([]bool, len(s.arena)/minSegment)
	mark := func(seg *segment, owner bool) {
		for i := seg.start / minSegment; i < (seg.start+len(seg.buf))/minSegment; i++ {
			if owned[i] == owner {
				t.Fatalf("MiB %d of the arena changes hands twice", i)
			}
			owned[i] = owner
		}
	}
	giveBack := func(i int) {
		mark(used[i], false)
		used[i].release()
		used = slices.Delete(used, i, i+1)
	}
	refused := 0
	for range 5000 {
		class := rand.IntN(classes)
		if seg := s.try(class); seg != nil {
			if len(seg.buf) != minSegment<<class || cap(seg.buf) != len(seg.buf) || &seg.buf[0] != &s.arena[seg.start] {
				t.Fatalf("class %d: %d bytes at %d", class, len(seg.buf), seg.start)
			}
			mark(seg, true)
			used = append(used, seg)
			continue
		}
		for i := 0; i+1<<class <= len(owned); i += 1 << class {
			if !slices.Contains(owned[i:i+1<<class], true) {
				t.Fatalf("class %d is refused, but MiB %d and on are free", class, i)
			}
		}
		refused++
		giveBack(rand.IntN(len(used)))
	}
	for len(used) > 0 {
		giveBack(len(used) - 1)
	}
	slices.Sort(s.free[classes-1])
	slices.Sort(whole)
	if refused == 0 || !slices.Equal(whole, s.free[classes-1]) {
		t.Errorf("%d times refused; free at the end: %v", refused, s.free)
	}
}

// TestSegmentsInOrder: who wants much is not passed by those who want little, and who gives up is forgotten.
func TestSegmentsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBuffers(maxSegment)
		first := s.get(t.Context(), 1)
		ctx, cancel := context.WithCancel(t.Context())
		var large, small *segment
		go func() { large = s.get(ctx, maxSegment) }()
		synctest.Wait()
		go func() { small = s.get(t.Context(), 1) }()
		synctest.Wait()
		if large != nil || small != nil || s.try(0) != nil {
			t.Fatal("somebody has passed the large one")
		}
		cancel()
		synctest.Wait()
		if large != nil || small == nil {
			t.Fatal("the small one is next when the large one gives up")
		}
		small.release()
		go func() { large = s.get(t.Context(), maxSegment) }()
		synctest.Wait()
		synctest.Wait()
		if large != nil {
			t.Fatal("the arena holds another segment")
		}
		first.release()
		synctest.Wait()
		if large == nil {
			t.Fatal("the whole arena is free")
		}
		large.release()
	})
}

// TestFillInAnyOrder fills the slots of a directory in random order, some before the walk has left it. They were dealt
// out from the front, from the back, or from both in turns.
func TestFillInAnyOrder(t *testing.T) {
	repository, _ := repotest.New(t, 2)
	o := withDefaults(Options{})
	r := newRun(repository, &o)
	for round := range 100 {
		d := &dir{slots: -1}
		var want []string
		var slots [][]encoded
		const n = 20
		numbers := make([]int, n) // by place in the directory
		for first, end := 0, n; first < end; {
			if back := round%3 == 1 || round%3 == 2 && rand.IntN(2) == 0; back {
				end--
				numbers[end] = d.nextSlot(true)
			} else {
				numbers[first] = d.nextSlot(false)
				first++
			}
		}
		for i := range n {
			var s []encoded
			for j := range rand.IntN(4) {
				n := snapshot.Node{Name: fmt.Sprintf("%02d-%d", i, j), Type: snapshot.Fifo}
				e := encoded{n.Name, n.AppendJSON(nil)}
				if rand.IntN(5) == 0 {
					e.json = nil // left out
				} else {
					want = append(want, n.Name)
				}
				s = append(s, e)
			}
			slots = append(slots, s)
		}
		completions := 0
		leaveAt := rand.IntN(len(slots))
		for n, i := range rand.Perm(len(slots)) {
			if n == leaveAt && r.left(d) {
				completions++
			}
			if r.fill(d, numbers[i], slot{nodes: slots[i]}) {
				completions++
			}
		}
		if completions != 1 || d.err != nil {
			t.Fatalf("complete %d times, error %v", completions, d.err)
		}
		nodes, err := snapshot.DecodeTree(d.tree.Finish())
		check(t, err)
		var got []string
		for _, n := range nodes {
			got = append(got, n.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
	}
}

// TestProc has files whose size is told as zero, and one that ends before its size.
func TestProc(t *testing.T) {
	r, _ := repotest.New(t, 2)
	paths := []string{"/proc/version", "/proc/filesystems", "/sys/kernel/fscaps"}
	res := ours(t, r, Options{Targets: paths})
	check(t, r.RefreshIndex(t.Context()))
	got := make(map[string]string)
	contentOf(t, r, *res.Snapshot.Tree, "", got)
	for _, p := range paths {
		content, err := os.ReadFile(p)
		check(t, err)
		if want := fmt.Sprintf("%x", sha256.Sum256(content)); got[p] != want {
			t.Errorf("%s: content %s, want %s", p, got[p], want)
		}
	}
}

// TestProcChunks has a file whose size is told as zero and that is no small one: it is cut as any other.
func TestProcChunks(t *testing.T) {
	args := slices.Repeat([]string{strings.Repeat("x", 100_000)}, 7)
	args = slices.Insert(args, 6, make([]string, 64)...) // as many zeros, behind which there is a cut
	cmd := exec.Command("sh", append([]string{"-c", "echo; read line"}, args...)...)
	stdin, err := cmd.StdinPipe()
	check(t, err)
	stdout, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	defer func() {
		_ = stdin.Close()
		_ = cmd.Wait() // it met the end of its input, and says so
	}()
	_, err = io.ReadFull(stdout, make([]byte, 1)) // before that the file may be empty
	check(t, err)
	path := fmt.Sprintf("/proc/%d/cmdline", cmd.Process.Pid)
	content, err := os.ReadFile(path)
	check(t, err)
	r, _ := repotest.New(t, 2)
	ours(t, r, Options{Targets: []string{path}})
	check(t, r.RefreshIndex(t.Context()))
	ids := cutsOf(chunker.New(r.Config().Polynomial), content)
	if len(ids) < 2 {
		t.Fatalf("%d bytes have no cut", len(content))
	}
	for i, id := range ids {
		if _, found, err := r.LookupBlob(dataHandle(id)); err != nil || !found {
			t.Errorf("chunk %d of %d is not stored, %v", i, len(ids), err)
		}
	}
}

// TestManyEntries has more entries in a directory than the queue can hold, with directories between.
func TestManyEntries(t *testing.T) {
	dir := scratch(t)
	const n = 5000
	for i := range n {
		name := filepath.Join(dir, fmt.Sprintf("%05d", i))
		if i%7 == 0 {
			check(t, os.Mkdir(name, 0o755))
		} else {
			check(t, os.WriteFile(name, []byte(name), 0o644))
		}
	}
	want := contentOnDisk(t, dir)
	t.Chdir(dir)
	r, _ := repotest.New(t, 2)
	res := ours(t, r, Options{Targets: []string{"."}})
	check(t, r.RefreshIndex(t.Context()))
	got := make(map[string]string)
	contentOf(t, r, *res.Snapshot.Tree, "", got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-source +repository):\n%s", diff)
	}
	nodes, err := r.LoadTree(t.Context(), *res.Snapshot.Tree)
	check(t, err)
	if len(nodes) != n {
		t.Errorf("%d entries", len(nodes))
	}
	again := ours(t, r, Options{Targets: []string{"."}})
	if s := again.Summary; s.TreeBlobs != 0 || s.DirsUnmodified != (n+6)/7 || s.FilesUnmodified != n-(n+6)/7 {
		t.Errorf("unchanged: %+v", s)
	}
}
