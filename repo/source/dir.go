package source

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Stat is what lstat tells of a file.
type Stat = unix.Stat_t

// Dir is an open directory. Its methods may be called in parallel, but not after Close.
type Dir struct {
	fd       int
	path     string // for messages, and for Xattrs where /proc is missing
	waypoint bool   // opened by OpenWaypoint: the descriptor only serves to find others
}

// Entry is a name in a directory. Type is DT_UNKNOWN on file systems that do not tell.
type Entry struct {
	Name string
	Type uint8 // unix.DT_*
}

const dirFlags = unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NONBLOCK

// OpenDir opens the directory that the path names; symbolic links are followed.
func OpenDir(path string) (*Dir, error) {
	fd, err := openNoAtime(unix.AT_FDCWD, path, unix.O_RDONLY|dirFlags)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &Dir{fd: fd, path: path}, nil
}

// OpenWaypoint is OpenDir for a directory that only leads to others: search permission is
// enough, and it cannot be listed.
func OpenWaypoint(path string) (*Dir, error) {
	fd, err := openNoAtime(unix.AT_FDCWD, path, unix.O_PATH|dirFlags)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return &Dir{fd: fd, path: path, waypoint: true}, nil
}

// OpenDir opens a directory in d; a symbolic link is an error.
func (d *Dir) OpenDir(name string) (*Dir, error) {
	fd, err := openNoAtime(d.fd, name, unix.O_RDONLY|unix.O_NOFOLLOW|dirFlags)
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	return &Dir{fd: fd, path: join(d.path, name)}, nil
}

// openNoAtime leaves out O_NOATIME when the kernel refuses it, which it does to those who
// neither own the file nor have CAP_FOWNER.
func openNoAtime(dirfd int, name string, flags int) (int, error) {
	if flags&unix.O_PATH == 0 {
		fd, err := openat(dirfd, name, flags|unix.O_NOATIME)
		if err != unix.EPERM {
			return fd, err
		}
	}
	return openat(dirfd, name, flags)
}

func openat(dirfd int, name string, flags int) (int, error) {
	for {
		fd, err := unix.Openat(dirfd, name, flags, 0)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// Close releases the descriptor.
func (d *Dir) Close() error { return unix.Close(d.fd) }

// Path returns the path by which the directory was reached, for messages.
func (d *Dir) Path() string { return d.path }

func (d *Dir) fail(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: join(d.path, name), Err: err}
}

// join is filepath.Join for a name without a slash.
func join(dir, name string) string {
	switch {
	case dir == "" || name == ".":
		return filepath.Join(dir, name)
	case strings.HasSuffix(dir, "/"):
		return dir + name
	}
	return dir + "/" + name
}

// Stat fills st for an entry without following a symbolic link; "." is d itself.
func (d *Dir) Stat(name string, st *Stat) error {
	var err error
	if name == "." {
		err = unix.Fstat(d.fd, st)
	} else {
		err = unix.Fstatat(d.fd, name, st, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return d.fail("lstat", name, err)
	}
	return nil
}

// Readlink returns the target of a symbolic link as it is stored.
func (d *Dir) Readlink(name string) (string, error) {
	// One byte more than a target can have: a full buffer would mean a cut one.
	var buf [unix.PathMax + 1]byte
	n, err := unix.Readlinkat(d.fd, name, buf[:])
	if err == nil && n == len(buf) {
		err = unix.ENAMETOOLONG
	}
	if err != nil {
		return "", d.fail("readlink", name, err)
	}
	return string(buf[:n]), nil
}

// direntBufs are large, because every getdents call of a remote file system is a round trip.
var direntBufs = sync.Pool{New: func() any { return new([64 << 10]byte) }}

// Entries lists the directory in byte order, without "." and "..". It may be called once.
func (d *Dir) Entries() ([]Entry, error) {
	buf := direntBufs.Get().(*[64 << 10]byte)
	defer direntBufs.Put(buf)
	var entries []Entry
	for {
		n, err := unix.Getdents(d.fd, buf[:])
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "list", Path: d.path, Err: err}
		}
		if n == 0 {
			break
		}
		if entries, err = appendEntries(entries, buf[:n]); err != nil {
			return nil, &fs.PathError{Op: "list", Path: d.path, Err: err}
		}
	}
	slices.SortFunc(entries, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	// A file system under change may tell a name twice, and a tree must not.
	entries = slices.CompactFunc(entries, func(a, b Entry) bool { return a.Name == b.Name })
	return entries, nil
}

var errDirent = errors.New("malformed directory entry")

// appendEntries reads linux_dirent64 records: inode 8, offset 8, record length 2, type 1,
// then the name up to a zero byte.
func appendEntries(entries []Entry, p []byte) ([]Entry, error) {
	const lengthAt, typeAt, nameAt = 16, 18, 19
	// All names of one call share one string.
	arena := string(p)
	for at := 0; at < len(p); {
		if len(p)-at < nameAt {
			return nil, errDirent
		}
		length := int(binary.NativeEndian.Uint16(p[at+lengthAt:]))
		if length < nameAt || length > len(p)-at {
			return nil, errDirent
		}
		name := arena[at+nameAt : at+length]
		if end := strings.IndexByte(name, 0); end >= 0 {
			name = name[:end]
		}
		if name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("%w: name %q", errDirent, name)
		}
		if name != "." && name != ".." {
			entries = append(entries, Entry{name, p[at+typeAt]})
		}
		at += length
	}
	return entries, nil
}
