package wiring

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// oneIndex is a store with one index file of that name, whose reads have that end.
type oneIndex struct {
	backend.Backend
	name    string
	content string
	err     error
}

func (s oneIndex) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	if kind == backend.Index {
		return fn(backend.Info{Name: s.name, SizeBytes: int64(len(s.content))})
	}
	return s.Backend.List(ctx, kind, fn)
}

func (s oneIndex) ReadAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	if f.Kind == backend.Index {
		return []byte(s.content), s.err
	}
	return s.Backend.ReadAll(ctx, f, maxBytes)
}

// An index file is passed over when it is not what its name promises, where there is somebody to tell, and in no other case: what
// it lists would be taken for lost, and stored again.
func TestPassOver(t *testing.T) {
	dir := newRepository(t, "secret")
	const half = "half of an index file"
	for _, tc := range []struct {
		name, file, content string
		err                 error
		passed              bool
	}{
		{"half", strings.Repeat("ab", 32), half, nil, true},
		{"empty", strings.Repeat("ab", 32), "", nil, true},
		{"as named, and of another key", blob.Hash([]byte(half)).String(), half, nil, false},
		{"away", strings.Repeat("ab", 32), "", backend.Classed(backend.ErrAway, errors.New("no answer")), false},
		{"no permission", strings.Repeat("ab", 32), "", fs.ErrPermission, false},
	} {
		for _, use := range []IndexUse{MemoryIndex, CachedIndex, BusyIndex} {
			for _, told := range []bool{false, true} {
				be, err := OpenBackend(t.Context(), dir, StoreOptions{})
				if err != nil {
					t.Fatal(err)
				}
				o := Options{Password: []byte("secret"), Index: use, CacheBase: t.TempDir()}
				var passed []string
				if told {
					o.PassOver = func(id blob.ID, err error) { passed = append(passed, id.String()) }
				}
				r, err := OpenRepository(t.Context(), oneIndex{be, tc.file, tc.content, tc.err}, o)
				if want := tc.passed && told && use.Cached(); (err == nil) != want || (len(passed) == 1 && passed[0] == tc.file) != want {
					t.Errorf("%s, index %d, somebody to tell %v: %v, passed over %v; want %v", tc.name, use, told, err, passed, want)
				}
				if err == nil {
					r.Close()
				} else if tc.err == nil && !errors.Is(err, repo.ErrCorrupt) {
					t.Errorf("%s: %v, want ErrCorrupt", tc.name, err)
				}
			}
		}
	}
}
