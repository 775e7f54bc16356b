package packcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
)

// trees gives each call the hint, as if every pack held trees.
type trees struct{ backend.Backend }

func (b trees) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	return b.Backend.ReadAt(backend.WithHint(ctx, backend.HintTree), f, p, offsetBytes)
}

func (b trees) Save(ctx context.Context, f backend.File, content []byte) error {
	return b.Backend.Save(backend.WithHint(ctx, backend.HintTree), f, content)
}

func TestConformance(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		backendtest.Run(t, func(t *testing.T) backend.Backend { return open(t, mem.New(), t.TempDir(), 0) })
	})
	t.Run("trees", func(t *testing.T) {
		backendtest.Run(t, func(t *testing.T) backend.Backend { return trees{open(t, mem.New(), t.TempDir(), 0)} })
	})
	t.Run("nothing can be kept", func(t *testing.T) {
		backendtest.Run(t, func(t *testing.T) backend.Backend {
			be := trees{open(t, mem.New(), t.TempDir(), 0)}
			block(t, be)
			return be
		})
	})
}

// open makes a cache; a budget of 0 is enough for everything.
func open(t testing.TB, be backend.Backend, dir string, budget int64) *Backend {
	t.Helper()
	if budget == 0 {
		budget = 1 << 30
	}
	b, err := New(be, dir, Options{BudgetBytes: budget})
	if err != nil {
		t.Fatal(err)
	}
	cached := b.(*Backend)
	cached.patience = time.Hour // a busy machine makes no more requests
	return cached
}

