package repo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

// blobs returns n blobs of mixed sizes, half of them compressible.
func blobs(seed uint64, n int) [][]byte {
	rng := rand.New(rand.NewPCG(seed, 1))
	all := make([][]byte, n)
	for i := range all {
		p := make([]byte, rng.IntN(300_000))
		if i%2 == 0 {
			for j := range p {
				p[j] = byte(rng.Uint32())
			}
		} else {
			copy(p, fmt.Sprint("blob ", seed, i))
		}
		all[i] = p
	}
	return all
}

// save stores the blobs from several goroutines and returns their handles.
func save(t testing.TB, r *repo.Repository, kind blob.Type, all [][]byte) []blob.Handle {
	t.Helper()
	handles := make([]blob.Handle, len(all))
	err := r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		var group errgroup.Group
		for i, p := range all {
			group.Go(func() error {
				saved, err := w.SaveBlob(ctx, kind, p)
				handles[i] = blob.Handle{Type: kind, ID: saved.ID}
				return err
			})
		}
		return group.Wait()
	})
	if err != nil {
		t.Fatal(err)
	}
	return handles
}

func TestBlobsRoundTrip(t *testing.T) {
	for version := uint(1); version <= 2; version++ {
		t.Run(fmt.Sprint("v", version), func(t *testing.T) {
			r, be := repotest.New(t, version)
			data, trees := blobs(1, 200), blobs(2, 20)
			handles := append(save(t, r, blob.Data, data), save(t, r, blob.Tree, trees)...)
			again := repotest.Open(t, be)
			for i, p := range append(data, trees...) {
				got, err := again.ReadBlob(t.Context(), handles[i], nil)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, p) {
					t.Fatalf("blob %d: %d bytes differ", i, len(p))
				}
				loc, ok, err := again.LookupBlob(handles[i])
				if err != nil || !ok || int(loc.Size()) != len(p) {
					t.Fatalf("lookup of blob %d: %+v %v %v, want size %d", i, loc, ok, err, len(p))
				}
				if version == 1 && loc.Compressed() {
					t.Fatal("version 1 holds a compressed blob")
				}
			}
			checkPackHeaders(t, again)
		})
	}
}

// checkPackHeaders compares each pack's header with the index.
func checkPackHeaders(t *testing.T, r *repo.Repository) {
	t.Helper()
	packs, err := r.ListFiles(t.Context(), backend.Pack)
	if err != nil || len(packs) == 0 {
		t.Fatal(len(packs), "packs", err)
	}
	for _, info := range packs {
		id, _ := blob.ParseID(info.Name)
		entries, err := r.ListPack(t.Context(), id, info.SizeBytes)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.Type != entries[0].Type {
				t.Errorf("pack %s mixes types", id.Short())
			}
			loc, ok, _ := r.LookupBlob(e.Handle)
			if !ok || loc != e.Location {
				t.Errorf("%v: header says %+v, index says %+v", e.Handle, e.Location, loc)
			}
		}
	}
}

