package repo_test

import (
	"bytes"
	"errors"
	"log/slog"
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

// Nobody may take an older snapshot for the latest one without hearing of it.
func TestLatestWarnsOfDamagedSnapshots(t *testing.T) {
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
	replace(t, be, backend.File{Kind: backend.Snapshot, Name: ids[1].String()}, []byte("damaged"))
	var log bytes.Buffer
	o := repotest.Options()
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	r, err := repo.Open(t.Context(), be, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	sn, err := r.FindSnapshot(t.Context(), "latest", snapshot.Filter{})
	if err != nil || sn.ID != ids[0] {
		t.Fatalf("latest: %v %v, want the one that is left", sn, err)
	}
	if !strings.Contains(log.String(), ids[1].Short()) {
		t.Errorf("the log does not name the damaged snapshot: %q", log.String())
	}
}
