package fs

import (
	"context"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"math"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"vitrine/cache/blobcache"
	"vitrine/fs/tree"
	"vitrine/fs/tree/treetest"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// The tests of this file call the nodes without a kernel.

// noAhead is a readahead that does nothing.
type noAhead struct{}

func (noAhead) note(tree.NodeID, *tree.Layout, int) {}
func (noAhead) expect(tree.NodeID, *tree.Layout)    {}
func (noAhead) run(context.Context)                 {}
func (noAhead) close()                              {}

// bareNodes returns nodes over src that no kernel knows of.
func bareNodes(t *testing.T, src Source, log *slog.Logger) *nodes {
	t.Helper()
	tr, err := tree.New(src, tree.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	n := &nodes{
		refuse: newRefuse(), tree: tr, src: src, blobs: blobcache.NewBlobs(1 << 20), chunks: blobcache.NewChunks(1 << 20), ahead: noAhead{}, spare: newTurns(), log: log,
		base: func() context.Context { return t.Context() }, keepOpen: true, keepOpenDir: true,
	}
	t.Cleanup(func() { n.closeCaches() })
	return n
}

// find looks a path up as the kernel does.
func find(t *testing.T, n *nodes, path string) fuse.EntryOut {
	t.Helper()
	out := fuse.EntryOut{NodeId: fuse.FUSE_ROOT_ID}
	for _, name := range strings.Split(path, "/") {
		h := fuse.InHeader{NodeId: out.NodeId}
		out = fuse.EntryOut{}
		if st := n.Lookup(nil, &h, name, &out); st != fuse.OK {
			t.Fatalf("%s: %v", path, st)
		}
	}
	return out
}

func TestLookupReplies(t *testing.T) {
	src := treetest.New(t)
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(src.File("f", "x"), src.Dir("d")), nil)
	n := bareNodes(t, src, nil)
	const dir = "snapshots/2020-01-02T03:04:05Z"
	for path, want := range map[string]struct {
		entry, attr time.Duration
		block       uint32
	}{
		"snapshots":        {listTimeout, listTimeout, dirBlockBytes},
		"snapshots/latest": {listTimeout, forever, blockBytes},
		dir:                {listTimeout, forever, dirBlockBytes},
		dir + "/f":         {forever, forever, blockBytes},
		dir + "/d":         {forever, forever, dirBlockBytes},
	} {
		out := find(t, n, path)
		if out.EntryTimeout() != want.entry || out.AttrTimeout() != want.attr || out.Generation != 1 || out.Blksize != want.block {
			t.Errorf("%s: valid for %v, its attributes %v, generation %d", path, out.EntryTimeout(), out.AttrTimeout(), out.Generation)
		}
		var attr fuse.AttrOut
		in := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: out.NodeId}}
		if st := n.GetAttr(nil, &in, &attr); st != fuse.OK {
			t.Fatal(st)
		}
		if diff := cmp.Diff(out.Attr, attr.Attr); diff != "" {
			t.Errorf("%s: Lookup and GetAttr differ: %s", path, diff)
		}
	}
	// Inside a snapshot the kernel may remember what is not there; in the lists it must not.
	out := fuse.EntryOut{}
	h := fuse.InHeader{NodeId: find(t, n, dir).NodeId}
	if st := n.Lookup(nil, &h, "nothing", &out); st != fuse.OK || out.NodeId != 0 || out.EntryTimeout() != forever {
		t.Errorf("a name that is not there: %v, %+v", st, out)
	}
	h.NodeId = find(t, n, "snapshots").NodeId
	if st := n.Lookup(nil, &h, "nothing", &out); st != fuse.ENOENT {
		t.Errorf("a name that is not in a list: %v", st)
	}
	h.NodeId = 1 << 62
	if st := n.Lookup(nil, &h, "nothing", &out); st != fuse.Status(syscall.ENOTDIR) {
		t.Errorf("a name in a node that nobody knows: %v", st)
	}
}

