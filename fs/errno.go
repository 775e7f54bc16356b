package fs

import (
	"errors"
	"io"
	iofs "io/fs"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vitrine/fs/tree"
)

// errnos says what the kernel is told for a class of errors; anything else is EIO. The
// order counts: the first class that fits wins.
var errnos = []struct {
	class error
	errno syscall.Errno
}{
	{iofs.ErrNotExist, syscall.ENOENT},
	{tree.ErrNotDir, syscall.ENOTDIR},
	{tree.ErrStale, syscall.ESTALE},
	{tree.ErrInvalid, syscall.EINVAL},
	{errNoXattr, syscall.ENODATA},
	{errRange, syscall.ERANGE},
	{io.EOF, syscall.ENXIO}, // lseek: no data, or no hole, from there on
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
