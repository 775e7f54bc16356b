package local

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// FS is the file system a Backend stands on. Names are absolute paths. The errors are those of
// the os package (errors.Is with fs.ErrNotExist, fs.ErrExist, a syscall.Errno). All methods may
// be called in parallel. A test puts a file system here that loses power; see localtest.
type FS interface {
	ReadFS
	WriteFS
}

// ReadFS is the reading half of FS.
type ReadFS interface {
	Open(name string) (ReadFile, error)
	Stat(name string) (fs.FileInfo, error)      // follows symbolic links
	ReadDir(name string) ([]fs.DirEntry, error) // in any order
}

// WriteFS is the changing half of FS. Nothing is durable before WriteFile.Sync (for the bytes
// of a file) and SyncDir (for the names in a directory).
type WriteFS interface {
	Create(name string, mode fs.FileMode) (WriteFile, error) // fs.ErrExist when the name is taken
	Mkdir(name string, mode fs.FileMode) error
	Rename(from, to string, replace bool) error // without replace fs.ErrExist when to is taken
	Remove(name string) error
	SyncDir(name string) error
}

// WriteFile is a file under construction.
type WriteFile interface {
	io.WriteCloser
	Sync() error
}

// ReadFile is an open file.
type ReadFile interface {
	io.ReaderAt
	io.Closer
	Stat() (fs.FileInfo, error)
}

// OS is the file system of the operating system.
type OS struct{}

var _ FS = OS{}

// Open implements FS.
func (OS) Open(name string) (ReadFile, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err // a nil *os.File in an interface would not be nil
	}
	return f, nil
}

// Stat implements FS.
func (OS) Stat(name string) (fs.FileInfo, error) { return os.Stat(name) }

// ReadDir implements FS.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) {
	d, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(-1)
	return entries, errors.Join(err, d.Close())
}

// Create implements FS.
func (OS) Create(name string, mode fs.FileMode) (WriteFile, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return nil, err
	}
	if mode&0o077 == 0 {
		return f, nil
	}
	// The umask must not take away what the group of a shared repository needs. Where chmod
	// is not supported the mode means nothing either.
	if err := f.Chmod(mode); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, errors.ErrUnsupported) {
		return nil, errors.Join(err, f.Close(), os.Remove(name))
	}
	return f, nil
}

// Mkdir implements FS.
func (OS) Mkdir(name string, mode fs.FileMode) error { return os.Mkdir(name, mode) }

// Rename implements FS.
func (OS) Rename(from, to string, replace bool) error {
	if replace {
		return os.Rename(from, to)
	}
	err := unix.Renameat2(unix.AT_FDCWD, from, unix.AT_FDCWD, to, unix.RENAME_NOREPLACE)
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		if err != nil {
			err = &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
		}
		return err
	}
	// An old kernel or a file system without the flag (NFS, some FUSE): look first. Two
	// processes could pass here at the same time; both would have to run init.
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = &os.LinkError{Op: "rename", Old: from, New: to, Err: unix.EEXIST}
		}
		return err
	}
	return os.Rename(from, to)
}

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// SyncDir implements FS. A file system that cannot sync directories (some FUSE and
// network file systems say EINVAL or ENOTSUP) orders its names itself, or not at all.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, unix.EINVAL) || errors.Is(err, errors.ErrUnsupported) {
		err = nil
	}
	return errors.Join(err, d.Close())
}
