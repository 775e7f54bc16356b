package dump_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vitrine/repo/dump"
)

// words writes and succeeds, half writes and fails.
func words(w io.Writer) error { _, err := io.WriteString(w, "words"); return err }

var errHalf = errors.New("half")

func half(w io.Writer) error {
	if _, err := io.WriteString(w, "ha"); err != nil {
		return err
	}
	return errHalf
}

func inode(t *testing.T, name string) uint64 {
	t.Helper()
	fi, err := os.Stat(name)
	check(t, err)
	return fi.Sys().(*syscall.Stat_t).Ino
}

func content(t *testing.T, name string) string {
	t.Helper()
	p, err := os.ReadFile(name)
	check(t, err)
	return string(p)
}

// names are those in a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	check(t, err)
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// Each target is written once by a dump that fails and once by one that does not.
func TestToFile(t *testing.T) {
	long := strings.Repeat("n", 255)
	for _, c := range []struct {
		what    string
		prepare func(dir string) error // in which "old" is a file that says "old"
		target  string
		failed  string // names afterwards
		names   string
		final   string // has the content
		through bool   // keeps its inode, and what a failed dump wrote
	}{
		{"new", nil, "new", "old", "new old", "new", false},
		{"long name", nil, long, "old", long + " old", long, false},
		{"file", nil, "old", "old", "old", "old", false},
		{"file of several names", func(d string) error { return os.Link(d+"/old", d+"/again") },
			"old", "again old", "again old", "again", true},
		{"symlink", func(d string) error { return os.Symlink("old", d+"/link") },
			"link", "link old", "link old", "old", false},
		{"symlink through a directory", func(d string) error {
			return errors.Join(os.MkdirAll(d+"/a/b", 0o755), os.Symlink("a/b", d+"/c"), os.Symlink("c/../x", d+"/link"),
				os.WriteFile(d+"/a/x", []byte("old"), 0o644))
		}, "link", "a c link old", "a c link old", "a/x", false},
		{"symlink to nothing", func(d string) error { return os.Symlink("new", d+"/link") },
			"link", "link old", "link new old", "new", false},
		{"symlink to several names", func(d string) error {
			return errors.Join(os.Link(d+"/old", d+"/again"), os.Symlink("old", d+"/link"))
		}, "link", "again link old", "again link old", "again", true},
	} {
		t.Run(c.what, func(t *testing.T) {
			dir := t.TempDir()
			check(t, os.WriteFile(dir+"/old", []byte("old"), 0o640))
			if c.prepare != nil {
				check(t, c.prepare(dir))
			}
			final := filepath.Join(dir, c.final)
			_, err := os.Stat(final)
			isNew := errors.Is(err, os.ErrNotExist)
			var before uint64
			var mode os.FileMode
			if !isNew {
				before = inode(t, final)
				fi, err := os.Stat(final)
				check(t, err)
				mode = fi.Mode()
			}

			if err := dump.ToFile(dir+"/"+c.target, half); !errors.Is(err, errHalf) {
				t.Fatalf("a dump that fails: %v", err)
			}
			if got := names(t, dir); got != c.failed {
				t.Errorf("after a failure there are %s, want %s", got, c.failed)
			}
			if !isNew {
				want := "old"
				if c.through {
					want = "ha"
				}
				if got := content(t, final); got != want {
					t.Errorf("after a failure it has %q, want %q", got, want)
				}
			}

			check(t, dump.ToFile(dir+"/"+c.target, words))
			if got := names(t, dir); got != c.names {
				t.Errorf("there are %s, want %s", got, c.names)
			}
			if got := content(t, final); got != "words" {
				t.Errorf("it has %q", got)
			}
			if isNew {
				check(t, os.WriteFile(dir+"/like", nil, 0o666))
				fi, err := os.Stat(dir + "/like")
				check(t, err)
				mode = fi.Mode()
			} else if same := inode(t, final) == before; same != c.through {
				t.Errorf("same inode: %v", same)
			}
			if fi, err := os.Stat(final); err != nil || fi.Mode() != mode {
				t.Errorf("mode %v, want %v, %v", fi.Mode(), mode, err)
			}
		})
	}
}

