package restore_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	iofs "io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/repo"
	"vitrine/repo/archive"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/restore"
	"vitrine/repo/snapshot"
	"vitrine/repo/source/pattern"
	"vitrine/repo/source/sourcetest"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// saved backs a directory up and returns the tree of what is in it.
func saved(t testing.TB, r *repo.Repository, dir string) blob.ID {
	t.Helper()
	res, err := archive.Run(t.Context(), r, archive.Options{Targets: []string{dir}, Force: true})
	check(t, err)
	node, err := r.FindNode(t.Context(), *res.Snapshot.Tree, dir)
	check(t, err)
	return *node.Subtree
}

// seen tells everything of each entry below a directory that a restore brings back. Names of one file get
// the same number.
func seen(t testing.TB, dir string) map[string]string {
	t.Helper()
	into := map[string]string{}
	files := map[uint64]int{}
	check(t, filepath.WalkDir(dir, func(p string, d iofs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		s := fmt.Sprintf("%o %d:%d %d.%09d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Mtim.Nsec)
		if st.Nlink > 1 && !d.IsDir() && d.Type() != iofs.ModeNamedPipe { // of those a snapshot does not know it
			if _, ok := files[st.Ino]; !ok {
				files[st.Ino] = len(files)
			}
			s += fmt.Sprintf(" link %d", files[st.Ino])
		}
		switch d.Type() {
		case 0:
			content, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			s += fmt.Sprintf(" %x", sha256.Sum256(content))
		case iofs.ModeSymlink:
			target, err := os.Readlink(p)
			if err != nil {
				return err
			}
			s += fmt.Sprintf(" -> %q", target)
		case iofs.ModeDevice, iofs.ModeDevice | iofs.ModeCharDevice:
			s += fmt.Sprintf(" device %d", st.Rdev)
		}
		buf := make([]byte, 1<<16)
		n, err := unix.Llistxattr(p, buf)
		if err != nil {
			return err
		}
		names := strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
		slices.Sort(names)
		for _, name := range names {
			if name != "" {
				n, err := unix.Lgetxattr(p, name, buf)
				if err != nil {
					return err
				}
				s += fmt.Sprintf(" %s=%q", name, buf[:n])
			}
		}
		into[strings.TrimPrefix(p, dir+"/")] = s
		return nil
	}))
	return into
}

func same(t testing.TB, source, target string) {
	t.Helper()
	if diff := cmp.Diff(seen(t, source), seen(t, target)); diff != "" {
		t.Errorf("-source +target:\n%s", diff)
	}
}

// recorder is a Reporter.
type recorder struct {
	mu     sync.Mutex
	items  map[string]restore.Action
	errors map[string]error
	wrote  int
	final  bool
	total  [2]uint64
	hook   func() // called by Wrote
}

func newRecorder() *recorder {
	return &recorder{items: map[string]restore.Action{}, errors: map[string]error{}}
}

func (r *recorder) Total(entries, sizeBytes uint64, final bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total, r.final = [2]uint64{entries, sizeBytes}, final
}

func (r *recorder) Wrote(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrote += n
	if r.hook != nil {
		r.hook()
	}
}

func (r *recorder) Done(it restore.Item) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.items[it.Path] = it.Action
}

func (r *recorder) Error(path string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errors[path] = err
}

// restored runs a restore that must succeed.
func restored(t testing.TB, r restore.Store, o restore.Options) (restore.Result, *recorder) {
	t.Helper()
	rec := newRecorder()
	o.Reporter = rec
	res, err := restore.Run(t.Context(), r, o)
	check(t, err)
	if res.Errors != 0 || len(rec.errors) != 0 {
		t.Fatalf("%d errors: %v", res.Errors, rec.errors)
	}
	return res, rec
}

// zoo is a tree with everything, and files of several parts. It lies on a memory file system, unless the
// environment chooses, for not all others take such attributes.
func zoo(t *testing.T) string {
	t.Helper()
	base := "/dev/shm"
	if run := os.Getenv("TMPDIR"); run != "" {
		base = run // of scripts/test
	}
	t.Setenv("GOTMPDIR", base) // which t.TempDir prefers
	t.Setenv("TMPDIR", base)
	dir := t.TempDir()
	sourcetest.MakeZoo(t, dir)
	sourcetest.AddNewer(t, dir)
	big := sourcetest.Noise(1, 14<<20)
	clear(big[2<<20 : 8<<20])
	check(t, os.WriteFile(dir+"/big", big, 0o640))
	check(t, os.WriteFile(dir+"/zeros", make([]byte, 5<<20), 0o600))
	check(t, os.MkdirAll(dir+"/read-only/below", 0o755))
	check(t, os.WriteFile(dir+"/read-only/below/file", []byte("x"), 0o444))
	check(t, os.Chmod(dir+"/read-only/below", 0o555))
	check(t, os.Chtimes(dir+"/read-only", time.Unix(1e9, 5), time.Unix(1e9, 7)))
	return dir
}

