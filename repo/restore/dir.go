package restore

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vitrine/repo/snapshot"
)

// dir is a directory of the target while it is worked on.
type dir struct {
	*run
	up       *dir
	node     *snapshot.Node // nil for the target itself
	kept     string         // its path, unless that is longer than keptBytes; the target's in any case
	selected bool           // false: it only leads to something that is
	at       spot
	names    []snapshot.Node // what the snapshot has in it, once it is known
	known    bool

	// Used by the walk only, until the last entry is done.
	opened, cleaned bool
	err             error // of open
	fd              int
	fresh           bool // made by this run: nothing else is in it
	absent          bool // in a dry run: it is not there
	failed          bool // its entries could not be read

	left atomic.Int32 // entries that are not done, and one for the walk
}

// keptBytes bounds the paths that are kept: of directories in each other they are the longer the more there are.
const keptBytes = 4096

// newDir returns a directory below another one.
func newDir(up *dir, n *snapshot.Node, selected bool) *dir {
	d := &dir{run: up.run, up: up, node: n, selected: selected}
	if up.kept != "" && len(up.kept)+1+len(n.Name) <= keptBytes {
		d.kept = up.join(n.Name)
	}
	d.left.Store(1)
	return d
}

// path returns where it is, for messages.
func (d *dir) path() string {
	if d.kept != "" {
		return d.kept
	}
	var names []string
	for ; d.kept == ""; d = d.up { // the target's is kept
		names = append(names, d.node.Name)
	}
	slices.Reverse(names)
	return d.join(strings.Join(names, "/"))
}

// join returns the path of an entry. filepath.Join would look at each of its letters, for each file.
func (d *dir) join(name string) string {
	path := d.path()
	if path == "/" {
		return "/" + name
	}
	return path + "/" + name
}

// rel returns the names that lead to it from the target.
func (d *dir) rel() []string {
	if d.up == nil {
		return nil
	}
	return append(d.up.rel(), d.node.Name)
}

// open makes and opens it, and those above it, unless that is done. An error was told already.
func (d *dir) open() error {
	if d.opened {
		return d.err
	}
	d.opened, d.fd = true, -1
	if d.err = d.up.open(); d.err != nil {
		return d.err
	}
	if d.up.absent {
		d.absent = true
		d.countWay()
		return nil
	}
	if d.err = d.make(); d.err != nil {
		d.run.failed(d.path(), fmt.Errorf("make the directory: %w", d.err))
		return d.err
	}
	d.countWay()
	d.cleanOnce()
	return nil
}

// countWay counts it when it is made only to hold what is selected.
func (d *dir) countWay() {
	if !d.selected && (d.fresh || d.absent) {
		d.ways.Add(1)
	}
}

var errNoDir = fmt.Errorf("something that is no directory is there: %w", unix.EEXIST)

// noDir reports whether openDir has found something else.
func noDir(err error) bool { return err == unix.ENOTDIR || err == unix.ELOOP }

// givesWay reports whether what is there and is no directory may be replaced by this one.
func (d *dir) givesWay() (bool, error) {
	var st unix.Stat_t
	if err := lstat(d.up.fd, d.node.Name, &st); err != nil {
		return false, err
	}
	return !d.stays(d.node, &st), nil
}

// make is open without those above.
func (d *dir) make() (err error) {
	name := d.node.Name
	if d.DryRun {
		d.fd, err = openDir(d.up.fd, name, false)
		switch {
		case err == unix.ENOENT:
			d.absent, err = true, nil
		case noDir(err):
			if d.absent, err = d.givesWay(); err == nil && !d.absent {
				err = errNoDir
			}
		}
		return err
	}
	err = mkdir(d.up.fd, name)
	if err == unix.EEXIST {
		d.fd, err = openDir(d.up.fd, name, false)
		if !noDir(err) {
			d.foundDir(d.fd)
			return err
		}
		gives, err2 := d.givesWay()
		if err2 != nil {
			return err2
		}
		if !gives {
			return errNoDir
		}
		if err = unix.Unlinkat(d.up.fd, name, 0); err == nil {
			err = mkdir(d.up.fd, name)
		}
	}
	if err != nil {
		return err
	}
	d.fresh = true
	d.fd, err = openDir(d.up.fd, name, false)
	return err
}

