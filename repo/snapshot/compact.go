package snapshot

import (
	"io/fs"

	"vitrine/repo/blob"
)

// Compact is a parsed tree in few allocations, for the mount, which keeps many of them
// for long. It is immutable and safe for parallel use.
type Compact struct {
}

// Timespec is a point of time as the kernel writes it.
type Timespec struct {
	Sec  int64
	Nsec uint32
}

// Entry is the fixed-size part of a Node. Names of users and groups are left out: the
// kernel only speaks numbers.
type Entry struct {
	Type                                 NodeType
	Mode                                 fs.FileMode
	UID, GID                             uint32
	Size, Inode, DeviceID, Device, Links uint64
	MTime, ATime, CTime                  Timespec
	Subtree                              blob.ID // zero when there is none
	Chunks                               int     // length of the content list
}

// ParseCompact reads the JSON of a tree blob. It accepts and refuses what DecodeTree does.
func ParseCompact(p []byte) (*Compact, error) { panic("not yet") }

// Len returns the number of entries.
func (c *Compact) Len() int { panic("not yet") }

// Name returns the raw name of entry i.
func (c *Compact) Name(i int) string { panic("not yet") }

// Find returns the entry with that name.
func (c *Compact) Find(name string) (int, bool) { panic("not yet") }

// Entry returns entry i.
func (c *Compact) Entry(i int) Entry { panic("not yet") }

// Content returns the chunks of file i. The list is shared: do not change it.
func (c *Compact) Content(i int) []blob.ID { panic("not yet") }

// LinkTarget returns the raw target of symlink i, else "".
func (c *Compact) LinkTarget(i int) string { panic("not yet") }

// Xattrs returns the extended attributes of entry i. The list is shared: do not change it.
func (c *Compact) Xattrs(i int) []Xattr { panic("not yet") }

// MemoryBytes returns what c occupies on the heap.
func (c *Compact) MemoryBytes() int { panic("not yet") }
