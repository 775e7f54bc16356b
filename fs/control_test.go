package fs

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"vitrine/fs/tree"
	"vitrine/fs/tree/treetest"
	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// bareControl returns a control over src that no kernel knows of, whose text is a counter.
func bareControl(t *testing.T, src Source) *control {
	n := bareNodes(t, src, nil)
	made := 0
	return newControl(n, 7, 8, func() []byte { made++; return fmt.Appendf(nil, "status %d\n", made) }, &n.stats.reads)
}

func TestControlTexts(t *testing.T) {
	c := bareControl(t, small(t))
	look := func(parent uint64, uid uint32, name string) (fuse.EntryOut, fuse.Status) {
		var out fuse.EntryOut
		h := fuse.InHeader{NodeId: parent}
		h.Uid = uid
		st := c.Lookup(nil, &h, name, &out)
		return out, st
	}
	read := func(id, from uint64, size uint32) (string, fuse.Status) {
		in := fuse.ReadIn{Offset: from, Size: size}
		in.NodeId = id
		result, st := c.Read(nil, &in, nil)
		if st != fuse.OK {
			return "", st
		}
		p, st := result.Bytes(make([]byte, size))
		return string(p), st
	}
	dir, st := look(fuse.FUSE_ROOT_ID, 7, controlName)
	if st != fuse.OK || dir.NodeId != controlDir || dir.Mode != unix.S_IFDIR|0o500 || dir.Uid != 7 || dir.Gid != 8 {
		t.Fatalf("%s: %v, %+v", controlName, st, dir)
	}
	for _, tc := range []struct {
		parent uint64
		uid    uint32
		name   string
		want   fuse.Status
	}{
		{controlDir, 7, "other", fuse.ENOENT},
		{controlDir, 9, statusName, fuse.EACCES},
		{controlDir, 0, statusName, fuse.OK},
		{uint64(find(t, c.RawFileSystem.(*nodes), "snapshots").NodeId), 7, controlName, fuse.ENOENT},
	} {
		if _, st := look(tc.parent, tc.uid, tc.name); st != tc.want {
			t.Errorf("look up %q as %d: %v, want %v", tc.name, tc.uid, st, tc.want)
		}
	}
	first, _ := look(controlDir, 7, statusName)
	second, _ := look(controlDir, 7, statusName)
	if first.NodeId == second.NodeId || first.Ino != second.Ino || first.EntryTimeout() != 0 {
		t.Errorf("two lookups: %+v, %+v", first, second)
	}
	for _, out := range []fuse.EntryOut{first, second} {
		var attr fuse.AttrOut
		in := fuse.GetAttrIn{InHeader: fuse.InHeader{NodeId: out.NodeId}}
		if st := c.GetAttr(nil, &in, &attr); st != fuse.OK || attr.Attr != out.Attr || out.Size != uint64(len("status 2\n")) {
			t.Errorf("%v: %+v, the lookup said %+v", st, attr.Attr, out.Attr)
		}
	}
	for _, tc := range []struct {
		id, from uint64
		size     uint32
		want     string
	}{{first.NodeId, 0, 4096, "status 2\n"}, {second.NodeId, 0, 4096, "status 3\n"}, {first.NodeId, 7, 1, "2"}, {first.NodeId, 9, 10, ""}, {first.NodeId, 1 << 40, 10, ""}} {
		if got, st := read(tc.id, tc.from, tc.size); st != fuse.OK || got != tc.want {
			t.Errorf("read %d from %d: %q, %v; want %q", tc.size, tc.from, got, st, tc.want)
		}
	}
	for i := range uint64(3) {
		c.Forget(controlDir+1+i, 1)
	}
	c.Forget(controlDir, 1)
	if len(c.texts) != 0 {
		t.Errorf("%d texts are kept", len(c.texts))
	}
	if _, st := read(first.NodeId, 0, 10); st != fuse.Status(syscall.ESTALE) {
		t.Errorf("read of a forgotten text: %v", st)
	}
	if n := c.RawFileSystem.(*nodes).stats.reads.status().Count; n != 0 {
		t.Errorf("%d reads of the status are counted as reads of the mount", n)
	}
}

