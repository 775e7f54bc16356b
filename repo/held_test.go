package repo

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// hold saves blobs until a full pack waits for another.
func hold(ctx context.Context, t *testing.T, w *Writer, rng *rand.ChaCha8) {
	t.Helper()
	p := make([]byte, 1<<20)
	for range 2 * w.r.packBytes >> 20 {
		w.quick.Store(true)
		rng.Read(p)
		if _, err := w.SaveBlob(ctx, blob.Data, p); err != nil {
			t.Error(err)
		}
		w.pairing.Lock()
		held := w.held != nil
		w.pairing.Unlock()
		if held {
			return
		}
	}
	t.Error("no pack waits")
}

// A full pack that waits for another is stored when none comes for a while, and when the scope ends with an error.
func TestHeldPackIsStored(t *testing.T) {
	for name, end := range map[string]struct {
		wait time.Duration
		err  error
	}{
		"none comes": {heldMost, nil},
		"error":      {0, errors.New("of the caller")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, _ := listingRepo(t)
				defer r.Close()
				r.packBytes = MinPackBytes
				packs := func() int {
					infos, err := r.ListFiles(t.Context(), backend.Pack)
					if err != nil {
						t.Fatal(err)
					}
					return len(infos)
				}
				err := r.Write(t.Context(), func(ctx context.Context, w *Writer) error {
					hold(ctx, t, w, rand.NewChaCha8([32]byte{}))
					if n := packs(); n != 0 {
						t.Errorf("%d packs are stored while one waits", n)
					}
					if end.err != nil {
						return end.err
					}
					time.Sleep(end.wait)
					synctest.Wait()
					if n := packs(); n != 1 {
						t.Errorf("%d packs are stored %v later, want 1", n, end.wait)
					}
					return nil
				})
				if !errors.Is(err, end.err) {
					t.Errorf("%v, want %v", err, end.err)
				}
				if files, listed := indexFiles(t, r); files != 1 || len(listed) != 1 {
					t.Errorf("%d index files list %d packs, want 1 of 1", files, len(listed))
				}
			})
		})
	}
}
