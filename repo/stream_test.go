package repo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

func TestStreamBlob(t *testing.T) {
	text := bytes.Repeat([]byte("a tree that is worth compressing, "), 20_000)
	noise := blobs(300_000, 1)[0]
	for _, version := range []uint{1, 2} {
		r, be := repotest.New(t, version)
		for name, plain := range map[string][]byte{"text": text, "noise": noise} {
			h := save(t, r, blob.Tree, [][]byte{plain})[0]
			r := repotest.Open(t, be)
			got, s, err := r.StreamBlob(t.Context(), h, nil, len(plain))
			if err != nil || s != nil || !bytes.Equal(got, plain) {
				t.Errorf("version %d, %s, not larger than asked: %d bytes, stream %v, error %v", version, name, len(got), s != nil, err)
			}
			got, s, err = r.StreamBlob(t.Context(), h, nil, len(plain)-1)
			if err != nil || got != nil {
				t.Fatalf("version %d, %s: %d bytes, error %v", version, name, len(got), err)
			}
			if got, err = io.ReadAll(s); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("version %d, %s: %d bytes, error %v", version, name, len(got), err)
			}
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// A stream that was all right until its end says so there, and only if the hash is.
func TestStreamBlobOfOtherContent(t *testing.T) {
	r, be := repotest.New(t, 2)
	hs := save(t, r, blob.Tree, blobs(100_000, 2))
	// An index that takes one blob for the other: the seal is good, the content is not.
	open := func(ctx context.Context, r *repo.Repository) (repo.Index, error) {
		x, err := repotest.OpenMapIndex(ctx, r)
		return swapped{x, hs}, err
	}
	o := repotest.Options()
	o.OpenIndex = open
	r, err := repo.Open(t.Context(), be, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	_, s, err := r.StreamBlob(t.Context(), hs[0], nil, 1000)
	if err != nil || s == nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := io.Copy(io.Discard, s); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("%d bytes of another blob: error %v", n, err)
	}
}

// swapped answers for each of two blobs with the place of the other.
type swapped struct {
	repo.Index
	hs []blob.Handle
}

func (x swapped) Lookup(h blob.Handle) (blob.Location, bool, error) {
	if h == x.hs[0] {
		h = x.hs[1]
	} else if h == x.hs[1] {
		h = x.hs[0]
	}
	return x.Index.Lookup(h)
}

func TestStreamBlobOfDamagedPack(t *testing.T) {
	r, be := repotest.New(t, 2)
	h := save(t, r, blob.Tree, blobs(100_000, 1))[0]
	r = repotest.Open(t, be)
	packs, err := r.ListFiles(t.Context(), backend.Pack)
	if err != nil || len(packs) != 1 {
		t.Fatal(packs, err)
	}
	f := backend.File{Kind: backend.Pack, Name: packs[0].Name}
	good, err := be.ReadAll(t.Context(), f, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[50_000] ^= 1
	for what, content := range map[string][]byte{"damaged": bad, "short": good[:5000]} {
		replace(t, be, f, content)
		if _, s, err := r.StreamBlob(t.Context(), h, nil, 1000); s != nil || !errors.Is(err, repo.ErrCorrupt) {
			t.Errorf("%s: stream %v, error %v", what, s != nil, err)
		}
	}
	if err := be.Remove(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if _, s, err := r.StreamBlob(t.Context(), h, nil, 1000); s != nil || !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("gone: stream %v, error %v", s != nil, err)
	}
	_, _, err = r.StreamBlob(t.Context(), blob.Handle{Type: blob.Tree}, nil, 1000)
	if !errors.Is(err, repo.ErrBlobMissing) {
		t.Errorf("unknown: error %v", err)
	}
}
