package restore

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// What is mounted is found by statx(2) as kernels know it since 5.8, as it was before, and without it.
func TestNotMounted(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"plain", "tmpfs", "bind", "plain/below"} {
		if err := os.Mkdir(dir+"/"+name, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"file", "bound"} {
		if err := os.WriteFile(dir+"/"+name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []struct {
		from, at, kind string
		flags          uintptr
	}{{"none", "tmpfs", "tmpfs", 0}, {dir + "/plain", "bind", "", unix.MS_BIND}, {dir + "/file", "bound", "", unix.MS_BIND}} {
		if err := unix.Mount(m.from, dir+"/"+m.at, m.kind, m.flags, ""); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := unix.Unmount(dir+"/"+m.at, unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		})
	}
	open := func(name string) int {
		fd, err := unix.Open(name, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	top := open(dir)

	old := func(fd int, name string, flags, mask int, stx *unix.Statx_t) error { // 5.7 and before
		err := unix.Statx(fd, name, flags, mask, stx)
		stx.Attributes &^= unix.STATX_ATTR_MOUNT_ROOT
		stx.Attributes_mask &^= unix.STATX_ATTR_MOUNT_ROOT
		return err
	}
	none := func(int, string, int, int, *unix.Statx_t) error { return unix.ENOSYS } // 4.10 and before
	broken := func(int, string, int, int, *unix.Statx_t) error { return unix.EIO }
	for _, test := range []struct {
		name string
		now  error // since 5.8
		then error // before; what is of the same device is not told apart
	}{
		{"plain", nil, nil},
		{"plain/below", nil, nil},
		{"file", nil, nil},
		{"tmpfs", errMounted, errMounted},
		{"bind", errMounted, nil},
		{"bound", errMounted, nil},
		{"missing", unix.ENOENT, unix.ENOENT},
	} {
		if err := notMountedBy(unix.Statx, top, test.name); !errors.Is(err, test.now) {
			t.Errorf("%s: %v, want %v", test.name, err, test.now)
		}
		if err := notMountedBy(old, top, test.name); !errors.Is(err, test.then) {
			t.Errorf("%s with an old statx: %v, want %v", test.name, err, test.then)
		}
		if err := notMountedBy(none, top, test.name); !errors.Is(err, test.then) {
			t.Errorf("%s without statx: %v, want %v", test.name, err, test.then)
		}
		if err := notMountedBy(broken, top, test.name); !errors.Is(err, unix.EIO) {
			t.Errorf("%s with a broken statx: %v", test.name, err)
		}
		// The open directory itself.
		if info, err := os.Stat(dir + "/" + test.name); err != nil || !info.IsDir() {
			continue
		}
		here := open(dir + "/" + test.name)
		if err := notMountedBy(unix.Statx, here, ""); !errors.Is(err, test.now) {
			t.Errorf("%s itself: %v, want %v", test.name, err, test.now)
		}
		if err := notMountedBy(none, here, ""); !errors.Is(err, test.then) {
			t.Errorf("%s itself without statx: %v, want %v", test.name, err, test.then)
		}
	}
}
