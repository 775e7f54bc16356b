package repo_test

import (
	"errors"
	"runtime"
	"testing"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

// The index may say anything of a blob's size; memory is taken only for what its frame can hold.
func TestWrongPlainSizeIsNotAllocated(t *testing.T) {
	r, be := repotest.New(t, 2)
	h := save(t, r, blob.Data, [][]byte{make([]byte, 10_000)})[0]
	r = repotest.Open(t, be)
	loc, ok, err := r.LookupBlob(h)
	if err != nil || !ok || !loc.Compressed() {
		t.Fatal(loc, ok, err)
	}
	loc.PlainBytes = 1 << 30
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = r.ReadBlobAt(t.Context(), h, loc, nil)
	runtime.ReadMemStats(&after)
	if !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("error %v, want %v", err, repo.ErrCorrupt)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
		t.Errorf("%d MiB were allocated", took>>20)
	}
}
