package repo_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

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
