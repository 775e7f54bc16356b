package fs

import (
	"errors"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vitrine/fs/tree"
)

// errnos says what the kernel is told for a class of errors; anything else is EIO. The classes
// are our own: a missing pack is io/fs.ErrNotExist too, and must not look like a missing name.
var errnos = []struct {
	class error
	errno syscall.Errno
}{
	{tree.ErrNoEntry, syscall.ENOENT},
	{tree.ErrNotDir, syscall.ENOTDIR},
	{tree.ErrStale, syscall.ESTALE},
	{tree.ErrInvalid, syscall.EINVAL},
	{errNoXattr, syscall.ENODATA},
	{errRange, syscall.ERANGE},
	{tree.ErrNoOffset, syscall.ENXIO},
}

// status makes the errno of an error; nil gives OK.
func status(err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	for _, e := range errnos {
		if errors.Is(err, e.class) {
			return fuse.Status(e.errno)
		}
	}
	return fuse.EIO
}
