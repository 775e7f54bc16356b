package dump

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

var errBusy = errors.New("another dump is writing it")

// newPartial makes a file that is locked while it is open, and so in use. One of that name that nobody has locked was left
// behind by a dump that was killed, and goes.
func newPartial(name string, mode fs.FileMode) (*os.File, error) {
	for {
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
		if errors.Is(err, fs.ErrExist) {
			if err = removeLeftover(name, err); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, err
		}
		// Where the file system has no locks nothing is ever taken for a leftover.
		if !errors.Is(tryLock(f), unix.EWOULDBLOCK) && isNamed(f) {
			return f, nil
		}
		// Somebody came before the lock and took it for a leftover: it is his name now.
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
}

// removeLeftover removes a regular file that nobody has locked. exists is the error for anything else.
func removeLeftover(name string, exists error) error {
	if info, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil || !info.Mode().IsRegular() {
		return exists
	}
	f, err := os.OpenFile(name, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return exists
	}
	defer f.Close()
	if err := tryLock(f); errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("%s: %w", name, errBusy)
	} else if err != nil {
		return exists
	}
	if !isNamed(f) {
		return nil // it got its real name, or somebody else removed it
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return exists
	}
	return nil
}

// tryLock locks a file for as long as it is open.
func tryLock(f *os.File) error {
	for {
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != unix.EINTR {
			return err
		}
	}
}

// isNamed reports whether the file still has the name under which it was opened.
func isNamed(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return false
	}
	named, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(info, named)
}
