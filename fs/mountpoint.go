package fs

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// checkMountPoint returns the real path of a directory that may be mounted on, or says why
// it may not.
func checkMountPoint(dir string, o *Options) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("mount point %s: %w", dir, err)
	}
	abs, err = filepath.EvalSymlinks(abs)
	if errors.Is(err, unix.ENOTCONN) {
		return "", deadMount(dir)
	} else if err != nil {
		return "", noMountPoint(dir, err)
	}
	info, err := os.Stat(abs)
	switch {
	case errors.Is(err, unix.ENOTCONN):
		return "", deadMount(dir)
	case err != nil:
		return "", fmt.Errorf("mount point: %w", err)
	case !info.IsDir():
		return "", fmt.Errorf("mount point %s is not a directory", dir)
	}
	if m, err := findMount(abs); err == nil && m.fsType == fsType {
		// What the kernel remembers of a dead mount looks alive; statfs always asks.
		if err := unix.Statfs(abs, new(unix.Statfs_t)); errors.Is(err, unix.ENOTCONN) {
			return "", deadMount(dir)
		}
		return "", fmt.Errorf("mount point %s: a vitrine is mounted there already; unmount it first: fusermount3 -u %s", dir, dir)
	}
	if o.RepoPath != "" {
		if err := checkApart(abs, o.RepoPath); err != nil {
			return "", err
		}
	}
	if o.NonEmpty {
		return abs, nil
	}
	return abs, checkEmpty(abs)
}

// noMountPoint says what to do about a directory that is not there. A symbolic link to nowhere is there: mkdir
// would fail.
func noMountPoint(dir string, err error) error {
	if _, statErr := os.Lstat(dir); errors.Is(err, unix.ENOENT) && errors.Is(statErr, unix.ENOENT) {
		return fmt.Errorf("mount point %s: %w; make it first: mkdir -p %s", dir, unix.ENOENT, dir)
	}
	return fmt.Errorf("mount point %s: %w", dir, err)
}

func deadMount(dir string) error {
	return fmt.Errorf("mount point %s: a mount is there whose server is gone; remove it first: fusermount3 -uz %s", dir, dir)
}

func checkEmpty(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("mount point: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return nil
	} else if err != nil {
		return fmt.Errorf("mount point: %w", err)
	}
	return fmt.Errorf("mount point %s is not empty (it holds %q, for one): choose an empty directory", dir, names[0])
}

// checkApart refuses a mount point that is the repository, holds it or lies in it: the mount would
// read its own files through itself. Directories are compared by what they are, since names
// lie (bind mounts, symlinks).
func checkApart(dir, repo string) error {
	repo, err := filepath.Abs(repo)
	if err != nil {
		return err
	}
	if real, err := filepath.EvalSymlinks(repo); err == nil {
		repo = real
	}
	switch {
	case isAncestor(dir, repo):
		return fmt.Errorf("mount point %s would cover the repository %s: choose a directory outside of it", dir, repo)
	case isAncestor(repo, dir):
		return fmt.Errorf("mount point %s lies in the repository %s: choose a directory outside of it", dir, repo)
	}
	return nil
}

// isAncestor tells whether above is the directory below or one of those that hold it.
func isAncestor(above, below string) bool {
	a, err := os.Stat(above)
	if err != nil {
		return false
	}
	for {
		if b, err := os.Stat(below); err == nil && os.SameFile(a, b) {
			return true
		}
		up := filepath.Dir(below)
		if up == below {
			return false
		}
		below = up
	}
}

// mountInfo is a line of /proc/self/mountinfo.
type mountInfo struct {
	device string // major:minor
	fsType string
}

// findMount returns what is mounted on dir, the topmost.
func findMount(dir string) (mountInfo, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return mountInfo{}, err
	}
	return parseMountInfo(table, dir)
}

// parseMountInfo reads lines like
//
//	36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func parseMountInfo(table []byte, dir string) (mountInfo, error) {
	found, err := mountInfo{}, fmt.Errorf("nothing is mounted on %s", dir)
	for scan := bufio.NewScanner(bytes.NewReader(table)); scan.Scan(); {
		fields := strings.Fields(scan.Text())
		if len(fields) < 6 || unescape(fields[4]) != dir {
			continue
		}
		for i, f := range fields {
			if f == "-" && i+1 < len(fields) {
				found, err = mountInfo{device: fields[2], fsType: fields[i+1]}, nil
			}
		}
	}
	return found, err
}

// unescape turns \040 and the like into the bytes they stand for.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// raiseReadahead lets the kernel read ahead more than the 128 KiB that a FUSE server can
// ask for. Only root may.
func raiseReadahead(dir string) error {
	m, err := findMount(dir)
	if err != nil {
		return err
	}
	f, err := os.OpenFile("/sys/class/bdi/"+m.device+"/read_ahead_kb", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(strconv.Itoa(kernelReadahead))
	return errors.Join(err, f.Close())
}

func stack() []byte { return debug.Stack() }