func TestKnownBlobIsNotStoredAgain(t *testing.T) {
	r, be := repotest.New(t, 2)
	data := blobs(3, 10)
	save(t, r, blob.Data, data)
	second := repotest.Open(t, be)
	err := second.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		for _, p := range data {
			saved, err := w.SaveBlob(ctx, blob.Data, p)
			if err != nil || saved.New || saved.StoredBytes != 0 {
				t.Errorf("saved again: %+v %v", saved, err)
			}
			tree, err := w.SaveBlob(ctx, blob.Tree, p)
			if err != nil || !tree.New {
				t.Errorf("same bytes as a tree are another blob: %+v %v", tree, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestFailedScopeListsItsFullPacks(t *testing.T) {
	r, be := repotest.New(t, 2)
	boom := errors.New("boom")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	var first blob.ID
	err := r.Write(ctx, func(ctx context.Context, w *repo.Writer) error {
		for i, p := range blobs(4, 500) {
			saved, err := w.SaveBlob(ctx, blob.Data, p)
			if err != nil {
				return err
			}
			if i == 0 {
				first = saved.ID
			}
		}
		for countPacks(t, r) == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel(boom)
		return context.Cause(ctx)
	})
	if !errors.Is(err, boom) {
		t.Fatalf("Write: %v, want %v", err, boom)
	}
	loc, ok, err := repotest.Open(t, be).LookupBlob(blob.Handle{Type: blob.Data, ID: first})
	if err != nil || !ok {
		t.Fatalf("the first blob is in a stored pack but in no index: %+v %v", loc, err)
	}
}

// heldPacks keeps the saving of packs waiting until release is closed.
type heldPacks struct {
	backend.Backend
	release chan struct{}
}

func (b heldPacks) Save(ctx context.Context, f backend.File, content []byte) error {
	if f.Kind == backend.Pack {
		select {
		case <-b.release:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return b.Backend.Save(ctx, f, content)
}

// A pack holds blobs of many callers: the end of the context of the one who filled it is no
// reason to drop it.
func TestPackOutlivesItsLastCaller(t *testing.T) {
	_, be := repotest.New(t, 1)
	held := heldPacks{be, make(chan struct{})}
	r := repotest.Open(t, held)
	err := r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		caller, cancel := context.WithCancel(ctx)
		defer close(held.release)
		defer cancel()
		for _, p := range blobs(5, 300) { // more than one pack
			if _, err := w.SaveBlob(caller, blob.Data, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatalf("Write: %v", err)
	}
	if n := countPacks(t, r); n < 2 {
		t.Fatalf("%d packs, want one that was full and one that was not", n)
	}
}

func countPacks(t *testing.T, r *repo.Repository) int {
	infos, err := r.ListFiles(t.Context(), backend.Pack)
	if err != nil {
		t.Fatal(err)
	}
	return len(infos)
}

func TestReadBlobAfterPruneElsewhere(t *testing.T) {
	r, be := repotest.New(t, 2)
	data := blobs(5, 3)
	handles := save(t, r, blob.Data, data)
	reader := repotest.Open(t, be)
	// Another client repacks: the same blobs in a new pack, then the old pack goes.
	oldPacks, _ := r.ListFiles(t.Context(), backend.Pack)
	oldIndex, _ := r.ListFiles(t.Context(), backend.Index)
	for _, info := range oldIndex {
		id, _ := blob.ParseID(info.Name)
		if err := r.RemoveFile(t.Context(), backend.Index, id); err != nil {
			t.Fatal(err)
		}
	}
	save(t, repotest.Open(t, be), blob.Data, data)
	for _, info := range oldPacks {
		id, _ := blob.ParseID(info.Name)
		if err := r.RemoveFile(t.Context(), backend.Pack, id); err != nil {
			t.Fatal(err)
		}
	}
	for i, h := range handles {
		got, err := reader.ReadBlob(t.Context(), h, nil)
		if err != nil || !bytes.Equal(got, data[i]) {
			t.Fatalf("blob %d after the prune: %v", i, err)
		}
	}
	unknown := blob.Handle{Type: blob.Data, ID: blob.Hash([]byte("nobody saved this"))}
	if _, err := reader.ReadBlob(t.Context(), unknown, nil); !errors.Is(err, repo.ErrBlobMissing) {
		t.Fatalf("unknown blob: %v", err)
	}
}

func TestDamagedPackIsAnError(t *testing.T) {
	r, be := repotest.New(t, 2)
	data := blobs(6, 2)
	handles := save(t, r, blob.Data, data)
	r = repotest.Open(t, be)
	loc, _, _ := r.LookupBlob(handles[1])
	f := backend.File{Kind: backend.Pack, Name: loc.Pack.String()}
	pack, err := be.ReadAll(t.Context(), f, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []uint32{0, 16, loc.LengthBytes / 2, loc.LengthBytes - 1} {
		bad := bytes.Clone(pack)
		bad[loc.OffsetBytes+at] ^= 4
		replace(t, be, f, bad)
		_, err = r.ReadBlob(t.Context(), handles[1], nil)
		if !errors.Is(err, repo.ErrCorrupt) || !strings.Contains(err.Error(), loc.Pack.Short()) {
			t.Errorf("flipped bit at %d: %v", at, err)
		}
	}
	replace(t, be, f, pack[:loc.OffsetBytes+loc.LengthBytes-1])
	if _, err = r.ReadBlob(t.Context(), handles[1], nil); !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("truncated pack: %v", err)
	}
}

func replace(t *testing.T, be *mem.Backend, f backend.File, content []byte) {
	t.Helper()
	if err := be.Save(t.Context(), f, content); err != nil {
		t.Fatal(err)
	}
}

func TestOpenErrors(t *testing.T) {
	ctx := t.Context()
	_, be := repotest.New(t, 2)
	o := repotest.Options()
	o.Password = []byte("wrong")
	_, err := repo.Open(ctx, be, o)
	if !errors.Is(err, repo.ErrWrongPassword) || !strings.HasPrefix(err.Error(), "wrong password or no key found") ||
		!strings.Contains(err.Error(), be.Location()) { // the first words are restic's, for wrappers
		t.Errorf("wrong password: %v", err)
	}
	if _, err := repo.Open(ctx, mem.New(), repotest.Options()); !errors.Is(err, repo.ErrNoRepository) {
		t.Errorf("empty backend: %v", err)
	}
	if _, err := repo.Init(ctx, be, repo.InitOptions{KDF: repotest.KDF}); !errors.Is(err, repo.ErrExists) {
		t.Errorf("init twice: %v", err)
	}
	if _, err := repo.Init(ctx, mem.New(), repo.InitOptions{Version: 3, KDF: repotest.KDF}); !errors.Is(err, repo.ErrVersion) {
		t.Errorf("version 3: %v", err)
	}
	config := backend.File{Kind: backend.Config}
	sealed, _ := be.ReadAll(ctx, config, 1<<20)
	if err := be.Remove(ctx, config); err != nil {
		t.Fatal(err)
	}
	if _, err := repo.Init(ctx, be, repo.InitOptions{KDF: repotest.KDF}); !errors.Is(err, repo.ErrExists) {
		t.Errorf("init over keys without config: %v", err)
	}
	sealed[20] ^= 1
	replace(t, be, config, sealed)
	if _, err := repo.Open(ctx, be, repotest.Options()); !errors.Is(err, repo.ErrCorrupt) || !errors.Is(err, repo.ErrAdvised) {
		t.Errorf("damaged config: %v, advised %t", err, errors.Is(err, repo.ErrAdvised))
	}
}

func TestSnapshots(t *testing.T) {
	r, be := repotest.New(t, 2)
	ctx := t.Context()
	tree := blob.Hash([]byte("tree"))
	var ids []blob.ID
	for i, host := range []string{"a", "b", "a"} {
		sn := &snapshot.Snapshot{Time: time.Unix(int64(1000+i), 0), Tree: &tree, Paths: []string{"/srv"}, Hostname: host}
		id, err := r.SaveSnapshot(ctx, sn)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	r = repotest.Open(t, be)
	latest, err := r.FindSnapshot(ctx, "latest", snapshot.Filter{Hosts: []string{"b"}})
	if err != nil || latest.ID != ids[1] {
		t.Fatalf("latest of b: %v %v", latest, err)
	}
	byPrefix, err := r.FindSnapshot(ctx, ids[2].String()[:20], snapshot.Filter{})
	if err != nil || byPrefix.ID != ids[2] {
		t.Fatalf("by prefix: %v %v", byPrefix, err)
	}
	if _, err := r.FindSnapshot(ctx, "", snapshot.Filter{}); !errors.Is(err, repo.ErrNoMatch) {
		t.Errorf("empty prefix: %v", err)
	}
	if _, err := r.FindSnapshot(ctx, "zz", snapshot.Filter{}); !errors.Is(err, repo.ErrNoMatch) {
		t.Errorf("no hex: %v", err)
	}
	// A damaged file is named, the others are still listed.
	f := backend.File{Kind: backend.Snapshot, Name: ids[0].String()}
	bytes, _ := be.ReadAll(ctx, f, 1<<20)
	bytes[3] ^= 1
	replace(t, be, f, bytes)
	sns, err := repotest.Open(t, be).Snapshots(ctx)
	if len(sns) != 2 || !errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("with one damaged: %d snapshots, %v", len(sns), err)
	}
	// A removed one is gone from the next listing.
	if err := r.RemoveFile(ctx, backend.Snapshot, ids[0]); err != nil {
		t.Fatal(err)
	}
	if sns, err := r.Snapshots(ctx); len(sns) != 2 || err != nil {
		t.Errorf("after removal: %d snapshots, %v", len(sns), err)
	}
}
