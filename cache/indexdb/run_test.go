package indexdb

import (
	"log/slog"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/cache/indexdb/indextest"
	"vitrine/repo/blob"
)

// loadRun makes the run of one index file.
func loadRun(k *keys, file blob.ID, entries []blob.Entry) *run {
	var b runBuilder
	b.reset(k)
	for i := range entries {
		b.add(&entries[i])
	}
	return b.finish(file)
}

func (r *run) all(k *keys, h blob.Handle) (locs []blob.Location) {
	m := masker{keys: k}
	key, _ := m.key(&h)
	if _, err := r.lookup(&m, key, func(l blob.Location) bool {
		locs = append(locs, l)
		return true
	}); err != nil {
		panic(err)
	}
	return locs
}

func TestSortEntries(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{0, 1, 2, 7, 100, 1000} {
		for _, skew := range []uint{0, 32, 64} { // uniform, all in a few slots, all hi equal
			a, b := make([]entry, n), make([]entry, n/2)
			for _, p := range [][]entry{a, b} {
				for i := range p {
					p[i] = entry{key: dbKey{r.Uint64() >> skew, r.Uint64() % 50}, pack: uint32(i)}
				}
			}
			got := sortEntries([][]entry{a, b}, []uint32{0, 1000}).entries
			want := slices.Clone(a)
			for _, e := range b {
				e.pack += 1000
				want = append(want, e)
			}
			slices.SortStableFunc(want, func(a, b entry) int {
				switch {
				case a.key.less(b.key):
					return -1
				case b.key.less(a.key):
					return 1
				}
				return 0
			})
			if !slices.Equal(got, want) {
				t.Errorf("n %d, skew %d: not sorted", n, skew)
			}
		}
	}
}

func TestFind(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, n := range []int{0, 1, 2, 10, 1000} {
		for _, skew := range []uint{0, 8, 60} {
			p := make([]entry, n)
			for i := range p {
				p[i].key = dbKey{r.Uint64() >> skew, r.Uint64()}
			}
			x := sortEntries([][]entry{p}, []uint32{0})
			keys := []dbKey{{}, {math.MaxUint64, math.MaxUint64}, {math.MaxUint64, 0}}
			for range 200 {
				keys = append(keys, dbKey{r.Uint64() >> skew, r.Uint64()})
			}
			for _, e := range p {
				keys = append(keys, e.key, dbKey{e.key.hi, e.key.lo + 1}, dbKey{e.key.hi, e.key.lo - 1})
			}
			for _, k := range keys {
				want := slices.IndexFunc(x.entries, func(e entry) bool { return !e.key.less(k) })
				if want < 0 {
					want = n
				}
				if got := x.find(k); got != want {
					t.Fatalf("n %d, skew %d: find(%x) = %d, want %d", n, skew, k, got, want)
				}
			}
		}
	}
}

func TestRunKeepAndMerge(t *testing.T) {
	for name, most := range map[string]int{"RAM": 1 << 20, "larger ones on disk": 300, "disk": 0} {
		t.Run(name, func(t *testing.T) {
			s := &spiller{dir: t.TempDir(), most: most, free: freeBytes, log: slog.New(slog.DiscardHandler)}
			defer s.close()
			testKeepAndMerge(t, s)
			if used := s.file != nil; used != (most < 1000) {
				t.Errorf("a file was made: %v", used)
			}
		})
	}
}

