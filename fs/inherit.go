package fs

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

// go-fuse opens two files that child processes inherit: /dev/fuse, when it mounts without
// fusermount, and for a moment a file of the new mount. Neither may get into a child, such as
// the one that builds an index cache. With the first, the kernel would not end the mount
// when we are gone; with the second, the mount would be busy as long as the child lives;
// and with both, a child that waits for our end, while our end waits for the kernel's FLUSH
// of a file that only the child could answer, hangs until somebody aborts the connection.
//
// syscall.ForkLock keeps other goroutines from starting children meanwhile. Nothing
// below starts one itself, or it would wait for ever: with DirectMountStrict go-fuse never
// starts fusermount, and without it the lock is not taken while it may.

// newServer mounts.
func newServer(raw fuse.RawFileSystem, dir string, o *fuse.MountOptions) (*fuse.Server, error) {
	if !o.DirectMountStrict {
		return fuse.NewServer(raw, dir, o) // fusermount gives us a descriptor that is not inherited
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	server, err := fuse.NewServer(raw, dir, o)
	if err != nil {
		return nil, err
	}
	return server, keepFromChildren("/dev/fuse")
}

// waitMount returns when the mount answers.
func waitMount(server *fuse.Server) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return server.WaitMount()
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
