package snapshot

// DecodeTree reads the JSON of a tree blob. Unknown fields are ignored. Names that are
// not sorted, not unique or that could not be a directory entry are errors.
func DecodeTree(p []byte) ([]Node, error) { panic("not yet") }

// TreeEncoder makes the canonical JSON of a tree blob, node by node. The zero value is
// ready to use; not safe for parallel use.
type TreeEncoder struct {
	buf []byte
}

// Add appends a node; its name must sort after all before it.
func (e *TreeEncoder) Add(n *Node) error { panic("not yet") }

// AddJSON appends a node whose canonical JSON is known already.
func (e *TreeEncoder) AddJSON(name string, nodeJSON []byte) error { panic("not yet") }

// Finish returns the tree blob and leaves e ready for the next tree.
func (e *TreeEncoder) Finish() []byte { panic("not yet") }
