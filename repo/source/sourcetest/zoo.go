// Package sourcetest makes trees for tests with everything that a file system can hold: every type of
// node, odd names, modes, times, attributes, holes and links.
package sourcetest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// OddNames are legal file names that something somewhere gets wrong.
var OddNames = []string{
	"new\nline", "tab\tand space ", " leading", "-dash", "...", "..a", "#hash", "!bang", "*", "?[a]", "~",
	`back\slash`, `\\`, `"double"`, `'single'`, "`tick`", "$HOME", "%s%d", "a:b", "a|b;c&d", "<tag>&amp;",
	"\x01\x1b[31m\x7f", "latin\xe9", "\xff\xfe", "half\xe2\x82", "ünï", "u\u0308ni", "日本語", "\u2028\u2029", "\ufffd", "\U0001f9ea",
	"trailing.", "con", strings.Repeat("n", 255), strings.Repeat("é", 127),
}

// zoo makes entries below one directory and gives up the test at the first failure.
type zoo struct {
	t   testing.TB
	dir string
}

// MakeZoo fills the directory, which must exist, with a tree that restic 0.14 and everybody else can
// represent; see AddNewer and AddSocket for the rest. It needs root and a file system with
// extended attributes, such as tmpfs.
func MakeZoo(t testing.TB, dir string) {
	t.Helper()
	z := zoo{t, dir}
	z.files()
	z.names()
	z.types()
	z.modes()
	z.links()
	z.attributes()
	z.times() // last: making entries changes the times of their directories
}

func (z zoo) path(name ...string) string {
	return filepath.Join(append([]string{z.dir}, name...)...)
}

func (z zoo) check(err error) {
	z.t.Helper()
	if err != nil {
		z.t.Fatal(err)
	}
}

func (z zoo) mkdir(name ...string) {
	z.t.Helper()
	z.check(os.MkdirAll(z.path(name...), 0o755))
}

func (z zoo) write(content []byte, name ...string) {
	z.t.Helper()
	z.check(os.WriteFile(z.path(name...), content, 0o644))
}

// Noise returns bytes that do not compress, the same ones for the same seed.
func Noise(seed uint64, length int) []byte {
	p := make([]byte, length)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p)
	return p
}

func (z zoo) files() {
	z.mkdir("files")
	z.write(nil, "files", "empty")
	z.write([]byte("a"), "files", "one byte")
	z.write([]byte("hello\n"), "files", "text")
	z.write([]byte("hello\n"), "files", "text again")
	for _, n := range []int{512<<10 - 1, 512 << 10, 512<<10 + 1, 3 << 20} {
		z.write(Noise(1, n), "files", fmt.Sprintf("noise %d", n))
	}
	z.write(Noise(2, 9<<20), "files", "several chunks")
	z.write(make([]byte, 1<<20), "files", "zeros")
	z.sparse("hole at the end", 5<<20, 0)
	z.sparse("hole between", 20<<20, 10<<20)
	z.sparse("all hole", 9<<20, -1)
}

// sparse makes a file of the length with 4 KiB of content at the offset; none if it is negative.
func (z zoo) sparse(name string, length, contentAt int64) {
	z.t.Helper()
	f, err := os.Create(z.path("files", name))
	z.check(err)
	if contentAt >= 0 {
		_, err = f.WriteAt(Noise(3, 4096), contentAt)
		z.check(err)
	}
	z.check(f.Truncate(length))
	z.check(f.Close())
}

func (z zoo) names() {
	for _, name := range OddNames {
		z.mkdir("names", "dirs", name)
		z.write([]byte(name), "names", "dirs", name, name)
		z.write([]byte("f"), "names", "file "+name[:min(len(name), 250)])
	}
	z.mkdir(strings.Split("deep"+strings.Repeat("/d", 60), "/")...)
	z.mkdir("empty dir")
}

func (z zoo) types() {
	z.mkdir("types")
	z.check(unix.Mkfifo(z.path("types", "fifo"), 0o640))
	for _, d := range []struct {
		name         string
		mode         uint32
		major, minor uint32
	}{
		{"null", unix.S_IFCHR | 0o666, 1, 3},
		{"large numbers", unix.S_IFCHR | 0o600, 4095, 1 << 19},
		{"loop", unix.S_IFBLK | 0o660, 7, 1},
	} {
		z.check(unix.Mknod(z.path("types", d.name), d.mode, int(unix.Mkdev(d.major, d.minor))))
	}
}

func (z zoo) modes() {
	z.mkdir("modes")
	for _, mode := range []uint32{0, 0o1, 0o20, 0o400, 0o644, 0o777, 0o1644, 0o2755, 0o4755, 0o7777, 0o6000} {
		name := fmt.Sprintf("%04o", mode)
		z.write([]byte(name), "modes", "file "+name)
		z.mkdir("modes", "dir "+name)
		z.check(os.Lchown(z.path("modes", "file "+name), int(mode), int(mode)+1))
		z.check(unix.Chmod(z.path("modes", "file "+name), mode))
		z.check(unix.Chmod(z.path("modes", "dir "+name), mode))
	}
	z.write(nil, "modes", "uid beyond 31 bits")
	uid, gid := uint32(4294967294), uint32(3000000000)
	z.check(os.Lchown(z.path("modes", "uid beyond 31 bits"), int(uid), int(gid)))
}

