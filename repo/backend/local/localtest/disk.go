package localtest

import (
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"syscall"
	"time"
)

// inode is a file or, when entries is not nil, a directory; both views of it.
type inode struct {
	mode fs.FileMode

	content, durableContent []byte
	entries, durableEntries map[string]*inode
}

// disk is a tree of inodes and the files that were created in it, by handle.
type disk struct {
	root    *inode
	handles map[int]*inode
}

func newDisk() *disk { return &disk{root: newDir(0o755)} }

func newDir(mode fs.FileMode) *inode {
	return &inode{mode: mode | fs.ModeDir, entries: map[string]*inode{}, durableEntries: map[string]*inode{}}
}

func (n *inode) info(name string) fs.FileInfo {
	return fileInfo{name, int64(len(n.content)), n.mode}
}

// find follows a clean absolute path.
func (d *disk) find(name string) (*inode, error) {
	if name == "/" {
		return d.root, nil
	}
	dir, err := d.find(path.Dir(name))
	if err != nil {
		return nil, err
	}
	if dir.entries == nil {
		return nil, syscall.ENOTDIR
	}
	node, ok := dir.entries[path.Base(name)]
	if !ok {
		return nil, syscall.ENOENT
	}
	return node, nil
}

// parent returns the directory that name is in or would be in.
func (d *disk) parent(name string) (*inode, error) {
	dir, err := d.find(path.Dir(name))
	if err == nil && dir.entries == nil {
		err = syscall.ENOTDIR
	}
	return dir, err
}

// apply does one changing call, or returns an error and changes nothing.
func (d *disk) apply(op Op) error {
	switch op.Call {
	case "write":
		f := d.handles[op.handle]
		f.content = append(slices.Clip(f.content), op.content...)
		return nil
	case "sync":
		f := d.handles[op.handle]
		f.durableContent = f.content
		return nil
	case "close":
		return nil
	}
	dir, err := d.parent(op.Name)
	if err != nil {
		return err
	}
	base := path.Base(op.Name)
	node, exists := dir.entries[base]
	if op.Name == "/" {
		node, exists = d.root, true
	}
	switch op.Call {
	case "create", "mkdir":
		if exists {
			return syscall.EEXIST
		}
		if op.Call == "mkdir" {
			dir.entries[base] = newDir(op.mode)
			return nil
		}
		f := &inode{mode: op.mode}
		dir.entries[base] = f
		if d.handles == nil {
			d.handles = map[int]*inode{}
		}
		d.handles[op.handle] = f
		return nil
	}
	if !exists {
		return syscall.ENOENT
	}
	switch op.Call {
	case "rename":
		to, err := d.parent(op.To)
		if err != nil {
			return err
		}
		delete(dir.entries, base)
		to.entries[path.Base(op.To)] = node
	case "remove":
		if len(node.entries) > 0 {
			return syscall.ENOTEMPTY
		}
		delete(dir.entries, base)
	case "syncdir":
		if node.entries == nil {
			return syscall.ENOTDIR
		}
		node.durableEntries = maps.Clone(node.entries)
	}
	return nil
}

// survive returns what is found of the inode after the power loss, all of it durable.
func survive(n *inode, loss Loss, rng *rand.Rand, done map[*inode]*inode) *inode {
	if s, ok := done[n]; ok {
		return s
	}
	s := &inode{mode: n.mode}
	done[n] = s
	if n.entries == nil {
		s.content = n.durableContent
		if loss.name == "torn" {
			s.content = tear(n, rng)
		}
		s.durableContent = s.content
		return s
	}
	s.entries = map[string]*inode{}
	switch loss.name {
	case "torn":
		for _, name := range slices.Sorted(maps.Keys(union(n.entries, n.durableEntries))) {
			view := n.durableEntries
			if rng.IntN(2) == 0 {
				view = n.entries
			}
			if child, ok := view[name]; ok {
				s.entries[name] = survive(child, loss, rng, done)
			}
		}
	default:
		view := n.durableEntries
		if loss == KeepNames {
			view = n.entries
		}
		for name, child := range view {
			s.entries[name] = survive(child, loss, rng, done)
		}
	}
	s.durableEntries = maps.Clone(s.entries)
	return s
}

// tear keeps what was synced of a file and, by chance, some of the tail that was not; sometimes only
// its length, with zeros for bytes.
func tear(n *inode, rng *rand.Rand) []byte {
	tail := len(n.content) - len(n.durableContent)
	if tail <= 0 {
		return n.durableContent
	}
	kept := slices.Clone(n.content[:len(n.durableContent)+rng.IntN(tail+1)])
	if rng.IntN(3) == 0 {
		clear(kept[len(n.durableContent):])
	}
	return kept
}

func union(a, b map[string]*inode) map[string]*inode {
	u := maps.Clone(a)
	maps.Copy(u, b)
	return u
}

// clone copies a disk that is durable as a whole: one without open files.
func (d *disk) clone() *disk {
	return &disk{root: survive(d.root, LoseAll, nil, map[*inode]*inode{})}
}

type fileInfo struct {
	name string
	size int64
	mode fs.FileMode
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.size }
func (i fileInfo) Mode() fs.FileMode  { return i.mode }
func (i fileInfo) ModTime() time.Time { return time.Time{} }
func (i fileInfo) IsDir() bool        { return i.mode.IsDir() }
func (i fileInfo) Sys() any           { return nil }
