package fs

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// go-fuse opens /dev/fuse without O_CLOEXEC when it mounts without fusermount. It must not get into
// a child process, such as the one that builds an index cache: the kernel would not end the mount
// when we are gone.
//
// syscall.ForkLock keeps other goroutines from starting children meanwhile. Nothing
// below starts one itself, or it would wait for ever: with DirectMountStrict go-fuse never
// starts fusermount, and without it the lock is not taken.

// newServer mounts. The server's WaitMount must not be called: it has nothing to wait for, since
// INIT was answered when this returns, and it opens a file of the mount. Whoever uses the mount the
// moment it answers, and then unmounts it, would find it busy because of us.
func newServer(raw fuse.RawFileSystem, dir string, o *fuse.MountOptions) (*fuse.Server, error) {
	if !o.DirectMountStrict {
		fd, err := fusermount(dir, o)
		if err != nil {
			return nil, err
		}
		return fuse.NewServer(raw, fmt.Sprintf("/dev/fd/%d", fd), o) // which then mounts nothing itself
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	server, err := fuse.NewServer(raw, dir, o)
	if err != nil {
		return nil, rootAdvice(err)
	}
	return server, keepFromChildren("/dev/fuse")
}

// keepFromChildren sets the close-on-exec flag of every descriptor of the file.
func keepFromChildren(file string) error {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err != nil || target != file {
			continue // the descriptor of the listing itself is gone already
		}
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			return err
		}
		syscall.CloseOnExec(fd)
	}
	return nil
}
