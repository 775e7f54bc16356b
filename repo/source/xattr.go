package source

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"vitrine/repo/snapshot"
)

// noListxattrat is set once the kernel has refused listxattrat(2), which came with Linux 6.13.
var noListxattrat atomic.Bool

// procFD reports whether /proc is mounted.
var procFD = sync.OnceValue(func() bool {
	var st Stat
	return unix.Stat("/proc/self/fd", &st) == nil
})

// Xattrs returns the extended attributes of an entry, those of a symbolic link itself, in the
// order in which the kernel lists them; "." is d itself. A file system without attributes gives none. When some
// cannot be read, the others are returned beside the error.
func (d *Dir) Xattrs(name string) ([]snapshot.Xattr, error) {
	fail := func(op string, err error) error { return d.fail(op, name, err) }
	switch {
	case name == "." && !d.waypoint:
		return descriptorXattrs(d.fd, fail)
	case name == ".":
		path := d.pathOf(".")
		return readXattrs(xattrCalls{
			list: func(p []byte) (int, error) { return unix.Listxattr(path, p) },
			get:  func(attr string, p []byte) (int, error) { return unix.Getxattr(path, attr, p) },
		}, fail)
	}
	return readXattrs(xattrCalls{
		list: func(p []byte) (int, error) {
			if !noListxattrat.Load() {
				n, err := listxattrat(d.fd, name, p)
				// Old sandboxes answer EPERM to calls that they do not know.
				if err != unix.ENOSYS && err != unix.EPERM {
					return n, err
				}
				noListxattrat.Store(true)
			}
			return unix.Llistxattr(d.pathOf(name), p)
		},
		get: func(attr string, p []byte) (int, error) { return unix.Lgetxattr(d.pathOf(name), attr, p) },
	}, fail)
}

func descriptorXattrs(fd int, fail func(op string, err error) error) ([]snapshot.Xattr, error) {
	return readXattrs(xattrCalls{
		list: func(p []byte) (int, error) { return unix.Flistxattr(fd, p) },
		get:  func(attr string, p []byte) (int, error) { return unix.Fgetxattr(fd, attr, p) },
	}, fail)
}

// pathOf returns a path that leads through d's descriptor, for calls that take no descriptor.
func (d *Dir) pathOf(name string) string {
	if !procFD() {
		return join(d.path, name)
	}
	path := "/proc/self/fd/" + strconv.Itoa(d.fd)
	if name == "." {
		return path
	}
	return path + "/" + name
}

func listxattrat(dirfd int, name string, dest []byte) (int, error) {
	path, err := unix.BytePtrFromString(name)
	if err != nil {
		return 0, err
	}
	n, _, errno := unix.Syscall6(unix.SYS_LISTXATTRAT, uintptr(dirfd), uintptr(unsafe.Pointer(path)),
		unix.AT_SYMLINK_NOFOLLOW, uintptr(unsafe.Pointer(unsafe.SliceData(dest))), uintptr(len(dest)), 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// xattrCalls are the two system calls on one file.
type xattrCalls struct {
	list func(dest []byte) (int, error)
	get  func(attr string, dest []byte) (int, error)
}

// xattrBuf is what the kernel allows for a list (XATTR_LIST_MAX) and for a value (XATTR_SIZE_MAX),
// so that one call of each is enough.
type xattrBuf [64 << 10]byte

var xattrBufs = sync.Pool{New: func() any { return new(xattrBuf) }}

func readXattrs(calls xattrCalls, fail func(op string, err error) error) ([]snapshot.Xattr, error) {
	buf := xattrBufs.Get().(*xattrBuf)
	defer xattrBufs.Put(buf)
	n, err := calls.list(buf[:])
	if err == unix.ENOTSUP || err == nil && n == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fail("listxattr", err)
	}
	names := bytes.Split(bytes.TrimSuffix(bytes.Clone(buf[:n]), []byte{0}), []byte{0})
	attrs := make([]snapshot.Xattr, 0, len(names))
	var errs error
	for _, name := range names {
		n, err := calls.get(string(name), buf[:])
		switch {
		case err == unix.ENODATA || err == unix.ENOTSUP:
			// Removed since the list, or listed by a file system that keeps it to itself.
		case err != nil:
			errs = errors.Join(errs, fail(fmt.Sprintf("getxattr %s of", name), err))
		default:
			attrs = append(attrs, snapshot.Xattr{Name: string(name), Value: append([]byte{}, buf[:n]...)})
		}
	}
	return attrs, errs
}