func TestListReplies(t *testing.T) {
	src := treetest.New(t)
	var nodes []snapshot.Node
	for i := range 50 {
		nodes = append(nodes, src.File(fmt.Sprintf("f%02d", i), "x"), src.Dir(fmt.Sprintf("d%02d", i), src.File("in", fmt.Sprint(i))))
	}
	src.AddSnapshot(time.Now(), src.Tree(nodes...), nil)
	n := bareNodes(t, src, nil)
	id := find(t, n, "snapshots").NodeId
	var listed fuse.EntryOut
	h := fuse.InHeader{NodeId: id}
	// The dated directory, not the symlink.
	entries, outs := readAll(t, n, id, 1<<16)
	for i, e := range entries {
		if strings.HasPrefix(e.Name, "2") {
			listed = outs[i]
		}
	}
	for _, size := range []int{300, 1000, 1 << 20} {
		entries, outs := readAll(t, n, listed.NodeId, size)
		if len(entries) != 102 || entries[0].Name != "." || entries[1].Name != ".." {
			t.Fatalf("buffers of %d bytes: %d entries: %v", size, len(entries), entries)
		}
		if entries[0].Ino != listed.Ino || entries[1].Ino != find(t, n, "snapshots").Ino || outs[0].NodeId != 0 || outs[1].NodeId != 0 {
			t.Errorf("dot entries: %v %v", entries[0], entries[1])
		}
		for i, e := range entries[2:] {
			var out fuse.EntryOut
			h = fuse.InHeader{NodeId: listed.NodeId}
			if st := n.Lookup(nil, &h, e.Name, &out); st != fuse.OK {
				t.Fatal(st)
			}
			if diff := cmp.Diff(out, outs[i+2]); diff != "" {
				t.Errorf("%s: looked up and listed differ: %s", e.Name, diff)
			}
			if e.Ino != out.Ino || e.Mode != out.Mode&unix.S_IFMT {
				t.Errorf("%s: entry %v, attributes %+v", e.Name, e, out)
			}
		}
	}
	// The plain form says the same, and leaves no references.
	out := fuse.NewDirEntryList(make([]byte, 1<<20), 0)
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: listed.NodeId}, Size: 1 << 20}
	if st := n.ReadDir(nil, &in, out); st != fuse.OK {
		t.Fatal(st)
	}
	plain, err := fuse.ParseDirEntries(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(entries0(readAll(t, n, listed.NodeId, 1<<20)), plain); diff != "" {
		t.Error(diff)
	}
}

func entries0(e []fuse.DirEntry, _ []fuse.EntryOut) []fuse.DirEntry { return e }

// readAll lists a directory with READDIRPLUS and buffers of a size.
func readAll(t *testing.T, n *nodes, dir uint64, size int) ([]fuse.DirEntry, []fuse.EntryOut) {
	t.Helper()
	var entries []fuse.DirEntry
	var outs []fuse.EntryOut
	off := uint64(0)
	for {
		list := fuse.NewDirEntryList(make([]byte, size), off)
		in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: dir}, Offset: off, Size: uint32(size)}
		if st := n.ReadDirPlus(nil, &in, list); st != fuse.OK {
			t.Fatal(st)
		}
		e, o, err := fuse.ParseDirLookupEntries(list.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if len(e) == 0 {
			return entries, outs
		}
		entries, outs = append(entries, e...), append(outs, o...)
		off = e[len(e)-1].Off
	}
}

func TestXattrProtocol(t *testing.T) {
	src := treetest.New(t)
	f := src.File("f", "x")
	f.Xattrs = []snapshot.Xattr{{Name: "user.a", Value: []byte("value")}, {Name: "trusted.b", Value: nil}, {Name: ""}, {Name: "user.nul\x00x"}}
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(f, src.File("plain", "x")), nil)
	n := bareNodes(t, src, nil)
	const dir = "snapshots/2020-01-02T03:04:05Z/"
	id, plain := find(t, n, dir+"f").NodeId, find(t, n, dir+"plain").NodeId
	for _, tc := range []struct {
		node   uint64
		name   string // empty: list
		uid    uint32
		buffer int
		size   uint32
		status fuse.Status
		want   string
	}{
		{id, "user.a", 0, 0, 5, fuse.OK, ""},
		{id, "user.a", 0, 4, 5, fuse.ERANGE, ""},
		{id, "user.a", 0, 5, 5, fuse.OK, "value"},
		{id, "user.a", 0, 100, 5, fuse.OK, "value"},
		{id, "user.none", 0, 0, 0, fuse.ENODATA, ""},
		{id, "user.none", 0, 100, 0, fuse.ENODATA, ""},
		{id, "trusted.b", 0, 100, 0, fuse.OK, ""},
		{plain, "user.a", 0, 100, 0, fuse.ENODATA, ""},
		{fuse.FUSE_ROOT_ID, "user.a", 0, 100, 0, fuse.ENODATA, ""},
		{id, "", 0, 0, 17, fuse.OK, ""},
		{id, "", 0, 16, 17, fuse.ERANGE, ""},
		{id, "", 0, 17, 17, fuse.OK, "user.a\x00trusted.b\x00"},
		{id, "", 1000, 17, 7, fuse.OK, "user.a\x00"},
		{plain, "", 0, 0, 0, fuse.OK, ""},
		{plain, "", 0, 10, 0, fuse.OK, ""},
		{fuse.FUSE_ROOT_ID, "", 0, 10, 0, fuse.OK, ""},
	} {
		h := fuse.InHeader{NodeId: tc.node, Caller: fuse.Caller{Owner: fuse.Owner{Uid: tc.uid}}}
		buf := make([]byte, tc.buffer)
		var size uint32
		var st fuse.Status
		if tc.name != "" {
			size, st = n.GetXAttr(nil, &h, tc.name, buf)
		} else {
			size, st = n.ListXAttr(nil, &h, buf)
		}
		if st != tc.status || size != tc.size {
			t.Errorf("%+v: %v, size %d", tc, st, size)
			continue
		}
		if st == fuse.OK && tc.buffer > 0 && string(buf[:size]) != tc.want {
			t.Errorf("%+v: %q", tc, buf[:size])
		}
	}
}

