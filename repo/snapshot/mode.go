package snapshot

import (
	"io/fs"
	"syscall"
)

// UnixMode turns the mode of a node into the st_mode of stat(2).
func UnixMode(m fs.FileMode) uint32 {
	mode := uint32(m.Perm())
	for _, bit := range [...]struct {
		is   fs.FileMode
		unix uint32
	}{{fs.ModeSetuid, syscall.S_ISUID}, {fs.ModeSetgid, syscall.S_ISGID}, {fs.ModeSticky, syscall.S_ISVTX}} {
		if m&bit.is != 0 {
			mode |= bit.unix
		}
	}
	switch {
	case m&fs.ModeDir != 0:
		return mode | syscall.S_IFDIR
	case m&fs.ModeSymlink != 0:
		return mode | syscall.S_IFLNK
	case m&fs.ModeCharDevice != 0:
		return mode | syscall.S_IFCHR
	case m&fs.ModeDevice != 0:
		return mode | syscall.S_IFBLK
	case m&fs.ModeNamedPipe != 0:
		return mode | syscall.S_IFIFO
	case m&fs.ModeSocket != 0:
		return mode | syscall.S_IFSOCK
	}
	return mode | syscall.S_IFREG
}
