package fs

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"vitrine/fs/tree"
	"vitrine/fs/tree/treetest"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// The tests of this file look through the kernel with real tools. Their names carry the
// rows of MOUNT-CASES.md.

// sameTree fails unless rsync sees no difference in content, metadata, links, ACLs and attributes.
func sameTree(t *testing.T, got, want string) {
	t.Helper()
	out := run(t, "/", "rsync", "-aHAXnc", "--delete", "--itemize-changes", want+"/", got+"/")
	for _, line := range lines(out) {
		// The format does not say how many links a fifo has.
		if line != "hS          types/fifo => links/hard fifo" {
			t.Errorf("rsync from %s to %s: %s", want, got, line)
		}
	}
	// diff takes any two fifos for different, and any two devices on different file systems.
	const special = "is a (fifo|character special file|block special file) while file .* is a "
	out, err := try("/", "bash", "-c", fmt.Sprintf("diff -r --no-dereference '%s' '%s' | grep -Ev '%s'", want, got, special))
	if err == nil || out != "" {
		t.Errorf("diff of %s and %s (%v):\n%s", want, got, err, out)
	}
}

func TestRow01CopyOut(t *testing.T) {
	src, r := zoo(t)
	mnt := filepath.Join(mountTest(t, r, Options{}), "snapshots/latest/zoo")
	sameTree(t, mnt, src)
	for name, line := range map[string]string{
		"cp -a":        `cp -a "$FROM/." "$TO"`,
		"rsync -aHAXS": `rsync -aHAXS "$FROM/" "$TO/"`,
		"tar":          `tar -C "$FROM" --xattrs --xattrs-include='*' --acls -cf - . | tar -C "$TO" --xattrs --xattrs-include='*' --acls -xpf -`,
		"tar -S":       `tar -C "$FROM" --xattrs --xattrs-include='*' --acls -cSf - . | tar -C "$TO" --xattrs --xattrs-include='*' --acls -xpf -`,
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(workDir(t), "copy")
			if err := os.Mkdir(to, 0o755); err != nil {
				t.Fatal(err)
			}
			out := sh(t, "/", fmt.Sprintf("FROM='%s'; TO='%s'; %s", mnt, to, line))
			for _, l := range lines(out) {
				// Of times before 1970 and of this century's end tar has an opinion.
				if !strings.Contains(l, "implausibly old") && !strings.Contains(l, "in the future") {
					t.Errorf("it says: %s", l)
				}
			}
			sameTree(t, to, src)
		})
	}
}

// A larger tree of ordinary files: Go's own sources, in part.
func TestRow01SourceTree(t *testing.T) {
	src := filepath.Join(strings.TrimSpace(run(t, "/", "go", "env", "GOROOT")), "src/crypto")
	dir := workDir(t)
	initRestic(t, dir+"/repo")
	restic(t, dir+"/repo", filepath.Dir(src), "backup", "crypto")
	mnt := mountTest(t, openRestic(t, dir+"/repo"), Options{}) + "/snapshots/latest/crypto"
	sameTree(t, mnt, src)
	run(t, dir, "cp", "-a", mnt, "copy")
	sameTree(t, dir+"/copy", src)
}

// twoSnapshots backs up a hard-linked pair, changes its content in place without a trace in size, times
// or inode, and backs it up again under another host name: to restic's mount, the same file.
func twoSnapshots(t *testing.T) (mnt string) {
	dir := workDir(t)
	initRestic(t, dir+"/repo")
	sh(t, dir, `mkdir src; echo 11111 >src/a; ln src/a src/b; touch -d 2020-01-01 src/a src/b`)
	restic(t, dir+"/repo", dir+"/src", "backup", "--host", "one", ".")
	sh(t, dir, `mkdir before; cp -a src before/; echo 22222 >src/a; touch -d 2020-01-01 src/a`)
	restic(t, dir+"/repo", dir+"/src", "backup", "--force", "--host", "two", ".")
	return mountTest(t, openRestic(t, dir+"/repo"), Options{})
}

