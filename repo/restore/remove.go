package restore

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vitrine/repo/snapshot"
)

// cleanOnce does what Options.Delete asks for in a directory that was there.
func (d *dir) cleanOnce() {
	if !d.Delete || d.cleaned || d.fresh || d.fd < 0 || !d.known {
		return
	}
	d.cleaned = true
	names, err := list(d.fd)
	if err != nil {
		d.run.failed(d.path(), fmt.Errorf("list the directory: %w", err))
		return
	}
	for _, name := range names {
		_, wanted := slices.BinarySearchFunc(d.names, name, func(n snapshot.Node, name string) int { return strings.Compare(n.Name, name) })
		if wanted || !d.Select.selects(d.Select.enter(d.at, name)) {
			continue
		}
		if isSocket(d.fd, name) {
			continue // no snapshot has any, and a program may listen
		}
		d.remove(d.fd, name, d.join(name))
	}
}

// remove deletes an entry and all below it. What cannot be deleted is told, and with it the directories that
// hold it, in a dry run as well.
func (r *run) remove(dirfd int, name, path string) (ok bool) {
	var st unix.Stat_t
	err := lstat(dirfd, name, &st)
	if err == nil && isDir(&st) {
		err = r.removeBelow(dirfd, name, path)
		if err == nil && !r.DryRun {
			err = unix.Unlinkat(dirfd, name, unix.AT_REMOVEDIR)
		}
	} else if err == nil && !r.DryRun {
		err = unix.Unlinkat(dirfd, name, 0)
	}
	if err != nil {
		r.failed(path, fmt.Errorf("delete: %w", err))
		return false
	}
	r.deleted.Add(1)
	r.Reporter.Done(Item{Path: path, Action: Deleted})
	return true
}

// removeBelow deletes what is in a directory that is no mount point.
func (r *run) removeBelow(dirfd int, name, path string) error {
	fd, err := openDir(dirfd, name, false)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	if err := notMounted(fd, ""); err != nil {
		return err
	}
	names, err := list(fd)
	for _, name := range names {
		if !r.remove(fd, name, filepath.Join(path, name)) {
			err = unix.ENOTEMPTY
		}
	}
	return err
}

// clear takes away what stands where an entry of the snapshot belongs. A directory that is not empty goes with
// Options.Delete only, and unless all in it may go, all stays. A dry run tells the same.
func (d *dir) clear(name string, st *unix.Stat_t) error {
	if isDir(st) {
		if err := d.obstacle(name); err != nil {
			return err
		}
		if d.Delete {
			if err := d.removeBelow(d.fd, name, d.join(name)); err != nil {
				return fmt.Errorf("remove the directory that is in the way: %w", err)
			}
		}
	}
	if d.DryRun {
		return nil
	}
	if err := removeName(d.fd, name, st); err != nil {
		return fmt.Errorf("remove what is there: %w", err)
	}
	return nil
}

// obstacle tells what keeps the directory of that name from giving way to an entry of the snapshot.
func (d *dir) obstacle(name string) error {
	fd, err := openDir(d.fd, name, false)
	if err != nil {
		return fmt.Errorf("open the directory that is in the way: %w", err)
	}
	defer closeFD(fd)
	if err := notMounted(fd, ""); err != nil {
		return fmt.Errorf("the directory that is in the way: %w", err)
	}
	if d.Delete {
		return d.held(fd, d.join(name), d.Select.enter(d.at, name))
	}
	names, err := list(fd)
	if err != nil {
		return fmt.Errorf("list the directory that is in the way: %w", err)
	}
	if len(names) > 0 {
		return errors.New("a directory that is not empty is in the way; --delete removes it with all in it")
	}
	return nil
}

// held tells what may not be removed in an open directory that is in the way.
func (r *run) held(fd int, path string, at spot) error {
	names, err := list(fd)
	if err != nil {
		return fmt.Errorf("list the directory that is in the way, %s: %w", path, err)
	}
	slices.Sort(names)
	for _, name := range names {
		path, at := filepath.Join(path, name), r.Select.enter(at, name)
		if !r.Select.selects(at) {
			return fmt.Errorf("a directory is in the way, and in it %s is excluded", path)
		}
		if err := r.heldAt(fd, name, path, at); err != nil {
			return err
		}
	}
	return nil
}

// heldAt is held of one entry and all below it.
func (r *run) heldAt(dirfd int, name, path string, at spot) error {
	fd, err := openDir(dirfd, name, false)
	switch err {
	case unix.ENOTDIR, unix.ELOOP:
		err = notMounted(dirfd, name)
	case nil:
		defer closeFD(fd)
		if err = notMounted(fd, ""); err == nil {
			return r.held(fd, path, at)
		}
	}
	if err != nil {
		return fmt.Errorf("a directory is in the way, and in it %s: %w", path, err)
	}
	return nil
}
