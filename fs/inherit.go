package fs

import (
	"cmp"
	"errors"
	"fmt"
	"sync"
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

// mounting is held while newServer opens the device, to know which descriptor is the new one.
var mounting sync.Mutex

// newServer mounts. It also returns a watch of the connection. The server's WaitMount must not be called: it has nothing to wait for, since
// INIT was answered when this returns, and it opens a file of the mount. Whoever uses the mount the
// moment it answers, and then unmounts it, would find it busy because of us.
func newServer(raw fuse.RawFileSystem, dir string, o *fuse.MountOptions) (*fuse.Server, *gone, error) {
	if !o.DirectMountStrict {
		fd, err := fusermount(dir, o)
		if err != nil {
			return nil, nil, err
		}
		server, err := fuse.NewServer(raw, fmt.Sprintf("/dev/fd/%d", fd), o) // which then mounts nothing itself
		if err != nil {
			return nil, nil, err
		}
		watch, err := newGone(fd)
		return server, watch, err
	}
	mounting.Lock()
	defer mounting.Unlock()
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	before, err := descriptors(fuseDevice)
	if err != nil {
		return nil, nil, err
	}
	server, err := fuse.NewServer(raw, dir, o)
	if err != nil {
		return nil, nil, rootAdvice(err)
	}
	after, err := descriptors(fuseDevice)
	for fd := range after {
		syscall.CloseOnExec(fd)
		if !before[fd] {
			watch, err := newGone(fd)
			return server, watch, err
		}
	}
	return server, nil, cmp.Or(err, errors.New("the mount has no descriptor of "+fuseDevice))
}
