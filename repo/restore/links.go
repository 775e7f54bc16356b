package restore

import (
	"context"
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"vitrine/repo/snapshot"
)

// linkKey tells which names are those of one file.
type linkKey struct {
	device, inode uint64
}

// place is a name in a directory of the target.
type place struct {
	dirs []string // from the target
	name string
}

// link is one more name that is to be made.
type link struct {
	dir  *dir
	node *snapshot.Node
}

// links are the names of one file. The first one is restored, the others are linked to it.
type links struct {
	*run
	first *place // set by the walk

	mu       sync.Mutex // guards all below
	finished bool
	ok       bool // the first is there
	action   Action
	waiting  []link
}

// group returns the other names of a node, nil when it has none.
func (w *walker) group(n *snapshot.Node) *links {
	if n.Links < 2 || n.Type == snapshot.Dir {
		return nil
	}
	key := linkKey{n.DeviceID, n.Inode}
	g := w.groups[key]
	if g == nil {
		g = &links{run: w.run}
		w.groups[key] = g
	}
	return g
}

// add makes a link, as soon as what it links to is there.
func (g *links) add(ctx context.Context, l link) {
	g.mu.Lock()
	if !g.finished {
		g.waiting = append(g.waiting, l)
		g.mu.Unlock()
		return
	}
	g.mu.Unlock()
	g.link(ctx, l)
}

// made is called when the first name is there, and what became of it, or could not be made. g may be nil.
func (g *links) made(ctx context.Context, ok bool, action Action) {
	if g == nil {
		return
	}
	g.mu.Lock()
	g.finished, g.ok, g.action = true, ok, action
	waiting := g.waiting
	g.waiting = nil
	g.mu.Unlock()
	for _, l := range waiting {
		g.link(ctx, l)
	}
}

func (g *links) link(ctx context.Context, l link) {
	defer l.dir.entryDone(ctx)
	if ctx.Err() != nil {
		return
	}
	path := l.dir.join(l.node.Name)
	if !g.ok {
		g.failed(path, fmt.Errorf("the file that it is a further name of, %s, could not be restored", g.firstPath()))
		return
	}
	action, err := g.make(l)
	if err != nil {
		g.failed(path, fmt.Errorf("link to %s: %w", g.firstPath(), err))
		return
	}
	g.done(path, l.node, action)
}

func (g *links) firstPath() string {
	return joined(g.Target, g.first.dirs, g.first.name)
}

func (g *links) make(l link) (Action, error) {
	if l.dir.absent {
		return Restored, nil
	}
	var there unix.Stat_t
	err := lstat(l.dir.fd, l.node.Name, &there)
	if err == nil && g.stays(l.node, &there) {
		return Unchanged, nil
	}
	if err != nil && err != unix.ENOENT {
		return 0, err
	}
	action := Restored
	if err == nil {
		same, err := g.linked(&there)
		if err != nil || same {
			return Unchanged, err
		}
		if err := l.dir.clear(l.node.Name, &there); err != nil {
			return 0, err
		}
		action = Updated
	}
	if g.DryRun {
		return action, nil
	}
	fd, err := openPath(g.root, g.first.dirs)
	if err != nil {
		return 0, err
	}
	defer closeFD(fd)
	return action, unix.Linkat(fd, g.first.name, l.dir.fd, l.node.Name, 0)
}

// linked reports whether what is there is the first name's file. In a dry run a first name that would be
// made anew is no longer that of the file that has it.
func (g *links) linked(there *unix.Stat_t) (bool, error) {
	if g.DryRun && g.action != Unchanged {
		return false, nil
	}
	fd, err := openPath(g.root, g.first.dirs)
	if err != nil {
		return false, err
	}
	defer closeFD(fd)
	var first unix.Stat_t
	err = lstat(fd, g.first.name, &first)
	return err == nil && first.Ino == there.Ino && first.Dev == there.Dev, nil
}
