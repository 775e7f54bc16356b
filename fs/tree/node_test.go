package tree_test

import (
	"bytes"
	"errors"
	"fmt"
	iofs "io/fs"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/fs/tree"
	"vitrine/fs/tree/treetest"
	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/chunker"
	"vitrine/repo/snapshot"
)

func TestAttributes(t *testing.T) {
	src := treetest.New(t)
	old := time.Date(1912, 6, 23, 1, 2, 3, 999999999, time.UTC)
	far := time.Date(2100, 1, 1, 0, 0, 0, 1, time.UTC)
	node := func(name string, typ snapshot.NodeType, edit func(*snapshot.Node)) snapshot.Node {
		n := treetest.Node(name, typ)
		edit(&n)
		return n
	}
	file := src.File("file", "hello", "world")
	file.Mode, file.ModTime, file.AccessTime, file.ChangeTime, file.Links = 0o4751|iofs.ModeSetuid, old, old, far, 0
	file.Mode = iofs.ModeSetuid | 0o751
	dir := src.Dir("dir", src.File("inner", "i"))
	dir.Mode = iofs.ModeDir | iofs.ModeSticky | iofs.ModeSetgid | 0o777
	src.AddSnapshot(day, src.Tree(file, dir,
		treetest.Symlink("link", "nowhere/\xff"),
		node("block", snapshot.Dev, func(n *snapshot.Node) { n.Mode = iofs.ModeDevice | 0o600; n.Device = 0x123456789 }),
		node("char", snapshot.CharDev, func(n *snapshot.Node) { n.Mode = iofs.ModeDevice | iofs.ModeCharDevice | 0o600; n.Device = 0x103 }),
		node("fifo", snapshot.Fifo, func(n *snapshot.Node) { n.Mode = iofs.ModeNamedPipe | 0o644; n.Links = 0 }),
		node("socket", snapshot.Socket, func(n *snapshot.Node) { n.Mode = iofs.ModeSocket | 0o700 }),
		node("weird", snapshot.Irregular, func(n *snapshot.Node) { n.Mode = iofs.ModeIrregular | 0o7 }),
		node("many", snapshot.File, func(n *snapshot.Node) { n.Content, n.Links = []blob.ID{}, 3 }),
	), nil)
	tr := open(t, src, tree.Options{UID: 77, GID: 78})
	spec := func(at time.Time) snapshot.Timespec {
		return snapshot.Timespec{Sec: at.Unix(), Nsec: uint32(at.Nanosecond())}
	}
	plain := tree.Attr{Nlink: 1, UID: 1000, GID: 1001, MTime: spec(treetest.Time), ATime: spec(treetest.Time), CTime: spec(treetest.Time)}
	want := func(edit func(*tree.Attr)) tree.Attr {
		a := plain
		edit(&a)
		return a
	}
	for name, a := range map[string]tree.Attr{
		"file": want(func(a *tree.Attr) {
			a.Mode, a.Size, a.Blocks = iofs.ModeSetuid|0o751, 10, 8
			a.MTime, a.ATime, a.CTime = spec(old), spec(old), spec(far)
		}),
		"dir":    want(func(a *tree.Attr) { a.Mode = iofs.ModeDir | iofs.ModeSticky | iofs.ModeSetgid | 0o777 }),
		"link":   want(func(a *tree.Attr) { a.Mode, a.Size = iofs.ModeSymlink|0o777, 9 }),
		"block":  want(func(a *tree.Attr) { a.Mode, a.Device = iofs.ModeDevice|0o600, 0x123456789 }),
		"char":   want(func(a *tree.Attr) { a.Mode, a.Device = iofs.ModeDevice|iofs.ModeCharDevice|0o600, 0x103 }),
		"fifo":   want(func(a *tree.Attr) { a.Mode = iofs.ModeNamedPipe | 0o644 }),
		"socket": want(func(a *tree.Attr) { a.Mode = iofs.ModeSocket | 0o700 }),
		"weird":  want(func(a *tree.Attr) { a.Mode = 0o7 }),
		"many":   want(func(a *tree.Attr) { a.Mode, a.Nlink = 0o644, 3 }),
	} {
		got := at(t, tr, "snapshots/"+stamp+"/"+name)
		again, err := tr.Attr(t.Context(), got.ID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(got, again); diff != "" {
			t.Errorf("%s: Lookup and Attr differ: %s", name, diff)
		}
		if got.Ino == 0 || got.ID == 0 || got.Ino>>63 != 0 {
			t.Errorf("%s: numbers %#x %#x", name, got.ID, got.Ino)
		}
		got.ID, got.Ino = 0, 0
		if diff := cmp.Diff(a, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	if a := at(t, tr, "snapshots"); a.UID != 77 || a.GID != 78 {
		t.Errorf("the lists belong to %d:%d", a.UID, a.GID)
	}
	if target, err := tr.Readlink(t.Context(), at(t, tr, "snapshots/"+stamp+"/link").ID); err != nil || target != "nowhere/\xff" {
		t.Errorf("link -> %q, %v", target, err)
	}
	rooted := open(t, src, tree.Options{OwnerRoot: true, UID: 77, GID: 78})
	for _, p := range []string{"", "snapshots", "snapshots/" + stamp, "snapshots/" + stamp + "/file", "snapshots/" + stamp + "/dir"} {
		if a := at(t, rooted, p); a.UID != 0 || a.GID != 0 {
			t.Errorf("OwnerRoot: %q belongs to %d:%d", p, a.UID, a.GID)
		}
	}
}

// stamp is the name of a snapshot of day.
const stamp = "2020-01-02T03:04:05Z"

func TestNumbers(t *testing.T) {
	src := treetest.New(t)
	same := src.Dir("same", src.File("a", "1"), src.File("b", "2"), src.Dir("deep", src.File("c", "3")))
	src.AddSnapshot(day, src.Tree(same, src.Dir("other", src.File("x", "old"))), nil)
	src.AddSnapshot(day.Add(24*time.Hour), src.Tree(same, src.Dir("other", src.File("x", "new"))), nil)
	tr, again := open(t, src, tree.Options{}), open(t, src, tree.Options{})
	const first, second = "snapshots/" + stamp, "snapshots/2020-01-03T03:04:05Z"

	// A file in a directory that did not change is one node, wherever it is seen.
	for _, p := range []string{"/same/a", "/same/deep/c"} {
		x, y := at(t, tr, first+p), at(t, tr, second+p)
		if x.ID != y.ID || x.Ino != y.Ino {
			t.Errorf("%s: two nodes %#x %#x", p, x.ID, y.ID)
		}
		if z := at(t, tr, "hosts/host/"+stamp+p); z.ID != x.ID {
			t.Errorf("%s: another node under hosts", p)
		}
	}
	if x, y := at(t, tr, first+"/other/x"), at(t, tr, second+"/other/x"); x.ID == y.ID || x.Ino == y.Ino {
		t.Error("files that differ are one node")
	}
	// A directory has one parent, so it is a node of its own in each.
	seen := map[tree.NodeID]string{}
	for _, p := range []string{first, second, "hosts/host/" + stamp, first + "/same", second + "/same", first + "/same/deep", second + "/same/deep"} {
		a := at(t, tr, p)
		if other, ok := seen[a.ID]; ok {
			t.Errorf("%s and %s are one node", p, other)
		}
		seen[a.ID] = p
		if got := tr.Path(t.Context(), a.ID); got != "/"+p {
			t.Errorf("path of %s: %s", p, got)
		}
	}
	// Numbers grow in the order of the directory, and survive a remount.
	a, b := at(t, tr, first+"/same/a"), at(t, tr, first+"/same/b")
	if a.Ino >= b.Ino {
		t.Errorf("inode numbers do not grow: %d, %d", a.Ino, b.Ino)
	}
	for _, p := range []string{first, first + "/same", first + "/same/b", "snapshots", "snapshots/latest"} {
		if x, y := at(t, tr, p), at(t, again, p); x.Ino != y.Ino {
			t.Errorf("%s: %d before, %d after a remount", p, x.Ino, y.Ino)
		}
	}
}

// MOUNT-CASES rows 4 and 5, without a kernel.
func TestRow04Row05HardLinkNumbers(t *testing.T) {
	src := treetest.New(t)
	linked := func(name, content string, edit func(*snapshot.Node)) snapshot.Node {
		n := src.File(name, content)
		n.Inode, n.DeviceID, n.Links = 99, 5, 2
		if edit != nil {
			edit(&n)
		}
		return n
	}
	base := linked("base", "one", nil)
	src.AddSnapshot(day, src.Tree(base,
		linked("same", "one", nil),
		linked("same-other-ctime", "one", func(n *snapshot.Node) { n.ChangeTime = n.ChangeTime.Add(1) }),
		linked("same-other-links", "one", func(n *snapshot.Node) { n.Links = 3 }),
		linked("content", "two", nil),
		linked("mtime", "one", func(n *snapshot.Node) { n.ModTime = n.ModTime.Add(1) }),
		linked("mode", "one", func(n *snapshot.Node) { n.Mode |= 0o111 }),
		linked("owner", "one", func(n *snapshot.Node) { n.UID++ }),
		linked("inode", "one", func(n *snapshot.Node) { n.Inode++ }),
		linked("device", "one", func(n *snapshot.Node) { n.DeviceID++ }),
		linked("xattr", "one", func(n *snapshot.Node) { n.Xattrs = []snapshot.Xattr{{Name: "user.x", Value: []byte("1")}} }),
		linked("single", "one", func(n *snapshot.Node) { n.Links = 1 }),
		linked("no-inode", "one", func(n *snapshot.Node) { n.Inode = 0 }),
		src.Dir("dir", linked("same-elsewhere", "one", nil)),
	), nil)
	src.AddSnapshot(day.Add(time.Hour), src.Tree(linked("base", "changed", nil), linked("same", "changed", nil)),
		func(s *snapshot.Snapshot) { s.Hostname = "other" })
	tr := open(t, src, tree.Options{})
	const dir = "snapshots/" + stamp + "/"
	want := at(t, tr, dir+"base").Ino
	for name, linked := range map[string]bool{
		"same": true, "same-other-ctime": true, "same-other-links": true, "dir/same-elsewhere": true,
		"content": false, "mtime": false, "mode": false, "owner": false, "inode": false, "device": false,
		"xattr": false, "single": false, "no-inode": false,
		"../2020-01-02T04:04:05Z/base": false, "../2020-01-02T04:04:05Z/same": false,
	} {
		path := dir + name
		if name[0] == '.' {
			path = "snapshots/" + name[3:]
		}
		if got := at(t, tr, path).Ino == want; got != linked {
			t.Errorf("%s: taken for a link of base: %v, want %v", name, got, linked)
		}
	}
	x, y := at(t, tr, "hosts/other/2020-01-02T04:04:05Z/base"), at(t, tr, "hosts/other/2020-01-02T04:04:05Z/same")
	if x.Ino != y.Ino {
		t.Error("two names of the changed file are not linked")
	}
}

func TestListing(t *testing.T) {
	src := treetest.New(t)
	var nodes []snapshot.Node
	var want []string
	for i := range 100 {
		name := fmt.Sprintf("e%03d", i)
		if i%3 == 0 {
			nodes = append(nodes, src.Dir(name, src.File("f", name)))
		} else {
			nodes = append(nodes, src.File(name, name))
		}
		want = append(want, name)
	}
	src.AddSnapshot(day, src.Tree(nodes...), nil)
	tr := open(t, src, tree.Options{})
	dir := at(t, tr, "snapshots/"+stamp)
	// In pieces of seven, as a reader with a small buffer does.
	var got []string
	for from := uint64(0); ; {
		room, next := 7, from
		err := tr.List(t.Context(), dir.ID, from, func(n uint64, name string, a *tree.Attr) bool {
			if room == 0 {
				return false
			}
			room--
			next, got = n, append(got, name)
			if x := at(t, tr, "snapshots/"+stamp+"/"+name); *a != x {
				t.Errorf("%s: listed as %+v, looked up as %+v", name, *a, x)
			}
			return true
		})
		if err != nil {
			t.Fatal(err)
		}
		if next == from {
			break
		}
		from = next
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, tc := range []struct {
		path string
		want error
	}{
		{"snapshots/" + stamp + "/e001/x", tree.ErrNotDir},
		{"snapshots/latest/x", tree.ErrNotDir},
		{"snapshots/" + stamp + "/nothing", tree.ErrNoEntry},
		{"nothing", tree.ErrNoEntry},
	} {
		if _, err := lookup(t.Context(), tr, tc.path); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.path, err, tc.want)
		}
	}
	for _, id := range []tree.NodeID{0, 2, 1 << 24, 1<<24 | 5000, 1 << 60, 1<<63 | 12345} {
		if _, err := tr.Attr(t.Context(), id); !errors.Is(err, tree.ErrStale) {
			t.Errorf("node %#x: %v, want stale", uint64(id), err)
		}
	}
}

func TestDamagedDirectory(t *testing.T) {
	src := treetest.New(t)
	gone := src.Dir("gone", src.File("only-here", "x"))
	src.Remove(blob.Handle{Type: blob.Tree, ID: *gone.Subtree})
	garbled := src.DirOf("garbled", src.RawTree([]byte("{")))
	treeless := src.Dir("treeless")
	treeless.Subtree = nil
	src.AddSnapshot(day, src.Tree(gone, garbled, treeless, src.Dir("good", src.File("f", "x"))), nil)
	tr := open(t, src, tree.Options{})
	for _, name := range []string{"gone", "garbled", "treeless"} {
		a := at(t, tr, "snapshots/"+stamp+"/"+name) // it is listed, and can be looked at
		err := tr.List(t.Context(), a.ID, 0, func(uint64, string, *tree.Attr) bool { return true })
		if err == nil || errors.Is(err, tree.ErrStale) || errors.Is(err, tree.ErrNoEntry) {
			t.Errorf("%s: listed with %v", name, err)
		}
	}
	at(t, tr, "snapshots/"+stamp+"/good/f")
}

// A directory that does not fit the cache is parsed once, not for every request.
func TestRow10HugeDirectory(t *testing.T) {
	src := treetest.New(t)
	var nodes []snapshot.Node
	for i := range 2000 {
		nodes = append(nodes, src.File(fmt.Sprintf("f%d", i), ""))
	}
	root := src.Tree(nodes...)
	src.AddSnapshot(day, root, nil)
	tr := open(t, src, tree.Options{CacheBytes: 1000})
	dir := at(t, tr, "snapshots/"+stamp).ID
	for from := range uint64(100) {
		err := tr.List(t.Context(), dir, from*20, func(uint64, string, *tree.Attr) bool { return true })
		if err != nil {
			t.Fatal(err)
		}
	}
	if n := src.Reads(blob.Handle{Type: blob.Tree, ID: root}); n != 1 {
		t.Errorf("the tree blob was read %d times", n)
	}
}

// The chunker cuts zeros at its minimum: what layout.go builds on.
func TestHoleChunk(t *testing.T) {
	pol, err := chunker.RandomPol()
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, chunker.MaxBytes)
	n := chunker.New(pol).Cut(zeros)
	if n != len(tree.HoleBytes()) {
		t.Fatalf("zeros are cut after %d bytes, want %d", n, len(tree.HoleBytes()))
	}
	src := treetest.New(t)
	f := src.File("f", string(zeros[:n]))
	src.AddSnapshot(day, src.Tree(f), nil)
	tr := open(t, src, tree.Options{})
	a := at(t, tr, "snapshots/"+stamp+"/f")
	if a.Size != uint64(n) || a.Blocks != 0 {
		t.Errorf("size %d, blocks %d, want %d and 0", a.Size, a.Blocks, n)
	}
}

// MOUNT-CASES row 8, without a kernel.
func TestRow08Holes(t *testing.T) {
	const h = 512 << 10
	hole := string(make([]byte, h))
	src := treetest.New(t)
	src.AddSnapshot(day, src.Tree(
		src.File("mixed", "begin", hole, hole, "middle", hole),
		src.File("only", hole, hole),
		src.File("tail", hole, "end"),
		src.File("dense", "a", "b"),
		src.File("empty"),
	), nil)
	tr := open(t, src, tree.Options{})
	end := func(l *tree.Layout) uint64 { return l.Size() }
	for _, tc := range []struct {
		name       string
		off        uint64
		data, hole int64 // -1: ENXIO, -2: the end of the file
	}{
		{"mixed", 0, 0, 5},
		{"mixed", 4, 4, 5},
		{"mixed", 5, 5 + 2*h, 5},
		{"mixed", 5 + h, 5 + 2*h, 5 + h},
		{"mixed", 5 + 2*h + 1, 5 + 2*h + 1, 5 + 2*h + 6},
		{"mixed", 5 + 2*h + 6, -1, 5 + 2*h + 6},
		{"mixed", 5 + 3*h + 6, -1, -1},
		{"only", 0, -1, 0},
		{"only", 2 * h, -1, -1},
		{"tail", 0, h, 0},
		{"tail", h, h, -2},
		{"dense", 1, 1, -2},
		{"empty", 0, -1, -1},
	} {
		l, err := tr.Layout(t.Context(), at(t, tr, "snapshots/"+stamp+"/"+tc.name).ID)
		if err != nil {
			t.Fatal(err)
		}
		for what, try := range map[string]struct {
			seek func(uint64) (uint64, error)
			want int64
		}{"data": {l.NextData, tc.data}, "hole": {l.NextHole, tc.hole}} {
			got, err := try.seek(tc.off)
			switch {
			case try.want == -1 && errors.Is(err, tree.ErrNoOffset):
			case try.want == -2 && err == nil && got == end(l):
			case try.want >= 0 && err == nil && got == uint64(try.want):
			default:
				t.Errorf("%s: next %s from %d: %d, %v, want %d", tc.name, what, tc.off, got, err, try.want)
			}
		}
	}
	if a := at(t, tr, "snapshots/"+stamp+"/mixed"); a.Blocks != 8 {
		t.Errorf("mixed takes %d blocks, want 8", a.Blocks)
	}
}

func TestLayoutOfChunks(t *testing.T) {
	src := treetest.New(t)
	big := src.File("big", "aaaa", "bb", "cccccc")
	src.AddSnapshot(day, src.Tree(big, src.File("one", "x"), src.Dir("dir")), nil)
	tr := open(t, src, tree.Options{})
	id := at(t, tr, "snapshots/"+stamp+"/big").ID
	l, err := tr.Layout(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	for off, want := range map[uint64]int{0: 0, 3: 0, 4: 1, 5: 1, 6: 2, 11: 2, 12: 3, 99: 3} {
		if got := l.Find(off); got != want {
			t.Errorf("offset %d is in chunk %d, want %d", off, got, want)
		}
	}
	want := tree.Chunk{ID: big.Content[1], Start: 4, End: 6}
	if diff := cmp.Diff(want, l.Chunk(1)); diff != "" {
		t.Error(diff)
	}
	for _, p := range []string{"", "snapshots", "snapshots/" + stamp + "/dir", "snapshots/latest"} {
		if _, err := tr.Layout(t.Context(), at(t, tr, p).ID); !errors.Is(err, tree.ErrInvalid) {
			t.Errorf("layout of %q: %v", p, err)
		}
	}
}

// What is in no index takes only its own bytes with it.
func TestRow17LostChunks(t *testing.T) {
	for _, tc := range []struct {
		lost string
		want []string // start-end of each chunk, x when lost
	}{
		{"", []string{"0-4", "4-6", "6-12", "12-13"}},
		{"0", []string{"x0-4", "4-6", "6-12", "12-13"}},
		{"2", []string{"0-4", "4-6", "x6-12", "12-13"}},
		{"3", []string{"0-4", "4-6", "6-12", "x12-13"}},
		{"02", []string{"x0-12", "x12-12", "x12-12", "12-13"}},
		{"0123", []string{"x0-13", "x13-13", "x13-13", "x13-13"}},
	} {
		src := treetest.New(t)
		f := src.File("f", "aaaa", "bb", "cccccc", "d")
		src.AddSnapshot(day, src.Tree(f), nil)
		for _, i := range tc.lost {
			src.Remove(blob.Handle{Type: blob.Data, ID: f.Content[i-'0']})
		}
		tr := open(t, src, tree.Options{})
		l, err := tr.Layout(t.Context(), at(t, tr, "snapshots/"+stamp+"/f").ID)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for i := range l.Len() {
			c := l.Chunk(i)
			s := fmt.Sprintf("%d-%d", c.Start, c.End)
			if c.Lost {
				s = "x" + s
			}
			got = append(got, s)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("lost %q: %s", tc.lost, diff)
		}
	}
}

// A blob that only a newer index file knows is found, and trouble in finding out is not
// taken for a loss.
func TestLayoutRefreshesIndex(t *testing.T) {
	src := treetest.New(t)
	f := src.File("f", "aaaa", "bb", "cccc")
	g := src.File("g", "gggg", "hh")
	src.AddSnapshot(day, src.Tree(f, g), nil)
	for _, id := range f.Content[1:] {
		src.Hide(blob.Handle{Type: blob.Data, ID: id})
	}
	tr := open(t, src, tree.Options{})
	l, err := tr.Layout(t.Context(), at(t, tr, "snapshots/"+stamp+"/f").ID)
	if err != nil {
		t.Fatal(err)
	}
	if c := l.Chunk(2); c.Lost || c.End != 10 {
		t.Errorf("last chunk: %+v", c)
	}
	h := blob.Handle{Type: blob.Data, ID: g.Content[1]}
	src.Hide(h)
	src.Break(h, errors.New("offline"))
	if _, err := tr.Layout(t.Context(), at(t, tr, "snapshots/"+stamp+"/g").ID); err == nil || errors.Is(err, repo.ErrBlobMissing) {
		t.Errorf("layout while offline: %v", err)
	}
	src.Break(h, nil)
	if l, err = tr.Layout(t.Context(), at(t, tr, "snapshots/"+stamp+"/g").ID); err != nil || l.Chunk(1).Lost {
		t.Errorf("layout after the trouble: %v", err)
	}
}

func TestXattrs(t *testing.T) {
	src := treetest.New(t)
	x := []snapshot.Xattr{{Name: "user.a", Value: []byte{0, 1}}, {Name: "user.b", Value: []byte{}}}
	f, d, s := src.File("f", ""), src.Dir("d"), treetest.Symlink("s", "t")
	f.Xattrs, d.Xattrs, s.Xattrs = x, x, x
	src.AddSnapshot(day, src.Tree(f, d, s), nil)
	tr := open(t, src, tree.Options{})
	for _, name := range []string{"f", "d", "s"} {
		got, err := tr.Xattrs(t.Context(), at(t, tr, "snapshots/"+stamp+"/"+name).ID)
		if err != nil || len(got) != 2 || got[0].Name != "user.a" || !bytes.Equal(got[0].Value, []byte{0, 1}) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	for _, p := range []string{"", "snapshots", "snapshots/latest", "snapshots/" + stamp} {
		if got, err := tr.Xattrs(t.Context(), at(t, tr, p).ID); len(got) != 0 || err != nil {
			t.Errorf("%q: %v, %v", p, got, err)
		}
	}
}

// What is lost may be found again without a new mount, and while it is not, few reads look for it.
func TestLostChunksAreFoundAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := treetest.New(t)
		f := src.File("f", "aaaa", "bb", "cccccc")
		src.AddSnapshot(day, src.Tree(f), nil)
		h := blob.Handle{Type: blob.Data, ID: f.Content[1]}
		src.Remove(h)
		tr := open(t, src, tree.Options{})
		id := at(t, tr, "snapshots/"+stamp+"/f").ID
		lost := func() bool {
			t.Helper()
			l, err := tr.Layout(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			return l.Chunk(1).Lost
		}
		for range 100 {
			if !lost() {
				t.Fatal("the chunk was never lost")
			}
		}
		if n := src.Reads(h); n != 1 {
			t.Errorf("the lost chunk was looked for %d times at once", n)
		}
		time.Sleep(time.Minute)
		if !lost() {
			t.Error("the chunk came back by itself")
		}
		src.Data([]byte("bb"))
		time.Sleep(time.Minute)
		if lost() {
			t.Error("the chunk stays lost for ever")
		}
		if n := src.Reads(h); n != 2 {
			t.Errorf("the chunk was looked for %d times", n)
		}
	})
}
