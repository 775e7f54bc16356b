package repo_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

func TestReadBlobs(t *testing.T) {
	for version := uint(1); version <= 2; version++ {
		first, be := repotest.New(t, version)
		all := blobs(3, 60)
		hs := save(t, first, blob.Data, all)
		hs, all = append(hs, hs[5]), append(all, all[5]) // one of them twice
		r := repotest.Open(t, be)
		var buf []byte
		next := 0
		r.ReadBlobs(t.Context(), hs, func(i int, open repo.OpenBlob) bool {
			if i != next {
				t.Fatalf("blob %d, want %d", i, next)
			}
			if next++; i%7 == 3 {
				return true // not wanted
			}
			var err error
			if buf, err = open(buf); err != nil || !bytes.Equal(buf, all[i]) {
				t.Errorf("blob %d: %v", i, err)
			}
			if again, err := open(nil); err != nil || !bytes.Equal(again, all[i]) {
				t.Errorf("blob %d once more: %v", i, err)
			}
			return true
		})
		if next != len(hs) {
			t.Errorf("%d blobs of %d", next, len(hs))
		}
		calls := 0
		r.ReadBlobs(t.Context(), hs, func(int, repo.OpenBlob) bool { calls++; return calls < 3 })
		if calls != 3 {
			t.Errorf("%d calls after the end was asked for at 3", calls)
		}
	}
}

// Each blob fails for itself, with the error that ReadBlob gives.
func TestReadBlobsOfDamagedPack(t *testing.T) {
	first, be := repotest.New(t, 2)
	all := blobs(4, 20)
	hs := save(t, first, blob.Data, all)
	r := repotest.Open(t, be)
	loc, ok, err := r.LookupBlob(hs[7])
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	pack := backend.File{Kind: backend.Pack, Name: loc.Pack.String()}
	content, err := be.ReadAll(t.Context(), pack, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	content[loc.OffsetBytes+20] ^= 1
	replace(t, be, pack, content)
	unknown := blob.Handle{Type: blob.Data, ID: blob.Hash([]byte("nowhere"))}
	r.ReadBlobs(t.Context(), append(hs, unknown), func(i int, open repo.OpenBlob) bool {
		got, err := open(nil)
		switch i {
		case 7:
			if !errors.Is(err, repo.ErrCorrupt) {
				t.Errorf("the damaged one: %v", err)
			}
		case len(hs):
			if !errors.Is(err, repo.ErrBlobMissing) {
				t.Errorf("the unknown one: %v", err)
			}
		default:
			if err != nil || !bytes.Equal(got, all[i]) {
				t.Errorf("blob %d: %v", i, err)
			}
		}
		return true
	})
	if err := be.Remove(t.Context(), pack); err != nil {
		t.Fatal(err)
	}
	r.ReadBlobs(t.Context(), hs, func(i int, open repo.OpenBlob) bool {
		if got, err := open(nil); err != nil && !errors.Is(err, backend.ErrNotExist) || err == nil && !bytes.Equal(got, all[i]) {
			t.Errorf("blob %d, its pack gone: %v", i, err)
		}
		return true
	})
}

// spoil flips a bit of a blob where it is stored.
func spoil(t *testing.T, be *mem.Backend, r *repo.Repository, h blob.Handle) {
	t.Helper()
	loc, _, err := r.LookupBlob(h)
	if err != nil {
		t.Fatal(err)
	}
	pack := backend.File{Kind: backend.Pack, Name: loc.Pack.String()}
	content, err := be.ReadAll(t.Context(), pack, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	content[loc.OffsetBytes+loc.LengthBytes/2] ^= 8
	replace(t, be, pack, content)
}

// What open decodes ahead stays within the call: not all is wanted, what is kept stays as it is, and
// damage is found where it is.
func TestReadBlobsDecodedAhead(t *testing.T) {
	first, be := repotest.New(t, 2)
	all := append(noisy(1, 150, 3000), prose(2, 30, 50_000)...)
	all = append(all, noisy(3, 5, 1<<20)...)
	hs := save(t, first, blob.Data, all)
	r := repotest.Open(t, be)
	damaged := []int{0, 40, 41, 100, 160, len(all) - 2}
	for _, i := range damaged {
		spoil(t, be, r, hs[i])
	}
	for _, c := range []struct {
		what   string
		wanted func(i int) bool
		reuse  bool
	}{
		{"all", func(int) bool { return true }, false},
		{"all into one buffer", func(int) bool { return true }, true},
		{"every third", func(i int) bool { return i%3 == 1 }, false},
		{"with gaps", func(i int) bool { return i/10%2 == 0 }, true},
	} {
		kept := make([][]byte, len(hs))
		var buf []byte
		r.ReadBlobs(t.Context(), hs, func(i int, open repo.OpenBlob) bool {
			if !c.wanted(i) {
				return true
			}
			got, err := open(buf)
			switch {
			case slices.Contains(damaged, i):
				if !errors.Is(err, repo.ErrCorrupt) || got != nil {
					t.Errorf("%s: damaged blob %d: %d bytes, error %v", c.what, i, len(got), err)
				}
			case err != nil || !bytes.Equal(got, all[i]):
				t.Errorf("%s: blob %d: %v", c.what, i, err)
			case c.reuse:
				buf = got
			default:
				kept[i] = got
			}
			return true
		})
		for i, got := range kept {
			if got != nil && !bytes.Equal(got, all[i]) {
				t.Errorf("%s: blob %d was changed after it was handed out", c.what, i)
			}
		}
	}
}

// awayStore is a store that goes away, whose wrapper has the patience to ask it for a while.
type awayStore struct {
	backend.Backend
	err   error
	reads atomic.Int32 // of packs
}

func (s *awayStore) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	if s.err == nil {
		return s.Backend.ReadAt(ctx, f, p, offsetBytes)
	}
	s.reads.Add(1)
	time.Sleep(10 * time.Millisecond) // all that may ask do
	return s.err
}

// A store that is away is not waited for with each blob again, nor with each request.
func TestReadBlobsStoreAway(t *testing.T) {
	first, be := repotest.New(t, 2)
	hs := save(t, first, blob.Data, noisy(1, 40, 1<<20)) // 40 MiB: ten requests or more
	store := &awayStore{Backend: be}
	r := repotest.Open(t, store)
	for what, c := range map[string]struct {
		err  error
		most int32 // reads
	}{
		"unreachable": {errors.New("no route to host"), 4},
		"time limit":  {context.DeadlineExceeded, 4},
		"refuses":     {backend.ErrDenied, 20},
	} {
		store.err = c.err
		store.reads.Store(0)
		calls := 0
		r.ReadBlobs(t.Context(), hs, func(i int, open repo.OpenBlob) bool {
			calls++
			_, err := open(nil)
			if !errors.Is(err, c.err) || !strings.Contains(err.Error(), hs[i].ID.Short()) {
				t.Errorf("%s: blob %d: %v", what, i, err)
			}
			return true
		})
		if n := store.reads.Load(); calls != len(hs) || n == 0 || n > c.most {
			t.Errorf("%s: %d of %d blobs, %d reads, want at most %d", what, calls, len(hs), n, c.most)
		}
	}
	store.err = nil
	r.ReadBlobs(t.Context(), hs, func(i int, open repo.OpenBlob) bool {
		if _, err := open(nil); err != nil {
			t.Errorf("with the store back: %v", err)
		}
		return true
	})
}
