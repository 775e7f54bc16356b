package fs

import (
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const rofs = fuse.Status(syscall.EROFS)

// refuse answers what a read-only file system does not do: EROFS to everything that would
// write, which the kernel does not even ask of a mount that is read-only, and ENOSYS, after
// which it does not ask again, to the rest.
type refuse struct{ fuse.RawFileSystem }

func newRefuse() refuse { return refuse{fuse.NewDefaultRawFileSystem()} }

// Access is the kernel's own business (default_permissions), or nobody's.
func (refuse) Access(<-chan struct{}, *fuse.AccessIn) fuse.Status { return fuse.ENOSYS }

// Flush has nothing to flush.
func (refuse) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.ENOSYS }

// SetAttr writes.
func (refuse) SetAttr(<-chan struct{}, *fuse.SetAttrIn, *fuse.AttrOut) fuse.Status { return rofs }

// Mknod writes.
func (refuse) Mknod(<-chan struct{}, *fuse.MknodIn, string, *fuse.EntryOut) fuse.Status { return rofs }

// Mkdir writes.
func (refuse) Mkdir(<-chan struct{}, *fuse.MkdirIn, string, *fuse.EntryOut) fuse.Status { return rofs }

// Unlink writes.
func (refuse) Unlink(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return rofs }

// Rmdir writes.
func (refuse) Rmdir(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return rofs }

// Rename writes.
func (refuse) Rename(<-chan struct{}, *fuse.RenameIn, string, string) fuse.Status { return rofs }

// Link writes.
func (refuse) Link(<-chan struct{}, *fuse.LinkIn, string, *fuse.EntryOut) fuse.Status { return rofs }

// Symlink writes.
func (refuse) Symlink(<-chan struct{}, *fuse.InHeader, string, string, *fuse.EntryOut) fuse.Status {
	return rofs
}

// SetXAttr writes.
func (refuse) SetXAttr(<-chan struct{}, *fuse.SetXAttrIn, string, []byte) fuse.Status { return rofs }

// RemoveXAttr writes.
func (refuse) RemoveXAttr(<-chan struct{}, *fuse.InHeader, string) fuse.Status { return rofs }

// Create writes.
func (refuse) Create(<-chan struct{}, *fuse.CreateIn, string, *fuse.CreateOut) fuse.Status {
	return rofs
}

// Tmpfile writes.
func (refuse) Tmpfile(<-chan struct{}, *fuse.CreateIn, *fuse.CreateOut) fuse.Status { return rofs }

// Write writes.
func (refuse) Write(<-chan struct{}, *fuse.WriteIn, []byte) (uint32, fuse.Status) { return 0, rofs }

// Writev writes.
func (refuse) Writev(<-chan struct{}, *fuse.WriteIn, [][]byte) (uint32, fuse.Status) { return 0, rofs }

// Fallocate writes.
func (refuse) Fallocate(<-chan struct{}, *fuse.FallocateIn) fuse.Status { return rofs }

// CopyFileRange writes.
func (refuse) CopyFileRange(<-chan struct{}, *fuse.CopyFileRangeIn) (uint32, fuse.Status) {
	return 0, rofs
}
