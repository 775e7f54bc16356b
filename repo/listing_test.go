package repo

import (
	"context"
	"encoding/binary"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/internal/indexfile"
)

// countingIndex knows nothing and counts how often it is refreshed.
type countingIndex struct{ refreshes atomic.Int64 }

func (x *countingIndex) Lookup(blob.Handle) (blob.Location, bool, error) {
	return blob.Location{}, false, nil
}
func (x *countingIndex) Locations(blob.Handle) ([]blob.Location, error) { return nil, nil }
func (x *countingIndex) Packs(func(blob.ID)) error                      { return nil }
func (x *countingIndex) Refresh(context.Context) error                  { x.refreshes.Add(1); return nil }
func (x *countingIndex) Close() error                                   { return nil }

// listingRepo is a repository in memory with a countingIndex.
func listingRepo(t *testing.T) (*Repository, *countingIndex) {
	t.Helper()
	be := mem.New()
	x := &countingIndex{}
	if _, err := Init(t.Context(), be, InitOptions{Password: []byte("p"), KDF: KDF{N: 2, R: 1, P: 1}}); err != nil {
		t.Fatal(err)
	}
	r, err := Open(t.Context(), be, Options{Password: []byte("p"),
		OpenIndex: func(context.Context, *Repository) (Index, error) { return x, nil }})
	if err != nil {
		t.Fatal(err)
	}
	return r, x
}

// packOf fabricates a pack of n blobs.
func packOf(seed uint64, n int) indexfile.Pack {
	p := indexfile.Pack{ID: blob.Hash(binary.BigEndian.AppendUint64(nil, seed))}
	for i := range n {
		p.Blobs = append(p.Blobs, blob.Entry{
			Handle:   blob.Handle{ID: blob.Hash(binary.BigEndian.AppendUint64([]byte{1}, seed<<20|uint64(i)))},
			Location: blob.Location{Pack: p.ID, OffsetBytes: uint32(i) * 100, LengthBytes: 100},
		})
	}
	return p
}

// indexFiles returns how many index files there are and what packs they list.
func indexFiles(t *testing.T, r *Repository) (files int, packs map[blob.ID]int) {
	t.Helper()
	infos, err := r.IndexFiles(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	packs = make(map[blob.ID]int)
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.LoadIndexFile(t.Context(), id, func(e blob.Entry) error { packs[e.Pack]++; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	return len(infos), packs
}

// A run that stores a pack each second writes the number of index files that the comment of indexBlobs
// says, and no pack waits longer than it should.
func TestIndexFilesAreFewAndSoon(t *testing.T) {
	for _, tc := range []struct {
		run         time.Duration
		least, most int
	}{
		{2 * time.Second, 0, 0}, {time.Minute, 10, 18}, {time.Hour, 50, 67}, {10 * time.Hour, 100, 124},
	} {
		synctest.Test(t, func(t *testing.T) {
			r, x := listingRepo(t)
			defer r.Close()
			for n := range uint64(3) { // of earlier runs, which Write's first Refresh learns of
				if _, err := r.SaveFile(t.Context(), backend.Index, indexfile.Append(nil, []indexfile.Pack{packOf(1<<40+n, 1)})); err != nil {
					t.Fatal(err)
				}
			}
			before, err := r.IndexFiles(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			l := newLister(r)
			working, done := context.WithCancel(t.Context())
			ended := make(chan error)
			go func() { ended <- l.run(t.Context(), working) }()
			start := time.Now()
			for n := uint64(0); time.Since(start) < tc.run; n++ {
				l.note(packOf(n, 1))
				time.Sleep(time.Second)
				synctest.Wait()
				l.mu.Lock()
				waiting := time.Duration(len(l.packs)) * time.Second
				l.mu.Unlock()
				if age := time.Since(start); waiting > max(3*time.Second, min(age/12, 10*time.Minute))+time.Second {
					t.Fatalf("after %v of a run packs wait for %v", age, waiting)
				}
			}
			done()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			files, _ := indexFiles(t, r)
			files -= len(before)
			if files < tc.least || files > tc.most {
				t.Errorf("%d index files in %v, want %d to %d", files, tc.run, tc.least, tc.most)
			}
			t.Logf("%v: %d index files", tc.run, files)
			// A look finds files that it does not know: none, as nobody else writes.
			if n := x.refreshes.Load(); n != 0 {
				t.Errorf("the index was refreshed %d times for our own files", n)
			}
		})
	}
}

// 50 000 blobs are listed at once, and a pack that nothing follows is listed in time.
func TestIndexFileIsDue(t *testing.T) {
	for _, tc := range []struct {
		blobs int
		after time.Duration
	}{{indexBlobs, 0}, {indexBlobs - 1, 3 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			r, _ := listingRepo(t)
			defer r.Close()
			l := newLister(r)
			working, done := context.WithCancel(t.Context())
			defer done()
			go l.run(t.Context(), working)
			l.note(packOf(1, tc.blobs))
			if tc.after > 0 {
				time.Sleep(tc.after - time.Millisecond)
				synctest.Wait()
				if n, _ := indexFiles(t, r); n != 0 {
					t.Errorf("%d blobs are listed before %v", tc.blobs, tc.after)
				}
				time.Sleep(2 * time.Millisecond)
			}
			synctest.Wait()
			if n, packs := indexFiles(t, r); n != 1 || len(packs) != 1 {
				t.Errorf("%d blobs: %d index files with %d packs", tc.blobs, n, len(packs))
			}
		})
	}
}

// What others list is looked for whenever packs are listed, and only then.
func TestLookFindsWhatOthersList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, x := listingRepo(t)
		defer r.Close()
		l := newLister(r)
		working, done := context.WithCancel(t.Context())
		defer done()
		go l.run(t.Context(), working)
		var want int64
		for n := range uint64(6) {
			if n%2 == 1 {
				if _, err := r.SaveFile(t.Context(), backend.Index, indexfile.Append(nil, []indexfile.Pack{packOf(1000+n, 1)})); err != nil {
					t.Fatal(err)
				}
				want++
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			l.note(packOf(n, 1))
			time.Sleep(indexLatest)
			synctest.Wait()
			if got := x.refreshes.Load(); got != want {
				t.Errorf("round %d: the index was refreshed %d times, want %d", n, got, want)
			}
		}
	})
}

// growing lists one index file in the size that it has got so far, as a store does that writes in place.
type growing struct {
	backend.Backend
	name      string
	sizeBytes atomic.Int64
}

func (s *growing) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	return s.Backend.List(ctx, kind, func(info backend.Info) error {
		if info.Name == s.name {
			info.SizeBytes = s.sizeBytes.Load()
		}
		return fn(info)
	})
}

