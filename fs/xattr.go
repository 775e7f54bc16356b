package fs

import (
	"errors"
	"strings"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vitrine/fs/tree"
	"vitrine/repo/snapshot"
)

var (
	errNoXattr = errors.New("no such extended attribute")
	errRange   = errors.New("buffer is too small")
)

// GetXAttr copies the value of an attribute to dest and returns its length, also when dest
// is too small or empty, which asks for the length.
func (n *nodes) GetXAttr(_ <-chan struct{}, h *fuse.InHeader, name string, dest []byte) (uint32, fuse.Status) {
	n.awake.note()
	list, err := n.tree.Xattrs(n.base(), tree.NodeID(h.NodeId))
	if err != nil {
		return 0, n.fail("read attributes of", tree.NodeID(h.NodeId), err)
	}
	for i := range list {
		if list[i].Name == name {
			size, err := fit(len(list[i].Value), dest)
			copy(dest, list[i].Value)
			return size, status(err)
		}
	}
	return 0, status(errNoXattr)
}

// ListXAttr writes the names of all attributes to dest, each with a zero byte behind it, and
// returns their length, as GetXAttr does.
func (n *nodes) ListXAttr(_ <-chan struct{}, h *fuse.InHeader, dest []byte) (uint32, fuse.Status) {
	n.awake.note()
	list, err := n.tree.Xattrs(n.base(), tree.NodeID(h.NodeId))
	if err != nil {
		return 0, n.fail("list attributes of", tree.NodeID(h.NodeId), err)
	}
	var names []byte
	for i := range list {
		if listable(&list[i], h.Uid) {
			names = append(append(names, list[i].Name...), 0)
		}
	}
	size, err := fit(len(names), dest)
	copy(dest, names)
	return size, status(err)
}

// listable tells whether a user sees the attribute's name. The kernel refuses a list with
// empty names; and only root can read trusted attributes, so others are not told of them.
func listable(x *snapshot.Xattr, uid uint32) bool {
	return validXattr(x.Name) && (uid == 0 || !isTrusted(x.Name))
}

// fit is the protocol of xattr calls: the length, and whether it fits.
func fit(size int, dest []byte) (uint32, error) {
	if len(dest) > 0 && size > len(dest) {
		return uint32(size), errRange
	}
	return uint32(size), nil
}

func isTrusted(name string) bool { return strings.HasPrefix(name, "trusted.") }

func validXattr(name string) bool { return name != "" && !strings.Contains(name, "\x00") }