func TestControlGivesWay(t *testing.T) {
	src := treetest.New(t)
	src.AddSnapshot(time.Now(), src.Tree(src.File("f", "x")), func(sn *snapshot.Snapshot) { sn.Hostname = controlName })
	tr, err := tree.New(src, tree.Options{PathTemplates: []string{"%h/%i"}})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	if _, err := tr.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := bareControl(t, src)
	c.RawFileSystem.(*nodes).tree = tr
	var out fuse.EntryOut
	if st := c.Lookup(nil, &fuse.InHeader{NodeId: fuse.FUSE_ROOT_ID}, controlName, &out); st != fuse.OK || isControl(out.NodeId) {
		t.Errorf("%v: the host of that name is hidden", st)
	}
}

// readStatus reads the status file of a mount with cat.
func readStatus(t *testing.T, dir string) Status {
	t.Helper()
	var st Status
	dec := json.NewDecoder(strings.NewReader(run(t, dir, "cat", ".vitrine/status")))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&st); err != nil {
		t.Fatal(err)
	}
	return st
}

func TestStatusFile(t *testing.T) {
	src := treetest.New(t)
	broken := strings.Repeat("gone ", 5000)
	var many []snapshot.Node
	for i := range 200 {
		many = append(many, src.File(fmt.Sprintf("f%03d", i), strings.Repeat("x", 100+i)))
	}
	bad := src.File("b\xff\nad", "good\n", broken)
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(src.Dir("d", many...), bad), nil)
	src.AddSnapshot(time.Date(2021, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(many[0]), nil)
	lost := blob.Handle{Type: blob.Data, ID: bad.Content[1]}
	src.Break(lost, fmt.Errorf("bits have rotten: %w", repo.ErrCorrupt))
	var waiting atomic.Int64
	dir, server := mountServer(t, src, Options{
		CacheBytes: 32 << 20, RepoName: "rest:host/path", RepoID: "0123",
		Traffic: func() Traffic {
			return Traffic{Requests: 5, Waiting: int(waiting.Load()), WaitingSince: time.Unix(7e8, 0)}
		},
	})
	before := readStatus(t, dir)
	if before.Version != StatusVersion || before.Repository != (RepositoryStatus{"0123", "rest:host/path"}) ||
		before.Memory.BudgetBytes != 32<<20 || before.Snapshots.Known != 2 || before.Reads.Count != 0 ||
		before.Refresh.Count == 0 || before.Backend == nil || before.Backend.Requests != 5 {
		t.Errorf("at first: %+v", before)
	}
	sh(t, dir, "cat snapshots/2020*/d/* >/dev/null; ! cat snapshots/2020*/b*ad >/dev/null 2>&1")
	after := readStatus(t, dir)
	// Each file was asked for or pushed.
	p := &after.Prefetch
	if after.Reads.Count+p.Pushed.Count < 200 || after.Reads.Errors == 0 || p.Demand.Count == 0 || p.Push.Count == 0 ||
		p.Demand.Count+p.Push.Count < 200 || p.Demand.Bytes+p.Push.Bytes < 200*100 || p.Pushed.Bytes == 0 ||
		after.Caches.Blobs.Misses == 0 || after.Snapshots.Open == 0 ||
		after.Memory.UsedBytes == 0 || after.Memory.ResidentBytes == 0 || after.UptimeSeconds <= before.UptimeSeconds {
		t.Errorf("after 200 files: %+v", after)
	}
	if after.Outages != (OutageStatus{}) {
		t.Errorf("outages: %+v", after.Outages)
	}
	waiting.Store(3)
	if o := readStatus(t, dir).Outages; o.Waiting != 3 || o.Since == nil || !o.Since.Equal(time.Unix(7e8, 0)) {
		t.Errorf("outages with requests that wait: %+v", o)
	}
	if len(after.Damage.Listed) != 1 || after.Damage.Total != 1 {
		t.Fatalf("damage: %+v", after.Damage)
	}
	d := after.Damage.Listed[0]
	d.Time = time.Time{}
	want := Damage{
		Path: `/snapshots/2020-01-02T03:04:05Z/b\xff` + "\nad", What: fmt.Sprintf("bytes 5 to %d", 5+len(broken)), From: 5, To: 5 + uint64(len(broken)),
		Blob: lost.ID.String(), Pack: d.Pack, Error: d.Error,
	}
	if diff := cmp.Diff(want, d); diff != "" || len(d.Pack) != 64 || !strings.Contains(d.Error, "rotten") {
		t.Errorf("damage %+v: %s", d, diff)
	}
	// Whoever holds it open reads one text to its end, whatever its length and the time it takes.
	f, err := os.Open(dir + "/.vitrine/status")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	head := make([]byte, 10)
	if _, err := f.Read(head); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	readStatus(t, dir)
	rest := make([]byte, 1<<20)
	if n, _ := f.Read(rest); int64(n+len(head)) != info.Size() || !json.Valid(append(head, rest[:n]...)) {
		t.Errorf("%d bytes in two parts, the size is %d", n+len(head), info.Size())
	}
	if server.Status().Version != StatusVersion {
		t.Error("the server has another status")
	}
}

