package snapshot

import (
	"encoding/json"
	"fmt"
	"strings"
)

// A tree blob is
//
//	{"nodes":[<node>,<node>…]}\n
//
// with the nodes (encode.go) sorted by the bytes of their raw names, each name once. The
// tree of an empty directory is {"nodes":[]}\n.
const (
	treeHead = `{"nodes":[`
	treeTail = "]}\n"
)

// CheckName returns an error that is ErrBadName when name could not be an entry of a
// directory and might lead a reader out of it: "", ".", "..", or with a slash or NUL.
func CheckName(name string) error {
	if name == "" || name == "." || name == ".." || strings.IndexByte(name, '/') >= 0 || strings.IndexByte(name, 0) >= 0 {
		return fmt.Errorf("%w %.300q", ErrBadName, name)
	}
	return nil
}

// TreeEncoder makes the canonical JSON of a tree blob, node by node. The zero value is
// ready to use; not safe for parallel use. A refused node leaves the tree as it was.
type TreeEncoder struct {
	buf  []byte
	last string // name of the last node
	len  int
}

// Reset starts a new tree in the space of buf, which then belongs to e.
func (e *TreeEncoder) Reset(buf []byte) { *e = TreeEncoder{buf: buf[:0]} }

// Len returns the number of nodes added so far.
func (e *TreeEncoder) Len() int { return e.len }

// Add appends a node. Its name must sort after all before it (ErrOrder) and be one that
// CheckName accepts.
func (e *TreeEncoder) Add(n *Node) error {
	for name, value := range n.GenericAttributes {
		if value != nil && !json.Valid(value) {
			return fmt.Errorf("add node %.300q to tree: generic attribute %.80q is not JSON", n.Name, name)
		}
	}
	if err := e.begin(n.Name); err != nil {
		return err
	}
	e.buf = n.AppendJSON(e.buf)
	return nil
}

// AddJSON appends a node whose canonical JSON is known already. nodeJSON stays the caller's.
func (e *TreeEncoder) AddJSON(name string, nodeJSON []byte) error {
	if err := e.begin(name); err != nil {
		return err
	}
	e.buf = append(e.buf, nodeJSON...)
	return nil
}

func (e *TreeEncoder) begin(name string) error {
	if err := CheckName(name); err != nil {
		return fmt.Errorf("add node to tree: %w", err)
	}
	if e.len == 0 {
		e.buf = append(e.buf, treeHead...)
	} else {
		if name <= e.last {
			return fmt.Errorf("add node to tree: %w: %.300q after %.300q", ErrOrder, name, e.last)
		}
		e.buf = append(e.buf, ',')
	}
	e.last = name
	e.len++
	return nil
}

// Finish returns the tree blob, which then belongs to the caller, and leaves e ready for
// the next tree.
func (e *TreeEncoder) Finish() []byte {
	p := e.buf
	if e.len == 0 {
		p = append(p, treeHead...)
	}
	*e = TreeEncoder{}
	return append(p, treeTail...)
}
