package cli

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// listed is a node that waits for its turn in the output of ls.
type listed struct {
	path string
	node snapshot.Node
}

// lsOrder returns the order that ls --sort and --reverse ask for; nil is that of the trees.
func lsOrder(by string, reverse bool) (func(a, b listed) int, error) {
	var order func(a, b listed) int
	switch by {
	case "name":
		if !reverse {
			return nil, nil
		}
		order = func(a, b listed) int { return 0 }
	case "size":
		order = func(a, b listed) int { return cmp.Compare(a.node.Size, b.node.Size) }
	case "time", "mtime":
		order = func(a, b listed) int { return a.node.ModTime.Compare(b.node.ModTime) }
	case "atime":
		order = func(a, b listed) int { return a.node.AccessTime.Compare(b.node.AccessTime) }
	case "ctime":
		order = func(a, b listed) int { return a.node.ChangeTime.Compare(b.node.ChangeTime) }
	case "extension":
		order = func(a, b listed) int { return strings.Compare(path.Ext(a.path), path.Ext(b.path)) }
	default:
		return nil, fmt.Errorf("--sort %q: choose name, size, time, mtime, atime, ctime or extension", by)
	}
	full := func(a, b listed) int { return cmp.Or(order(a, b), strings.Compare(a.path, b.path)) }
	if reverse {
		return func(a, b listed) int { return full(b, a) }, nil
	}
	return full, nil
}

// ordered lists in another order than that of the trees, for which all of the list must be in memory.
func (l *listing) ordered(ctx context.Context, root blob.ID, order func(a, b listed) int) error {
	var all []listed
	show := l.show
	l.show = func(p string, n *snapshot.Node) error {
		all = append(all, listed{p, *n})
		return nil
	}
	if err := l.tree(ctx, root, "/"); err != nil {
		return err
	}
	slices.SortFunc(all, order)
	for i := range all {
		if err := show(all[i].path, &all[i].node); err != nil {
			return err
		}
	}
	return nil
}
