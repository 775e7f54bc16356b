package indextest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"vitrine/repo/blob"
)

// Index is what is tested: repo.Index.
type Index interface {
	Lookup(h blob.Handle) (blob.Location, bool, error)
	Packs(fn func(blob.ID)) error
	Refresh(ctx context.Context) error
	Close() error
}

// Open opens an index of the source. It closes what it returned when the test ends, if the test
// did not.
type Open func(t *testing.T, src *Source) (Index, error)

// Run tests an implementation. Each subtest opens indexes of its own.
func Run(t *testing.T, open Open) {
	for _, tc := range []struct {
		name string
		fn   func(*testing.T, Open)
	}{
		{"empty", testEmpty},
		{"finds all", testFindsAll},
		{"near misses", testNearMisses},
		{"extreme values", testExtremes},
		{"many small files", testManyFiles},
		{"refresh", testRefresh},
		{"several places", testSeveralPlaces},
		{"prune", testPrune},
		{"errors", testErrors},
		{"vanishes while loading", testVanishesWhileLoading},
		{"cancelled", testCancelled},
		{"parallel", testParallel},
	} {
		t.Run(tc.name, func(t *testing.T) { tc.fn(t, open) })
	}
}

func mustOpen(t *testing.T, open Open, src *Source) Index {
	t.Helper()
	x, err := open(t, src)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func mustRefresh(t *testing.T, x Index) {
	t.Helper()
	if err := x.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Check looks up every blob of the source: the answer must be one of its places. The packs must be
// those of the source, and no other.
func Check(t *testing.T, x Index, src *Source) {
	t.Helper()
	packs := make(map[blob.ID]bool)
	if err := x.Packs(func(id blob.ID) { packs[id] = true }); err != nil {
		t.Fatalf("Packs: %v", err)
	}
	for h, locs := range src.All() {
		for _, l := range locs {
			if _, ok := packs[l.Pack]; !ok {
				t.Fatalf("Packs lacks %v, which holds %v", l.Pack, h)
			}
			packs[l.Pack] = false // seen
		}
	}
	for id, strange := range packs {
		if strange {
			t.Fatalf("Packs has %v, which no index file lists", id)
		}
	}
	for h, want := range src.All() {
		loc, ok, err := x.Lookup(h)
		if err != nil || !ok || !slices.Contains(want, loc) {
			t.Fatalf("Lookup(%v) = %+v, %v, %v; want one of %+v", h, loc, ok, err, want)
		}
	}
}

// CheckAbsent looks up blobs that must not be found.
func CheckAbsent(t *testing.T, x Index, entries []blob.Entry) {
	t.Helper()
	for _, e := range entries {
		if loc, ok, err := x.Lookup(e.Handle); ok || err != nil || loc != (blob.Location{}) {
			t.Fatalf("Lookup(%v) = %+v, %v, %v; want nothing", e.Handle, loc, ok, err)
		}
	}
}

func testEmpty(t *testing.T, open Open) {
	for _, src := range []*Source{NewSource(), NewSource(nil)} {
		x := mustOpen(t, open, src)
		CheckAbsent(t, x, Entries(1, 10))
		CheckAbsent(t, x, []blob.Entry{{}})
		mustRefresh(t, x)
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
}

func testFindsAll(t *testing.T, open Open) {
	src := NewSource(Entries(1, 1000), Entries(2, 3), nil, Entries(3, 500))
	x := mustOpen(t, open, src)
	Check(t, x, src)
	CheckAbsent(t, x, Entries(4, 1000))
}

// The same ID exists once per type, and IDs that share a half are different blobs.
func testNearMisses(t *testing.T, open Open) {
	e := Entries(1, 1)[0]
	src := NewSource([]blob.Entry{e})
	x := mustOpen(t, open, src)
	Check(t, x, src)
	other := e
	other.Type = 1 - e.Type
	near := []blob.Entry{other}
	for i := range e.ID {
		other = e
		other.ID[i] ^= 0x10
		near = append(near, other)
	}
	other = e
	other.Type = 7
	near = append(near, other)
	CheckAbsent(t, x, near)
	src.Add(near[:33])
	mustRefresh(t, x)
	Check(t, x, src)
}

func testExtremes(t *testing.T, open Open) {
	var entries []blob.Entry
	for i, n := range []uint32{0, 1, math.MaxUint32 - 1, math.MaxUint32} {
		e := Entries(uint64(i), 1)[0]
		e.OffsetBytes, e.LengthBytes, e.PlainBytes = n, ^n, n
		entries = append(entries, e)
	}
	for _, b := range []byte{0, 0xff} {
		e := Entries(9, 1)[0]
		for i := range e.ID {
			e.ID[i], e.Pack[i] = b, b
		}
		entries = append(entries, e)
	}
	src := NewSource(entries)
	Check(t, mustOpen(t, open, src), src)
}

func testManyFiles(t *testing.T, open Open) {
	src := NewSource()
	for i := range uint64(150) {
		src.Add(Entries(i, int(i%40)+1))
	}
	x := mustOpen(t, open, src)
	Check(t, x, src)
	for i := range uint64(6) {
		src.Add(Entries(1000+i, 30))
		mustRefresh(t, x)
	}
	Check(t, x, src)
	if got := src.Loads(); got != 156 {
		t.Errorf("%d index files read, want each of 156 once", got)
	}
}

// Refresh reads what is new and nothing twice.
func testRefresh(t *testing.T, open Open) {
	src := NewSource(Entries(1, 100))
	x := mustOpen(t, open, src)
	later := Entries(2, 100)
	CheckAbsent(t, x, later)
	src.Add(later)
	CheckAbsent(t, x, later)
	mustRefresh(t, x)
	Check(t, x, src)
	for range 3 {
		mustRefresh(t, x)
	}
	if got := src.Loads(); got != 2 {
		t.Errorf("%d index files read, want 2", got)
	}
}

// A blob that two index files list is found as long as one of them is there, also in the same pack.
func testSeveralPlaces(t *testing.T, open Open) {
	a := Entries(1, 50)
	b := slices.Clone(a)
	for i := range b {
		if i%2 == 0 {
			b[i].Pack = blob.Hash(b[i].Pack[:])
		}
	}
	src := NewSource(a)
	idB := src.Add(b)
	twice := append(slices.Clone(a), a[:10]...) // and one that lists a blob twice itself
	idTwice := src.Add(twice)
	x := mustOpen(t, open, src)
	Check(t, x, src)
	src.Remove(idB)
	mustRefresh(t, x)
	Check(t, x, src)
	src.Add(b)
	src.Remove(idTwice)
	mustRefresh(t, x)
	Check(t, x, src)
	src.Remove(src.Names()...)
	mustRefresh(t, x)
	CheckAbsent(t, x, a)
}

// Prune on another machine: some packs are repacked, others dropped, all in new index files.
func testPrune(t *testing.T, open Open) {
	src := NewSource()
	keep, drop := Entries(1, 300), Entries(2, 300)
	src.Add(append(slices.Clone(keep[:150]), drop[:150]...))
	src.Add(append(slices.Clone(keep[150:]), drop[150:]...))
	x := mustOpen(t, open, src)
	Check(t, x, src)
	for i := range keep[:100] {
		keep[i].Pack = blob.Hash(keep[i].Pack[:])
		keep[i].OffsetBytes += 7
	}
	before := src.Names()
	src.Add(keep)
	src.Remove(before...)
	mustRefresh(t, x)
	Check(t, x, src)
	CheckAbsent(t, x, drop)
}

func testErrors(t *testing.T, open Open) {
	bad := errors.New("the network is down")
	for _, tc := range []struct {
		name       string
		list, load error
	}{{"list", bad, nil}, {"load", nil, bad}} {
		t.Run(tc.name, func(t *testing.T) {
			src := NewSource(Entries(1, 100))
			src.Fail(tc.list, tc.load)
			if x, err := open(t, src); !errors.Is(err, bad) {
				t.Errorf("open: %v, %v; want %v", x, err, bad)
			}
			src.Fail(nil, nil)
			x := mustOpen(t, open, src)
			Check(t, x, src)
			later := Entries(2, 100)
			id := src.Add(later)
			src.Fail(tc.list, tc.load)
			if err := x.Refresh(t.Context()); !errors.Is(err, bad) {
				t.Errorf("refresh: %v; want %v", err, bad)
			}
			src.Fail(nil, nil)
			CheckAbsent(t, x, later) // and the earlier answers stay
			src.Remove(id)
			Check(t, x, src)
			src.Add(later)
			mustRefresh(t, x)
			Check(t, x, src)
		})
	}
}

// An index file goes between listing and reading, and its replacement comes.
func testVanishesWhileLoading(t *testing.T, open Open) {
	src := NewSource(Entries(1, 100))
	old := src.Names()
	var once sync.Once
	src.OnLoad(func(blob.ID) {
		once.Do(func() {
			src.Add(Entries(2, 100))
			src.Remove(old...)
		})
	})
	x := mustOpen(t, open, src)
	Check(t, x, src)
	CheckAbsent(t, x, Entries(1, 100))
}

func testCancelled(t *testing.T, open Open) {
	src := NewSource(Entries(1, 100))
	x := mustOpen(t, open, src)
	src.Add(Entries(2, 100))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Refresh(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("refresh: %v, want context.Canceled", err)
	}
	mustRefresh(t, x)
	Check(t, x, src)
}

// Lookups, refreshes and changes at once: what is always there is always found.
func testParallel(t *testing.T, open Open) {
	stable := Entries(1, 200)
	src := NewSource(stable)
	x := mustOpen(t, open, src)
	stop := make(chan struct{})
	var readers, writers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				e := stable[i%len(stable)]
				if loc, ok, err := x.Lookup(e.Handle); err != nil || !ok || loc != e.Location {
					t.Errorf("Lookup(%v) = %+v, %v, %v", e.Handle, loc, ok, err)
					return
				}
			}
		})
	}
	for g := range uint64(2) {
		writers.Go(func() {
			for i := range uint64(6) {
				id := src.Add(Entries(100*(g+1)+i, 50))
				if err := x.Refresh(t.Context()); err != nil {
					t.Error(err)
				}
				if i%3 == 0 {
					src.Remove(id)
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	readers.Wait()
	mustRefresh(t, x)
	Check(t, x, src)
	for g := range uint64(2) {
		for i := uint64(0); i < 6; i += 3 {
			CheckAbsent(t, x, Entries(100*(g+1)+i, 50))
		}
	}
	if err := x.Close(); err != nil {
		t.Error(fmt.Errorf("close: %w", err))
	}
}