// samePairs checks a copy of both snapshots: linked within, different across.
func samePairs(t *testing.T, first, second string) {
	t.Helper()
	for dir, want := range map[string]string{first: "11111\n", second: "22222\n"} {
		for _, name := range []string{"a", "b"} {
			if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
				t.Errorf("%s/%s: %q, %v, want %q", dir, name, got, err, want)
			}
		}
		a, errA := os.Stat(dir + "/a")
		b, errB := os.Stat(dir + "/b")
		if errA != nil || errB != nil || !os.SameFile(a, b) {
			t.Errorf("%s: a and b are not one file", dir)
		}
	}
}

func TestRow04ChangedHardLinks(t *testing.T) {
	mnt := twoSnapshots(t)
	to := workDir(t)
	run(t, "/", "cp", "-a", mnt+"/snapshots", to+"/")
	dirs, err := filepath.Glob(to + "/snapshots/2*")
	if err != nil || len(dirs) != 2 {
		t.Fatalf("copied %q, %v", dirs, err)
	}
	slices.Sort(dirs)
	samePairs(t, dirs[0], dirs[1])
}

func TestRow05HostsWithTheSameInodes(t *testing.T) {
	mnt := twoSnapshots(t)
	to := workDir(t)
	run(t, "/", "rsync", "-aH", mnt+"/hosts/", to+"/")
	samePairs(t, to+"/one/latest", to+"/two/latest")
}

func TestRow06Devices(t *testing.T) {
	src, r := zoo(t)
	mnt := filepath.Join(mountTest(t, r, Options{}), "snapshots/latest/zoo")
	const list = "stat -c '%n %F %t:%T %a %u:%g' types/* attributes/*"
	want := sh(t, src, list)
	if diff := cmp.Diff(lines(want), lines(sh(t, mnt, list))); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(want, "character special file fff:80000") {
		t.Errorf("the zoo lost its device with large numbers:\n%s", want)
	}
}

func TestRow07Xattrs(t *testing.T) {
	src, r := zoo(t)
	mnt := filepath.Join(mountTest(t, r, Options{}), "snapshots/latest/zoo")
	// A miss first, and then hits.
	if out, err := try(mnt, "getfattr", "-n", "user.none", "attributes/file"); err == nil || !strings.Contains(out, "No such attribute") {
		t.Errorf("an attribute that is not there: %v\n%s", err, out)
	}
	for _, list := range []string{
		"getfattr -hd -m - -e hex attributes/*",
		"getfattr -n user.binary -e hex attributes/file",
		"getfattr -n user.long attributes/file",
		"getfacl -pn attributes/*",
	} {
		want := sh(t, src, list)
		if diff := cmp.Diff(want, sh(t, mnt, list)); diff != "" {
			t.Errorf("%s: %s", list, diff)
		}
	}
	// Lengths first, then too small a buffer.
	if n, err := unix.Lgetxattr(mnt+"/attributes/file", "user.long", nil); n != 4000 || err != nil {
		t.Errorf("length of a value: %d, %v", n, err)
	}
	if _, err := unix.Lgetxattr(mnt+"/attributes/file", "user.long", make([]byte, 100)); err != unix.ERANGE {
		t.Errorf("too small a buffer: %v", err)
	}
	if _, err := unix.Llistxattr(mnt+"/attributes/file", make([]byte, 10)); err != unix.ERANGE {
		t.Errorf("too small a buffer for the list: %v", err)
	}
	if n, err := unix.Llistxattr(mnt+"/files/text", make([]byte, 10)); n != 0 || err != nil {
		t.Errorf("attributes of a file without: %d, %v", n, err)
	}
	if _, err := unix.Lgetxattr(mnt+"/../../..", "user.none", nil); err != unix.ENODATA {
		t.Errorf("attribute of the root: %v", err)
	}
}