func (z zoo) links() {
	z.mkdir("links", "other")
	for name, target := range map[string]string{
		"relative": "../files/text", "absolute": "/etc/passwd", "dangling": "not there", "loop": "loop",
		"to a directory": "other", "odd": "a\nb \"c\" \\ <é>", "long": strings.Repeat("x/", 1500),
	} {
		z.check(os.Symlink(target, z.path("links", name)))
	}
	z.check(os.Lchown(z.path("links", "dangling"), 1, 2))
	z.write([]byte("shared"), "links", "hard 1")
	z.check(os.Link(z.path("links", "hard 1"), z.path("links", "hard 2")))
	z.check(os.Link(z.path("links", "hard 1"), z.path("links", "other", "hard 3")))
	z.check(os.Link(z.path("links", "relative"), z.path("links", "hard symlink")))
	z.check(os.Link(z.path("types", "fifo"), z.path("links", "hard fifo")))
}

// ACLs as the kernel takes them: version 2, then tag, permissions and id of each entry.
var (
	accessACL = "\x02\x00\x00\x00" +
		"\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x01\x00\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x08\x00\x07\x00\x02\x00\x00\x00" +
		"\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	defaultACL = "\x02\x00\x00\x00" +
		"\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x05\x00\xe8\x03\x00\x00" +
		"\x04\x00\x05\x00\xff\xff\xff\xff" + "\x10\x00\x05\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
)

func (z zoo) attributes() {
	z.mkdir("attributes", "dir")
	z.write([]byte("x"), "attributes", "file")
	z.write([]byte("x"), "attributes", "acl")
	z.check(os.Symlink("file", z.path("attributes", "link")))
	z.check(unix.Mkfifo(z.path("attributes", "fifo"), 0o644))
	z.check(unix.Mknod(z.path("attributes", "device"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 3))))
	set := func(name, attr, value string) {
		z.t.Helper()
		if err := unix.Lsetxattr(z.path("attributes", name), attr, []byte(value), 0); err != nil {
			z.t.Fatalf("set %s of %s: %v", attr, name, err)
		}
	}
	for i := range 12 {
		set("file", fmt.Sprintf("user.%c", 'z'-rune(i*7%26)), strings.Repeat("v", i))
	}
	set("file", "user.binary", "\x00\xff\n\"")
	set("file", "user.long", strings.Repeat("0123456789abcdef", 250))
	set("file", "trusted.t", "only root sees this")
	set("dir", "user.d", "on a directory")
	for _, name := range []string{"fifo", "device"} {
		set(name, "trusted.on", name)
	}
	set("acl", "system.posix_acl_access", accessACL)
	set("dir", "system.posix_acl_access", accessACL)
	set("dir", "system.posix_acl_default", defaultACL)
}

func (z zoo) times() {
	z.mkdir("times")
	for name, at := range map[string]time.Time{
		"before 1970": time.Date(1960, 2, 29, 1, 2, 3, 4, time.UTC),
		"just before": time.Unix(-1, 999999999),
		"epoch":       time.Unix(0, 0),
		"2100":        time.Date(2100, 12, 31, 23, 59, 59, 999999999, time.UTC),
		"1901":        time.Date(1901, 12, 13, 20, 45, 51, 0, time.UTC),
		"tenths":      time.Date(2020, 7, 1, 12, 0, 0, 500000000, time.UTC),
	} {
		z.write([]byte(name), "times", name)
		z.mkdir("times", "dir "+name)
		z.check(os.Symlink("x", z.path("times", "link "+name)))
		for _, prefix := range []string{"", "dir ", "link "} {
			ts := []unix.Timespec{unix.NsecToTimespec(at.UnixNano() + 1), unix.NsecToTimespec(at.UnixNano())}
			z.check(unix.UtimesNanoAt(unix.AT_FDCWD, z.path("times", prefix+name), ts, unix.AT_SYMLINK_NOFOLLOW))
		}
	}
}

// AddNewer adds what restic before 0.16 cannot represent: a symbolic link whose target is not
// UTF-8, and one with extended attributes.
func AddNewer(t testing.TB, dir string) {
	t.Helper()
	z := zoo{t, dir}
	z.check(os.Symlink("target \xff\xe9", z.path("raw link")))
	z.check(os.Symlink("target", z.path("link with attributes")))
	z.check(unix.Lsetxattr(z.path("link with attributes"), "trusted.on", []byte("link"), 0))
}

// AddSocket adds a socket, which no backup stores: it has no meaning without its process.
func AddSocket(t testing.TB, dir string) {
	t.Helper()
	z := zoo{t, dir}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "socket"), Net: "unix"})
	z.check(err)
	l.SetUnlinkOnClose(false)
	z.check(l.Close())
}