// block puts files where the cache wants directories.
func block(t *testing.T, be trees) {
	t.Helper()
	for _, kind := range []backend.Kind{backend.Pack, backend.Index, backend.Snapshot} {
		if err := os.WriteFile(filepath.Join(be.Backend.(*Backend).disk.dir, kind.Dir()), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// store is a store with some files that counts what it is asked.
type store struct {
	*fault.Backend
	files   []backend.File // packs, index files and snapshots in turn
	content map[backend.File][]byte
}

func newStore(t *testing.T, n, size int) *store {
	t.Helper()
	inner := mem.New()
	s := &store{Backend: fault.New(inner, nil), content: make(map[backend.File][]byte)}
	for i := range n {
		kind := []backend.Kind{backend.Pack, backend.Index, backend.Snapshot}[i%3]
		content := backendtest.Content(uint64(i), size)
		f := backendtest.FileOf(kind, content)
		if err := inner.Save(t.Context(), f, content); err != nil {
			t.Fatal(err)
		}
		s.files = append(s.files, f)
		s.content[f] = content
	}
	return s
}

// walk reads every file as a walk of the repository would, and returns how many requests it took.
func (s *store) walk(t testing.TB, be backend.Backend) int {
	t.Helper()
	before := s.Calls()
	for _, f := range s.files {
		s.read(t, be, f)
	}
	return s.Calls() - before
}

func (s *store) read(t testing.TB, be backend.Backend, f backend.File) {
	t.Helper()
	want := s.content[f]
	if f.Kind != backend.Pack {
		got, err := be.ReadAll(t.Context(), f, 1<<20)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("ReadAll %v: %v, or wrong bytes", f, err)
		}
		return
	}
	ctx := backend.WithHint(t.Context(), backend.HintTree)
	for _, r := range [][2]int{{0, 1}, {0, len(want)}, {len(want) / 3, len(want) / 2}, {blockBytes - 1, 2}, {len(want) - 5, 5}} {
		p := make([]byte, r[1])
		if err := be.ReadAt(ctx, f, p, int64(r[0])); err != nil || !bytes.Equal(p, want[r[0]:r[0]+r[1]]) {
			t.Errorf("ReadAt %v %v: %v, or wrong bytes", f, r, err)
		}
	}
}

// cached lists the files of a cache by their paths below it.
func cached(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if st, err := d.Info(); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", path, st.Mode(), err)
		}
		if rel, err := filepath.Rel(dir, path); err == nil && rel != "evict.lock" {
			found = append(found, rel)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSecondWalkAsksNothing(t *testing.T) {
	s := newStore(t, 12, 100_000)
	dir := t.TempDir()
	be := open(t, s, dir, 0)
	if n := s.walk(t, be); n != len(s.files) {
		t.Errorf("the first walk made %d requests, want one for each of %d files", n, len(s.files))
	}
	if n := s.walk(t, be); n != 0 {
		t.Errorf("the second walk made %d requests", n)
	}
	if n := s.walk(t, open(t, s, dir, 0)); n != 0 {
		t.Errorf("the walk of another process made %d requests", n)
	}
	if err := be.Close(); err != nil {
		t.Error(err)
	}
	var want []string
	for _, f := range s.files {
		want = append(want, f.Kind.Dir()+"/"+f.Name)
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, cached(t, dir)); diff != "" {
		t.Error(diff)
	}
}

// What has just been saved need not be fetched; what holds file contents, config, keys and locks stay
// outside.
func TestWhatIsKept(t *testing.T) {
	s := newStore(t, 0, 0)
	dir := t.TempDir()
	be := open(t, s, dir, 0)
	hint := backend.WithHint(t.Context(), backend.HintTree)
	var want []string
	for i, c := range []struct {
		ctx  context.Context
		kind backend.Kind
		kept bool
	}{
		{hint, backend.Pack, true}, {t.Context(), backend.Pack, false}, {t.Context(), backend.Snapshot, true},
		{t.Context(), backend.Index, true}, {hint, backend.Lock, false}, {hint, backend.Key, false}, {hint, backend.Config, false},
	} {
		content := backendtest.Content(uint64(i), 1000)
		f := backendtest.FileOf(c.kind, content)
		if err := be.Save(c.ctx, f, content); err != nil {
			t.Fatal(err)
		}
		if c.kept {
			want = append(want, f.Kind.Dir()+"/"+f.Name)
			continue
		}
		for range 2 {
			before := s.Calls()
			if _, err := be.ReadAll(t.Context(), f, 1000); err != nil || s.Calls() != before+1 {
				t.Errorf("ReadAll %v: %v after %d requests, want 1", f, err, s.Calls()-before)
			}
			if err := be.ReadAt(t.Context(), f, make([]byte, 10), 5); err != nil || s.Calls() != before+2 {
				t.Errorf("ReadAt %v: %v after %d requests, want 2", f, err, s.Calls()-before)
			}
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, cached(t, dir)); diff != "" {
		t.Error(diff)
	}
}

func TestGoneFromTheRepository(t *testing.T) {
	s := newStore(t, 12, 20_000)
	dir := t.TempDir()
	be := open(t, s, dir, 0)
	s.walk(t, be)
	for i, f := range s.files[:6] {
		through := backend.Backend(be)
		if i >= 3 {
			through = s.Backend // another client
		}
		if err := through.Remove(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []backend.Kind{backend.Pack, backend.Index, backend.Snapshot} {
		stop := errors.New("enough")
		if err := be.List(t.Context(), kind, func(backend.Info) error { return stop }); err != stop {
			t.Errorf("a listing that is ended: %v", err)
		}
		if got := len(cached(t, filepath.Join(dir, kind.Dir()))); got != 3 {
			t.Errorf("%d %v files after a listing that was ended, want 3", got, kind)
		}
		if err := be.List(t.Context(), kind, func(backend.Info) error { return nil }); err != nil {
			t.Error(err)
		}
		if got := len(cached(t, filepath.Join(dir, kind.Dir()))); got != 2 {
			t.Errorf("%d %v files after a listing, want 2", got, kind)
		}
	}
	for _, f := range s.files[:6] {
		_, err := be.ReadAll(t.Context(), f, 1<<20)
		if f.Kind == backend.Pack {
			err = be.ReadAt(backend.WithHint(t.Context(), backend.HintTree), f, make([]byte, 1), 0)
		}
		if !errors.Is(err, backend.ErrNotExist) {
			t.Errorf("%v: %v, want ErrNotExist", f, err)
		}
	}
}

// A store that has lost a part of an index file or a snapshot is believed as soon as it lists the file.
func TestShorterInTheRepository(t *testing.T) {
	dir := t.TempDir()
	be := open(t, mem.New(), dir, 0)
	content := []byte("an index file, all of it")
	f := backend.File{Kind: backend.Index, Name: blob.Hash(content).String()}
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
	read := func(want []byte) {
		t.Helper()
		if err := be.List(t.Context(), f.Kind, func(backend.Info) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if got, err := be.ReadAll(t.Context(), f, 1<<20); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	read(content)
	if n := len(cached(t, dir)); n != 1 {
		t.Errorf("%d files in the cache, want 1", n)
	}
	if err := errors.Join(be.Backend.Remove(t.Context(), f), be.Backend.Save(t.Context(), f, content[:10])); err != nil {
		t.Fatal(err)
	}
	read(content[:10])
	if n := len(cached(t, dir)); n != 0 {
		t.Errorf("%d files in the cache, want none", n)
	}
}

// All who want a pack at the same time share one request, and one that stops waiting disturbs nobody.
func TestSingleFlight(t *testing.T) {
	s := newStore(t, 1, 100_000)
	be := open(t, s, t.TempDir(), 0)
	s.SetPlan(fault.Latency(50 * time.Millisecond))
	impatient, cancel := context.WithTimeout(backend.WithHint(t.Context(), backend.HintTree), 5*time.Millisecond)
	defer cancel()
	if err := be.ReadAt(impatient, s.files[0], make([]byte, 1), 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an impatient reader got %v", err)
	}
	var readers sync.WaitGroup
	for range 20 {
		readers.Go(func() { s.read(t, be, s.files[0]) })
	}
	readers.Wait()
	if s.Calls() != 1 {
		t.Errorf("%d requests, want 1", s.Calls())
	}
}

// While a pack takes long to come, who wants a bit of it is answered by the store.
func TestPatience(t *testing.T) {
	s := newStore(t, 1, 100_000)
	be := open(t, s, t.TempDir(), 0)
	be.patience = time.Millisecond
	arrive := make(chan struct{})
	s.SetPlan(func(c fault.Call) fault.Fault {
		if c.Op == fault.ReadAll {
			<-arrive
		}
		return fault.Fault{}
	})
	s.read(t, be, s.files[0])
	if n := s.Calls(); n != 6 {
		t.Errorf("%d requests, want the pack and 5 ranges", n)
	}
	be.mu.Lock()
	fl := be.flights[s.files[0].Name]
	be.mu.Unlock()
	close(arrive)
	<-fl.done
	s.read(t, be, s.files[0])
	if n := s.Calls(); n != 6 {
		t.Errorf("%d requests when the pack is there, want no more than 6", n)
	}
}

// On a slow line those who want packs that are not there yet do not queue up fetches behind each other without end.
func TestFetchesAreBounded(t *testing.T) {
	s := newStore(t, 3*4*maxFlights, 20_000)
	be := open(t, s, t.TempDir(), 0)
	be.patience = 20 * time.Millisecond
	arrive := make(chan struct{})
	s.SetPlan(func(c fault.Call) fault.Fault {
		if c.Op == fault.ReadAll {
			<-arrive
		}
		return fault.Fault{}
	})
	packs := func() int {
		for i, f := range s.files {
			if i%3 == 0 {
				s.read(t, be, f)
			}
		}
		be.mu.Lock()
		defer be.mu.Unlock()
		return len(be.flights)
	}
	if n := packs(); n != maxFlights {
		t.Errorf("%d fetches wait, want %d", n, maxFlights)
	}
	close(arrive)
	be.tasks.Wait()
	be.patience = time.Hour
	before := s.Calls()
	if packs(); s.Calls() != before+3*maxFlights {
		t.Errorf("%d requests for the packs that are not there, want %d", s.Calls()-before, 3*maxFlights)
	}
}

// Close ends a fetch that nobody waits for.
func TestCloseEndsFetches(t *testing.T) {
	s := newStore(t, 1, 1000)
	be := open(t, s, t.TempDir(), 0)
	s.SetPlan(fault.Latency(time.Hour))
	ctx, cancel := context.WithTimeout(backend.WithHint(t.Context(), backend.HintTree), 5*time.Millisecond)
	defer cancel()
	if err := be.ReadAt(ctx, s.files[0], make([]byte, 1), 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := be.Close(); err != nil {
		t.Error(err)
	}
}

// A store that spoils a fetch is asked for the range instead; it may be readable.
func TestStoreInTrouble(t *testing.T) {
	for _, mode := range []fault.Mode{fault.Before, fault.Short, fault.Corrupt} {
		t.Run(mode.String(), func(t *testing.T) {
			s := newStore(t, 3, 50_000)
			dir := t.TempDir()
			be := open(t, s, dir, 0)
			s.SetPlan(func(c fault.Call) fault.Fault {
				if c.Op == fault.ReadAll && c.File.Kind == backend.Pack {
					return fault.Fault{Mode: mode}
				}
				return fault.Fault{}
			})
			s.walk(t, be)
			// Wrong content is wrong the next time, too. What else fails is tried again with each range.
			want := map[fault.Mode]int{fault.Before: 10, fault.Short: 5, fault.Corrupt: 5}[mode]
			if n := s.walk(t, be); n != want {
				t.Errorf("the second walk made %d requests, want %d: the 5 ranges of the pack, with the whole pack or without", n, want)
			}
			if got := len(cached(t, dir)); got != 2 {
				t.Errorf("%d files are kept, want 2", got)
			}
			s.SetPlan(nil)
			if s.walk(t, be); mode == fault.Before && len(cached(t, dir)) != 3 {
				t.Error("the store is well again, and the pack is not kept")
			}
		})
	}
}

// What the caller asks beyond the end is an error whoever answers.
func TestTooLong(t *testing.T) {
	s := newStore(t, 3, 5000)
	be := open(t, s, t.TempDir(), 0)
	for range 2 {
		err := be.ReadAt(backend.WithHint(t.Context(), backend.HintTree), s.files[0], make([]byte, 2), 4999)
		if !errors.Is(err, backend.ErrShort) {
			t.Errorf("got %v, want ErrShort", err)
		}
		for _, f := range s.files[1:] {
			if _, err := be.ReadAll(t.Context(), f, 4999); !errors.Is(err, backend.ErrTooBig) {
				t.Errorf("%v: got %v, want ErrTooBig", f, err)
			}
			s.read(t, be, f)
		}
	}
}

// Several processes read the same, each with its own instance, while their budget is too small for it.
func TestInstancesSideBySide(t *testing.T) {
	for _, budget := range []int64{0, 1 << 20} {
		t.Run(fmt.Sprint(budget), func(t *testing.T) {
			s := newStore(t, 24, 100_000)
			dir := t.TempDir()
			var readers sync.WaitGroup
			for range 2 {
				be := open(t, s, dir, budget)
				defer be.Close()
				for range 3 {
					readers.Go(func() {
						for range 3 {
							s.walk(t, be)
						}
					})
				}
				readers.Go(func() {
					for range 20 {
						be.disk.makeRoom()
						if err := be.List(t.Context(), backend.Pack, func(backend.Info) error { return nil }); err != nil {
							t.Error(err)
						}
					}
				})
			}
			readers.Wait()
			for _, name := range cached(t, dir) {
				if strings.HasPrefix(name, tempPrefix) {
					t.Errorf("%s is left", name)
				}
			}
		})
	}
}
