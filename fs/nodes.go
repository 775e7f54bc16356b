package fs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"vitrine/cache/blobcache"
	"vitrine/fs/tree"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

const (
	// forever is how long the kernel may keep what cannot change. Expired entries cost one
	// request each, so a mount that was walked once would be slow again.
	forever = 10 * 365 * 24 * time.Hour
	// listTimeout is the same for the lists of snapshots; notifications make it
	// irrelevant where they arrive.
	listTimeout = time.Second
	// blockBytes is st_blksize of files: the size of reads that tools choose.
	blockBytes = 1 << 20
	// dirBlockBytes is the same for directories, where it makes the C library ask for 32 KiB of
	// entries at a time, some 170. For each request the kernel and we take a buffer of the size
	// asked for, and clear it: with 1 MiB that cost a small directory more than all else.
	dirBlockBytes = 4096
)

// nodes answers the kernel's requests. It has no state of its own but caches; all methods may be
// called in parallel.
type nodes struct {
	refuse
	tree   *tree.Tree
	src    Source
	blobs  *blobcache.Blobs  // small files: those of one chunk
	chunks *blobcache.Chunks // of all others
	ahead  prefetcher
	dirs   *pusher
	awake  *awake
	spare  *turns // of the processors
	log    *slog.Logger
	told   recent[blob.ID] // blobs whose loss is in the log
	vain   vain
	asked  asked
	stats  stats

	// base gives the context of requests, which bring none of their own. It has no end:
	// what is being fetched for them ends when the caches are closed.
	base func() context.Context
	// diskPath is Options.RepoPath.
	diskPath string
	// keepOpen tells that this kernel knows ENOSYS as an answer to open, keepOpenDir the
	// same for opendir.
	keepOpen, keepOpenDir bool
}

// Init learns what the kernel can do, before the first request.
func (n *nodes) Init(s *fuse.Server) {
	flags := s.KernelSettings().Flags64()
	n.keepOpen = flags&fuse.CAP_NO_OPEN_SUPPORT != 0
	n.keepOpenDir = flags&fuse.CAP_NO_OPENDIR_SUPPORT != 0
}

func (n *nodes) String() string { return "vitrine" }

// Lookup answers for one name.
func (n *nodes) Lookup(_ <-chan struct{}, h *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	n.awake.note()
	parent := tree.NodeID(h.NodeId)
	a, err := n.tree.Lookup(n.base(), parent, name)
	if errors.Is(err, tree.ErrNoEntry) && !n.tree.IsList(parent) {
		out.SetEntryTimeout(forever) // node 0: the kernel remembers that it is not there
		return fuse.OK
	}
	if err != nil {
		return n.fail("look up", parent, err)
	}
	fillEntry(out, &a)
	return fuse.OK
}

// Forget gives references back.
func (n *nodes) Forget(id, count uint64) { n.tree.Forget(tree.NodeID(id), count) }

// GetAttr answers stat.
func (n *nodes) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	n.awake.note()
	a, err := n.tree.Attr(n.base(), tree.NodeID(in.NodeId))
	if err != nil {
		return n.fail("stat", tree.NodeID(in.NodeId), err)
	}
	fillAttr(&out.Attr, &a)
	out.SetTimeout(timeout(a.Changing))
	return fuse.OK
}

// Readlink returns a symlink's target.
func (n *nodes) Readlink(_ <-chan struct{}, h *fuse.InHeader) ([]byte, fuse.Status) {
	n.awake.note()
	target, err := n.tree.Readlink(n.base(), tree.NodeID(h.NodeId))
	if err != nil {
		return nil, n.fail("read link", tree.NodeID(h.NodeId), err)
	}
	return []byte(target), fuse.OK
}

// dotEntries is the number of entries before the first real one: "." and "..".
const dotEntries = 2

// ReadDir lists names only.
func (n *nodes) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	n.awake.note()
	return n.list(in, func(e fuse.DirEntry, _ *tree.Attr) bool { return out.AddDirEntry(e) }, false)
}

// ReadDirPlus lists names with what Lookup would say of them.
func (n *nodes) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	n.awake.note()
	return n.list(in, func(e fuse.DirEntry, a *tree.Attr) bool {
		entry := out.AddDirLookupEntry(e)
		if entry != nil && a != nil {
			fillEntry(entry, a)
		}
		return entry != nil
	}, true)
}

