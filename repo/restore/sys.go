package restore

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

const atCWD = unix.AT_FDCWD

// tempPrefix begins the names of files that are being written.
const tempPrefix = ".vitrine-"

// newMark returns the beginning of the temporary names of one run.
func newMark() string { return tempPrefix + strconv.FormatUint(rand.Uint64(), 36) + "-" }

// again repeats a system call that a signal has interrupted.
func again(call func() error) error {
	for {
		if err := call(); err != unix.EINTR {
			return err
		}
	}
}

// openDir opens a directory; its last component may be a symbolic link only when follow is set.
func openDir(dirfd int, name string, follow bool) (int, error) {
	flags := unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
	if !follow {
		flags |= unix.O_NOFOLLOW
	}
	return openat(dirfd, name, flags, 0)
}

// openFile opens a file for reading. It does not wait for a writer when the name is that of a FIFO.
func openFile(dirfd int, name string) (int, error) {
	return openat(dirfd, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
}

// createFile makes a file that only the owner may use.
func createFile(dirfd int, name string) (int, error) {
	return openat(dirfd, name, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
}

func openat(dirfd int, name string, flags int, mode uint32) (fd int, err error) {
	err = again(func() (err error) {
		fd, err = unix.Openat(dirfd, name, flags, mode)
		return err
	})
	if err != nil {
		return -1, err
	}
	return fd, nil
}

// openPath opens the directory that the names lead to, none of which may be a symbolic link.
func openPath(dirfd int, names []string) (int, error) {
	fd, err := openDir(dirfd, ".", false)
	for _, name := range names {
		if err != nil {
			return -1, err
		}
		up := fd
		fd, err = openDir(up, name, false)
		closeFD(up)
	}
	return fd, err
}

// closeFD closes a descriptor; negative ones are none.
func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// mkdir makes a directory that only the owner may use until it has its metadata.
func mkdir(dirfd int, name string) error { return unix.Mkdirat(dirfd, name, 0o700) }

func lstat(dirfd int, name string, st *unix.Stat_t) error {
	return unix.Fstatat(dirfd, name, st, unix.AT_SYMLINK_NOFOLLOW)
}

func isDir(st *unix.Stat_t) bool { return st.Mode&unix.S_IFMT == unix.S_IFDIR }

func isSocket(dirfd int, name string) bool {
	var st unix.Stat_t
	return lstat(dirfd, name, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}

var errMounted = errors.New("it is a mount point")

// notMounted returns errMounted when something is mounted at the name in an open directory, or, when the name
// is empty, at the open directory itself.
func notMounted(fd int, name string) error { return notMountedBy(unix.Statx, fd, name) }

// notMountedBy is notMounted with another statx(2), for tests.
func notMountedBy(statx func(fd int, name string, flags, mask int, stx *unix.Statx_t) error, fd int, name string) error {
	var stx unix.Statx_t
	err := again(func() error {
		return statx(fd, name, unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &stx)
	})
	if err != nil && err != unix.ENOSYS {
		return err
	}
	if err == nil && stx.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		if stx.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
			return errMounted
		}
		return nil
	}
	// Before Linux 5.8 another device tells it, of directories.
	here, above := name, "."
	if name == "" {
		here, above = ".", ".."
	}
	var st, up unix.Stat_t
	if err := lstat(fd, here, &st); err != nil {
		return err
	}
	if err := lstat(fd, above, &up); err != nil {
		return err
	}
	if isDir(&st) && st.Dev != up.Dev {
		return errMounted
	}
	return nil
}

// removeName removes a file, or a directory that is empty.
func removeName(dirfd int, name string, st *unix.Stat_t) error {
	flags := 0
	if isDir(st) {
		flags = unix.AT_REMOVEDIR
	}
	return unix.Unlinkat(dirfd, name, flags)
}

// list returns the names in a directory.
func list(fd int) ([]string, error) {
	own, err := openDir(fd, ".", false) // a position of its own
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(own), ".")
	defer f.Close()
	return f.Readdirnames(-1)
}

func readlink(dirfd int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dirfd, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func writeAt(fd int, p []byte, offsetBytes int64) error {
	for len(p) > 0 {
		n, err := unix.Pwrite(fd, p, offsetBytes)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		p, offsetBytes = p[n:], offsetBytes+int64(n)
	}
	return nil
}

// block is the unit of holes.
const block = 4096

var zeros [block]byte

// writeSparse is writeAt without the blocks that are zero.
func writeSparse(fd int, p []byte, offsetBytes int64) error {
	from := 0 // of what is to be written
	for at := 0; at < len(p); {
		end := min(len(p), at+block-int((offsetBytes+int64(at))%block))
		if zero(p[at:end]) {
			if err := writeAt(fd, p[from:at], offsetBytes+int64(from)); err != nil {
				return err
			}
			from = end
		}
		at = end
	}
	return writeAt(fd, p[from:], offsetBytes+int64(from))
}

func zero(p []byte) bool { return string(p) == string(zeros[:len(p)]) }

// readAt reads until p is full or the file ends.
func readAt(fd int, p []byte, offsetBytes int64) (n int, err error) {
	for n < len(p) {
		m, err := unix.Pread(fd, p[n:], offsetBytes+int64(n))
		if err == unix.EINTR {
			continue
		}
		if err != nil || m == 0 {
			return n, err
		}
		n += m
	}
	return n, nil
}

// grown returns a slice of n bytes, in the memory of p when that is enough.
func grown(p []byte, n int) []byte { return slices.Grow(p[:0], n)[:n] }

func unixTime(sec, nsec int64) time.Time { return time.Unix(sec, nsec) }

// joined makes a path of the target, the directories below it and a name.
func joined(target string, dirs []string, name string) string {
	return filepath.Join(target, filepath.Join(dirs...), name)
}