func TestRow08SparseFiles(t *testing.T) {
	src, r := zoo(t)
	mnt := filepath.Join(mountTest(t, r, Options{}), "snapshots/latest/zoo")
	to := workDir(t)
	blocks := func(path string) int64 {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks
	}
	for _, name := range []string{"hole at the end", "hole between", "all hole", "zeros"} {
		f := filepath.Join(mnt, "files", name)
		sh(t, to, fmt.Sprintf("cp --sparse=auto '%s' cp; rm -rf out; mkdir out; tar -C %s/files -cSf a.tar '%s'; tar -C out -xf a.tar", f, mnt, name))
		for tool, copied := range map[string]string{"cp": to + "/cp", "tar": to + "/out/" + name} {
			run(t, "/", "cmp", copied, filepath.Join(src, "files", name))
			if got, limit := blocks(copied), blocks(f); got > limit {
				t.Errorf("%s: %s made %d blocks of %d", name, tool, got, limit)
			}
		}
		// A chunk with content, and the beginning of one before a hole, take at most two minimal chunks.
		if got, limit := blocks(f), int64(2*512<<10+4096+512)/512; got > limit {
			t.Errorf("%s: %d blocks, want at most %d", name, got, limit)
		}
		// The archive holds the data only.
		if info, err := os.Stat(to + "/a.tar"); err != nil || info.Size() > 2<<20 {
			t.Errorf("%s: archive of %d bytes, %v", name, info.Size(), err)
		}
	}
	if n := blocks(mnt + "/files/all hole"); n != 0 {
		t.Errorf("a file of nothing but holes takes %d blocks", n)
	}
	f, err := os.Open(mnt + "/files/hole between")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if off, err := f.Seek(0, unix.SEEK_DATA); err != nil || off > 10<<20 || off < 9<<20 {
		t.Errorf("SEEK_DATA: %d, %v", off, err)
	}
	if off, err := f.Seek(0, unix.SEEK_HOLE); err != nil || off != 0 {
		t.Errorf("SEEK_HOLE: %d, %v", off, err)
	}
	if off, err := f.Seek(30<<20, unix.SEEK_DATA); err == nil {
		t.Errorf("SEEK_DATA behind the end: %d", off)
	}
}

func TestRow09DiskUsage(t *testing.T) {
	src, r := zoo(t)
	mnt := filepath.Join(mountTest(t, r, Options{}), "snapshots/latest/zoo")
	for _, dir := range []string{"names", "modes", "types", "attributes", "times", "deep"} {
		line := "du -sk --exclude=nothing " + dir
		if want, got := sh(t, src, line), sh(t, mnt, line); want != got {
			t.Errorf("du: %q in the mount, %q in the source", got, want)
		}
		// du counts a file of two names once only when it knows that they are links.
	}
	want, got := sh(t, src, "du -sk links"), sh(t, mnt, "du -sk links")
	// tmpfs gives long symlinks a page; others keep them in the inode, and so do we.
	if kib := func(s string) int { n, _ := strconv.Atoi(strings.Fields(s)[0]); return n }; kib(want)-kib(got) > 8 || kib(got) > kib(want) {
		t.Errorf("du: %q in the mount, %q in the source", got, want)
	}
}

// Walking and reading what was walked and read before asks for nothing inside the snapshots, neither
// names nor bytes, long after what is told of the lists has expired.
func TestRow11Row13CachedByTheKernel(t *testing.T) {
	_, r := zoo(t)
	mnt, _, c := mountCounted(t, r, Options{RefreshEvery: -1})
	want := ""
	pass := func() []string {
		c.watch()
		content := sh(t, mnt, "find snapshots/ -ls >/dev/null; cat snapshots/*/zoo/files/* | sha256sum")
		if want != "" && content != want {
			t.Fatalf("content changed: %s, %s", want, content)
		}
		want = content
		return c.asked()
	}
	isRead := func(r string) bool { return strings.HasPrefix(r, "read ") }
	first := pass()
	if !slices.ContainsFunc(first, isRead) || !slices.ContainsFunc(first, func(r string) bool { return !isRead(r) }) {
		t.Fatalf("not everything is counted: %q", first)
	}
	t.Logf("the first time: %d requests inside the snapshots", len(first))
	time.Sleep(listTimeout * 11 / 10)
	quiet(t, pass)
	// The same files in another list are the same files.
	quiet(t, func() []string {
		c.watch()
		sh(t, mnt, "cat hosts/*/latest/zoo/files/* >/dev/null")
		return slices.DeleteFunc(c.asked(), func(r string) bool { return !isRead(r) })
	})
}