func TestRefusals(t *testing.T) {
	n := bareNodes(t, treetest.New(t), nil)
	var raw fuse.RawFileSystem = n
	for name, st := range map[string]fuse.Status{
		"setattr":     raw.SetAttr(nil, nil, nil),
		"mknod":       raw.Mknod(nil, nil, "", nil),
		"mkdir":       raw.Mkdir(nil, nil, "", nil),
		"unlink":      raw.Unlink(nil, nil, ""),
		"rmdir":       raw.Rmdir(nil, nil, ""),
		"rename":      raw.Rename(nil, nil, "", ""),
		"link":        raw.Link(nil, nil, "", nil),
		"symlink":     raw.Symlink(nil, nil, "", "", nil),
		"setxattr":    raw.SetXAttr(nil, nil, "", nil),
		"removexattr": raw.RemoveXAttr(nil, nil, ""),
		"create":      raw.Create(nil, nil, "", nil),
		"tmpfile":     raw.Tmpfile(nil, nil, nil),
		"fallocate":   raw.Fallocate(nil, nil),
	} {
		if st != fuse.EROFS {
			t.Errorf("%s: %v", name, st)
		}
	}
	for name, write := range map[string]func() (uint32, fuse.Status){
		"write":  func() (uint32, fuse.Status) { return raw.Write(nil, nil, nil) },
		"writev": func() (uint32, fuse.Status) { return raw.Writev(nil, nil, nil) },
		"copy":   func() (uint32, fuse.Status) { return raw.CopyFileRange(nil, nil) },
	} {
		if written, st := write(); st != fuse.EROFS || written != 0 {
			t.Errorf("%s: %v", name, st)
		}
	}
	for name, st := range map[string]fuse.Status{
		"open":    raw.Open(nil, nil, &fuse.OpenOut{}),
		"opendir": raw.OpenDir(nil, nil, &fuse.OpenOut{}),
		"flush":   raw.Flush(nil, nil),
		"access":  raw.Access(nil, nil),
	} {
		if st != fuse.ENOSYS {
			t.Errorf("%s: %v", name, st)
		}
	}
	// A kernel that cannot do without gets an answer that keeps its caches.
	n.keepOpen, n.keepOpenDir = false, false
	var out fuse.OpenOut
	if st := n.Open(nil, nil, &out); st != fuse.OK || out.OpenFlags != fuse.FOPEN_KEEP_CACHE {
		t.Errorf("open: %v, %+v", st, out)
	}
	if st := n.OpenDir(nil, nil, &out); st != fuse.OK || out.OpenFlags != fuse.FOPEN_KEEP_CACHE|fuse.FOPEN_CACHE_DIR {
		t.Errorf("opendir: %v, %+v", st, out)
	}
}

func TestStatus(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want syscall.Errno
	}{
		{nil, 0},
		{fmt.Errorf("x: %w", tree.ErrNoEntry), syscall.ENOENT},
		{fmt.Errorf("x: %w", tree.ErrNoOffset), syscall.ENXIO},
		{fmt.Errorf("open pack: %w", iofs.ErrNotExist), syscall.EIO},
		{fmt.Errorf("read pack: %w", io.EOF), syscall.EIO},
		{fmt.Errorf("read pack: %w", syscall.EINVAL), syscall.EIO},
		{fmt.Errorf("x: %w", tree.ErrNotDir), syscall.ENOTDIR},
		{tree.ErrStale, syscall.ESTALE},
		{tree.ErrInvalid, syscall.EINVAL},
		{repo.ErrCorrupt, syscall.EIO},
		{repo.ErrBlobMissing, syscall.EIO},
		{context.Canceled, syscall.EIO},
		{errors.New("anything"), syscall.EIO},
	} {
		if got := status(tc.err); got != fuse.Status(tc.want) {
			t.Errorf("%v: %v, want %v", tc.err, got, tc.want)
		}
	}
}

