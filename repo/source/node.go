package source

import (
	"io/fs"
	"maps"
	"os/user"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"vitrine/repo/snapshot"
)

// NodeMaker turns metadata into nodes. It remembers the names of users and groups, and is safe
// for parallel use.
type NodeMaker struct {
	withAtime bool
	users     nameCache
	groups    nameCache
}

// NewNodeMaker returns a NodeMaker. Unless withAtime is set, the access time of a node is its
// modification time, so that reading a file does not change its directory's tree.
func NewNodeMaker(withAtime bool) *NodeMaker {
	return &NodeMaker{
		withAtime: withAtime,
		users: nameCache{lookup: func(id string) (string, error) {
			u, err := user.LookupId(id)
			if err != nil {
				return "", err
			}
			return u.Username, nil
		}},
		groups: nameCache{lookup: func(id string) (string, error) {
			g, err := user.LookupGroupId(id)
			if err != nil {
				return "", err
			}
			return g.Name, nil
		}},
	}
}

// Fill sets n to what st tells. Link target, extended attributes and content are the
// caller's to add.
func (m *NodeMaker) Fill(n *snapshot.Node, name string, st *Stat) {
	*n = snapshot.Node{
		Name:       name,
		Type:       NodeType(st),
		Mode:       fileMode(st.Mode),
		ModTime:    time.Unix(st.Mtim.Unix()),
		ChangeTime: time.Unix(st.Ctim.Unix()),
		UID:        st.Uid,
		GID:        st.Gid,
		User:       m.users.name(st.Uid),
		Group:      m.groups.name(st.Gid),
		Inode:      st.Ino,
		DeviceID:   uint64(st.Dev),
	}
	n.AccessTime = n.ModTime
	if m.withAtime {
		n.AccessTime = time.Unix(st.Atim.Unix())
	}
	switch n.Type {
	case snapshot.File:
		n.Size, n.Links = uint64(st.Size), uint64(st.Nlink)
	case snapshot.Symlink:
		n.Links = uint64(st.Nlink)
	case snapshot.Dev, snapshot.CharDev:
		n.Links, n.Device = uint64(st.Nlink), uint64(st.Rdev)
	}
}

// NodeType returns what kind of node a file becomes.
func NodeType(st *Stat) snapshot.NodeType {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return snapshot.File
	case unix.S_IFDIR:
		return snapshot.Dir
	case unix.S_IFLNK:
		return snapshot.Symlink
	case unix.S_IFBLK:
		return snapshot.Dev
	case unix.S_IFCHR:
		return snapshot.CharDev
	case unix.S_IFIFO:
		return snapshot.Fifo
	case unix.S_IFSOCK:
		return snapshot.Socket
	}
	return snapshot.Irregular
}

// fileMode converts st_mode.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
	case unix.S_IFDIR:
		m |= fs.ModeDir
	case unix.S_IFLNK:
		m |= fs.ModeSymlink
	case unix.S_IFBLK:
		m |= fs.ModeDevice
	case unix.S_IFCHR:
		m |= fs.ModeDevice | fs.ModeCharDevice
	case unix.S_IFIFO:
		m |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		m |= fs.ModeSocket
	default:
		m |= fs.ModeIrregular
	}
	if mode&unix.S_ISUID != 0 {
		m |= fs.ModeSetuid
	}
	if mode&unix.S_ISGID != 0 {
		m |= fs.ModeSetgid
	}
	if mode&unix.S_ISVTX != 0 {
		m |= fs.ModeSticky
	}
	return m
}

// nameCache maps numeric ids to names; an id without a name maps to "". A lookup may ask the
// network (NSS), so each id is looked up once.
type nameCache struct {
	lookup func(id string) (string, error)
	known  atomic.Pointer[map[uint32]string] // replaced, never changed: readers take no lock
	mu     sync.Mutex                        // held by whoever replaces known
}

func (c *nameCache) name(id uint32) string {
	if m := c.known.Load(); m != nil {
		if name, ok := (*m)[id]; ok {
			return name
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[uint32]string)
	if m := c.known.Load(); m != nil {
		if name, ok := (*m)[id]; ok {
			return name
		}
		maps.Copy(next, *m)
	}
	name, err := c.lookup(strconv.FormatUint(uint64(id), 10))
	if err != nil {
		name = ""
	}
	next[id] = name
	c.known.Store(&next)
	return name
}
