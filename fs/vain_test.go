package fs

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vitrine/cache/blobcache"
	"vitrine/fs/tree/treetest"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// The kernel asks for a page again at once; that does not wait for the store a second time, and what comes later does.
func TestVain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := treetest.New(t)
		node := src.File("f", "12345678", "90")
		src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(node), nil)
		n := bareNodes(t, src, nil)
		id := find(t, n, "snapshots/2020-01-02T03:04:05Z/f").NodeId
		chunk := blob.Handle{Type: blob.Data, ID: node.Content[0]}
		src.Break(chunk, backend.Classed(backend.ErrAway, errors.New("connection refused")))
		for i, step := range []struct {
			after  time.Duration
			offset uint64
			asked  int64 // how often in all
		}{
			{0, 0, 1},
			{vainFor, 1, 1}, // the kernel
			{0, 1, 2},       // somebody else
			{2 * vainFor, 1, 3},
		} {
			time.Sleep(step.after)
			if _, st := readNode(n, id, step.offset, 4); st != fuse.EIO {
				t.Errorf("read %d: %v", i, st)
			}
			if got := n.stats.outages.status().Count; got != step.asked {
				t.Errorf("read %d: the store was asked %d times, want %d", i, got, step.asked)
			}
		}
		if got, st := readNode(n, id, 8, 4); got != "90" || st != fuse.OK {
			t.Errorf("elsewhere in the file: %q, %v", got, st)
		}
		forget := func() {
			time.Sleep(2 * vainFor)
			n.chunks.Close()
			n.chunks = blobcache.NewChunks(1 << 20)
		}
		forget()
		later := blob.Handle{Type: blob.Data, ID: node.Content[1]}
		src.Break(chunk, nil)
		src.Break(later, backend.Classed(backend.ErrAway, errors.New("connection refused")))
		if _, st := readNode(n, id, 4, 8); st != fuse.EIO {
			t.Errorf("a read into what is out of reach: %v", st)
		}
		if got, st := readNode(n, id, 4, 4); got != "5678" || st != fuse.OK {
			t.Errorf("what was there of it: %q, %v", got, st)
		}
		src.Break(chunk, errors.New("connection refused")) // not waited for
		forget()
		readNode(n, id, 0, 4)
		if readNode(n, id, 0, 4); n.stats.outages.status().Count != 6 {
			t.Errorf("asked %d times, want 6", n.stats.outages.status().Count)
		}
	})
}