// Who may read a file that is replaced may read the new one, and nobody else.
func TestToFileKeepsRights(t *testing.T) {
	name := t.TempDir() + "/secret"
	check(t, os.WriteFile(name, nil, 0o600))
	uid := os.Geteuid()
	if uid == 0 {
		uid = 1234
		check(t, os.Chown(name, uid, 4321))
	}
	check(t, dump.ToFile(name, func(w io.Writer) error {
		fi, err := os.Stat(name + ".vitrine-partial")
		if err == nil && fi.Mode() != 0o600 {
			t.Errorf("while it is written its mode is %v", fi.Mode())
		}
		return errors.Join(err, words(w))
	}))
	fi, err := os.Stat(name)
	check(t, err)
	if got := int(fi.Sys().(*syscall.Stat_t).Uid); fi.Mode() != 0o600 || got != uid {
		t.Errorf("mode %v of user %d, want 0600 of %d", fi.Mode(), got, uid)
	}

	// An ACL can only be kept by writing into the file.
	acl := "\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\x01\x00\x00\x00" +
		"\x04\x00\x00\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff"
	check(t, unix.Setxattr(name, "system.posix_acl_access", []byte(acl), 0))
	check(t, dump.ToFile(name, words))
	got := make([]byte, len(acl))
	if n, err := unix.Getxattr(name, "system.posix_acl_access", got); err != nil || string(got[:n]) != acl {
		t.Errorf("the ACL is %x, %v", got[:max(n, 0)], err)
	}
}

// Extended attributes of users are kept by writing into the file.
func TestToFileKeepsXattrs(t *testing.T) {
	name := t.TempDir() + "/x"
	check(t, os.WriteFile(name, []byte("old"), 0o640))
	check(t, unix.Setxattr(name, "user.origin", []byte("here"), 0))
	check(t, dump.ToFile(name, words))
	got := make([]byte, 10)
	if n, err := unix.Getxattr(name, "user.origin", got); err != nil || string(got[:n]) != "here" || content(t, name) != "words" {
		t.Errorf("%q, %v", got[:max(n, 0)], err)
	}
}

// What is no regular file stays what it is.
func TestToFileThrough(t *testing.T) {
	dir := t.TempDir()
	check(t, unix.Mkfifo(dir+"/fifo", 0o600))
	check(t, os.Symlink("fifo", dir+"/to fifo"))
	check(t, os.Symlink("/dev/full", dir+"/to full"))
	l, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(l)
	check(t, unix.Bind(l, &unix.SockaddrUnix{Name: dir + "/socket"}))
	before := names(t, dir)

	fifo, err := unix.Open(dir+"/fifo", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	check(t, err)
	defer unix.Close(fifo)
	for _, name := range []string{dir + "/fifo", dir + "/to fifo"} {
		check(t, dump.ToFile(name, words))
		got := make([]byte, 10)
		if n, err := unix.Read(fifo, got); err != nil || string(got[:n]) != "words" {
			t.Errorf("through %s came %q, %v", name, got[:max(n, 0)], err)
		}
	}
	if err := dump.ToFile(dir+"/to full", words); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a full device: %v", err)
	}
	for name, want := range map[string]string{
		dir + "/socket": dir + "/socket is a socket", dir: dir + " is a directory", dir + "/new/": dir + "/new/ is a directory",
	} {
		if err := dump.ToFile(name, words); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := names(t, dir); got != before {
		t.Errorf("there are %s, want %s", got, before)
	}
}

// An open file that /dev/stdout or the like stands for is written, whatever name it has.
func TestToFileOpened(t *testing.T) {
	name := t.TempDir() + "/out"
	f, err := os.Create(name)
	check(t, err)
	defer f.Close()
	before := inode(t, name)
	link := t.TempDir() + "/stdout"
	check(t, os.Symlink("/proc/self/fd/"+strconv.Itoa(int(f.Fd())), link))
	check(t, dump.ToFile(link, words))
	if content(t, name) != "words" || inode(t, name) != before {
		t.Error("the name has another file")
	}
}