func testKeepAndMerge(t *testing.T, s *spiller) {
	k := must(newKeys(testSecret))
	m := &masker{keys: k}
	var runs []*run
	var files [][]blob.Entry
	for i := range uint64(20) {
		entries := indextest.Entries(i, int(10*i))
		files = append(files, entries)
		runs = append(runs, loadRun(k, blob.Hash([]byte{byte(i)}), entries))
	}
	compacted := must(s.compact(m, slices.Clone(runs)))
	if len(compacted) != maxRuns {
		t.Fatalf("%d runs, want %d", len(compacted), maxRuns)
	}
	one := must(s.merge(m, compacted))[0]
	isEven := func(id blob.ID) bool {
		return slices.IndexFunc(runs, func(r *run) bool { return r.files[0].ID == id })%2 == 0
	}
	even := must(s.keep(m, one, isEven))
	for i, entries := range files {
		for _, e := range entries {
			if diff := cmp.Diff([]blob.Location{e.Location}, one.all(k, e.Handle)); diff != "" {
				t.Fatalf("merged: %v: %s", e.Handle, diff)
			}
			var want []blob.Location
			if i%2 == 0 {
				want = []blob.Location{e.Location}
			}
			if diff := cmp.Diff(want, even.all(k, e.Handle)); diff != "" {
				t.Fatalf("kept: %v: %s", e.Handle, diff)
			}
		}
	}
	if len(even.files) != 10 || len(even.packs) >= len(one.packs) {
		t.Errorf("%d files and %d of %d packs kept", len(even.files), len(even.packs), len(one.packs))
	}
	if must(s.keep(m, even, func(blob.ID) bool { return true })) != even {
		t.Error("keeping everything made a copy")
	}
	if must(s.keep(m, even, func(id blob.ID) bool { return !isEven(id) })) != nil {
		t.Error("keeping nothing left something")
	}
}

func TestThin(t *testing.T) {
	var p []entry
	for i, n := range []int{1, 500, 2, 500} {
		for j := range n {
			p = append(p, entry{key: dbKey{lo: uint64(i)}, pack: uint32(j)})
		}
	}
	count := map[uint64]int{}
	for _, e := range thin(p, 400) {
		count[e.key.lo]++
	}
	if diff := cmp.Diff(map[uint64]int{0: 1, 1: 100, 2: 2, 3: 100}, count); diff != "" {
		t.Error(diff)
	}
}

func TestStoredEntry(t *testing.T) {
	m := masker{keys: must(newKeys(testSecret))}
	h := indextest.Entries(1, 1)[0].Handle
	key, _ := m.key(&h)
	e := entry{key, 1, math.MaxUint32, 0, 77}
	stored := m.append([]byte("x"), &e)[1:]
	if len(stored) != entryBytes || storedKey(stored) != key {
		t.Errorf("stored % x", stored)
	}
	if got := m.parse(stored); got != e {
		t.Errorf("parse: %+v, want %+v", got, e)
	}
	// Another repository: nothing can be read, nothing is equal.
	other := masker{keys: must(newKeys([32]byte{9}))}
	if k, _ := other.key(&h); k == key {
		t.Error("the key does not depend on the secret")
	}
	if got := other.parse(stored); got == e {
		t.Error("the value does not depend on the secret")
	}
}

// Every bit of the ID and the type must take part in the key.
func TestKeyDependsOnEverything(t *testing.T) {
	m := masker{keys: must(newKeys(testSecret))}
	h := indextest.Entries(1, 1)[0].Handle
	seen := map[dbKey]bool{}
	add := func(h blob.Handle) {
		k, ok := m.key(&h)
		if !ok || seen[k] {
			t.Errorf("key of %v: %x, %v", h, k, ok)
		}
		seen[k] = true
	}
	add(h)
	add(blob.Handle{Type: 1 - h.Type, ID: h.ID})
	for bit := range 8 * len(h.ID) {
		other := h
		other.ID[bit/8] ^= 1 << (bit % 8)
		add(other)
	}
	if _, ok := m.key(&blob.Handle{Type: 2}); ok {
		t.Error("an unknown type got a key")
	}
}

func TestMaskerDoesNotAllocate(t *testing.T) {
	m := &masker{keys: must(newKeys(testSecret))}
	e := indextest.Entries(1, 1)[0]
	buf := make([]byte, 0, 64)
	if n := testing.AllocsPerRun(100, func() {
		key, _ := m.key(&e.Handle)
		p := m.append(buf, &entry{key: key})
		_ = m.parse(p)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
