package accept

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"vitrine/repo/source/sourcetest"
)

// A tree with everything a file system can hold goes through backup and mount, and comes out
// of it by rsync unchanged.
func TestZooThroughTheMount(t *testing.T) {
	l := newLab(t).plain().checked()
	source := l.zoo()
	sourcetest.AddNewer(t, source)
	entries := 5_000
	if long {
		entries = 100_000
	}
	crowd := source + "/crowd"
	if err := os.Mkdir(crowd, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range entries {
		write(t, fmt.Sprintf("%s/%07d", crowd, i*7919%entries), fmt.Sprint(i%1000))
	}

	l.vitrine("init")
	l.vitrine("backup", source)
	m := l.mount()
	view := m.latest(source)
	l.identical(source, view)
	l.same(source, view)
	out := l.dir + "/out"
	l.must("rsync", "-aHAXS", view+"/", out+"/")
	l.same(source, out)
	l.identical(source, out)
}

// restic and vitrine say the same about the zoo, in the same bytes.
func TestZooBetweenPrograms(t *testing.T) {
	l := newLab(t).plain().checked()
	source := l.zoo()
	l.vitrine("init")
	l.in(l.dir, l.resticCommand(), "backup", "zoo")
	s := parseSummary(t, l.in(l.dir, l.vitrineCommand(), "backup", "--force", "--json", "zoo"))
	if got, want := s.describe(), "0 data and 0 tree blobs, 0 bytes"; got != want {
		t.Errorf("the second backup added %s, want %s", got, want)
	}
	if trees := l.rootTrees(); len(trees) != 2 || trees[0] != trees[1] {
		t.Errorf("root trees are %v, want the same twice", trees)
	}
	l.restic("restore", "latest", "--target", l.dir+"/restored")
	// Without -H: restic 0.14 restores a symlink with two names as two symlinks.
	if out := l.must("rsync", "-aAXnc", "--delete", "-i", source+"/", l.dir+"/restored/zoo/"); out != "" {
		t.Errorf("restored differently:\n%s", clip(out))
	}
	l.copiesOut(source, l.mount().dir+"/snapshots/latest/zoo")
}

func (l *lab) zoo() string {
	l.t.Helper()
	dir := l.dir + "/zoo"
	if err := os.Mkdir(dir, 0o755); err != nil {
		l.t.Fatal(err)
	}
	sourcetest.MakeZoo(l.t, dir)
	// The format has no link count for fifos, so their second names are lost.
	if err := os.Remove(dir + "/links/hard fifo"); err != nil {
		l.t.Fatal(err)
	}
	return dir
}

// identical compares two trees by lstat and xattrs, which rsync does not look at for every
// type of node, and by listing order.
func (l *lab) identical(want, got string) {
	l.t.Helper()
	differences := 0
	report := func(format string, args ...any) {
		l.t.Helper()
		if differences++; differences <= 20 {
			l.t.Errorf(format, args...)
		}
	}
	links := map[[2]uint64][2]uint64{} // inode numbers of hard-linked files, there and here
	err := filepath.WalkDir(want, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		other := filepath.Join(got, strings.TrimPrefix(p, want))
		a, b := describe(p), describe(other)
		if a != b {
			report("%q\nis      %s\nand not %s", other, b, a)
		}
		var sa, sb unix.Stat_t
		if err := errors.Join(unix.Lstat(p, &sa), unix.Lstat(other, &sb)); err != nil {
			report("%v", err)
			return nil
		}
		if sa.Nlink > 1 && !d.IsDir() {
			key, value := [2]uint64{sa.Dev, sa.Ino}, [2]uint64{sb.Dev, sb.Ino}
			if known, ok := links[key]; ok && known != value {
				report("%q is no longer linked with its other name", other)
			}
			links[key] = value
		}
		if d.IsDir() {
			na, ea := os.ReadDir(p)
			nb, eb := os.ReadDir(other)
			if err := errors.Join(ea, eb); err != nil {
				report("%v", err)
			} else if !slices.EqualFunc(na, nb, func(x, y fs.DirEntry) bool { return x.Name() == y.Name() && x.Type() == y.Type() }) {
				report("%q lists other names or types", other)
			}
		}
		return nil
	})
	if err != nil {
		l.t.Error(err)
	}
	if differences > 20 {
		l.t.Errorf("and %d more", differences-20)
	}
}

// describe is everything about a node that a backup keeps, as text to compare.
func describe(p string) string {
	var s unix.Stat_t
	if err := unix.Lstat(p, &s); err != nil {
		return err.Error()
	}
	out := fmt.Sprintf("mode %o owner %d:%d mtime %d.%09d rdev %x", s.Mode, s.Uid, s.Gid, s.Mtim.Sec, s.Mtim.Nsec, s.Rdev)
	if s.Mode&unix.S_IFMT != unix.S_IFDIR {
		out += fmt.Sprintf(" size %d links %d", s.Size, s.Nlink)
	}
	if s.Mode&unix.S_IFMT == unix.S_IFLNK {
		target, err := os.Readlink(p)
		out += fmt.Sprintf(" target %q %v", target, err)
	}
	return out + xattrs(p)
}

func xattrs(p string) string {
	list := make([]byte, 64<<10)
	n, err := unix.Llistxattr(p, list)
	if err != nil {
		return " xattrs: " + err.Error()
	}
	names := bytes.Split(bytes.TrimSuffix(list[:n], []byte{0}), []byte{0})
	slices.SortFunc(names, bytes.Compare)
	var out strings.Builder
	value := make([]byte, 64<<10)
	for _, name := range names {
		if len(name) == 0 {
			continue
		}
		n, err := unix.Lgetxattr(p, string(name), value)
		if err != nil {
			n = 0
		}
		fmt.Fprintf(&out, " %s=%q", name, value[:n])
		if err != nil && !errors.Is(err, syscall.ENODATA) {
			fmt.Fprintf(&out, " (%v)", err)
		}
	}
	return out.String()
}
