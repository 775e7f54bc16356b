package repo_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

// together has both ways of reading blobs together.
var together = map[string]func(ctx context.Context, r *repo.Repository, hs []blob.Handle, use func(i int, read func() ([]byte, error))){
	"ReadBlobs": func(ctx context.Context, r *repo.Repository, hs []blob.Handle, use func(i int, read func() ([]byte, error))) {
		r.ReadBlobs(ctx, hs, func(i int, open repo.OpenBlob) bool {
			use(i, func() ([]byte, error) { return open(nil) })
			return true
		})
	},
	"LendBlobs": func(ctx context.Context, r *repo.Repository, hs []blob.Handle, use func(i int, read func() ([]byte, error))) {
		r.LendBlobs(ctx, hs, func(i int, lend repo.LendBlob) bool {
			use(i, lend)
			return true
		})
	},
}

// countingStore counts what is read of packs.
type countingStore struct {
	backend.Backend
	reads, readBytes atomic.Int64
}

func (s *countingStore) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	s.reads.Add(1)
	s.readBytes.Add(int64(len(p)))
	return s.Backend.ReadAt(ctx, f, p, offsetBytes)
}

// A blob that is asked for several times is read once, and each time it is right.
func TestReadTogetherTwins(t *testing.T) {
	first, be := repotest.New(t, 2)
	all := append(noisy(1, 10, 3000), prose(2, 10, 3000)...)
	hs := save(t, first, blob.Data, all)
	hs, all = append(hs, append(hs, hs...)...), append(all, append(all, all...)...)
	for what, read := range together {
		store := &countingStore{Backend: be}
		r := repotest.Open(t, store)
		read(t.Context(), r, hs, func(i int, read func() ([]byte, error)) {
			if got, err := read(); err != nil || !bytes.Equal(got, all[i]) {
				t.Errorf("%s: blob %d: %v", what, i, err)
			}
		})
		if n := store.reads.Load(); n != 1 {
			t.Errorf("%s: %d reads, want 1", what, n)
		}
	}
}

// A store that is away is not asked again either for what is not read with the others: twins, what no index has, and what
// is above the bound.
func TestReadTogetherStoreAway(t *testing.T) {
	first, be := repotest.New(t, 2)
	hs := save(t, first, blob.Data, noisy(1, 66, 1<<20))
	hs = append(hs, hs[1], hs[2], blob.Handle{Type: blob.Data, ID: blob.Hash([]byte("nowhere"))})
	for what, read := range together {
		store := &awayStore{Backend: be}
		r := repotest.Open(t, store)
		store.err = errors.New("no route to host")
		read(t.Context(), r, hs, func(i int, read func() ([]byte, error)) {
			if _, err := read(); !errors.Is(err, store.err) || !strings.Contains(err.Error(), hs[i].ID.Short()) || strings.Contains(err.Error(), "pack 00000000") {
				t.Errorf("%s: blob %d: %v", what, i, err)
			}
		})
		if n := store.reads.Load(); n == 0 || n > 4 {
			t.Errorf("%s: %d reads, want at most 4", what, n)
		}
	}
}

// However much is asked for, it does not all come into memory; and it is all there.
func TestReadTogetherIsBounded(t *testing.T) {
	first, be := repotest.New(t, 2)
	all := noisy(1, 66, 1<<20)
	hs := save(t, first, blob.Data, all)
	for range 66 { // twins, more than the bound as well
		hs, all = append(hs, hs[0]), append(all, all[0])
	}
	for what, read := range together {
		store := &countingStore{Backend: be}
		r := repotest.Open(t, store)
		read(t.Context(), r, hs, func(i int, read func() ([]byte, error)) {
			if n := store.readBytes.Load(); i == 0 && (n == 0 || n > 64<<20) {
				t.Errorf("%s: %d bytes are read at first, want at most 64 MiB", what, n)
			}
			if got, err := read(); err != nil || !bytes.Equal(got, all[i]) {
				t.Errorf("%s: blob %d: %v", what, i, err)
			}
		})
	}
}
