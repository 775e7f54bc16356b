package snapshot

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"time"

	"vitrine/repo/blob"
)

// NodeType is what kind of file system object a Node describes.
type NodeType uint8

// The types of node. The zero value is invalid.
const (
	File NodeType = 1 + iota
	Dir
	Symlink
	Dev // block device
	CharDev
	Fifo
	Socket
	Irregular
)

var nodeTypeNames = [...]string{"", "file", "dir", "symlink", "dev", "chardev", "fifo", "socket", "irregular"}

// String returns the word that the tree JSON uses.
func (t NodeType) String() string {
	if t == 0 || int(t) >= len(nodeTypeNames) {
		return fmt.Sprintf("type-%d", uint8(t))
	}
	return nodeTypeNames[t]
}

// ParseNodeType reads the word that the tree JSON uses. DecodeTree is more lenient.
func ParseNodeType(s string) (NodeType, error) {
	for i, name := range nodeTypeNames {
		if i > 0 && s == name {
			return NodeType(i), nil
		}
	}
	return 0, fmt.Errorf("unknown node type %.80q", s)
}

// Xattr is one extended attribute; POSIX ACLs are the system.posix_acl_* ones. The JSON
// keeps the Name only as far as it is valid UTF-8. A nil Value is written as an empty one.
type Xattr struct {
	Name  string
	Value []byte
}

// Node is one entry of a directory with everything a backup keeps of it. Its JSON is
// described in encode.go.
type Node struct {
	Name string // raw bytes as on disk, not quoted
	Type NodeType
	Mode fs.FileMode

	ModTime, AccessTime, ChangeTime time.Time

	UID, GID    uint32
	User, Group string

	Inode    uint64 // st_ino
	DeviceID uint64 // st_dev
	Size     uint64 // bytes; files only
	Links    uint64 // files, symlinks and devices only

	LinkTarget        string // raw bytes
	Xattrs            []Xattr
	GenericAttributes map[string]json.RawMessage
	Device            uint64    // st_rdev
	Content           []blob.ID // nil means JSON null; files have a non-nil list
	Subtree           *blob.ID  // directories
	Error             string
}
