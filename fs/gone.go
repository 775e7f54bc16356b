package fs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Somebody else may unmount while a request waits for a store that is away. go-fuse's Serve then waits for that request, though nobody
// is left to get the answer. So the connection to the kernel is watched: when it has ended, the loads end too.

// gone waits for the end of a connection to the kernel.
type gone struct {
	fd          int // a duplicate of its descriptor: go-fuse closes its own
	wake, alarm int // ends of a pipe
}

// newGone makes a watch of the connection with that descriptor, which stays the caller's.
func newGone(fd int) (*gone, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("dup", err), unix.Close(pipe[0]), unix.Close(pipe[1]))
	}
	return &gone{fd: own, wake: pipe[0], alarm: pipe[1]}, nil
}

// wait returns true when the connection has ended, and false after stop. It gives the descriptors back.
func (g *gone) wait() bool {
	defer unix.Close(g.fd)
	defer unix.Close(g.wake)
	fds := []unix.PollFd{{Fd: int32(g.fd)}, {Fd: int32(g.wake)}} // errors are told of unasked
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
		if fds[0].Revents&unix.POLLERR != 0 {
			return true
		}
		if fds[1].Revents != 0 {
			return false
		}
	}
}

// stop ends wait. It is called once.
func (g *gone) stop() { unix.Close(g.alarm) }

// descriptors returns the descriptors of this process that stand for a file.
func descriptors(file string) (map[int]bool, error) {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	fds := make(map[int]bool)
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err != nil || target != file {
			continue // the descriptor of the listing itself is gone already
		}
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			return nil, fmt.Errorf("%s: %w", dir, err)
		}
		fds[fd] = true
	}
	return fds, nil
}
