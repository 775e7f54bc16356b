package snapshot

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"

	"vitrine/repo/blob"
)

// minNodeBytes is less than any client spends on a node; it bounds what a hint may allocate.
const minNodeBytes = 128

// countHint guesses the number of nodes in p, cheaply: rather too many than too few.
func countHint(p []byte) int {
	return min(bytes.Count(p, []byte(`{"name":"`)), len(p)/minNodeBytes+1)
}

// scanTree calls fn for every node of a tree, in order, names checked.
func scanTree(p []byte, fn func(s *scanner, n *rawNode) bool) error {
	s := &scanner{p: p}
	var n rawNode
	index := -1
	if !s.tree(&n, &index, fn) {
		e := &DecodeError{OffsetBytes: s.errAt, Index: index, Err: s.err}
		if index >= 0 {
			e.Name = string(n.name)
		}
		return e
	}
	return nil
}

func (s *scanner) tree(n *rawNode, index *int, fn func(*scanner, *rawNode) bool) bool {
	if s.peek() != '{' {
		return s.unexpected("a tree")
	}
	found := false
	for more := s.open('}'); more; {
		s.arena = s.arena[:0]
		key, ok := s.key()
		switch {
		case !ok:
			return false
		case string(key) != "nodes":
			ok = s.skip(0)
		case found:
			return s.failErr(errors.New(`field "nodes" twice`))
		default:
			found = true
			ok = s.nodes(n, index, fn)
		}
		if !ok {
			return false
		}
		if more, ok = s.next('}'); !ok {
			return false
		}
	}
	if !found {
		return s.failErr(errors.New(`no field "nodes"`))
	}
	if s.peek(); s.i < len(s.p) {
		return s.unexpected("the end")
	}
	return true
}

func (s *scanner) nodes(n *rawNode, index *int, fn func(*scanner, *rawNode) bool) bool {
	if s.null() {
		return true
	}
	if s.peek() != '[' {
		return s.unexpected("a list of nodes")
	}
	var last []byte
	for more := s.open(']'); more; {
		*index++
		s.peek()
		at := s.i
		if !s.node(n) {
			return false
		}
		if err := checkNext(last, n.name); err != nil {
			s.i = at
			return s.failErr(err)
		}
		if !fn(s, n) {
			return false
		}
		last = append(last[:0], n.name...)
		var ok bool
		if more, ok = s.next(']'); !ok {
			return false
		}
	}
	*index = -1
	return true
}

// checkNext checks a name and that it may follow last, which is empty for the first.
func checkNext(last, name []byte) error {
	if string(name) == "" || string(name) == "." || string(name) == ".." ||
		bytes.IndexByte(name, '/') >= 0 || bytes.IndexByte(name, 0) >= 0 {
		return CheckName(string(name))
	}
	if bytes.Compare(last, name) >= 0 {
		return ErrOrder
	}
	return nil
}

// DecodeTree reads the JSON of a tree blob: fields in any order, unknown ones ignored.
// Names that are not sorted, not unique (ErrOrder) or that could not be a directory entry
// (ErrBadName) are errors, as is a field that comes twice. A node type that is not known
// becomes Irregular. Times are in the zone they were written in. The result does not
// alias p.
func DecodeTree(p []byte) ([]Node, error) {
	nodes := make([]Node, 0, countHint(p))
	var zones clock
	var user, group string
	err := scanTree(p, func(s *scanner, raw *rawNode) bool {
		if string(raw.user) != user { // neighbours mostly have the same owner: share the strings
			user = string(raw.user)
		}
		if string(raw.group) != group {
			group = string(raw.group)
		}
		nodes = append(nodes, Node{
			Name:       string(raw.name),
			Type:       raw.typ,
			Mode:       fs.FileMode(raw.mode),
			ModTime:    zones.time(raw.mtime),
			AccessTime: zones.time(raw.atime),
			ChangeTime: zones.time(raw.ctime),
			UID:        raw.uid,
			GID:        raw.gid,
			User:       user,
			Group:      group,
			Inode:      raw.inode,
			DeviceID:   raw.deviceID,
			Size:       raw.size,
			Links:      raw.links,
			Device:     raw.device,
			LinkTarget: string(raw.target()),
			Error:      string(raw.message),
		})
		n := &nodes[len(nodes)-1]
		if raw.hasContent {
			n.Content = make([]blob.ID, len(raw.content))
			copy(n.Content, raw.content)
		}
		if raw.hasSubtree {
			subtree := raw.subtree
			n.Subtree = &subtree
		}
		var ok bool
		if n.Xattrs, ok = s.xattrs(raw); !ok {
			return false
		}
		n.GenericAttributes, ok = s.genericAttributes(raw)
		return ok
	})
	if err != nil {
		return nil, err
	}
	return nodes, nil
}

// genericAttributes copies the object that n.generic holds.
func (s *scanner) genericAttributes(n *rawNode) (map[string]json.RawMessage, bool) {
	if n.generic == nil {
		return nil, true
	}
	sub := scanner{p: n.generic}
	attrs := make(map[string]json.RawMessage)
	for more := sub.open('}'); more; {
		key, ok := sub.key()
		if !ok {
			return nil, s.failErr(sub.err)
		}
		name := string(key)
		sub.peek()
		start := sub.i
		if !sub.skip(0) {
			return nil, s.failErr(sub.err)
		}
		attrs[name] = slices.Clone(sub.p[start:sub.i])
		if more, ok = sub.next('}'); !ok {
			return nil, s.failErr(sub.err)
		}
	}
	return attrs, true
}
