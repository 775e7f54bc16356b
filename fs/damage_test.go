package fs

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hanwen/go-fuse/v2/fuse"

	"vitrine/fs/tree/treetest"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

func TestIsDamage(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want bool
	}{
		{fmt.Errorf("load pack: %w", repo.ErrCorrupt), true},
		{&snapshot.DecodeError{Err: io.EOF}, true},
		{repo.ErrBlobMissing, true},
		{fmt.Errorf("read: %w", backend.ErrNotExist), true},
		{backend.ErrShort, true},
		{fmt.Errorf("read: %w", syscall.EIO), true},
		{syscall.ECONNREFUSED, false},
		{backend.ErrDenied, false},
		{backend.ErrUntrusted, false},
		{fmt.Errorf("%w (given up after 9 tries in 5m)", io.ErrUnexpectedEOF), false},
	} {
		if got := isDamage(tc.err); got != tc.want {
			t.Errorf("%v: %v", tc.err, got)
		}
	}
}

// A store that was away has damaged nothing; what it fails is counted, and told apart from what is lost.
func TestOutagesAreNoDamage(t *testing.T) {
	src := treetest.New(t)
	f := src.File("f", "aaaa", "bb")
	d := src.Dir("d", src.File("g", "x"))
	src.AddSnapshot(time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC), src.Tree(d, f), nil)
	n := bareNodes(t, src, nil)
	const dir = "/snapshots/2020-01-02T03:04:05Z/"
	file, sub := find(t, n, dir[1:]+"f").NodeId, find(t, n, dir[1:]+"d").NodeId
	chunk, tree := blob.Handle{Type: blob.Data, ID: f.Content[1]}, blob.Handle{Type: blob.Tree, ID: *d.Subtree}
	try := func() {
		t.Helper()
		if _, st := readNode(n, file, 0, 100); st != fuse.EIO {
			t.Errorf("read: %v", st)
		}
		if st := n.Lookup(nil, &fuse.InHeader{NodeId: sub}, "g", &fuse.EntryOut{}); st != fuse.EIO {
			t.Errorf("look up: %v", st)
		}
	}
	away := errors.New("connection refused")
	src.Break(chunk, away)
	src.Break(tree, away)
	try()
	try()
	if list, total := n.stats.damage.all(); total != 0 || len(list) != 0 {
		t.Errorf("damage after an outage: %+v", list)
	}
	o := n.stats.outages.status()
	if o.Count != 4 || o.Last == nil || o.Last.Path != dir+"d" || o.Last.Time.IsZero() {
		t.Errorf("outages: %+v, the last %+v", o, o.Last)
	}
	rotten := fmt.Errorf("%w: rotten", repo.ErrCorrupt)
	src.Break(chunk, rotten)
	src.Break(tree, rotten)
	try()
	try()
	list, total := n.stats.damage.all()
	want := []Damage{
		{Path: dir + "f", What: "bytes 4 to 6", From: 4, To: 6, Blob: chunk.ID.String(), Pack: treetest.Pack.String()},
		{Path: dir + "d", What: "the directory"},
	}
	if diff := cmp.Diff(want, list, cmpopts.IgnoreFields(Damage{}, "Time", "Error")); diff != "" || total != 2 {
		t.Errorf("%d damages: %s", total, diff)
	}
	if o := n.stats.outages.status(); o.Count != 4 {
		t.Errorf("%d outages after the damage", o.Count)
	}
}
