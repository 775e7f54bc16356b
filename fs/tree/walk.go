package tree

import (
	"context"
	"fmt"
	"io/fs"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// entryRef points at an entry of a tree blob.
type entryRef struct {
	tree  blob.ID
	c     *snapshot.Compact
	entry int
}

// entry finds the entry that a file's ID names.
func (t *Tree) entry(ctx context.Context, id NodeID) (entryRef, error) {
	if id&instanceBit != 0 || id == Root {
		return entryRef{}, fmt.Errorf("node %#x: %w", uint64(id), ErrInvalid)
	}
	number, i, ok := splitFileID(id)
	if !ok {
		return entryRef{}, fmt.Errorf("node %#x: %w", uint64(id), ErrStale)
	}
	return t.entryAt(ctx, number, i)
}

func (t *Tree) entryAt(ctx context.Context, number uint32, i int) (entryRef, error) {
	tree, c, err := t.loadNumber(ctx, number)
	if err != nil {
		return entryRef{}, err
	}
	if i >= c.Len() {
		return entryRef{}, fmt.Errorf("entry %d of tree %s: %w", i, tree.Short(), ErrStale)
	}
	return entryRef{tree, c, i}, nil
}

// Attr returns the attributes of a node.
func (t *Tree) Attr(ctx context.Context, id NodeID) (Attr, error) {
	if id&instanceBit == 0 && id != Root {
		ref, err := t.entry(ctx, id)
		if err != nil {
			return Attr{}, err
		}
		return t.fileAttr(ref, id), nil
	}
	if r, ok := t.dirs.get(id); ok {
		if r.parentTree == noTree {
			return t.rootAttr(id, t.rootAt(r.entry)), nil
		}
		ref, err := t.entryAt(ctx, r.parentTree, int(r.entry))
		if err != nil {
			return Attr{}, err
		}
		a := t.fileAttr(ref, id)
		a.Ino = dirIno(r.parent, int(r.entry))
		return a, nil
	}
	v := t.view.Load()
	if l := v.lists[id]; l != nil {
		return t.attrOfList(l), nil
	}
	if it := v.link(id); it != nil {
		return t.itemAttr(it), nil
	}
	return Attr{}, fmt.Errorf("node %#x: %w", uint64(id), ErrStale)
}

func (t *Tree) fileAttr(ref entryRef, id NodeID) (a Attr) {
	e := ref.c.Entry(ref.entry)
	t.nodeAttr(&a, ref.tree, ref.c, ref.entry, &e)
	a.ID = id
	return a
}

// rootAttr describes the root directory of a snapshot, which no tree blob does.
func (t *Tree) rootAttr(id NodeID, sn *snapshot.Snapshot) Attr {
	a := t.listAttr(id, fs.ModeDir|0o555, timespec(sn.Time))
	a.Volatile = true
	return a
}

// place is where a directory's entries are: in a tree blob, or in a list.
type place struct {
	id     NodeID
	number uint32
	tree   blob.ID
	c      *snapshot.Compact
	list   *list
}

// open finds the entries of a directory.
func (t *Tree) open(ctx context.Context, dir NodeID) (place, error) {
	if r, ok := t.dirs.get(dir); ok {
		if r.tree == noTree {
			return place{}, fmt.Errorf("directory %s: node names no tree", t.Path(ctx, dir))
		}
		tree, c, err := t.loadNumber(ctx, r.tree)
		return place{id: dir, number: r.tree, tree: tree, c: c}, err
	}
	v := t.view.Load()
	if l := v.lists[dir]; l != nil {
		return place{id: dir, list: l}, nil
	}
	if v.link(dir) != nil || dir&instanceBit == 0 {
		return place{}, fmt.Errorf("node %#x: %w", uint64(dir), ErrNotDir)
	}
	return place{}, fmt.Errorf("node %#x: %w", uint64(dir), ErrStale)
}

// Lookup returns the node of that name in a directory and takes a reference to it, which
// Forget gives back. A name that is not there is an error of class ErrNoEntry.
func (t *Tree) Lookup(ctx context.Context, dir NodeID, name string) (Attr, error) {
	p, err := t.open(ctx, dir)
	if err != nil {
		return Attr{}, err
	}
	if p.list != nil {
		it := p.list.find(name)
		if it == nil {
			return Attr{}, notExist(name)
		}
		return t.itemNode(p.id, it), nil
	}
	i, ok := p.c.Find(name)
	if !ok {
		return Attr{}, notExist(name)
	}
	var a Attr
	t.entryNode(&a, &p, i, name)
	return a, nil
}

// itemNode returns an item of a list with a reference taken.
func (t *Tree) itemNode(dir NodeID, it *item) Attr {
	if it.sn == nil {
		return t.itemAttr(it)
	}
	id := t.dirs.hold(it.name, dirRecord{parent: dir, tree: t.trees.number(*it.sn.Tree), parentTree: noTree, entry: t.root(it.sn)})
	return t.rootAttr(id, it.sn)
}

// entryNode fills in entry i of a tree blob with a reference taken.
func (t *Tree) entryNode(a *Attr, p *place, i int, name string) {
	e := p.c.Entry(i)
	t.nodeAttr(a, p.tree, p.c, i, &e)
	if e.Type != snapshot.Dir {
		a.ID = fileID(p.number, i)
		return
	}
	a.ID = t.dirs.hold(name, dirRecord{parent: p.id, tree: t.trees.number(e.Subtree), parentTree: p.number, entry: uint32(i)})
	a.Ino = dirIno(p.id, i)
}

// Forget gives back n references that Lookup or List took. For anything but a directory
// in a snapshot it does nothing.
func (t *Tree) Forget(id NodeID, n uint64) {
	if id&instanceBit != 0 {
		t.dirs.drop(id, n)
	}
}

// List calls fn for the entries of a directory in the order of their names, beginning with number
// from, until fn returns false. next is the number to go on with after this entry. A
// reference is taken to each node for which fn returns true. The attributes are valid
// during the call only. "." and ".." are not among the entries.
func (t *Tree) List(ctx context.Context, dir NodeID, from uint64, fn func(next uint64, name string, a *Attr) bool) error {
	p, err := t.open(ctx, dir)
	if err != nil {
		return err
	}
	n := uint64(0)
	if p.list != nil {
		n = uint64(len(p.list.items))
	} else {
		n = uint64(p.c.Len())
	}
	var a Attr
	for i := from; i < n; i++ {
		var name string
		if p.list != nil {
			it := &p.list.items[i]
			name, a = it.name, t.itemNode(p.id, it)
		} else {
			name = p.c.Name(int(i))
			t.entryNode(&a, &p, int(i), name)
		}
		if !fn(i+1, name, &a) {
			t.Forget(a.ID, 1)
			return nil
		}
	}
	return nil
}

// Parent returns the directory that holds a directory; that of Root is Root.
func (t *Tree) Parent(dir NodeID) NodeID {
	if r, ok := t.dirs.get(dir); ok {
		return r.parent
	}
	if l := t.view.Load().lists[dir]; l != nil && l.parent != 0 {
		return l.parent
	}
	return Root
}

// IsList tells whether a node is a directory of the lists, whose entries come and go.
func (t *Tree) IsList(id NodeID) bool { return t.view.Load().lists[id] != nil }

// Totals returns the bytes and the files of all snapshots shown, as far as they tell.
func (t *Tree) Totals() (bytes, files uint64) {
	v := t.view.Load()
	return v.bytes, v.files
}

// Readlink returns the target of a symlink.
func (t *Tree) Readlink(ctx context.Context, id NodeID) (string, error) {
	v := t.view.Load()
	if it := v.link(id); it != nil {
		return it.target, nil
	}
	if _, held := t.dirs.get(id); id&instanceBit != 0 && !held && v.lists[id] == nil {
		return "", fmt.Errorf("node %#x: %w", uint64(id), ErrStale) // a link of long ago
	}
	ref, err := t.entry(ctx, id)
	if err != nil {
		return "", err
	}
	if e := ref.c.Entry(ref.entry); e.Type != snapshot.Symlink {
		return "", fmt.Errorf("%s is a %v: %w", t.Path(ctx, id), e.Type, ErrInvalid)
	}
	return ref.c.LinkTarget(ref.entry), nil
}

// Xattrs returns the extended attributes of a node, which may be none. The list is shared:
// do not change it.
func (t *Tree) Xattrs(ctx context.Context, id NodeID) ([]snapshot.Xattr, error) {
	if id&instanceBit == 0 && id != Root {
		ref, err := t.entry(ctx, id)
		if err != nil {
			return nil, err
		}
		return ref.c.Xattrs(ref.entry), nil
	}
	r, ok := t.dirs.get(id)
	if !ok || r.parentTree == noTree {
		return nil, nil
	}
	ref, err := t.entryAt(ctx, r.parentTree, int(r.entry))
	if err != nil {
		return nil, err
	}
	return ref.c.Xattrs(ref.entry), nil
}