// quiet fails the test when there is a request that each of a few identical passes makes. One that
// some of them make is no fault: a machine reclaims cached pages and names whenever it likes to
// (DAMON does), and others each time.
func quiet(t *testing.T, pass func() []string) {
	t.Helper()
	always := pass()
	for range 4 {
		if len(always) == 0 {
			return
		}
		now := pass()
		always = slices.DeleteFunc(always, func(r string) bool { return !slices.Contains(now, r) })
	}
	if len(always) > 0 {
		t.Errorf("each pass asks:\n%s", strings.Join(always, "\n"))
	}
}

func TestRow17DamagedPack(t *testing.T) {
	src, _ := zoo(t)
	dir := workDir(t)
	run(t, "/", "cp", "-a", fixture.repo, dir+"/repo")
	r := openRestic(t, dir+"/repo")
	content := contentOf(t, r, "zoo/files/several chunks")
	if len(content) < 3 {
		t.Fatalf("the file has %d chunks only", len(content))
	}
	loc, ok, err := r.LookupBlob(blob.Handle{Type: blob.Data, ID: content[1]})
	if !ok || err != nil {
		t.Fatal(ok, err)
	}
	from := uint64(0)
	first, _, _ := r.LookupBlob(blob.Handle{Type: blob.Data, ID: content[0]})
	from = uint64(first.Size())
	to := from + uint64(loc.Size())

	pack := filepath.Join(dir, "repo/data", loc.Pack.String()[:2], loc.Pack.String())
	sh(t, "/", fmt.Sprintf("chmod u+w %s; printf XXXX | dd of=%s bs=1 seek=%d conv=notrunc status=none", pack, pack, loc.OffsetBytes+100))

	var log syncBuffer
	mnt := mountTest(t, r, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}) + "/snapshots/latest/zoo"
	got, err := os.Open(mnt + "/files/several chunks")
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	want, err := os.ReadFile(src + "/files/several chunks")
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	failed := 0
	for off := 0; off < len(want); off += page {
		p := make([]byte, min(page, len(want)-off))
		_, err := got.ReadAt(p, int64(off))
		touched := uint64(off+len(p)) > from && uint64(off) < to
		switch {
		case err != nil && !touched:
			t.Fatalf("offset %d, not in the damaged %d to %d: %v", off, from, to, err)
		case err == nil && touched:
			t.Fatalf("offset %d, in the damaged %d to %d: no error", off, from, to)
		case err == nil && !bytes.Equal(p, want[off:off+len(p)]):
			t.Fatalf("offset %d: wrong bytes", off)
		case err != nil:
			failed++
		}
	}
	t.Logf("%d pages are lost", failed)

	// A sequential reader gets all that comes before.
	out, err := try(mnt, "bash", "-c", `cat "files/several chunks" | wc -c; exit ${PIPESTATUS[0]}`)
	if err == nil || !strings.Contains(out, "Input/output error") {
		t.Errorf("cat: %v, %s", err, out)
	}
	if n := firstNumber(out); n > from || n+1<<20 < from {
		t.Errorf("cat gave %d bytes of %d: %s", n, from, out)
	}
	// And whoever copies it all gets all the rest.
	out, err = try("/", "cp", "-a", mnt, dir+"/copy")
	if ls := lines(out); err == nil || len(ls) != 1 || !strings.Contains(ls[0], "several chunks") {
		t.Errorf("cp: %v\n%s", err, out)
	}
	if err := os.Remove(dir + "/copy/files/several chunks"); err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	out = run(t, "/", "rsync", "-aHAXnc", "--delete", "-i", "--omit-dir-times", src+"/", dir+"/copy/")
	if ls := lines(out); len(ls) > 2 {
		t.Errorf("the rest of the copy differs:\n%s", out)
	}
	for _, want := range []string{"snapshots/", "/zoo/files/several chunks", content[1].String(), loc.Pack.String()} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log does not name %q:\n%s", want, log.String())
		}
	}
	if n := len(lines(log.String())); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, log.String())
	}
}

