package restore

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"vitrine/repo/snapshot"
)

// object is what metadata is given to: an open file or directory, or a name in an open directory,
// which is not followed when it is a symbolic link.
type object struct {
	fd   int
	name string // "" for fd itself
}

func descriptor(fd int) object            { return object{fd: fd} }
func named(dirfd int, name string) object { return object{dirfd, name} }

// path leads to a named object, for calls that take no descriptor and do not follow the last component.
func (o object) path() string { return procFD(o.fd) + "/" + o.name }

func procFD(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

func (o object) chown(uid, gid int) error {
	if o.name == "" {
		return unix.Fchown(o.fd, uid, gid)
	}
	return unix.Fchownat(o.fd, o.name, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
}

func (o object) stat(st *unix.Stat_t) error {
	if o.name == "" {
		return unix.Fstat(o.fd, st)
	}
	return lstat(o.fd, o.name, st)
}

// chmod must not be called for symbolic links, which have no mode.
func (o object) chmod(mode uint32) error {
	if o.name == "" {
		return unix.Fchmod(o.fd, mode)
	}
	// fchmodat(2) follows links. A descriptor that only names the object does not.
	fd, err := openat(o.fd, o.name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer closeFD(fd)
	return unix.Chmod(procFD(fd), mode)
}

func (o object) setTimes(n *snapshot.Node) error {
	var times [2]unix.Timespec
	for i, t := range []time.Time{n.AccessTime, n.ModTime} {
		var err error
		if times[i], err = unix.TimeToTimespec(t); err != nil { // on 32 bits, after 2038
			return err
		}
	}
	if o.name != "" {
		return unix.UtimesNanoAt(o.fd, o.name, times[:], unix.AT_SYMLINK_NOFOLLOW)
	}
	// futimens(3) is utimensat(2) without a name.
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(o.fd), 0, uintptr(unsafe.Pointer(&times[0])), 0, 0, 0)
	if errno != 0 {
		return errno
	}
	return nil
}

func (o object) setXattr(name string, value []byte) error {
	if o.name == "" {
		return unix.Fsetxattr(o.fd, name, value, 0)
	}
	return unix.Lsetxattr(o.path(), name, value, 0)
}

func (o object) removeXattr(name string) error {
	if o.name == "" {
		return unix.Fremovexattr(o.fd, name)
	}
	return unix.Lremovexattr(o.path(), name)
}

func (o object) xattrs() ([]string, error) {
	for size := 1 << 10; ; size *= 4 {
		buf := make([]byte, size)
		var n int
		var err error
		if o.name == "" {
			n, err = unix.Flistxattr(o.fd, buf)
		} else {
			n, err = unix.Llistxattr(o.path(), buf)
		}
		if err == unix.ERANGE {
			continue
		}
		if err != nil || n == 0 {
			return nil, err
		}
		return strings.Split(string(bytes.TrimSuffix(buf[:n], []byte{0})), "\x00"), nil
	}
}

// attributes gives an object the node's metadata. When it was there before, extended attributes that the
// node has not are removed. All of it is tried, whatever fails.
func (r *run) attributes(o object, n *snapshot.Node, existed bool) error {
	var errs []error
	fail := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	// The owner first: changing it clears the set-ID bits and the capabilities.
	uid, gid := r.owner.of(n)
	mode := snapshot.UnixMode(n.Mode) & 0o7777
	setID := n.Type == snapshot.File && mode&(unix.S_ISUID|unix.S_ISGID) != 0
	if existed || setID || r.giveGroup.Load() || uid != r.owner.uid || gid != r.owner.gid {
		err := o.chown(uid, gid)
		if err != unix.EPERM || r.owner.uid == 0 { // others may not, and expect not to
			fail("set the owner", err)
		}
		if err != nil && setID {
			mode = r.withoutSetID(o, n, mode, uid, gid)
		}
	}
	// Attributes before the mode, which may forbid to write them.
	errs = append(errs, r.setXattrs(o, n, existed)...)
	if n.Type != snapshot.Symlink {
		fail("set the mode", o.chmod(mode))
	}
	fail("set the times", o.setTimes(n))
	return errors.Join(errs...)
}

// withoutSetID returns the mode of a file that could not be given to its owner, without the bits that would let everybody act as the
// user or group that it has now.
func (r *run) withoutSetID(o object, n *snapshot.Node, mode uint32, uid, gid int) uint32 {
	var st unix.Stat_t
	err := o.stat(&st)
	kept := mode
	if err != nil || int(st.Uid) != uid {
		kept &^= unix.S_ISUID
	}
	if err != nil || int(st.Gid) != gid {
		kept &^= unix.S_ISGID
	}
	if kept != mode {
		r.noSetID.Do(func() {
			r.Log.Warn("files that cannot be given to their owner do not get its set-user-ID and set-group-ID bits; restore as root for that", "first", n.Name, "target", r.Target)
		})
	}
	return kept
}

func (r *run) setXattrs(o object, n *snapshot.Node, existed bool) (errs []error) {
	if existed {
		errs = r.removeXattrs(o, n)
	}
	for _, x := range n.Xattrs {
		if r.Xattrs != nil && !r.Xattrs(x.Name) {
			continue
		}
		err := o.setXattr(x.Name, x.Value)
		switch {
		case err == unix.ENOTSUP:
			r.noXattrs.Do(func() {
				r.Log.Warn("the file system of the target does not take some extended attributes", "attribute", x.Name, "target", r.Target)
			})
		case err != nil:
			errs = append(errs, fmt.Errorf("set the extended attribute %s: %w", x.Name, err))
		}
	}
	return errs
}

func (r *run) removeXattrs(o object, n *snapshot.Node) (errs []error) {
	names, err := o.xattrs()
	if err != nil && err != unix.ENOTSUP {
		return []error{fmt.Errorf("list the extended attributes: %w", err)}
	}
next:
	for _, name := range names {
		if r.Xattrs != nil && !r.Xattrs(name) {
			continue
		}
		for _, x := range n.Xattrs {
			if x.Name == name {
				continue next
			}
		}
		if err := o.removeXattr(name); err != nil && err != unix.ENODATA {
			errs = append(errs, fmt.Errorf("remove the extended attribute %s: %w", name, err))
		}
	}
	return errs
}

// owners knows who is to own what.
type owners struct {
	uid, gid int // of new files as the kernel makes them
	byName   bool

	mu     sync.Mutex // guards the maps
	users  map[string]int
	groups map[string]int
}

func newOwners(byName bool) *owners {
	return &owners{uid: os.Geteuid(), gid: os.Getegid(), byName: byName, users: map[string]int{}, groups: map[string]int{}}
}

// of returns the owner of a node on this machine.
func (o *owners) of(n *snapshot.Node) (uid, gid int) {
	uid, gid = int(n.UID), int(n.GID)
	if !o.byName {
		return uid, gid
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	uid = number(o.users, n.User, uid, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	gid = number(o.groups, n.Group, gid, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	return uid, gid
}

// number looks a name up, once; a name that is not known keeps its number.
func number(known map[string]int, name string, otherwise int, lookup func(string) (string, error)) int {
	if name == "" {
		return otherwise
	}
	id, ok := known[name]
	if !ok {
		id = -1
		if s, err := lookup(name); err == nil {
			if n, err := strconv.Atoi(s); err == nil {
				id = n
			}
		}
		known[name] = id
	}
	if id < 0 {
		return otherwise
	}
	return id
}
