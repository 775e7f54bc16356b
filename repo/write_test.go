package repo_test

import (
	"bytes"
	"testing"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

// A writer takes its lock after Open has read the index, and may have waited for it while another
// client pruned. What that client removed must be stored again.
func TestWriteDoesNotTrustTheIndexOfOpen(t *testing.T) {
	r, be := repotest.New(t, 2)
	data := blobs(7, 3)
	handles := save(t, r, blob.Data, data)
	writer := repotest.Open(t, be)
	for _, kind := range []backend.Kind{backend.Index, backend.Pack} {
		infos, err := r.ListFiles(t.Context(), kind)
		if err != nil || len(infos) == 0 {
			t.Fatal(len(infos), kind, err)
		}
		for _, info := range infos {
			if err := be.Remove(t.Context(), backend.File{Kind: kind, Name: info.Name}); err != nil {
				t.Fatal(err)
			}
		}
	}
	save(t, writer, blob.Data, data)
	reader := repotest.Open(t, be)
	for i, h := range handles {
		if got, err := reader.ReadBlob(t.Context(), h, nil); err != nil || !bytes.Equal(got, data[i]) {
			t.Errorf("blob %d was said to be durable: %v", i, err)
		}
	}
}
