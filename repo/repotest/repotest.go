// Package repotest makes repositories for tests: in memory, with a key that costs nothing
// to derive and an index that is a map.
package repotest

import (
	"context"
	"sync"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
)

// Password opens every repository that this package makes.
const Password = "correct horse battery staple"

// KDF is the cheapest key derivation the format allows.
var KDF = repo.KDF{N: 2, R: 1, P: 1}

// New makes a repository of the given version in memory and opens it.
func New(t testing.TB, version uint) (*repo.Repository, *mem.Backend) {
	t.Helper()
	be := mem.New()
	Init(t, be, version)
	return Open(t, be), be
}

// Init makes a repository on the backend.
func Init(t testing.TB, be backend.Backend, version uint) {
	t.Helper()
	_, err := repo.Init(t.Context(), be, repo.InitOptions{Version: version, Password: []byte(Password), Hostname: "host", KDF: KDF})
	if err != nil {
		t.Fatal(err)
	}
}

// Open opens the repository on the backend with a fresh MapIndex and closes it when the
// test ends.
func Open(t testing.TB, be backend.Backend) *repo.Repository {
	t.Helper()
	r, err := repo.Open(t.Context(), be, Options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// Options opens the repositories of this package, with a MapIndex.
func Options() repo.Options {
	return repo.Options{Password: []byte(Password), OpenIndex: OpenMapIndex}
}

// OpenMapIndex is repo.Options.OpenIndex for a MapIndex.
func OpenMapIndex(ctx context.Context, r *repo.Repository) (repo.Index, error) {
	x := &MapIndex{r: r}
	return x, x.Refresh(ctx)
}

// MapIndex is the plainest repo.Index: all entries in a map, read anew by each Refresh.
type MapIndex struct {
	r  *repo.Repository
	mu sync.RWMutex // guards m
	m  map[blob.Handle][]blob.Location
}

var _ repo.Index = (*MapIndex)(nil)

// Lookup implements repo.Index.
func (x *MapIndex) Lookup(h blob.Handle) (blob.Location, bool, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if locs := x.m[h]; len(locs) > 0 {
		return locs[0], true, nil
	}
	return blob.Location{}, false, nil
}

// Locations implements repo.Index.
func (x *MapIndex) Locations(h blob.Handle) ([]blob.Location, error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.m[h], nil
}

// Packs implements repo.Index.
func (x *MapIndex) Packs(fn func(blob.ID)) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, locs := range x.m {
		for i := range locs {
			fn(locs[i].Pack)
		}
	}
	return nil
}

// Refresh implements repo.Index.
func (x *MapIndex) Refresh(ctx context.Context) error {
	infos, err := x.r.IndexFiles(ctx)
	if err != nil {
		return err
	}
	m := make(map[blob.Handle][]blob.Location)
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return err
		}
		err = x.r.LoadIndexFile(ctx, id, func(e blob.Entry) error {
			m[e.Handle] = append(m[e.Handle], e.Location)
			return nil
		})
		if err != nil {
			return err
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.m = m
	return nil
}

// Close implements repo.Index.
func (x *MapIndex) Close() error { return nil }
