package stats_test

import (
	"context"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/stats"
)

func TestBounds(t *testing.T) {
	for size, class := range map[uint64]int{0: 0, 1: 1, 2: 2, 3: 2, 4: 3, 1023: 10, 1024: 11, math.MaxUint64: 64} {
		var h stats.Histogram
		h.Add(size)
		if least, most := stats.Bounds(class); h.Classes[class] != 1 || size < least || size > most {
			t.Errorf("%d is not in class %d from %d to %d", size, class, least, most)
		}
	}
	for class := 1; class <= 64; class++ {
		_, before := stats.Bounds(class - 1)
		if least, most := stats.Bounds(class); least != before+1 || most < least {
			t.Errorf("class %d is from %d to %d, the one before ends with %d", class, least, most, before)
		}
	}
}

func TestHistogram(t *testing.T) {
	var h stats.Histogram
	for _, n := range []uint64{700, 5, 6, 0, 513} {
		h.Add(n)
	}
	want := stats.Histogram{Count: 5, Bytes: 1224, Largest: 700}
	want.Classes[0], want.Classes[3], want.Classes[10] = 1, 2, 2
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestSizes: files are counted as they are listed, blobs as their packs have them.
func TestSizes(t *testing.T) {
	r, be := repotest.New(t, 2)
	err := r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		for _, content := range []string{"a", "bb", "ccc"} {
			if _, err := w.SaveBlob(ctx, blob.Data, []byte(content)); err != nil {
				return err
			}
		}
		_, err := w.SaveBlob(ctx, blob.Tree, make([]byte, 10_000))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var packs stats.Histogram
	err = be.List(t.Context(), backend.Pack, func(info backend.Info) error {
		packs.Add(uint64(info.SizeBytes))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := stats.Sizes(t.Context(), r, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]stats.Histogram{}
	for _, s := range list {
		got[s.What] = s.Histogram
	}
	if len(got) != 9 || got["key files"].Count != 1 || got["index files"].Count != 1 || got["snapshot files"].Count != 0 {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(packs, got["pack files"]); diff != "" || packs.Count != 2 {
		t.Errorf("%d packs: -want +got:\n%s", packs.Count, diff)
	}
	plain := got["data blobs, before compression"]
	if plain.Count != 3 || plain.Bytes != 6 || plain.Smallest != 1 || plain.Largest != 3 {
		t.Errorf("data: %+v", plain)
	}
	stored, before := got["tree blobs, as stored"], got["tree blobs, before compression"]
	if stored.Count != 1 || before.Bytes != 10_000 || stored.Bytes >= 1000 {
		t.Errorf("trees: %+v, before compression %+v", stored, before)
	}
}