// list adds entries until the reply is full. For "." and ".." add gets no attributes.
// hold tells that the kernel keeps a reference to each entry added.
func (n *nodes) list(in *fuse.ReadIn, add func(fuse.DirEntry, *tree.Attr) bool, hold bool) fuse.Status {
	dir := tree.NodeID(in.NodeId)
	off := in.Offset
	for ; off < dotEntries; off++ {
		e := fuse.DirEntry{Name: ".", Ino: n.tree.Ino(dir), Mode: unix.S_IFDIR, Off: off + 1}
		if off == 1 {
			e.Name, e.Ino = "..", n.tree.Ino(n.tree.Parent(dir))
		}
		if !add(e, nil) {
			return fuse.OK
		}
	}
	if off <= dotEntries && n.dirs != nil {
		n.dirs.noteListed(in.Pid, dir)
	}
	err := n.tree.List(n.base(), dir, off-dotEntries, func(next uint64, name string, a *tree.Attr) bool {
		added := add(fuse.DirEntry{Name: name, Ino: a.Ino, Mode: snapshot.UnixMode(a.Mode), Off: next + dotEntries}, a)
		if added && !hold {
			n.tree.Forget(a.ID, 1)
		}
		return added
	})
	if err != nil {
		return n.fail("list", dir, err)
	}
	return fuse.OK
}

// Open needs no answer: see the package comment.
func (n *nodes) Open(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if n.keepOpen {
		return fuse.ENOSYS
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

// OpenDir needs no answer either.
func (n *nodes) OpenDir(_ <-chan struct{}, _ *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	if n.keepOpenDir {
		return fuse.ENOSYS
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE | fuse.FOPEN_CACHE_DIR
	return fuse.OK
}

// StatFs shows the disk of a local repository. Where the repository is far away nothing is known
// of its disk: a full file system of the size that the snapshots tell.
func (n *nodes) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	const unit = 4096
	*out = fuse.StatfsOut{Bsize: unit, Frsize: unit, NameLen: 255}
	var disk unix.Statfs_t
	if n.diskPath != "" && unix.Statfs(n.diskPath, &disk) == nil && disk.Blocks > 0 {
		out.Blocks, out.Bfree, out.Bavail = disk.Blocks, disk.Bfree, disk.Bavail
		out.Files, out.Ffree = disk.Files, disk.Ffree
		out.Bsize, out.Frsize = uint32(disk.Bsize), uint32(disk.Frsize)
		return fuse.OK
	}
	bytes, files := n.tree.Totals()
	out.Blocks, out.Files = max(1, (bytes+unit-1)/unit), max(1, files)
	return fuse.OK
}

// Lseek finds data and holes.
func (n *nodes) Lseek(_ <-chan struct{}, in *fuse.LseekIn, out *fuse.LseekOut) fuse.Status {
	id := tree.NodeID(in.NodeId)
	l, err := n.tree.Layout(n.base(), id)
	if err != nil {
		return n.fail("seek in", id, err)
	}
	switch in.Whence {
	case unix.SEEK_DATA:
		out.Offset, err = l.NextData(in.Offset)
	case unix.SEEK_HOLE:
		out.Offset, err = l.NextHole(in.Offset)
	default:
		err = tree.ErrInvalid
	}
	return status(err)
}

// fail tells the log what went wrong with a node and makes the errno. Errors that a program
// may well provoke are not worth a line.
func (n *nodes) fail(operation string, id tree.NodeID, err error) fuse.Status {
	st := status(err)
	if st == fuse.EIO && !closing(err) {
		path := n.tree.Path(n.base(), id)
		n.log.Error("cannot "+operation, "path", path, "err", err)
		if !isDamage(err) {
			n.stats.outages.add(path, err)
			return st
		}
		what := "the directory"
		if _, _, isFile := tree.FilePlace(id); isFile {
			what = "the file"
		}
		n.stats.damage.add(id, 0, func() Damage { return Damage{Path: path, What: what, Error: err.Error()} })
	}
	return st
}

// closing tells that an error is no more than the end of the mount.
func closing(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, blobcache.ErrClosed)
}

func timeout(changes bool) time.Duration {
	if changes {
		return listTimeout
	}
	return forever
}

func fillEntry(out *fuse.EntryOut, a *tree.Attr) {
	out.NodeId, out.Generation = uint64(a.ID), 1
	out.SetEntryTimeout(timeout(a.Volatile))
	out.SetAttrTimeout(timeout(a.Changing))
	fillAttr(&out.Attr, a)
}

func fillAttr(out *fuse.Attr, a *tree.Attr) {
	block := uint32(blockBytes)
	if a.Mode.IsDir() {
		block = dirBlockBytes
	}
	*out = fuse.Attr{
		Ino: a.Ino, Size: a.Size, Blocks: a.Blocks,
		Atime: uint64(a.ATime.Sec), Mtime: uint64(a.MTime.Sec), Ctime: uint64(a.CTime.Sec),
		Atimensec: a.ATime.Nsec, Mtimensec: a.MTime.Nsec, Ctimensec: a.CTime.Nsec,
		Mode: snapshot.UnixMode(a.Mode), Nlink: a.Nlink, Owner: fuse.Owner{Uid: a.UID, Gid: a.GID},
		Rdev: kernelDevice(a.Device), Blksize: block,
	}
}

// kernelDevice turns an st_rdev of libc, 64 bits, into the kernel's form of 32: 12 bits
// major, 20 bits minor.
func kernelDevice(device uint64) uint32 {
	major, minor := unix.Major(device), unix.Minor(device)
	return minor&0xff | major&0xfff<<8 | minor&^0xff<<12
}
