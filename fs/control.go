package fs

import (
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"vitrine/fs/tree"
)

// Where the server tells about itself, below the mount point.
const (
	controlName = ".vitrine"
	statusName  = "status"
)

// The node IDs of control, in a range that package tree never uses: the directory, and above it one
// for each time that the file was looked up.
const (
	controlBit uint64 = 1 << 62
	controlDir        = controlBit
)

// Inode numbers. That of the file is the same whatever its node: cp refuses a file whose number
// is another one after it was opened.
const (
	controlIno = controlBit
	statusIno  = controlBit + 1
)

// control is the layer next to the kernel: it shows .vitrine/status beside the snapshots, and times
// the reads of these.
//
// The directory is found by its name but not listed, so that a program which copies or compares
// the whole mount never meets it. Where a path template puts something of that name there, that is shown
// instead.
//
// The kernel never opens a file, see the package comment, so it cannot be told to leave its page
// cache out of this one. Instead each lookup of the name gives a new node with the text of that moment,
// whose size is so known and which never changes; the kernel may not keep the name, so it
// looks up for each open(2). A node is kept until the kernel forgets it, which it does
// when the file is closed.
type control struct {
	fuse.RawFileSystem // the snapshots

	uid, gid uint32    // who mounted; nobody else but root reads the status
	began    time.Time // of the mount
	render   func() []byte
	reads    *latencies

	mu    sync.Mutex // guards the rest; not held while render runs
	texts map[uint64]*statusText
	last  uint64 // node ID given out last
}

// statusText is the status at one time. It does not change but for refs.
type statusText struct {
	text []byte
	at   time.Time
	refs uint64 // that the kernel holds
}

func newControl(below fuse.RawFileSystem, uid, gid uint32, render func() []byte, reads *latencies) *control {
	return &control{
		RawFileSystem: below, uid: uid, gid: gid, began: time.Now(), render: render, reads: reads,
		texts: make(map[uint64]*statusText), last: controlDir,
	}
}

func isControl(id uint64) bool { return id&^(controlBit-1) == controlBit }

// Lookup finds the directory and the file.
func (c *control) Lookup(cancel <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	switch {
	case isControl(h.NodeId):
		return c.lookupStatus(h, name, out)
	case h.NodeId != uint64(tree.Root) || name != controlName:
		return c.RawFileSystem.Lookup(cancel, h, name, out)
	}
	if st := c.RawFileSystem.Lookup(cancel, h, name, out); st != fuse.ENOENT && (st != fuse.OK || out.NodeId != 0) {
		return st
	}
	*out = fuse.EntryOut{NodeId: controlDir, Generation: 1}
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	c.fillDir(&out.Attr)
	return fuse.OK
}

func (c *control) lookupStatus(h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if h.Uid != c.uid && h.Uid != 0 { // the kernel sees to it only with default_permissions
		return fuse.EACCES
	}
	if name != statusName {
		return fuse.ENOENT
	}
	s := &statusText{text: c.render(), at: time.Now(), refs: 1}
	c.mu.Lock()
	c.last++
	id := c.last
	c.texts[id] = s
	c.mu.Unlock()
	*out = fuse.EntryOut{NodeId: id, Generation: 1}
	out.SetEntryTimeout(0)
	out.SetAttrTimeout(forever)
	c.fillStatus(&out.Attr, s)
	return fuse.OK
}

func (c *control) text(id uint64) (*statusText, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, ok := c.texts[id]
	return s, ok
}

func (c *control) fillDir(out *fuse.Attr) {
	*out = fuse.Attr{Ino: controlIno, Mode: unix.S_IFDIR | 0o500, Nlink: 1, Owner: fuse.Owner{Uid: c.uid, Gid: c.gid}, Blksize: 4096}
	out.SetTimes(&c.began, &c.began, &c.began)
}

func (c *control) fillStatus(out *fuse.Attr, s *statusText) {
	size := uint64(len(s.text))
	*out = fuse.Attr{
		Ino: statusIno, Mode: unix.S_IFREG | 0o400, Nlink: 1, Owner: fuse.Owner{Uid: c.uid, Gid: c.gid},
		Size: size, Blocks: (size + 511) / 512, Blksize: 4096,
	}
	out.SetTimes(&s.at, &s.at, &s.at)
}

