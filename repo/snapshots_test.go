package repo_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

// A listing that says ErrNotExist knows nothing of the files; it is no empty one.
func TestListFilesReturnsEveryError(t *testing.T) {
	_, be := repotest.New(t, 2)
	flaky := fault.New(be, nil)
	r := repotest.Open(t, flaky)
	flaky.SetPlan(func(c fault.Call) fault.Fault {
		if c.Op == fault.List {
			return fault.Fault{Mode: fault.Before, Err: backend.ErrNotExist}
		}
		return fault.Fault{}
	})
	for _, kind := range backend.Kinds {
		if infos, err := r.ListFiles(t.Context(), kind); !errors.Is(err, backend.ErrNotExist) {
			t.Errorf("%v: %d files, %v", kind, len(infos), err)
		}
	}
}

// A snapshot that is listed and not there was removed only if a new listing lacks it, too.
func TestSnapshotListedButMissing(t *testing.T) {
	for _, c := range []struct {
		name    string
		misses  int  // of reads of the second snapshot
		removed bool // before it is read
		found   int
		class   error
	}{
		{"removed meanwhile", 1, true, 1, nil},
		{"a 404 that passes", 1, false, 2, nil},
		{"a 404 that stays", 1000, false, 1, backend.ErrNotExist},
	} {
		r, be := repotest.New(t, 2)
		tree := blob.Hash([]byte("tree"))
		var ids [2]blob.ID
		for i := range ids {
			sn := &snapshot.Snapshot{Time: time.Unix(int64(i), 0), Tree: &tree, Paths: []string{"/srv"}}
			var err error
			if ids[i], err = r.SaveSnapshot(t.Context(), sn); err != nil {
				t.Fatal(err)
			}
		}
		second := backend.File{Kind: backend.Snapshot, Name: ids[1].String()}
		var misses atomic.Int64
		flaky := fault.New(be, func(call fault.Call) fault.Fault {
			if call.Op != fault.ReadAll || call.File != second {
				return fault.Fault{}
			}
			n := misses.Add(1)
			if n == 1 && c.removed {
				if err := be.Remove(t.Context(), second); err != nil {
					t.Error(err)
				}
			}
			if int(n) <= c.misses {
				return fault.Fault{Mode: fault.Before, Err: backend.ErrNotExist}
			}
			return fault.Fault{}
		})
		sns, err := repotest.Open(t, flaky).Snapshots(t.Context())
		if len(sns) != c.found || !errors.Is(err, c.class) || err != nil && !strings.Contains(err.Error(), second.String()) {
			t.Errorf("%s: %d snapshots and %v, want %d and class %v", c.name, len(sns), err, c.found, c.class)
		}
	}
}

// Nobody is given an older snapshot in place of the latest one, which may be the one that cannot be read.
func TestNoLatestBesideDamagedSnapshots(t *testing.T) {
	r, be := repotest.New(t, 2)
	tree := blob.Hash([]byte("tree"))
	var ids [2]blob.ID
	for i := range ids {
		sn := &snapshot.Snapshot{Time: time.Unix(int64(i), 0), Tree: &tree, Paths: []string{"/srv"}}
		var err error
		if ids[i], err = r.SaveSnapshot(t.Context(), sn); err != nil {
			t.Fatal(err)
		}
	}
	if sn, err := r.FindSnapshot(t.Context(), "latest", snapshot.Filter{}); err != nil || sn.ID != ids[1] {
		t.Errorf("latest: %v, %v", sn, err)
	}
	replace(t, be, backend.File{Kind: backend.Snapshot, Name: ids[1].String()}, []byte("damaged"))
	r = repotest.Open(t, be)
	_, err := r.FindSnapshot(t.Context(), "latest", snapshot.Filter{})
	if !errors.Is(err, repo.ErrCorrupt) || errors.Is(err, repo.ErrNoMatch) || !strings.Contains(err.Error(), ids[1].String()[:8]) || !strings.Contains(err.Error(), "forget") {
		t.Errorf("latest beside a damaged snapshot: %v, want ErrCorrupt that names it, and how to remove it", err)
	}
	away := repotest.Open(t, fault.New(be, func(c fault.Call) fault.Fault {
		if c.File.Name == ids[0].String() {
			return fault.Fault{Mode: fault.Before, Err: backend.Classed(backend.ErrAway, errors.New("no answer"))}
		}
		return fault.Fault{}
	}))
	if err := be.Remove(t.Context(), backend.File{Kind: backend.Snapshot, Name: ids[1].String()}); err != nil {
		t.Fatal(err)
	}
	if _, err := away.FindSnapshot(t.Context(), "latest", snapshot.Filter{}); !errors.Is(err, backend.ErrAway) || strings.Contains(err.Error(), "forget") {
		t.Errorf("latest beside a snapshot that cannot be reached: %v, want ErrAway, and no advice to remove it", err)
	}
	if sn, err := r.FindSnapshot(t.Context(), ids[0].String()[:8], snapshot.Filter{}); err != nil || sn.ID != ids[0] {
		t.Errorf("by its ID: %v, %v", sn, err)
	}
}
