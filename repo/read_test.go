package repo_test

import (
	"bytes"
	"errors"
	"runtime"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

// The index may say anything of a blob's size; memory is taken only for what its pack has and its
// frame can hold.
func TestWrongSizesAreNotAllocated(t *testing.T) {
	r, be := repotest.New(t, 2)
	h := save(t, r, blob.Data, [][]byte{make([]byte, 10_000)})[0]
	r = repotest.Open(t, be)
	loc, ok, err := r.LookupBlob(h)
	if err != nil || !ok || !loc.Compressed() {
		t.Fatal(loc, ok, err)
	}
	plain, sealed := loc, loc
	plain.PlainBytes = 1 << 30
	sealed.LengthBytes = 1 << 30
	for what, wrong := range map[string]blob.Location{"plain": plain, "sealed": sealed} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err = r.ReadBlobAt(t.Context(), h, wrong, nil)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, repo.ErrCorrupt) {
			t.Errorf("%s size: error %v, want %v", what, err, repo.ErrCorrupt)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 16<<20 {
			t.Errorf("%s size: %d MiB were allocated", what, took>>20)
		}
	}
}

// A blob may be stored in several packs. While one copy is good, the blob can be read.
func TestReadBlobTakesTheGoodCopy(t *testing.T) {
	first, be := repotest.New(t, 2)
	second := repotest.Open(t, be)
	data := blobs(8, 1)
	h := save(t, first, blob.Data, data)[0]
	index, err := first.ListFiles(t.Context(), backend.Index)
	if err != nil || len(index) != 1 {
		t.Fatal(index, err)
	}
	// The second writer must not see the first one's blob: hide its index file.
	f := backend.File{Kind: backend.Index, Name: index[0].Name}
	hidden, err := be.ReadAll(t.Context(), f, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if err := be.Remove(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	save(t, second, blob.Data, data)
	replace(t, be, f, hidden)
	packs, err := first.ListFiles(t.Context(), backend.Pack)
	if err != nil || len(packs) != 2 {
		t.Fatal(packs, err)
	}
	for _, info := range packs {
		pack := backend.File{Kind: backend.Pack, Name: info.Name}
		good, err := be.ReadAll(t.Context(), pack, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[20] ^= 1
		for what, content := range map[string][]byte{"damaged": bad, "short": good[:20], "gone": nil} {
			if content == nil {
				if err := be.Remove(t.Context(), pack); err != nil {
					t.Fatal(err)
				}
			} else {
				replace(t, be, pack, content)
			}
			got, err := repotest.Open(t, be).ReadBlob(t.Context(), h, nil)
			if err != nil || !bytes.Equal(got, data[0]) {
				t.Errorf("one of two copies is %s: %v", what, err)
			}
			replace(t, be, pack, good)
		}
	}
}