// Forget drops a text that the kernel does not need any more.
func (c *control) Forget(id, count uint64) {
	if !isControl(id) {
		c.RawFileSystem.Forget(id, count)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.texts[id]; s != nil {
		if s.refs -= min(s.refs, count); s.refs == 0 {
			delete(c.texts, id)
		}
	}
}

// GetAttr answers stat.
func (c *control) GetAttr(cancel <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	if !isControl(in.NodeId) {
		return c.RawFileSystem.GetAttr(cancel, in, out)
	}
	out.SetTimeout(forever)
	if in.NodeId == controlDir {
		c.fillDir(&out.Attr)
		return fuse.OK
	}
	s, ok := c.text(in.NodeId)
	if !ok {
		return status(tree.ErrStale)
	}
	c.fillStatus(&out.Attr, s)
	return fuse.OK
}

// Read returns a part of the text, and times what the layers below do.
func (c *control) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	if isControl(in.NodeId) {
		s, ok := c.text(in.NodeId)
		if !ok {
			return nil, status(tree.ErrStale)
		}
		size := uint64(len(s.text))
		from := min(in.Offset, size)
		return fuse.ReadResultData(s.text[from:min(from+uint64(in.Size), size)]), fuse.OK
	}
	began := c.reads.begin(in.Size)
	result, st := c.RawFileSystem.Read(cancel, in, buf)
	c.reads.end(began, in.Size, st.Ok())
	if st.Ok() {
		c.reads.bytes.Add(int64(result.Size()))
	}
	return result, st
}

// ReadDir lists .vitrine.
func (c *control) ReadDir(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if !isControl(in.NodeId) {
		return c.RawFileSystem.ReadDir(cancel, in, out)
	}
	return listControl(in, out.AddDirEntry)
}

// ReadDirPlus lists .vitrine, without what Lookup would say: the file's text would be made for
// nothing.
func (c *control) ReadDirPlus(cancel <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if !isControl(in.NodeId) {
		return c.RawFileSystem.ReadDirPlus(cancel, in, out)
	}
	return listControl(in, func(e fuse.DirEntry) bool { return out.AddDirLookupEntry(e) != nil })
}

// rootIno is what tree.Ino tells of the root of the mount.
var rootIno = tree.ListIno(tree.Root)

func listControl(in *fuse.ReadIn, add func(fuse.DirEntry) bool) fuse.Status {
	entries := []fuse.DirEntry{
		{Name: ".", Ino: controlIno, Mode: unix.S_IFDIR, Off: 1},
		{Name: "..", Ino: rootIno, Mode: unix.S_IFDIR, Off: 2},
		{Name: statusName, Ino: statusIno, Mode: unix.S_IFREG, Off: 3},
	}
	for _, e := range entries[min(in.Offset, uint64(len(entries))):] {
		if !add(e) {
			break
		}
	}
	return fuse.OK
}

// Lseek tells that there is no hole.
func (c *control) Lseek(cancel <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	if !isControl(in.NodeId) {
		return c.RawFileSystem.Lseek(cancel, in, out)
	}
	s, ok := c.text(in.NodeId)
	switch {
	case !ok:
		return status(tree.ErrStale)
	case in.Offset >= uint64(len(s.text)):
		return status(tree.ErrNoOffset)
	}
	out.Offset = in.Offset
	if in.Whence == unix.SEEK_HOLE {
		out.Offset = uint64(len(s.text))
	}
	return fuse.OK
}

// GetXAttr finds none.
func (c *control) GetXAttr(cancel <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	if !isControl(h.NodeId) {
		return c.RawFileSystem.GetXAttr(cancel, h, name, dest)
	}
	return 0, status(errNoXattr)
}

// ListXAttr lists none.
func (c *control) ListXAttr(cancel <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	if !isControl(h.NodeId) {
		return c.RawFileSystem.ListXAttr(cancel, h, dest)
	}
	return 0, fuse.OK
}
