package source

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/repo/snapshot"
	"vitrine/repo/source/pattern"
)

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// shm returns a directory on tmpfs.
func shm(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "vitrine-source-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func openDir(t *testing.T, path string) *Dir {
	t.Helper()
	d, err := OpenDir(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func TestEntries(t *testing.T) {
	dir := shm(t)
	want := []string{"\x01", "-", "A", "B", "a", "é", "日本", "\xff", strings.Repeat("n", 255)}
	for i := range 3000 { // more than one getdents call
		want = append(want, "file with a name of some length "+strings.Repeat("x", i%50)+string(rune('0'+i%10))+time.Duration(i).String())
	}
	for _, name := range want {
		write(t, filepath.Join(dir, name), "")
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	want = append(want, "dir")
	slices.Sort(want)
	entries, err := openDir(t, dir).Entries()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name)
		if isDir := e.Type == unix.DT_DIR; isDir != (e.Name == "dir") {
			t.Errorf("%q has type %d", e.Name, e.Type)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
}

func TestMalformedDirents(t *testing.T) {
	good := append(make([]byte, 16), 24, 0, unix.DT_REG, 'a', 0, 0, 0, 0)
	if e, err := appendEntries(nil, good); err != nil || len(e) != 1 || e[0] != (Entry{"a", unix.DT_REG}) {
		t.Errorf("good record: %v %v", e, err)
	}
	for name, change := range map[string]func(p []byte) []byte{
		"short":     func(p []byte) []byte { return p[:18] },
		"too long":  func(p []byte) []byte { p[16] = 25; return p },
		"too small": func(p []byte) []byte { p[16] = 3; return p },
		"slash":     func(p []byte) []byte { p[19] = '/'; return p },
		"no name":   func(p []byte) []byte { p[19] = 0; return p },
	} {
		if e, err := appendEntries(nil, change(slices.Clone(good))); !errors.Is(err, errDirent) {
			t.Errorf("%s: %v %v", name, e, err)
		}
	}
}

// TestNoFollow shows that nothing below a Dir leads out of it.
func TestNoFollow(t *testing.T) {
	dir := shm(t)
	write(t, filepath.Join(dir, "in", "file"), "x")
	for name, target := range map[string]string{"out": "/etc", "file link": "file"} {
		if err := os.Symlink(target, filepath.Join(dir, "in", name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("in", filepath.Join(dir, "way")); err != nil {
		t.Fatal(err)
	}
	d := openDir(t, filepath.Join(dir, "in"))
	if _, err := d.OpenDir("out"); !errors.Is(err, unix.ENOTDIR) && !errors.Is(err, unix.ELOOP) {
		t.Errorf("OpenDir of a link: %v", err)
	}
	if _, err := d.OpenFile("file link"); !errors.Is(err, unix.ELOOP) {
		t.Errorf("OpenFile of a link: %v", err)
	}
	if _, err := d.OpenDir("file"); !errors.Is(err, unix.ENOTDIR) {
		t.Errorf("OpenDir of a file: %v", err)
	}
	var st Stat
	if err := d.Stat("out", &st); err != nil || NodeType(&st) != snapshot.Symlink {
		t.Errorf("Stat of a link: %v %v", NodeType(&st), err)
	}
	if target, err := d.Readlink("out"); err != nil || target != "/etc" {
		t.Errorf("Readlink: %q %v", target, err)
	}
	if err := d.Stat("none", &st); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), filepath.Join(dir, "in/none")) {
		t.Errorf("Stat of nothing: %v", err)
	}
	way, err := OpenWaypoint(filepath.Join(dir, "way"))
	if err != nil {
		t.Fatal(err)
	}
	defer way.Close()
	if err := way.Stat(".", &st); err != nil || NodeType(&st) != snapshot.Dir {
		t.Errorf("Stat of a waypoint: %v %v", NodeType(&st), err)
	}
	if f, err := way.OpenFile("file"); err != nil {
		t.Errorf("OpenFile in a waypoint: %v", err)
	} else {
		f.Close()
	}
}

// TestAtimeStays shows that a backup leaves no trace in access times.
func TestAtimeStays(t *testing.T) {
	dir := shm(t)
	write(t, filepath.Join(dir, "sub", "file"), "content")
	// Older than a day and than the modification: any read would renew it.
	old := time.Now().Add(-48 * time.Hour).Truncate(time.Second)
	for _, name := range []string{"sub/file", "sub"} {
		if err := os.Chtimes(filepath.Join(dir, name), old, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	d := openDir(t, filepath.Join(dir, "sub"))
	if _, err := d.Entries(); err != nil {
		t.Fatal(err)
	}
	f, err := d.OpenFile("file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Sequential()
	if p, err := io.ReadAll(f); err != nil || string(p) != "content" {
		t.Fatalf("read %q, %v", p, err)
	}
	var st Stat
	for _, name := range []string{"file", "."} {
		if err := d.Stat(name, &st); err != nil {
			t.Fatal(err)
		}
		if got := time.Unix(st.Atim.Unix()); !got.Equal(old) {
			t.Errorf("%s was last read at %v, want %v", name, got, old)
		}
	}
}

func TestOpenFileDoesNotBlock(t *testing.T) {
	dir := shm(t)
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := openDir(t, dir).OpenFile("fifo")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

// TestLease opens a file that another process, here this one, has leased: it is asked to let go,
// and waited for.
func TestLease(t *testing.T) {
	dir := shm(t)
	write(t, filepath.Join(dir, "file"), "x")
	holder, err := os.OpenFile(filepath.Join(dir, "file"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()
	if _, err := unix.FcntlInt(holder.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		t.Fatal(err)
	}
	released := make(chan error)
	go func() {
		time.Sleep(50 * time.Millisecond)
		_, err := unix.FcntlInt(holder.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
		released <- err
	}()
	f, err := openDir(t, dir).OpenFile("file")
	if err != nil {
		t.Error(err)
	} else {
		f.Close()
	}
	if err := <-released; err != nil {
		t.Error(err)
	}
}

func TestXattrs(t *testing.T) {
	dir := shm(t)
	write(t, filepath.Join(dir, "file"), "x")
	write(t, filepath.Join(dir, "bare"), "x")
	if err := os.Symlink("bare", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("l", 10_000)
	for _, a := range []struct{ name, attr, value string }{
		{"file", "user.b", "2"}, {"file", "user.a", ""}, {"file", "user.long", long}, {"file", "trusted.t", "\x00\xff"},
		{"link", "trusted.l", "of the link"}, {".", "user.d", "of the directory"},
	} {
		if err := unix.Lsetxattr(filepath.Join(dir, a.name), a.attr, []byte(a.value), 0); err != nil {
			t.Fatalf("%+v: %v", a, err)
		}
	}
	// The kernel's own order is what counts.
	list := make([]byte, 1000)
	n, err := unix.Llistxattr(filepath.Join(dir, "file"), list)
	if err != nil {
		t.Fatal(err)
	}
	order := strings.Split(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00")
	values := map[string]string{"user.b": "2", "user.a": "", "user.long": long, "trusted.t": "\x00\xff"}

	d := openDir(t, dir)
	way, err := OpenWaypoint(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer way.Close()
	for _, old := range []bool{false, true} {
		noListxattrat.Store(old)
		attrs, err := d.Xattrs("file")
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, a := range attrs {
			names = append(names, a.Name)
			if a.Value == nil || string(a.Value) != values[a.Name] {
				t.Errorf("%s = %q", a.Name, a.Value)
			}
		}
		if diff := cmp.Diff(order, names); diff != "" {
			t.Errorf("old kernel %v: order (-want +got):\n%s", old, diff)
		}
		for name, want := range map[string][]snapshot.Xattr{
			"bare": nil,
			"link": {{Name: "trusted.l", Value: []byte("of the link")}},
			".":    {{Name: "user.d", Value: []byte("of the directory")}},
		} {
			for _, d := range []*Dir{d, way} {
				got, err := d.Xattrs(name)
				if err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("old kernel %v: %s (-want +got):\n%s", old, name, diff)
				}
			}
		}
	}
	noListxattrat.Store(false)
	if _, err := d.Xattrs("none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("attributes of nothing: %v", err)
	}
	f, err := d.OpenFile("file")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if attrs, err := f.Xattrs(); err != nil || len(attrs) != len(order) {
		t.Errorf("by descriptor: %v %v", attrs, err)
	}
	if attrs, err := openDir(t, "/proc/self").Xattrs("stat"); err != nil || attrs != nil {
		t.Errorf("file system without attributes: %v %v", attrs, err)
	}
}

// TestPartOfXattrs has a list that names more than can be read.
func TestPartOfXattrs(t *testing.T) {
	calls := xattrCalls{
		list: func(p []byte) (int, error) { return copy(p, "user.a\x00user.gone\x00user.secret\x00user.b\x00"), nil },
		get: func(name string, p []byte) (int, error) {
			switch name {
			case "user.gone":
				return 0, unix.ENODATA
			case "user.secret":
				return 0, unix.EACCES
			}
			return copy(p, name), nil
		},
	}
	fail := func(op string, err error) error { return &fs.PathError{Op: op, Path: "f", Err: err} }
	attrs, err := readXattrs(calls, fail)
	if !errors.Is(err, unix.EACCES) || !strings.Contains(err.Error(), "user.secret") || strings.Contains(err.Error(), "gone") {
		t.Errorf("error %v", err)
	}
	want := []snapshot.Xattr{{Name: "user.a", Value: []byte("user.a")}, {Name: "user.b", Value: []byte("user.b")}}
	if diff := cmp.Diff(want, attrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	calls.list = func([]byte) (int, error) { return 0, unix.EIO }
	if _, err := readXattrs(calls, fail); !errors.Is(err, unix.EIO) {
		t.Errorf("list fails: %v", err)
	}
}

func TestNodeNames(t *testing.T) {
	asked := 0
	m := NewNodeMaker(true)
	m.users.lookup = func(id string) (string, error) {
		asked++
		if id == "7" {
			return "seven", nil
		}
		return "half", errors.New("no such user")
	}
	var n snapshot.Node
	for range 3 {
		for uid, want := range map[uint32]string{7: "seven", 4294967294: ""} {
			st := Stat{Uid: uid, Mode: unix.S_IFREG}
			st.Atim.Sec = 99
			m.Fill(&n, "x", &st)
			if n.User != want || !n.AccessTime.Equal(time.Unix(99, 0)) || n.ModTime.Location() != time.Local {
				t.Errorf("%+v", n)
			}
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times for 2 users", asked)
	}
}

func TestTagged(t *testing.T) {
	dir := shm(t)
	write(t, filepath.Join(dir, "plain", "data"), "d")
	write(t, filepath.Join(dir, "tag", ".nobackup"), "")
	write(t, filepath.Join(dir, "cache", "CACHEDIR.TAG"), CacheTag.Header+"\n")
	write(t, filepath.Join(dir, "exact", "CACHEDIR.TAG"), CacheTag.Header)
	write(t, filepath.Join(dir, "short", "CACHEDIR.TAG"), "Sig")
	write(t, filepath.Join(dir, "wrong", "CACHEDIR.TAG"), strings.Repeat("x", 100))
	write(t, filepath.Join(dir, "both", "CACHEDIR.TAG"), CacheTag.Header)
	write(t, filepath.Join(dir, "both", ".nobackup"), "")
	if err := os.MkdirAll(filepath.Join(dir, "dir", ".nobackup"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "link"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../cache/CACHEDIR.TAG", filepath.Join(dir, "link", "CACHEDIR.TAG")); err != nil {
		t.Fatal(err)
	}
	f := &Filter{Tags: []TagFile{CacheTag, {Name: ".nobackup"}}}
	for _, tc := range []struct {
		dir  string
		keep string // of "CACHEDIR.TAG .nobackup data", those that stay
		err  bool
	}{
		{"plain", "CACHEDIR.TAG .nobackup data", false},
		{"tag", ".nobackup", false},
		{"dir", ".nobackup", false},
		{"cache", "CACHEDIR.TAG", false},
		{"exact", "CACHEDIR.TAG", false},
		{"link", "CACHEDIR.TAG", false},
		{"short", "CACHEDIR.TAG .nobackup data", true},
		{"wrong", "CACHEDIR.TAG .nobackup data", false},
		{"both", "", false},
	} {
		d := openDir(t, filepath.Join(dir, tc.dir))
		entries, err := d.Entries()
		if err != nil {
			t.Fatal(err)
		}
		for _, list := range [][]Entry{entries, nil} {
			kept, err := f.Tagged(d, list)
			if (err != nil) != tc.err {
				t.Errorf("%s: %v", tc.dir, err)
			}
			var got []string
			for _, name := range []string{"CACHEDIR.TAG", ".nobackup", "data"} {
				if kept.Keeps(name) {
					got = append(got, name)
				}
			}
			if strings.Join(got, " ") != tc.keep {
				t.Errorf("%s keeps %q, want %q", tc.dir, got, tc.keep)
			}
		}
	}
}

func TestParseTagFile(t *testing.T) {
	for in, want := range map[string]TagFile{"a": {"a", ""}, "a:b:c": {"a", "b:c"}, "a:": {"a", ""}} {
		if got, err := ParseTagFile(in); err != nil || got != want {
			t.Errorf("%q: %+v %v", in, got, err)
		}
	}
	for _, bad := range []string{"", ":x", "a/b"} {
		if _, err := ParseTagFile(bad); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestFilter(t *testing.T) {
	var none *Filter
	st := &Stat{Mode: unix.S_IFREG, Size: 1 << 40, Dev: 1}
	if none.ExcludesName(none.Enter(none.At("/a"), "b"), "c") || none.ExcludesSize(st) || none.ExcludesDevice(st, 2, 2) {
		t.Error("no filter excludes something")
	}
	if kept, err := none.Tagged(openDir(t, t.TempDir()), nil); err != nil || !kept.Keeps("x") {
		t.Errorf("no filter: %v %v", kept, err)
	}
	compile := func(fold bool, p ...string) *pattern.List {
		l, err := pattern.Compile(p, fold)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	f := &Filter{
		Patterns:     []*pattern.List{compile(false, "a/*.o", "!keep.o"), compile(true, "/top/Secret")},
		MaxFileBytes: 100, OneFileSystem: true,
	}
	at := f.Enter(f.At("/top"), "a")
	for name, want := range map[string]bool{"x.o": true, "keep.o": false, "x.c": false} {
		if f.ExcludesName(at, name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
	if !f.ExcludesName(f.At("/top"), "SECRET") || f.ExcludesName(f.At("/"), "SECRET") {
		t.Error("the list that ignores case")
	}
	for size, want := range map[int64]bool{100: false, 101: true} {
		if f.ExcludesSize(&Stat{Mode: unix.S_IFREG, Size: size}) != want || f.ExcludesSize(&Stat{Mode: unix.S_IFDIR, Size: size}) {
			t.Errorf("size %d", size)
		}
	}
	for _, tc := range []struct {
		mode         uint32
		dev          uint64
		allowed, dir uint64
		want         bool
	}{
		{unix.S_IFREG, 1, 1, 1, false},
		{unix.S_IFREG, 2, 1, 1, true},
		{unix.S_IFDIR, 2, 1, 1, false}, // the mount point
		{unix.S_IFDIR, 2, 1, 2, true},  // in it
		{unix.S_IFREG, 2, 1, 2, true},
		{unix.S_IFDIR, 3, 1, 2, true}, // mounted in it
	} {
		if got := f.ExcludesDevice(&Stat{Mode: tc.mode, Dev: tc.dev}, tc.allowed, tc.dir); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
}