func TestEverythingComesBack(t *testing.T) {
	source := zoo(t)
	r, _ := repotest.New(t, 2)
	tree := saved(t, r, source)
	for _, sparse := range []bool{false, true} {
		target := t.TempDir() + "/new/place"
		res, rec := restored(t, r, restore.Options{Tree: tree, Target: target, Sparse: sparse, Verify: true})
		same(t, source, target)
		entries := len(seen(t, source))
		if int(res.Restored) != entries || res.Unchanged != 0 || rec.total[0] != res.Restored || rec.total[1] != res.RestoredBytes || !rec.final {
			t.Errorf("%+v, %v in total, of %d entries", res, rec.total, entries)
		}
		if res.Verified == 0 {
			t.Error("nothing was verified")
		}
		var st unix.Stat_t
		check(t, unix.Stat(target+"/zeros", &st))
		if holes := st.Blocks == 0; holes != sparse {
			t.Errorf("sparse %v: the zeros take %d blocks", sparse, st.Blocks)
		}
		// Once more: nothing is to be done.
		res, rec = restored(t, r, restore.Options{Tree: tree, Target: target, Sparse: sparse})
		same(t, source, target)
		if res.Restored != 0 || int(res.Unchanged) != entries || rec.wrote != 0 {
			t.Errorf("a second run: %+v, %d bytes written", res, rec.wrote)
		}
	}
}

// write makes a file with a time.
func write(t testing.TB, path, content string, at time.Time) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, []byte(content), 0o644))
	check(t, os.Chtimes(path, at, at))
}

func TestOverwrite(t *testing.T) {
	day := func(n int) time.Time { return time.Unix(1_700_000_000, 0).AddDate(0, 0, n) }
	source := t.TempDir()
	for _, name := range []string{"same", "size", "content", "newer", "older", "missing", "link", "dir"} {
		write(t, source+"/"+name, "snapshot", day(10))
	}
	r, _ := repotest.New(t, 2)
	tree := saved(t, r, source)
	for _, test := range []struct {
		overwrite restore.Overwrite
		stays     []string
	}{
		{restore.Always, nil},
		{restore.IfChanged, []string{"content"}}, // of the same size and time
		{restore.IfNewer, []string{"content", "newer", "size", "link", "dir"}},
		{restore.Never, []string{"content", "newer", "older", "size", "link", "dir"}},
	} {
		t.Run(fmt.Sprint(test.overwrite), func(t *testing.T) {
			target := t.TempDir()
			write(t, target+"/same", "snapshot", day(10))
			write(t, target+"/size", "other size", day(10))
			write(t, target+"/content", "SNAPSHOT", day(10))
			write(t, target+"/newer", "SNAPSHOT", day(11))
			write(t, target+"/older", "SNAPSHOT", day(9))
			write(t, target+"/extra", "stays", day(1))
			elsewhere := t.TempDir() + "/elsewhere"
			write(t, elsewhere, "of somebody else", day(1))
			check(t, os.Symlink(elsewhere, target+"/link"))
			check(t, os.Mkdir(target+"/dir", 0o755))
			restored(t, r, restore.Options{Tree: tree, Target: target, Overwrite: test.overwrite})
			for _, name := range []string{"same", "size", "content", "newer", "older", "missing", "link", "dir"} {
				content, err := os.ReadFile(target + "/" + name)
				want := !slices.Contains(test.stays, name)
				if got := err == nil && string(content) == "snapshot"; got != want {
					t.Errorf("%s: %q, %v; it must be the snapshot's: %v", name, content, err, want)
				}
			}
			for _, untouched := range []string{elsewhere, target + "/extra"} {
				if content, err := os.ReadFile(untouched); err != nil || string(content) == "snapshot" {
					t.Errorf("%s: %q, %v", untouched, content, err)
				}
			}
		})
	}
}

