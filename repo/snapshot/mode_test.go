package snapshot_test

import (
	"io/fs"
	"syscall"
	"testing"

	"vitrine/repo/snapshot"
)

func TestUnixMode(t *testing.T) {
	for mode, want := range map[fs.FileMode]uint32{
		0o644:                              syscall.S_IFREG | 0o644,
		fs.ModeDir | fs.ModeSticky | 0o777: syscall.S_IFDIR | 0o1777,
		fs.ModeSetuid | fs.ModeSetgid:      syscall.S_IFREG | 0o6000,
		fs.ModeSymlink | 0o777:             syscall.S_IFLNK | 0o777,
		fs.ModeDevice | 0o600:              syscall.S_IFBLK | 0o600,
		fs.ModeDevice | fs.ModeCharDevice:  syscall.S_IFCHR,
		fs.ModeNamedPipe:                   syscall.S_IFIFO,
		fs.ModeSocket:                      syscall.S_IFSOCK,
	} {
		if got := snapshot.UnixMode(mode); got != want {
			t.Errorf("%v: %#o, want %#o", mode, got, want)
		}
	}
}
