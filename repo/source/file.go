package source

import (
	"io"
	"io/fs"

	"golang.org/x/sys/unix"

	"vitrine/repo/snapshot"
)

// File is a file open for reading. Its methods must not be called in parallel.
type File struct {
	fd   int
	dir  string // dir and name are for messages
	name string
}

// OpenFile opens a file in d; a symbolic link is an error. It does not wait for a writer when
// the name has become a FIFO since it was listed.
func (d *Dir) OpenFile(name string) (*File, error) {
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_NOCTTY | unix.O_CLOEXEC
	fd, err := openNoAtime(d.fd, name, flags|unix.O_NONBLOCK)
	if err == unix.EWOULDBLOCK {
		// Somebody holds a lease, which only regular files can have, and has been asked for it.
		fd, err = openNoAtime(d.fd, name, flags)
	}
	if err != nil {
		return nil, d.fail("open", name, err)
	}
	return &File{fd, d.path, name}, nil
}

func (f *File) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: join(f.dir, f.name), Err: err}
}

// Close releases the descriptor.
func (f *File) Close() error { return unix.Close(f.fd) }

// Stat fills st.
func (f *File) Stat(st *Stat) error {
	if err := unix.Fstat(f.fd, st); err != nil {
		return f.fail("stat", err)
	}
	return nil
}

// Xattrs returns the extended attributes in the order in which the kernel lists them.
func (f *File) Xattrs() ([]snapshot.Xattr, error) {
	return descriptorXattrs(f.fd, f.fail)
}

// Read implements io.Reader with one call of read(2).
func (f *File) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(f.fd, p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return 0, f.fail("read", err)
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// Sequential tells the kernel that the file will be read once from start to end.
func (f *File) Sequential() {
	// Only a hint: a file system without it reads the same bytes.
	_ = unix.Fadvise(f.fd, 0, 0, unix.FADV_SEQUENTIAL)
}
