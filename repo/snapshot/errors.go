package snapshot

import (
	"errors"
	"fmt"
)

// The classes of error. Whatever Decode, DecodeTree and ParseCompact report is ErrCorrupt.
var (
	ErrCorrupt = errors.New("corrupt")
	ErrBadName = errors.New("bad name")                  // see CheckName
	ErrOrder   = errors.New("names not sorted or twice") // in a tree
)

// DecodeError says where a tree is damaged. It is ErrCorrupt and what Err is.
type DecodeError struct {
	OffsetBytes int    // in the tree's JSON
	Index       int    // of the node, or -1 outside of the nodes
	Name        string // of the node, if it was read already
	Err         error
}

// Error names the offset and, inside of a node, the node.
func (e *DecodeError) Error() string {
	switch {
	case e.Index < 0:
		return fmt.Sprintf("corrupt tree at byte %d: %v", e.OffsetBytes, e.Err)
	case e.Name == "":
		return fmt.Sprintf("corrupt tree at byte %d, node %d: %v", e.OffsetBytes, e.Index, e.Err)
	}
	return fmt.Sprintf("corrupt tree at byte %d, node %d %.300q: %v", e.OffsetBytes, e.Index, e.Name, e.Err)
}

// Unwrap makes e both ErrCorrupt and its cause.
func (e *DecodeError) Unwrap() []error { return []error{ErrCorrupt, e.Err} }