func TestKernelDevices(t *testing.T) {
	for _, d := range [][2]uint32{{0, 0}, {1, 3}, {8, 255}, {8, 256}, {4095, 1<<20 - 1}} {
		// The kernel takes it apart again like this (new_decode_dev).
		k := kernelDevice(unix.Mkdev(d[0], d[1]))
		if major, minor := k&0xfff00>>8, k&0xff|k>>12&0xfff00; major != d[0] || minor != d[1] {
			t.Errorf("device %v: %d:%d", d, major, minor)
		}
	}
}

// readNode reads a range of a file as the kernel does.
func readNode(n *nodes, id, off uint64, size uint32) (string, fuse.Status) {
	in := fuse.ReadIn{InHeader: fuse.InHeader{NodeId: id}, Offset: off, Size: size}
	res, st := n.Read(nil, &in, nil)
	if st != fuse.OK {
		return "", st
	}
	defer res.Done()
	p, st := res.Bytes(make([]byte, 0, size))
	return string(p), st
}

func TestReadRanges(t *testing.T) {
	hole := string(make([]byte, 512<<10))
	chunks := []string{"first", "2nd", hole, "last one"}
	whole := strings.Join(chunks, "")
	src := treetest.New(t)
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(src.File("f", chunks...), src.File("empty"), src.File("one", "content"), src.Dir("d")), nil)
	n := bareNodes(t, src, nil)
	const dir = "snapshots/2020-01-02T03:04:05Z/"
	id := find(t, n, dir+"f").NodeId
	size := uint64(len(whole))
	for _, off := range []uint64{0, 1, 4, 5, 7, 8, 9, 1000, 8 + 512<<10, 8 + 512<<10 - 1, size - 1, size, size + 1, math.MaxUint64 - 1<<20} {
		for _, want := range []uint32{0, 1, 3, 4, 5, 8, 9, 100, 1 << 20} {
			got, st := readNode(n, id, off, want)
			from := min(off, size)
			if st != fuse.OK || got != whole[from:min(from+uint64(want), size)] {
				t.Errorf("%d bytes from %d: %v, %d bytes", want, off, st, len(got))
			}
		}
	}
	if got, st := readNode(n, find(t, n, dir+"empty").NodeId, 0, 100); got != "" || st != fuse.OK {
		t.Errorf("empty file: %q, %v", got, st)
	}
	if got, st := readNode(n, find(t, n, dir+"one").NodeId, 3, 2); got != "te" || st != fuse.OK {
		t.Errorf("file of one chunk: %q, %v", got, st)
	}
	for _, p := range []string{dir + "d", "snapshots"} {
		if _, st := readNode(n, find(t, n, p).NodeId, 0, 2); st != fuse.EINVAL {
			t.Errorf("reading %s: %v", p, st)
		}
	}
	if n := src.Reads(blob.Handle{Type: blob.Data, ID: blob.Hash([]byte(hole))}); n != 0 {
		t.Errorf("a hole was fetched %d times", n)
	}
	if n := src.Reads(blob.Handle{Type: blob.Data, ID: blob.Hash([]byte("first"))}); n != 1 {
		t.Errorf("a chunk was fetched %d times", n)
	}
}