func TestRow17MissingPack(t *testing.T) {
	src, _ := zoo(t)
	dir := workDir(t)
	run(t, "/", "cp", "-a", fixture.repo, dir+"/repo")
	r := openRestic(t, dir+"/repo")
	packOf := func(id blob.ID) string {
		loc, ok, err := r.LookupBlob(blob.Handle{Type: blob.Data, ID: id})
		if !ok || err != nil {
			t.Fatal(ok, err)
		}
		return loc.Pack.String()
	}
	gone := packOf(contentOf(t, r, "zoo/files/several chunks")[1])
	if err := os.Remove(filepath.Join(dir, "repo/data", gone[:2], gone)); err != nil {
		t.Fatal(err)
	}
	var log syncBuffer
	mnt := mountTest(t, r, Options{Log: slog.New(slog.NewTextHandler(&log, nil))}) + "/snapshots/latest/zoo"
	intact, lost := 0, 0
	for _, name := range lines(sh(t, src, "ls -1 files")) {
		affected := false
		for _, id := range contentOf(t, r, "zoo/files/"+name) {
			affected = affected || packOf(id) == gone && id != blob.Hash(tree.HoleBytes())
		}
		got, err := os.ReadFile(mnt + "/files/" + name)
		if affected {
			if lost++; !errors.Is(err, unix.EIO) {
				t.Errorf("%s, in the missing pack: %d bytes, %v", name, len(got), err)
			}
			continue
		}
		intact++
		want, wantErr := os.ReadFile(src + "/files/" + name)
		if err != nil || wantErr != nil || !bytes.Equal(got, want) {
			t.Errorf("%s, not in the missing pack: %d bytes, %v", name, len(got), err)
		}
	}
	if intact == 0 || lost == 0 {
		t.Errorf("%d files intact, %d lost: the test shows nothing", intact, lost)
	}
	if !strings.Contains(log.String(), gone) {
		t.Errorf("the log does not name the pack:\n%s", log.String())
	}
}

func firstNumber(s string) (n uint64) {
	for _, f := range strings.Fields(s) {
		if v, err := strconv.ParseUint(f, 10, 64); err == nil {
			return v
		}
	}
	return 0
}

// contentOf returns the chunks of a file in the only snapshot.
func contentOf(t *testing.T, r interface {
	Source
	treeLoader
}, path string) []blob.ID {
	t.Helper()
	sns, err := r.Snapshots(t.Context())
	if err != nil || len(sns) != 1 {
		t.Fatal(len(sns), err)
	}
	n, err := r.FindNode(t.Context(), *sns[0].Tree, path)
	if err != nil {
		t.Fatal(err)
	}
	return n.Content
}

func TestRow18Names(t *testing.T) {
	src, r := zoo(t)
	mnt := filepath.Join(mountTest(t, r, Options{}), "snapshots/latest/zoo")
	const list = `find names -printf '%P\0%y\0' | sort -z | od -An -c; find names -type f -print0 | sort -z | xargs -0 cat | od -An -c`
	if diff := cmp.Diff(sh(t, src, list), sh(t, mnt, list)); diff != "" {
		t.Error(diff)
	}
}

func TestRow20Times(t *testing.T) {
	src, r := zoo(t)
	mnt := filepath.Join(mountTest(t, r, Options{}), "snapshots/latest/zoo")
	const list = `find times files modes -printf '%p %T@ %C@\n' | sort`
	want := sh(t, src, list)
	if diff := cmp.Diff(lines(want), lines(sh(t, mnt, list))); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(want, " -") {
		t.Error("the zoo has no time before 1970")
	}
}

