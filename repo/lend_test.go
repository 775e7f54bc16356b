package repo_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

// mixed returns blobs of all lengths in no order, a few of them too large to be decoded beside others.
func mixed() [][]byte {
	all := append(noisy(1, 100, 3000), prose(2, 40, 50_000)...)
	all = append(all, noisy(3, 5, 1<<20)...)
	all = append(all, prose(4, 3, 3<<20)...)
	all = append(all, noisy(5, 1, 9<<20)...)
	all = append(all, prose(6, 1, 9<<20)...)
	all = append(all, []byte{}, []byte("x"), bytes.Repeat([]byte("y"), 600_000))
	rand.New(rand.NewPCG(7, 8)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// Whatever is asked for is right, and what is damaged or unknown is told where it is.
func TestLendBlobs(t *testing.T) {
	first, be := repotest.New(t, 2)
	all := mixed()
	hs := save(t, first, blob.Data, all)
	r := repotest.Open(t, be)
	damaged := []int{0, 40, 41, 100, len(all) - 1}
	for _, i := range damaged {
		spoil(t, be, r, hs[i])
	}
	hs, all = append(hs, hs[7], hs[8]), append(all, all[7], all[8]) // twice
	unknown := len(hs)
	hs = append(hs, blob.Handle{Type: blob.Data, ID: blob.Hash([]byte("nowhere"))})
	rng := rand.New(rand.NewPCG(9, 10))
	for _, c := range []struct {
		what   string
		wanted func(i int) bool
		end    int
	}{
		{"all", func(int) bool { return true }, len(hs)},
		{"every third", func(i int) bool { return i%3 == 1 }, len(hs)},
		{"with gaps", func(i int) bool { return i/10%2 == 0 }, len(hs)},
		{"some", func(int) bool { return rng.IntN(2) == 0 }, len(hs)},
		{"few", func(int) bool { return rng.IntN(9) == 0 }, len(hs)},
		{"none", func(int) bool { return false }, len(hs)},
		{"the first ones", func(int) bool { return true }, 50},
	} {
		next := 0
		r.LendBlobs(t.Context(), hs, func(i int, lend repo.LendBlob) bool {
			if i != next {
				t.Fatalf("%s: blob %d, want %d", c.what, i, next)
			}
			next++
			if !c.wanted(i) {
				return true
			}
			for range 2 { // the second time it is the same
				got, err := lend()
				switch {
				case i == unknown:
					if !errors.Is(err, repo.ErrBlobMissing) {
						t.Errorf("%s: the unknown one: %v", c.what, err)
					}
				case slices.Contains(damaged, i):
					if !errors.Is(err, repo.ErrCorrupt) || got != nil {
						t.Errorf("%s: damaged blob %d: %d bytes, error %v", c.what, i, len(got), err)
					}
				case err != nil || !bytes.Equal(got, all[i]):
					t.Errorf("%s: blob %d of %d bytes: %v", c.what, i, len(all[i]), err)
				}
			}
			return next < c.end
		})
		if next != c.end {
			t.Errorf("%s: %d blobs, want %d", c.what, next, c.end)
		}
	}
	r.LendBlobs(t.Context(), nil, nil)
}

// Bytes that are sealed well and are not those of the ID never come out.
func TestLendBlobsOfWrongContent(t *testing.T) {
	first, be := repotest.New(t, 2)
	hs := save(t, first, blob.Data, noisy(1, 12, 5000))
	r := repotest.Open(t, be)
	var content []byte
	var pack backend.File
	var at [2]uint32
	for k, h := range hs[3:5] {
		loc, _, err := r.LookupBlob(h)
		if err != nil {
			t.Fatal(err)
		}
		f := backend.File{Kind: backend.Pack, Name: loc.Pack.String()}
		if k == 1 && f != pack {
			t.Fatal("two packs")
		}
		if content, err = be.ReadAll(t.Context(), f, 1<<30); err != nil {
			t.Fatal(err)
		}
		pack, at[k] = f, loc.OffsetBytes
	}
	const sealedBytes = 5000 + blob.SealOverheadBytes
	copy(content[at[0]:at[0]+sealedBytes], content[at[1]:])
	replace(t, be, pack, content)
	r.LendBlobs(t.Context(), hs, func(i int, lend repo.LendBlob) bool {
		if got, err := lend(); errors.Is(err, repo.ErrCorrupt) != (i == 3) || (got == nil) != (i == 3) {
			t.Errorf("blob %d: %d bytes, error %v", i, len(got), err)
		}
		return true
	})
}

// A store that is away is not asked again for each blob.
func TestLendBlobsStoreAway(t *testing.T) {
	first, be := repotest.New(t, 2)
	hs := save(t, first, blob.Data, noisy(1, 40, 1<<20))
	store := &awayStore{Backend: be}
	r := repotest.Open(t, store)
	store.err = errors.New("no route to host")
	r.LendBlobs(t.Context(), hs, func(i int, lend repo.LendBlob) bool {
		if _, err := lend(); !errors.Is(err, store.err) || !strings.Contains(err.Error(), hs[i].ID.Short()) {
			t.Errorf("blob %d: %v", i, err)
		}
		return true
	})
	if n := store.reads.Load(); n == 0 || n > 4 {
		t.Errorf("%d reads, want at most 4", n)
	}
}