// An index file that was not whole, or empty, at the last look is looked at again when it has grown, and our own are not.
func TestLookFindsWhatHasGrown(t *testing.T) {
	r, x := listingRepo(t)
	defer r.Close()
	id, err := r.SaveFile(t.Context(), backend.Index, indexfile.Append(nil, []indexfile.Pack{packOf(1, 1)}))
	if err != nil {
		t.Fatal(err)
	}
	store := &growing{Backend: r.be, name: id.String()}
	r.be = store
	l := newLister(r)
	l.note(packOf(2, 1))
	if err := l.flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		sizeBytes int64
		found     bool
	}{{0, true}, {0, false}, {10, true}, {10, false}, {100, true}, {100, false}} {
		before := x.refreshes.Load()
		store.sizeBytes.Store(step.sizeBytes)
		if found := l.look(t.Context()); found != step.found || (x.refreshes.Load() > before) != found {
			t.Errorf("look %d, at %d bytes: found %v, refreshed %d times; want %v", i, step.sizeBytes, found, x.refreshes.Load()-before, step.found)
		}
	}
}

// Who asks is told of others when there were none before, and then ever less often.
func TestOnOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, _ := listingRepo(t)
		defer r.Close()
		l := newLister(r)
		w := &Writer{lister: l}
		calls := 0
		w.OnOthers(func(context.Context) { calls++ })
		working, done := context.WithCancel(t.Context())
		defer done()
		go l.run(t.Context(), working)
		seed := uint64(0)
		// store has us store something each second, and another client as well.
		store := func(d time.Duration, others bool) {
			for range int(d.Seconds()) {
				seed++
				l.note(packOf(seed, 1))
				if others {
					if _, err := r.SaveFile(t.Context(), backend.Index, indexfile.Append(nil, []indexfile.Pack{packOf(1<<32+seed, 1)})); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Second)
			}
			synctest.Wait()
		}
		for _, step := range []struct {
			time        time.Duration
			others      bool
			least, most int // calls
		}{
			{time.Minute, false, 0, 0},
			{5 * time.Second, true, 1, 1},
			{50 * time.Second, true, 0, 0},
			{10 * time.Minute, true, 3, 4}, // 2, 4, 8 minutes old
			{30 * time.Minute, false, 0, 0},
			{10 * time.Minute, true, 1, 1},
		} {
			calls = 0
			if store(step.time, step.others); calls < step.least || calls > step.most {
				t.Errorf("%v old, others %v: called %d times, want %d to %d", time.Duration(seed)*time.Second, step.others, calls, step.least, step.most)
			}
		}
	})
}
