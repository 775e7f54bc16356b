package tree

import (
	"crypto/sha256"
	"encoding/binary"
	"io/fs"
	"math"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// Attr is what stat tells of a node.
type Attr struct {
	ID   NodeID
	Ino  uint64
	Mode fs.FileMode // type and permissions
	Size uint64      // bytes; of a symlink the length of its target, 0 for directories
	// Blocks counts units of 512 bytes as a file system with 4 KiB blocks would use them;
	// chunks known to be all zero are holes.
	Blocks              uint64
	Nlink               uint32 // 1 for directories, which on Linux means "not counted"
	UID, GID            uint32
	Device              uint64 // st_rdev
	MTime, ATime, CTime snapshot.Timespec
	// Volatile tells that the name may come to stand for another node, or vanish: it is
	// in a list of snapshots.
	Volatile bool
	// Changing tells that the attributes themselves may change: it is a list.
	Changing bool
}

// blockBytes is the granularity of Attr.Blocks.
const blockBytes = 4096

// fileID is the NodeID of anything but a directory.
func fileID(tree uint32, entry int) NodeID { return NodeID(tree)<<entryBits | NodeID(entry+1) }

// splitFileID reverses fileID; false when the ID is not of that form.
func splitFileID(id NodeID) (tree uint32, entry int, ok bool) {
	number, low := id>>entryBits, id&maxEntries
	if number == 0 || number > math.MaxUint32 || low == 0 {
		return 0, 0, false
	}
	return uint32(number), int(low) - 1, true
}

// fileIno is the inode number of an entry that shares it with no other.
func fileIno(tree blob.ID, entry int) uint64 {
	return inoAfter(binary.BigEndian.Uint64(tree[:8])>>2, entry)
}

// dirIno is the inode number of a directory that is an entry of parent.
func dirIno(parent NodeID, entry int) uint64 {
	return dirInoBit | inoAfter(uint64(parent)&inoBits, entry)
}

func inoAfter(base uint64, entry int) uint64 {
	if base > inoBits-2*maxEntries { // must not wrap inside the directory
		base -= 4 * maxEntries
	}
	return base + uint64(entry) + 2 // never 0 or 1
}

// ListIno is the inode number of a node in the lists, or of the root of a snapshot.
func ListIno(id NodeID) uint64 { return dirInoBit | uint64(id)&inoBits }

// Ino returns the inode number of a directory.
func (t *Tree) Ino(id NodeID) uint64 {
	if r, ok := t.dirs.get(id); ok && r.parentTree != noTree {
		return dirIno(r.parent, int(r.entry))
	}
	return ListIno(id)
}

// nodeAttr fills in everything but ID, Volatile and Changing; tree and i say where the node
// is. Directories get no Ino here.
func (t *Tree) nodeAttr(a *Attr, tree blob.ID, c *snapshot.Compact, i int, e *snapshot.Entry) {
	*a = Attr{
		Mode: typeBits(e.Type) | e.Mode&permBits, Nlink: 1,
		UID: e.UID, GID: e.GID, MTime: e.MTime, ATime: e.ATime, CTime: e.CTime,
	}
	if t.ownerRoot {
		a.UID, a.GID = 0, 0
	}
	switch e.Type {
	case snapshot.Dir:
		return
	case snapshot.File:
		a.Size = e.Size
		a.Blocks = fileBlocks(c, i, e)
	case snapshot.Symlink:
		a.Size = uint64(len(c.LinkTarget(i)))
	case snapshot.Dev, snapshot.CharDev:
		a.Device = e.Device
	}
	if e.Links > 1 {
		a.Nlink = uint32(min(e.Links, math.MaxUint32))
	}
	if e.Links > 1 && e.Inode != 0 {
		a.Ino = linkIno(c, i, e)
	} else {
		a.Ino = fileIno(tree, i)
	}
}

const permBits = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky

// typeBits are the type bits of a node. The type word decides, not the mode: what cannot be
// told (irregular) is shown as an empty regular file.
func typeBits(t snapshot.NodeType) fs.FileMode {
	switch t {
	case snapshot.Dir:
		return fs.ModeDir
	case snapshot.Symlink:
		return fs.ModeSymlink
	case snapshot.Dev:
		return fs.ModeDevice
	case snapshot.CharDev:
		return fs.ModeDevice | fs.ModeCharDevice
	case snapshot.Fifo:
		return fs.ModeNamedPipe
	case snapshot.Socket:
		return fs.ModeSocket
	}
	return 0
}

// fileBlocks counts the blocks of a file's chunks without those that are holes.
func fileBlocks(c *snapshot.Compact, i int, e *snapshot.Entry) uint64 {
	bytes := e.Size
	if e.Size >= holeBytes {
		for _, id := range c.Content(i) {
			if id == holeID {
				bytes -= min(bytes, holeBytes)
			}
		}
	}
	return (bytes + blockBytes - 1) / blockBytes * (blockBytes / 512)
}

// linkIno is the inode number that all names of one file share; the package comment says what
// is in it.
func linkIno(c *snapshot.Compact, i int, e *snapshot.Entry) uint64 {
	h := sha256.New()
	word := func(v ...uint64) {
		for _, v := range v {
			var b [8]byte
			binary.LittleEndian.PutUint64(b[:], v)
			h.Write(b[:])
		}
	}
	word(e.DeviceID, e.Inode, uint64(e.Type), uint64(e.Mode), uint64(e.UID), uint64(e.GID),
		e.Size, e.Device, uint64(e.MTime.Sec), uint64(e.MTime.Nsec))
	target := c.LinkTarget(i)
	word(uint64(len(target)))
	h.Write([]byte(target))
	xattrs := c.Xattrs(i)
	word(uint64(len(xattrs)))
	for _, x := range xattrs {
		word(uint64(len(x.Name)), uint64(len(x.Value)))
		h.Write([]byte(x.Name))
		h.Write(x.Value)
	}
	for _, id := range c.Content(i) {
		h.Write(id[:])
	}
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	return binary.BigEndian.Uint64(sum[:8]) >> 2
}

// listAttr is the part that all nodes of the lists have in common.
func (t *Tree) listAttr(id NodeID, mode fs.FileMode, at snapshot.Timespec) Attr {
	return Attr{ID: id, Ino: ListIno(id), Mode: mode, Nlink: 1, UID: t.uid, GID: t.gid, MTime: at, ATime: at, CTime: at}
}
