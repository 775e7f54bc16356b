package fs

import (
	"context"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// Children started at any moment of a mount's life get no file of it: neither /dev/fuse nor
// what go-fuse would open below the mount point.
func TestChildrenInheritNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var children sync.WaitGroup
	defer children.Wait()
	defer cancel()
	found := make(chan string, 1)
	for range 4 {
		children.Go(func() {
			for ctx.Err() == nil {
				// find complains of the descriptor of its own listing, which is gone when it looks.
				out, _ := exec.Command("find", "/proc/self/fd", "-printf", "%l\n").Output()
				for line := range strings.Lines(string(out)) {
					if strings.Contains(line, "/dev/fuse") || strings.Contains(line, "epoll-hack") {
						select {
						case found <- line:
						default:
						}
					}
				}
			}
		})
	}
	for range 30 {
		dir := mountPoint(t)
		s, err := Mount(ctx, dir, small(t), Options{})
		if err != nil {
			t.Fatal(err)
		}
		sh(t, dir, "ls snapshots/latest >/dev/null")
		if err := s.Unmount(); err != nil {
			t.Fatal(err)
		}
		s.Wait()
	}
	select {
	case line := <-found:
		t.Errorf("a child has %s", line)
	default:
	}
}
