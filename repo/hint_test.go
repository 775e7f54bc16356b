package repo_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

// hints notes the hint of each call for a pack.
type hints struct {
	backend.Backend
	mu  sync.Mutex
	got []string // guarded by mu
}

func (b *hints) note(ctx context.Context, op string, f backend.File) {
	if f.Kind == backend.Pack {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.got = append(b.got, fmt.Sprintf("%s %v", op, backend.HintOf(ctx) == backend.HintTree))
	}
}

func (b *hints) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	b.note(ctx, "read", f)
	return b.Backend.ReadAt(ctx, f, p, offsetBytes)
}

func (b *hints) Save(ctx context.Context, f backend.File, content []byte) error {
	b.note(ctx, "save", f)
	return b.Backend.Save(ctx, f, content)
}

func (b *hints) take() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	got := b.got
	b.got = nil
	slices.Sort(got)
	return got
}

// The store is wrapped once the repository is known, and told which packs hold trees.
func TestStoreIsToldOfTrees(t *testing.T) {
	_, be := repotest.New(t, 2)
	seen := &hints{}
	o := repotest.Options()
	var id string
	o.Cache = func(repoID string, be backend.Backend) backend.Backend {
		id, seen.Backend = repoID, be
		return seen
	}
	r, err := repo.Open(t.Context(), be, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if id != r.Config().ID || r.Backend() != seen {
		t.Errorf("wrapped %v for repository %q, want %q", r.Backend(), id, r.Config().ID)
	}
	var hs []blob.Handle
	err = r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		for _, typ := range []blob.Type{blob.Data, blob.Tree} {
			for i := range 3 {
				saved, err := w.SaveBlob(ctx, typ, fmt.Appendf(nil, `{"nodes":[]}%d`, i))
				if err != nil {
					return err
				}
				hs = append(hs, blob.Handle{Type: typ, ID: saved.ID})
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"save false", "save true"}, seen.take()); diff != "" {
		t.Error(diff)
	}
	if err := r.RefreshIndex(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.ReadBlobs(t.Context(), hs, func(int, repo.OpenBlob) bool { return true })
	if diff := cmp.Diff([]string{"read false", "read true"}, seen.take()); diff != "" {
		t.Error(diff)
	}
	for _, h := range hs {
		if _, err := r.ReadBlob(t.Context(), h, nil); err != nil {
			t.Error(err)
		}
		want := []string{fmt.Sprintf("read %v", h.Type == blob.Tree)}
		if diff := cmp.Diff(want, seen.take()); diff != "" {
			t.Errorf("%v: %s", h, diff)
		}
	}
}
