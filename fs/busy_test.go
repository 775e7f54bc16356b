package fs

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// A mount can be unmounted as soon as it answers: it is no user of itself. Unmounting
// comes while Mount is still under way, and it does not make Mount fail.
func TestNotBusyByItself(t *testing.T) {
	src := small(t)
	for round := range 100 {
		dir := mountPoint(t)
		unmounted := make(chan error, 1)
		go func() { unmounted <- unmountWhenAnswered(dir) }()
		s, err := Mount(t.Context(), dir, src, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := <-unmounted; err != nil {
			_ = s.Unmount()
			t.Fatalf("round %d: unmount of a mount that nobody uses: %v", round, err)
		}
		s.Wait()
	}
}

// unmountWhenAnswered asks dir what file system it is until it is ours, and unmounts it at once.
func unmountWhenAnswered(dir string) error {
	var st unix.Statfs_t
	for st.Type != unix.FUSE_SUPER_MAGIC {
		if err := unix.Statfs(dir, &st); err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
	return unix.Unmount(dir, 0)
}