func TestRow23LinkCountZero(t *testing.T) {
	src := treetest.New(t)
	f := src.File("f", "x")
	f.Links = 0
	src.AddSnapshot(time.Now(), src.Tree(f), nil)
	mnt := mountTest(t, src, Options{})
	if got := sh(t, mnt, "stat -c %h snapshots/latest/f"); got != "1\n" {
		t.Errorf("link count %q", got)
	}
}

func TestRow24ListingOrder(t *testing.T) {
	_, r := zoo(t)
	mnt := mountTest(t, r, Options{})
	for _, dir := range []string{"", "snapshots", "snapshots/latest/zoo/files", "snapshots/latest/zoo/names/dirs"} {
		d, err := os.Open(filepath.Join(mnt, dir))
		if err != nil {
			t.Fatal(err)
		}
		names, err := d.Readdirnames(-1)
		d.Close()
		if err != nil || !slices.IsSorted(names) || len(names) == 0 {
			t.Errorf("%q: %q, %v", dir, names, err)
		}
	}
	// Inside a snapshot inode numbers grow in the same order: cp -r reads files in the
	// order of their numbers.
	got := sh(t, mnt+"/snapshots/latest/zoo/files", "ls -1Ui")
	var inos []uint64
	for _, l := range lines(got) {
		inos = append(inos, firstNumber(l))
	}
	if !slices.IsSorted(inos) {
		t.Errorf("inode numbers do not grow:\n%s", got)
	}
}

func TestRow25Statfs(t *testing.T) {
	src := treetest.New(t)
	src.AddSnapshot(time.Now(), src.Tree(), func(sn *snapshot.Snapshot) {
		sn.Summary = &snapshot.Summary{TotalBytesProcessed: 5 << 30, TotalFilesProcessed: 12345}
	})
	far := mountTest(t, src, Options{})
	if got := sh(t, far, "df -k --output=size,used,avail,itotal . | tail -1"); strings.Join(strings.Fields(got), " ") != "5242880 5242880 0 12345" {
		t.Errorf("df of a repository that is far away: %s", got)
	}
	disk := workDir(t)
	near := mountTest(t, src, Options{RepoPath: disk})
	const df = "df -k --output=size,itotal . | tail -1"
	if got, want := sh(t, near, df), sh(t, disk, df); got != want {
		t.Errorf("df of a local repository: %s, of its disk %s", got, want)
	}
}

// A file of more chunks than one reply can refer to.
func TestFileOfTinyChunks(t *testing.T) {
	src := treetest.New(t)
	var chunks []string
	for i := range 20_000 {
		chunks = append(chunks, fmt.Sprintf("chunk %d\n", i))
	}
	src.AddSnapshot(time.Now(), src.Tree(src.File("f", chunks...)), nil)
	mnt := mountTest(t, src, Options{}) + "/snapshots/latest"
	if got := sh(t, mnt, "cat f"); got != strings.Join(chunks, "") {
		t.Errorf("%d bytes, want %d, or others", len(got), len(strings.Join(chunks, "")))
	}
}

// Reading what changed since its size was noted must not invent or hide bytes.
func TestContentOfAnotherSize(t *testing.T) {
	src := treetest.New(t)
	short, long := src.File("short", "12345"), src.File("long", "12345")
	short.Size, long.Size = 100, 3
	shorts, longs := src.File("shorts", "12345", "67890"), src.File("longs", "12345", "67890")
	shorts.Size, longs.Size = 100, 7
	src.AddSnapshot(time.Now(), src.Tree(short, long, shorts, longs), nil)
	mnt := mountTest(t, src, Options{}) + "/snapshots/latest"
	for name, want := range map[string]string{"short": "12345", "long": "123", "shorts": "1234567890", "longs": "1234567"} {
		if got := sh(t, mnt, "cat "+name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}
