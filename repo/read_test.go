package repo_test

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
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

// A pack that is not there, but still in the index after a Refresh, is asked for once more: the answer may have been that
// of something before the store.
func TestReadBlobAfterAMissThatPassed(t *testing.T) {
	for misses, lost := range []bool{false, false, true} {
		r, be := repotest.New(t, 2)
		content := []byte("content")
		h := save(t, r, blob.Data, [][]byte{content})[0]
		flaky := fault.New(be, nil)
		r = repotest.Open(t, flaky)
		reads := 0
		flaky.SetPlan(func(c fault.Call) fault.Fault {
			if c.Op != fault.ReadAt {
				return fault.Fault{}
			}
			if reads++; reads <= misses {
				return fault.Fault{Mode: fault.Before, Err: backend.ErrNotExist}
			}
			return fault.Fault{}
		})
		got, err := r.ReadBlob(t.Context(), h, nil)
		switch {
		case lost && (!errors.Is(err, backend.ErrNotExist) || strings.Contains(err.Error(), "\n")):
			t.Errorf("missing %d times: %q, want ErrNotExist once", misses, err)
		case !lost && (err != nil || !bytes.Equal(got, content)):
			t.Errorf("missing %d times: %q, %v", misses, got, err)
		}
		if want := min(misses+1, 2); reads != want {
			t.Errorf("missing %d times: %d reads, want %d", misses, reads, want)
		}
	}
}

// moving is the index of a reader beside which others prune: each Refresh leads to where the blob is next.
type moving struct {
	repo.Index
	places []blob.Location
	at     int
}

func (m *moving) Lookup(blob.Handle) (blob.Location, bool, error) { return m.places[m.at], true, nil }
func (m *moving) Locations(blob.Handle) ([]blob.Location, error)  { return m.places[m.at : m.at+1], nil }
func (m *moving) Refresh(context.Context) error {
	m.at = min(m.at+1, len(m.places)-1)
	return nil
}

// A blob may be moved again before it is read where it was moved to.
func TestReadBlobMovedTwice(t *testing.T) {
	r, be := repotest.New(t, 2)
	data := blobs(9, 1)
	h := save(t, r, blob.Data, data)[0]
	r = repotest.Open(t, be)
	loc, _, err := r.LookupBlob(h)
	if err != nil {
		t.Fatal(err)
	}
	gone := func(n byte) blob.Location {
		l := loc
		l.Pack = blob.ID{n}
		return l
	}
	for name, test := range map[string]struct {
		places []blob.Location
		want   error
	}{
		"once":  {[]blob.Location{gone(1), loc}, nil},
		"twice": {[]blob.Location{gone(1), gone(2), loc}, nil},
		"gone":  {[]blob.Location{gone(1), gone(2)}, backend.ErrNotExist},
	} {
		o := repotest.Options()
		o.OpenIndex = func(context.Context, *repo.Repository) (repo.Index, error) { return &moving{places: test.places}, nil }
		r, err := repo.Open(t.Context(), be, o)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.ReadBlob(t.Context(), h, nil)
		if !errors.Is(err, test.want) || err == nil && !bytes.Equal(got, data[0]) {
			t.Errorf("moved %s: %v, want %v", name, err, test.want)
		}
	}
}

// A copy that cannot be asked for may be sound: with another one that is lost, the blob does not count as lost.
func TestReadBlobOfACopyOutOfReach(t *testing.T) {
	r, be := repotest.New(t, 2)
	h := save(t, r, blob.Data, blobs(9, 1))[0]
	loc, _, err := repotest.Open(t, be).LookupBlob(h)
	if err != nil {
		t.Fatal(err)
	}
	elsewhere := loc
	elsewhere.Pack = blob.ID{1}
	away := errors.New("connection refused")
	for name, first := range map[string]error{"gone": backend.ErrNotExist, "cut": backend.ErrShort} {
		flaky := fault.New(be, nil)
		o := repotest.Options()
		o.OpenIndex = func(context.Context, *repo.Repository) (repo.Index, error) {
			return copies{places: []blob.Location{elsewhere, loc}}, nil
		}
		r, err := repo.Open(t.Context(), flaky, o)
		if err != nil {
			t.Fatal(err)
		}
		flaky.SetPlan(func(c fault.Call) fault.Fault {
			switch {
			case c.Op != fault.ReadAt:
				return fault.Fault{}
			case c.File.Name == loc.Pack.String():
				return fault.Fault{Mode: fault.Before, Err: away}
			}
			return fault.Fault{Mode: fault.Before, Err: first}
		})
		if _, err := r.ReadBlob(t.Context(), h, nil); !errors.Is(err, away) || repo.IsLost(err) {
			t.Errorf("one copy is %s, the other out of reach: %v", name, err)
		}
	}
}

// copies is an index that knows several places of each blob.
type copies struct {
	repo.Index
	places []blob.Location
}

func (c copies) Lookup(blob.Handle) (blob.Location, bool, error) { return c.places[0], true, nil }
func (c copies) Locations(blob.Handle) ([]blob.Location, error)  { return c.places, nil }
func (c copies) Refresh(context.Context) error                   { return nil }