func TestDelete(t *testing.T) {
	source := t.TempDir()
	write(t, source+"/a/keep", "x", time.Unix(1, 0))
	check(t, os.Mkdir(source+"/empty", 0o755))
	r, _ := repotest.New(t, 2)
	tree := saved(t, r, source)
	target, elsewhere := t.TempDir(), t.TempDir()
	write(t, elsewhere+"/file", "x", time.Unix(1, 0))
	for _, extra := range []string{"/extra", "/a/extra", "/empty/extra", "/deep/er/extra", "/a/not.me", "/other.me"} {
		write(t, target+extra, "x", time.Unix(1, 0))
	}
	check(t, os.Symlink(elsewhere, target+"/link"))
	for _, socket := range []string{"/socket", "/a/socket"} { // stay: a program may listen
		check(t, unix.Mknod(target+socket, unix.S_IFSOCK|0o600, 0))
	}
	check(t, unix.Mknod(target+"/deep/socket", unix.S_IFSOCK|0o600, 0)) // goes with its directory
	keep, err := pattern.Compile([]string{"*.me"}, false)
	check(t, err)
	o := restore.Options{Tree: tree, Target: target, Delete: true, Select: restore.Select{Exclude: []*pattern.List{keep}}}
	o.DryRun = true
	before := seen(t, target)
	if res, _ := restored(t, r, o); res.Deleted != 8 {
		t.Errorf("a dry run tells of %d deletions", res.Deleted)
	}
	if diff := cmp.Diff(before, seen(t, target)); diff != "" {
		t.Errorf("a dry run changed something:\n%s", diff)
	}
	o.DryRun = false
	if res, _ := restored(t, r, o); res.Deleted != 8 {
		t.Errorf("%d were deleted", res.Deleted)
	}
	var names []string
	for name := range seen(t, target) {
		names = append(names, name)
	}
	slices.Sort(names)
	if diff := cmp.Diff([]string{"a", "a/keep", "a/not.me", "a/socket", "empty", "other.me", "socket"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if _, err := os.Stat(elsewhere + "/file"); err != nil {
		t.Error("it was deleted through a link: ", err)
	}
}

func TestSelect(t *testing.T) {
	source := t.TempDir()
	for _, name := range []string{"a/x.go", "a/x.c", "a/b/y.go", "c/z.txt", "c/Z.GO"} {
		write(t, source+"/"+name, "x", time.Unix(1, 0))
	}
	r, _ := repotest.New(t, 2)
	tree := saved(t, r, source)
	for _, test := range []struct {
		include, exclude, want []string
		fold                   bool
	}{
		{want: []string{"a", "a/b", "a/b/y.go", "a/x.c", "a/x.go", "c", "c/Z.GO", "c/z.txt"}},
		{include: []string{"*.go"}, want: []string{"a", "a/b", "a/b/y.go", "a/x.go"}},
		{include: []string{"*.go"}, fold: true, want: []string{"a", "a/b", "a/b/y.go", "a/x.go", "c", "c/Z.GO"}},
		{include: []string{"/a/b"}, want: []string{"a", "a/b", "a/b/y.go"}},
		{include: []string{"b/y.go"}, want: []string{"a", "a/b", "a/b/y.go"}},
		{include: []string{"nothing"}},
		{exclude: []string{"*.go", "/c"}, want: []string{"a", "a/b", "a/x.c"}},
		{exclude: []string{"a"}, want: []string{"c", "c/Z.GO", "c/z.txt"}},
	} {
		t.Run(fmt.Sprint(test.include, test.exclude, test.fold), func(t *testing.T) {
			var s restore.Select
			for patterns, to := range map[*[]string]*[]*pattern.List{&test.include: &s.Include, &test.exclude: &s.Exclude} {
				if len(*patterns) > 0 {
					l, err := pattern.Compile(*patterns, test.fold)
					check(t, err)
					*to = append(*to, l)
				}
			}
			target := t.TempDir()
			all := uint64(len(test.want)) // with the directories above what is selected
			for _, dry := range []bool{true, false} {
				res, rec := restored(t, r, restore.Options{Tree: tree, Target: target, Select: s, DryRun: dry})
				if res.Restored != all || rec.total[0] != all || !rec.final {
					t.Errorf("dry run %v: restored %d of %d entries, want %d", dry, res.Restored, rec.total[0], all)
				}
			}
			var names []string
			for name := range seen(t, target) {
				names = append(names, name)
			}
			slices.Sort(names)
			if diff := cmp.Diff(test.want, names); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A snapshot cannot make a restore write outside of the target, and neither can links that lie in it.
func TestHostile(t *testing.T) {
	outside := t.TempDir()
	r, _ := repotest.New(t, 2)
	source := t.TempDir()
	write(t, source+"/sub/file", "x", time.Unix(1, 0))
	tree := saved(t, r, source)
	target := t.TempDir()
	check(t, os.Symlink(outside, target+"/sub"))
	restored(t, r, restore.Options{Tree: tree, Target: target})
	same(t, source, target)

	// A tree whose link is followed by a directory of the same name is refused as a whole, since its
	// names are not unique; names that lead up are refused as well.
	for _, bad := range []string{"..", ".", "a/b", ""} {
		node := snapshot.Node{Name: bad, Type: snapshot.File, Content: []blob.ID{}}
		store := faulty{Repository: r, tree: func(blob.ID) ([]snapshot.Node, error) { return nil, snapshot.CheckName(node.Name) }}
		rec := newRecorder()
		res, err := restore.Run(t.Context(), store, restore.Options{Tree: tree, Target: t.TempDir(), Reporter: rec})
		if err != nil || res.Errors != 1 {
			t.Errorf("%q: %v, %+v", bad, err, res)
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) > 0 {
		t.Errorf("outside of the target: %v, %v", entries, err)
	}
}

// faulty is a repository in which things fail.
type faulty struct {
	*repo.Repository
	tree func(blob.ID) ([]snapshot.Node, error)
}

func (f faulty) LoadTree(ctx context.Context, id blob.ID) ([]snapshot.Node, error) {
	if f.tree != nil {
		return f.tree(id)
	}
	return f.Repository.LoadTree(ctx, id)
}

// What is damaged is told and not there, all else is.
func TestDamage(t *testing.T) {
	source := t.TempDir()
	bad := sourcetest.Noise(2, 12<<20)
	write(t, source+"/a", "fine", time.Unix(1, 0))
	check(t, os.WriteFile(source+"/bad", bad, 0o644))
	check(t, os.Link(source+"/bad", source+"/bad-too"))
	write(t, source+"/z", "fine too", time.Unix(1, 0))
	r, be := repotest.New(t, 2)
	tree := saved(t, r, source)
	node, err := r.FindNode(t.Context(), tree, "bad")
	check(t, err)
	loc, ok, err := r.LookupBlob(blob.Handle{Type: blob.Data, ID: node.Content[len(node.Content)/2]})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	f := backend.File{Kind: backend.Pack, Name: loc.Pack.String()}
	pack, err := be.ReadAll(t.Context(), f, 1<<30)
	check(t, err)
	pack = bytes.Clone(pack)
	pack[loc.OffsetBytes+loc.LengthBytes/2] ^= 1
	check(t, be.Remove(t.Context(), f))
	check(t, be.Save(t.Context(), f, pack))

	target := t.TempDir()
	rec := newRecorder()
	res, err := restore.Run(t.Context(), r, restore.Options{Tree: tree, Target: target, Reporter: rec})
	check(t, err)
	if res.Errors != 2 || rec.errors[target+"/bad"] == nil || rec.errors[target+"/bad-too"] == nil {
		t.Errorf("%d errors: %v", res.Errors, rec.errors)
	}
	if err := rec.errors[target+"/bad"]; !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("it is not named as damage: %v", err)
	}
	want := seen(t, source)
	delete(want, "bad")
	delete(want, "bad-too")
	if diff := cmp.Diff(want, seen(t, target)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Until Begin has returned the target is not touched, trees are read all the same, and its error ends the restore.
func TestBegin(t *testing.T) {
	source := zoo(t)
	r, _ := repotest.New(t, 2)
	tree := saved(t, r, source)
	target := t.TempDir() + "/out"
	conflict := errors.New("locked by another client")
	for _, want := range []error{conflict, nil} {
		rec := newRecorder()
		loaded := make(chan struct{})
		var once sync.Once
		store := faulty{Repository: r, tree: func(id blob.ID) ([]snapshot.Node, error) {
			once.Do(func() { close(loaded) })
			return r.LoadTree(t.Context(), id)
		}}
		res, err := restore.Run(t.Context(), store, restore.Options{Tree: tree, Target: target, Reporter: rec, Begin: func(context.Context) error {
			<-loaded
			time.Sleep(20 * time.Millisecond) // all that may happen too early does
			if _, err := os.Lstat(target); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the target before Begin has returned: %v", err)
			}
			return want
		}})
		if err != want || res.Errors != 0 || len(rec.errors) > 0 {
			t.Errorf("error %v, want %v; told: %v", err, want, rec.errors)
		}
	}
	same(t, source, target)
}

// What directories in each other take does not grow with the square of their number, and their paths are told whole.
func TestDeep(t *testing.T) {
	const depth = 600
	name := strings.Repeat("n", 255)
	r, _ := repotest.New(t, 2)
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	var most atomic.Uint64
	store := faulty{Repository: r, tree: func(id blob.ID) ([]snapshot.Node, error) {
		level := int(id[0])<<8 + int(id[1])
		if level == depth {
			most.Store(max(most.Load(), heap())) // the walk may come after the count
			return nil, nil
		}
		level++
		return []snapshot.Node{{Name: name, Type: snapshot.Dir, Subtree: &blob.ID{byte(level >> 8), byte(level)}}}, nil
	}}
	rec := newRecorder()
	res, err := restore.Run(t.Context(), store, restore.Options{Target: t.TempDir() + "/out", DryRun: true, Reporter: rec})
	check(t, err)
	if grown := int64(most.Load() - before); grown > 12<<20 { // all paths together have 46 MiB
		t.Errorf("%d directories in each other take %d KiB", depth, grown>>10)
	}
	paths := map[int]bool{}
	for path := range rec.items {
		paths[strings.Count(path, "/"+name)] = strings.HasSuffix(path, "/out"+strings.Repeat("/"+name, strings.Count(path, "/"+name)))
	}
	for level := 1; level <= depth; level++ {
		if !paths[level] {
			t.Errorf("directory %d was not told of", level)
		}
	}
	if res.Restored != depth || len(rec.items) != depth {
		t.Errorf("%d directories, %d told, want %d", res.Restored, len(rec.items), depth)
	}
}

// An interrupted restore leaves whole files only.
func TestInterrupted(t *testing.T) {
	source := zoo(t)
	r, _ := repotest.New(t, 2)
	tree := saved(t, r, source)
	want := seen(t, source)
	for _, after := range []int{1, 5, 20} {
		target := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		rec := newRecorder()
		writes := 0
		rec.hook = func() {
			if writes++; writes == after {
				cancel()
			}
		}
		_, err := restore.Run(ctx, r, restore.Options{Tree: tree, Target: target, Reporter: rec})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %d writes: %v", after, err)
		}
		if len(rec.errors) > 0 {
			t.Errorf("after %d writes: %v", after, rec.errors)
		}
		for name, is := range seen(t, target) {
			if fi, err := os.Lstat(target + "/" + name); err == nil && fi.Mode().IsRegular() && !strings.Contains(want[name], "link") && is != want[name] {
				t.Errorf("after %d writes %q is %s, want %s", after, name, is, want[name])
			}
		}
	}
}

// Verify finds what was changed behind the back of a restore.
func TestVerify(t *testing.T) {
	source := t.TempDir()
	for i := range 20 {
		write(t, fmt.Sprintf("%s/%d", source, i), "content of a file", time.Unix(1, 0))
	}
	r, _ := repotest.New(t, 2)
	tree := saved(t, r, source)
	target := t.TempDir()
	restored(t, r, restore.Options{Tree: tree, Target: target})
	check(t, os.WriteFile(target+"/7", []byte("CONTENT of a file"), 0o644))
	check(t, os.Remove(target+"/8"))
	check(t, os.Mkdir(target+"/8", 0o755))
	rec := newRecorder()
	res, err := restore.Run(t.Context(), r, restore.Options{Tree: tree, Target: target, Overwrite: restore.Never, Verify: true, Reporter: rec})
	check(t, err)
	if res.Errors != 2 || rec.errors[target+"/7"] == nil || rec.errors[target+"/8"] == nil || res.Verified != 18 {
		t.Errorf("%+v, %v", res, rec.errors)
	}
}

func TestXattrsAreChosen(t *testing.T) {
	source := t.TempDir()
	write(t, source+"/f", "x", time.Unix(1, 0))
	for _, name := range []string{"user.yes", "user.no"} {
		check(t, unix.Setxattr(source+"/f", name, []byte("v"), 0))
	}
	r, _ := repotest.New(t, 2)
	tree := saved(t, r, source)
	target := t.TempDir()
	restored(t, r, restore.Options{Tree: tree, Target: target, Xattrs: func(name string) bool { return name != "user.no" }})
	if got := seen(t, target)["f"]; !strings.Contains(got, "user.yes=") || strings.Contains(got, "user.no=") {
		t.Error(got)
	}
}