func TestRow17Losses(t *testing.T) {
	src := treetest.New(t)
	f := src.File("f", "aaaa", "bb", "cccccc", "d")
	short := src.File("short", "ssss", "tt")
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(f, short), nil)
	var log syncBuffer
	n := bareNodes(t, src, slog.New(slog.NewTextHandler(&log, nil)))
	const dir = "snapshots/2020-01-02T03:04:05Z/"
	id := find(t, n, dir+"f").NodeId
	bad := blob.Handle{Type: blob.Data, ID: f.Content[2]}
	src.Break(bad, fmt.Errorf("%w: bits flipped", repo.ErrCorrupt))
	for range 3 {
		if got, st := readNode(n, id, 0, 6); got != "aaaabb" || st != fuse.OK {
			t.Errorf("before the damage: %q, %v", got, st)
		}
		if got, st := readNode(n, id, 12, 10); got != "d" || st != fuse.OK {
			t.Errorf("behind the damage: %q, %v", got, st)
		}
		// Never a short reply: it would mean that the file ends there.
		if got, st := readNode(n, id, 0, 100); st != fuse.EIO {
			t.Errorf("across the damage: %q, %v", got, st)
		}
	}
	for _, want := range []string{"path=/snapshots/2020-01-02T03:04:05Z/f", `bytes="6 to 12"`, bad.ID.String(), treetest.Pack.String(), "bits flipped"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, log.String())
		}
	}
	if got := len(lines(log.String())); got != 1 {
		t.Errorf("%d lines in the log:\n%s", got, log.String())
	}
	src.Break(bad, nil) // what failed is not remembered
	if got, st := readNode(n, id, 0, 100); got != "aaaabbccccccd" || st != fuse.OK {
		t.Errorf("mended: %q, %v", got, st)
	}
	// An index that is wrong about a length must not shift what comes behind.
	src.Break(blob.Handle{Type: blob.Data, ID: short.Content[0]}, nil)
	wrong, err := n.chunks.Get(t.Context(), blob.Handle{Type: blob.Data, ID: short.Content[0]}, 3,
		func(_ context.Context, buffer func() []byte) ([]byte, error) { return append(buffer(), "sss"...), nil })
	if err != nil {
		t.Fatal(err)
	}
	wrong.Release(0)
	if got, st := readNode(n, find(t, n, dir+"short").NodeId, 0, 100); st != fuse.EIO {
		t.Errorf("a chunk of the wrong length: %q, %v", got, st)
	}
}

// A directory whose tree blob cannot be read is an error, whatever its cause looks like: "not
// there" would be remembered by the kernel.
func TestRow17LostDirectory(t *testing.T) {
	src := treetest.New(t)
	d := src.Dir("d", src.File("f", "x"))
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(d), nil)
	h := blob.Handle{Type: blob.Tree, ID: *d.Subtree}
	for _, cause := range []error{repo.ErrCorrupt, iofs.ErrNotExist, io.EOF, backend.ErrNotExist, syscall.ENOENT, syscall.ENODATA} {
		var log syncBuffer
		n := bareNodes(t, src, slog.New(slog.NewTextHandler(&log, nil)))
		in := fuse.InHeader{NodeId: find(t, n, "snapshots/2020-01-02T03:04:05Z/d").NodeId}
		src.Break(h, cause)
		if st := n.Lookup(nil, &in, "f", &fuse.EntryOut{}); st != fuse.EIO {
			t.Errorf("%v: Lookup says %v", cause, st)
		}
		list := fuse.NewDirEntryList(make([]byte, 1000), 2)
		if st := n.ReadDirPlus(nil, &fuse.ReadIn{InHeader: in, Offset: 2, Size: 1000}, list); st != fuse.EIO {
			t.Errorf("%v: ReadDirPlus says %v", cause, st)
		}
		if !strings.Contains(log.String(), "path=/snapshots/2020-01-02T03:04:05Z/d ") {
			t.Errorf("%v: the log says %s", cause, log.String())
		}
		src.Break(h, nil)
		if st := n.Lookup(nil, &in, "f", &fuse.EntryOut{}); st != fuse.OK {
			t.Errorf("%v: after it is mended, Lookup says %v", cause, st)
		}
	}
}

func TestLseek(t *testing.T) {
	hole := string(make([]byte, 512<<10))
	src := treetest.New(t)
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(src.File("f", "data", hole)), nil)
	n := bareNodes(t, src, nil)
	id := find(t, n, "snapshots/2020-01-02T03:04:05Z/f").NodeId
	for _, tc := range []struct {
		whence uint32
		off    uint64
		want   uint64
		status fuse.Status
	}{
		{unix.SEEK_DATA, 1, 1, fuse.OK},
		{unix.SEEK_HOLE, 1, 4, fuse.OK},
		{unix.SEEK_DATA, 4, 0, fuse.Status(syscall.ENXIO)},
		{unix.SEEK_HOLE, 4 + 512<<10, 0, fuse.Status(syscall.ENXIO)},
		{unix.SEEK_SET, 4, 0, fuse.EINVAL},
	} {
		var out fuse.LseekOut
		in := fuse.LseekIn{InHeader: fuse.InHeader{NodeId: id}, Offset: tc.off, Whence: tc.whence}
		if st := n.Lseek(nil, &in, &out); st != tc.status || st == fuse.OK && out.Offset != tc.want {
			t.Errorf("%+v: %v, %d", tc, st, out.Offset)
		}
	}
}
