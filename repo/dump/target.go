package dump

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	partial      = ".vitrine-partial"
	mostNameSize = 255 // bytes, NAME_MAX
)

// ToFile writes what write writes to a file. A new file, and one that replaces a regular file, gets the name when
// write has succeeded; until then what was there stays. A symlink is followed. What cannot be
// replaced without a loss is written as it is, and keeps what was written before an error: devices, FIFOs, files with
// several names, with an ACL or extended attributes, of an owner that we cannot give to another file, or reached through /proc/self/fd.
func ToFile(name string, write func(io.Writer) error) error {
	t, err := findTarget(name)
	if err != nil {
		return fmt.Errorf("create the target: %w", err)
	}
	f, err := t.create()
	if err != nil {
		return fmt.Errorf("create the target: %w", err)
	}
	if f.Name() == t.name {
		return errors.Join(write(f), f.Close())
	}
	// A second descriptor keeps the lock until the file has its name, for what Close says has to be known before.
	lock, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(lock)
		err = write(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), t.name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// target is where to write.
type target struct {
	name    string
	replace bool        // by a rename
	old     fs.FileInfo // what is replaced, if there is anything
}

// findTarget looks at what has the name.
func findTarget(name string) (target, error) {
	info, err := os.Stat(name)
	missing := errors.Is(err, fs.ErrNotExist)
	switch {
	case missing && strings.HasSuffix(name, "/"):
		return target{}, fmt.Errorf("%s is a directory: name a file", name)
	case missing:
		if _, err := os.Lstat(name); err != nil {
			return target{name: name, replace: true}, nil
		}
	case err != nil:
		return target{}, err
	case info.IsDir():
		return target{}, fmt.Errorf("%s is a directory: name a file", name)
	case info.Mode().Type() == fs.ModeSocket:
		return target{}, fmt.Errorf("%s is a socket: name a file", name)
	case !info.Mode().IsRegular():
		return target{name: name}, nil
	}
	if found, ok := replaceable(name, missing); ok {
		return found, nil
	}
	return target{name: name}, nil
}

// replaceable finds the regular file that a name leads to, or where a symlink leads to nothing. The kernel
// opens it as it would for writing, so that its rules for symlinks and files of others in /tmp hold here too.
func replaceable(name string, missing bool) (target, bool) {
	fd, err := unix.Openat2(unix.AT_FDCWD, name, &unix.OpenHow{
		Flags: unix.O_WRONLY | unix.O_CREAT | unix.O_NONBLOCK | unix.O_CLOEXEC, Mode: 0o666,
		Resolve: unix.RESOLVE_NO_MAGICLINKS, // an open file, such as /dev/stdout, is meant itself
	})
	if err != nil {
		return target{}, false
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Sys().(*syscall.Stat_t).Nlink != 1 {
		return target{}, false
	}
	t := target{replace: true, old: info}
	if t.name, err = os.Readlink("/proc/self/fd/" + strconv.Itoa(fd)); err != nil {
		return target{}, false
	}
	if named, err := os.Lstat(t.name); err != nil || !os.SameFile(named, info) {
		return target{}, false
	}
	if missing && info.Size() == 0 {
		t.old = nil
		return t, os.Remove(t.name) == nil // it was made to learn its name
	}
	var x unix.Statx_t
	if err := unix.Statx(fd, "", unix.AT_EMPTY_PATH, 0, &x); err != nil || x.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return target{}, false
	}
	return t, !hasXattrs(fd)
}

// hasXattrs reports whether a file has an ACL or extended attributes of users. Those of the system are made anew or gone with
// the content, such as a label and capabilities.
func hasXattrs(fd int) bool {
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Flistxattr(fd, list)
	if err != nil {
		return false // the file system has none
	}
	return slices.ContainsFunc(strings.Split(string(list[:n]), "\x00"), func(name string) bool {
		return name == "system.posix_acl_access" || strings.HasPrefix(name, "user.") || strings.HasPrefix(name, "trusted.")
	})
}

// create opens the file to write to: another one beside the target where that is to be replaced.
func (t target) create() (*os.File, error) {
	if !t.replace {
		return os.OpenFile(t.name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	}
	dir, base := filepath.Split(t.name)
	mode := fs.FileMode(0o666)
	if t.old != nil {
		mode = 0o600
	}
	f, err := newPartial(dir+base[:min(len(base), mostNameSize-len(partial))]+partial, mode)
	if t.old == nil || errors.Is(err, fs.ErrExist) || errors.Is(err, errBusy) {
		return f, err
	}
	if err == nil {
		if err = likeOld(f, t.old); err == nil {
			return f, nil
		}
		if err := errors.Join(os.Remove(f.Name()), f.Close()); err != nil { // in this order: the name is ours while it is locked
			return nil, err
		}
	}
	return target{name: t.name}.create()
}

// likeOld gives a file the owner and the permissions of another one.
func likeOld(f *os.File, old fs.FileInfo) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	is, want := info.Sys().(*syscall.Stat_t), old.Sys().(*syscall.Stat_t)
	if is.Uid != want.Uid || is.Gid != want.Gid {
		if err := f.Chown(int(want.Uid), int(want.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(old.Mode().Perm())
}
