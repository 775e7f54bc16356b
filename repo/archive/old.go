package archive

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// oldDir is a directory of the parent snapshot, loaded when somebody first asks for an entry. That
// is a worker, so the walk never waits for the repository. nil is a directory that the parent
// does not have.
type oldDir struct {
	up   *oldDir // nil at the root
	name string
	root *blob.ID // at the root

	once  sync.Once
	nodes []snapshot.Node // after once
}

// child returns the directory of that name, which need not exist.
func (o *oldDir) child(name string) *oldDir {
	if o == nil {
		return nil
	}
	return &oldDir{up: o, name: name}
}

// parentReader loads trees of the parent snapshot.
type parentReader struct {
	repo   *repo.Repository
	losses *losses
}

// load returns the nodes of the directory. One that cannot be read counts as empty: its files are
// read again, which is slow but right.
func (p parentReader) load(ctx context.Context, o *oldDir) []snapshot.Node {
	if o == nil {
		return nil
	}
	o.once.Do(func() {
		id := o.root
		if o.up != nil {
			if n := p.find(ctx, o.up, o.name); n != nil && n.Type == snapshot.Dir {
				id = n.Subtree
			}
			o.up = nil // its nodes are not kept alive for this one
		}
		if id == nil {
			return
		}
		nodes, err := p.repo.LoadTree(ctx, *id)
		if err != nil && ctx.Err() == nil {
			p.losses.warn("a directory of the parent snapshot cannot be read; its files are read again", "directory", o.name, "error", err)
		}
		o.nodes = nodes
	})
	return o.nodes
}

// find returns the node of that name, or nil.
func (p parentReader) find(ctx context.Context, o *oldDir, name string) *snapshot.Node {
	return oldNodes(p.load(ctx, o)).find(name)
}

func compareName(n snapshot.Node, name string) int { return strings.Compare(n.Name, name) }

// oldNodes are the nodes of a directory, or what a walk beside names that come in order has left of them.
type oldNodes []snapshot.Node

// next returns the node of that name, or nil, and drops those before it.
func (o *oldNodes) next(name string) *snapshot.Node {
	for len(*o) > 0 {
		n := &(*o)[0]
		if n.Name > name {
			return nil
		}
		*o = (*o)[1:]
		if n.Name == name {
			return n
		}
	}
	return nil
}

// find returns the node of that name, or nil, by halving.
func (o oldNodes) find(name string) *snapshot.Node {
	i, ok := slices.BinarySearchFunc(o, name, compareName)
	if !ok {
		return nil
	}
	return &o[i]
}

// from drops the nodes before the name, by halving.
func (o oldNodes) from(name string) oldNodes {
	i, _ := slices.BinarySearchFunc(o, name, compareName)
	return o[i:]
}

// sameFile tells whether a file may be taken as unchanged: the rule of FORMAT.md section 11.
func (r *run) sameFile(n, old *snapshot.Node) bool {
	return old.Type == snapshot.File &&
		old.Size == n.Size &&
		old.ModTime.Equal(n.ModTime) &&
		(r.ignoreCtime || old.ChangeTime.Equal(n.ChangeTime)) &&
		(r.ignoreInode || old.Inode == n.Inode)
}

// sameNode tells whether two nodes say the same.
func sameNode(a, b *snapshot.Node) bool {
	return a.Name == b.Name && a.Type == b.Type && a.Mode == b.Mode &&
		a.ModTime.Equal(b.ModTime) && a.AccessTime.Equal(b.AccessTime) && a.ChangeTime.Equal(b.ChangeTime) &&
		a.UID == b.UID && a.GID == b.GID && a.User == b.User && a.Group == b.Group &&
		a.Inode == b.Inode && a.DeviceID == b.DeviceID && a.Size == b.Size && a.Links == b.Links &&
		a.LinkTarget == b.LinkTarget && a.Device == b.Device && a.Error == b.Error &&
		len(a.GenericAttributes) == len(b.GenericAttributes) &&
		slices.EqualFunc(a.Xattrs, b.Xattrs, func(x, y snapshot.Xattr) bool {
			return x.Name == y.Name && string(x.Value) == string(y.Value)
		}) &&
		(a.Content == nil) == (b.Content == nil) && slices.Equal(a.Content, b.Content) &&
		(a.Subtree == nil) == (b.Subtree == nil) && (a.Subtree == nil || *a.Subtree == *b.Subtree)
}

// change classifies a node that was made anew.
func change(n, old *snapshot.Node) Change {
	switch {
	case old == nil:
		return New
	case sameNode(n, old):
		return Unmodified
	}
	return Changed
}

// FindParent returns the newest snapshot of the host that covers all of the paths and is not newer
// than the given time. When there is none, it is the newest of those that cover most of them, so that a path that is
// added does not make everything be read again; nil when none covers any. Tags do not matter. Snapshots that cannot be
// read are passed over and told to the log.
func FindParent(ctx context.Context, r *repo.Repository, host string, paths []string, notAfter time.Time, log *slog.Logger) (*snapshot.Snapshot, error) {
	all, err := r.Snapshots(ctx)
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		log.Warn("some snapshots cannot be read and are no candidates for the parent", "error", err)
	}
	wanted := make(map[string]bool, len(paths))
	for _, path := range paths {
		wanted[path] = true
	}
	var best *snapshot.Snapshot
	most := 0
	for _, sn := range slices.Backward(all) { // oldest first
		if sn.Hostname != host || sn.Tree == nil || sn.Time.After(notAfter) {
			continue
		}
		if n := covered(sn, wanted); n > most {
			best, most = sn, n
		}
		if most == len(wanted) {
			break
		}
	}
	return best, nil
}

// covered returns how many of the paths are among those of the snapshot.
func covered(sn *snapshot.Snapshot, paths map[string]bool) int {
	seen := make(map[string]bool, len(sn.Paths))
	for _, path := range sn.Paths {
		if paths[path] {
			seen[path] = true
		}
	}
	return len(seen)
}

// coversAll tells whether the snapshot has all of the paths.
func coversAll(sn *snapshot.Snapshot, paths []string) bool {
	return snapshot.Filter{Paths: paths}.Match(sn)
}
