package snapshot

import (
	"cmp"
	"io/fs"
	"slices"
	"sort"
	"unsafe"

	"vitrine/repo/blob"
)

// Compact is a parsed tree in few allocations, for the mount, which keeps many of them
// for long. It is immutable and safe for parallel use; it does not alias what it was
// parsed from.
//
// An entry takes 88 bytes, its name and link target, and 32 bytes for each chunk or
// subtree. What few entries have stands in tables beside them.
type Compact struct {
	records  []record
	text     string     // name and link target of every entry, one after the other
	ids      []blob.ID  // subtree, then content of every entry, one after the other
	aTimes   []Timespec // one per entry; nil when all of them equal the modification time
	xattrs   [][]Xattr  // distinct lists
	specials []special  // sorted by entry
}

// record is the part of an entry that nearly all of them need. Its text and ids begin
// where those of the entry before end.
type record struct {
	size, inode, deviceID uint64
	mSec, cSec            int64
	mNsec, cNsec          uint32
	nameEnd, textEnd      uint32 // of the name, and of the link target behind it
	idsEnd                uint32
	mode, uid, gid        uint32
	links                 uint32 // links in special when isSpecial
	xattrs                uint32 // index + 1; 0 when there are none
	typ                   NodeType
	hasSubtree, isSpecial bool
}

// special holds what does not fit the record of an entry.
type special struct {
	entry         uint32
	device, links uint64
}

// Timespec is a point of time as the kernel writes it: Nsec is always added.
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

// Len returns the number of entries. They are sorted by name.
func (c *Compact) Len() int { return len(c.records) }

// starts returns where the text and the ids of entry i begin.
func (c *Compact) starts(i int) (text, ids uint32) {
	if i == 0 {
		return 0, 0
	}
	before := &c.records[i-1]
	return before.textEnd, before.idsEnd
}

// Name returns the raw name of entry i. It shares the memory of c.
func (c *Compact) Name(i int) string {
	start, _ := c.starts(i)
	return c.text[start:c.records[i].nameEnd]
}

// Find returns the entry with that name.
func (c *Compact) Find(name string) (int, bool) {
	i := sort.Search(len(c.records), func(i int) bool { return c.Name(i) >= name })
	return i, i < len(c.records) && c.Name(i) == name
}

// Entry returns entry i.
func (c *Compact) Entry(i int) Entry {
	r := &c.records[i]
	e := Entry{
		Type:     r.typ,
		Mode:     fs.FileMode(r.mode),
		UID:      r.uid,
		GID:      r.gid,
		Size:     r.size,
		Inode:    r.inode,
		DeviceID: r.deviceID,
		Links:    uint64(r.links),
		MTime:    Timespec{r.mSec, r.mNsec},
		CTime:    Timespec{r.cSec, r.cNsec},
	}
	e.ATime = e.MTime
	if c.aTimes != nil {
		e.ATime = c.aTimes[i]
	}
	if r.isSpecial {
		k, _ := slices.BinarySearchFunc(c.specials, uint32(i), func(s special, entry uint32) int {
			return cmp.Compare(s.entry, entry)
		})
		e.Device, e.Links = c.specials[k].device, c.specials[k].links
	}
	_, ids := c.starts(i)
	e.Chunks = int(r.idsEnd - ids)
	if r.hasSubtree {
		e.Subtree = c.ids[ids]
		e.Chunks--
	}
	return e
}

// NextDir returns the first entry from i on that is a directory, and its subtree, the zero ID when it
// names none; Len when there is no directory.
func (c *Compact) NextDir(i int) (int, blob.ID) {
	for ; i < len(c.records); i++ {
		if r := &c.records[i]; r.typ == Dir {
			if !r.hasSubtree {
				return i, blob.ID{}
			}
			_, ids := c.starts(i)
			return i, c.ids[ids]
		}
	}
	return i, blob.ID{}
}

// Content returns the chunks of file i. The list is shared: do not change it.
func (c *Compact) Content(i int) []blob.ID {
	_, start := c.starts(i)
	r := &c.records[i]
	if r.hasSubtree {
		start++
	}
	return c.ids[start:r.idsEnd:r.idsEnd]
}

// LinkTarget returns the raw target of symlink i, else "". It shares the memory of c.
func (c *Compact) LinkTarget(i int) string {
	r := &c.records[i]
	return c.text[r.nameEnd:r.textEnd]
}

// Xattrs returns the extended attributes of entry i. The list is shared: do not change it.
func (c *Compact) Xattrs(i int) []Xattr {
	if k := c.records[i].xattrs; k != 0 {
		return c.xattrs[k-1]
	}
	return nil
}

// MemoryBytes returns what c occupies on the heap, but for the rounding of the allocator.
func (c *Compact) MemoryBytes() int {
	n := int(unsafe.Sizeof(*c)) +
		cap(c.records)*int(unsafe.Sizeof(record{})) +
		len(c.text) +
		cap(c.ids)*int(unsafe.Sizeof(blob.ID{})) +
		cap(c.aTimes)*int(unsafe.Sizeof(Timespec{})) +
		cap(c.xattrs)*int(unsafe.Sizeof([]Xattr{})) +
		cap(c.specials)*int(unsafe.Sizeof(special{}))
	for _, list := range c.xattrs {
		n += cap(list) * int(unsafe.Sizeof(Xattr{}))
		for i := range list {
			n += len(list[i].Name) + cap(list[i].Value)
		}
	}
	return n
}