// entryDone is called once for each entry, and by the walk; the last call finishes the directory.
func (d *dir) entryDone(ctx context.Context) {
	if d.left.Add(-1) > 0 || d.up == nil {
		return
	}
	if (d.selected || d.fresh || d.absent && d.opened) && d.err == nil && ctx.Err() == nil { // one that was made to hold what is selected, too
		d.finish()
	}
	if d.opened {
		closeFD(d.fd)
	}
	d.up.entryDone(ctx)
}

// finish gives the directory its metadata and tells of it.
func (d *dir) finish() {
	action := Restored
	if !d.fresh && !d.absent {
		action = Unchanged
	}
	if !d.DryRun && (d.fresh || d.Overwrite != Never) {
		if err := d.attributes(descriptor(d.fd), d.node, !d.fresh); err != nil {
			d.run.failed(d.path(), err)
		}
	}
	if !d.failed {
		d.run.done(d.path(), d.node, action)
	}
}

// special makes a link, a device or a FIFO.
func (r *run) special(d *dir, n *snapshot.Node, path string) (action Action, ok bool) {
	action, err := r.makeSpecial(d, n)
	if err != nil {
		r.failed(path, err)
		return action, false
	}
	r.done(path, n, action)
	return action, true
}

func (r *run) makeSpecial(d *dir, n *snapshot.Node) (Action, error) {
	var st unix.Stat_t
	action := Restored
	if !d.absent && !d.fresh {
		switch err := lstat(d.fd, n.Name, &st); {
		case err == nil:
			if r.stays(n, &st) {
				return Unchanged, nil
			}
			action = Updated
			if sameSpecial(d.fd, n, &st) {
				action = Unchanged
			}
		case err != unix.ENOENT:
			return 0, err
		}
	}
	if n.Type == snapshot.Socket || n.Type == snapshot.Irregular {
		return action, nil // programs make their sockets themselves
	}
	if action == Updated {
		if err := d.clear(n.Name, &st); err != nil {
			return 0, err
		}
	}
	if r.DryRun {
		return action, nil
	}
	if action != Unchanged {
		if err := makeNode(d.fd, n); err != nil {
			return 0, fmt.Errorf("make the %v: %w", n.Type, err)
		}
	}
	return action, r.attributes(named(d.fd, n.Name), n, action == Unchanged)
}

// stays reports whether what is there, of which st tells, is to stay as it is.
func (r *run) stays(n *snapshot.Node, st *unix.Stat_t) bool {
	switch r.Overwrite {
	case Never:
		return true
	case IfNewer:
		sec, nsec := st.Mtim.Unix()
		return !n.ModTime.After(unixTime(sec, nsec))
	}
	return false
}

// makeNode makes the entry without its metadata. Nobody but the owner may use it before it has them.
func makeNode(dirfd int, n *snapshot.Node) error {
	switch n.Type {
	case snapshot.Symlink:
		return unix.Symlinkat(n.LinkTarget, dirfd, n.Name)
	case snapshot.Dev:
		return unix.Mknodat(dirfd, n.Name, unix.S_IFBLK|0o600, int(n.Device))
	case snapshot.CharDev:
		return unix.Mknodat(dirfd, n.Name, unix.S_IFCHR|0o600, int(n.Device))
	case snapshot.Fifo:
		return unix.Mknodat(dirfd, n.Name, unix.S_IFIFO|0o600, 0)
	}
	return fmt.Errorf("unknown type %v: %w", n.Type, fs.ErrInvalid)
}

// sameSpecial reports whether the entry there is what the node describes, but for metadata.
func sameSpecial(dirfd int, n *snapshot.Node, st *unix.Stat_t) bool {
	switch n.Type {
	case snapshot.Symlink:
		target, err := readlink(dirfd, n.Name)
		return err == nil && target == n.LinkTarget
	case snapshot.Dev:
		return st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == n.Device
	case snapshot.CharDev:
		return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == n.Device
	case snapshot.Fifo:
		return st.Mode&unix.S_IFMT == unix.S_IFIFO
	}
	return false
}