func TestStatusFileIsOutOfTheWay(t *testing.T) {
	dir, server := mountServer(t, small(t), Options{})
	for _, tc := range []struct{ line, want string }{
		{"ls -A | sort", "hosts\nids\nsnapshots\ntags\n"},
		{"find . -name '.v*'", ""},
		{"ls -A .vitrine; cd .vitrine && ls -A ..| wc -l", "status\n4\n"},
		{"stat -c '%A %u %F' .vitrine .vitrine/status", "dr-x------ 0 directory\n-r-------- 0 regular file\n"},
		{"! echo x 2>/dev/null >.vitrine/status; ! rm -f .vitrine/status 2>/dev/null; ! cat .vitrine/other 2>/dev/null", ""},
		{"getfattr -d -m- .vitrine/status; getfacl -cp .vitrine/status", "user::r--\ngroup::---\nother::---\n\n"},
		{"tail -n 1 .vitrine/status; cp .vitrine/status ../copied; cp -a .vitrine ../all; tail -qn 1 ../copied ../all/status", "}\n}\n}\n"},
	} {
		if got := sh(t, dir, tc.line); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.line, got, tc.want)
		}
	}
	if os.Getuid() == 0 {
		if _, err := try(dir, "setpriv", "--reuid=1234", "--clear-groups", "cat", filepath.Join(dir, ".vitrine/status")); err == nil {
			t.Error("others read the status")
		}
	}
	if n := server.Status().Snapshots.Known; n != 1 {
		t.Errorf("%d snapshots", n)
	}
}

func TestStatusTextsAreForgotten(t *testing.T) {
	dir, s := mountServer(t, small(t), Options{})
	for range 100 {
		if p, err := os.ReadFile(dir + "/.vitrine/status"); err != nil || !json.Valid(p) {
			t.Fatalf("%v: %q", err, p)
		}
	}
	held := func() int {
		s.control.mu.Lock()
		defer s.control.mu.Unlock()
		return len(s.control.texts)
	}
	for end := time.Now().Add(30 * time.Second); held() > 3; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d texts are kept", held())
		}
	}
}

func TestValidPath(t *testing.T) {
	for in, want := range map[string]string{
		"/a b":         "/a b",
		"/\xff\xfe":    `/\xff\xfe`,
		"/ü\x80\ufffd": `/ü\x80` + "\ufffd",
	} {
		if got := validPath(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
