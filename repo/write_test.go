package repo_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

// A writer takes its lock after Open has read the index, and may have waited for it while another
// client pruned. What that client removed must be stored again.
func TestWriteDoesNotTrustTheIndexOfOpen(t *testing.T) {
	r, be := repotest.New(t, 2)
	data := blobs(7, 3)
	handles := save(t, r, blob.Data, data)
	writer := repotest.Open(t, be)
	for _, kind := range []backend.Kind{backend.Index, backend.Pack} {
		infos, err := r.ListFiles(t.Context(), kind)
		if err != nil || len(infos) == 0 {
			t.Fatal(len(infos), kind, err)
		}
		for _, info := range infos {
			if err := be.Remove(t.Context(), backend.File{Kind: kind, Name: info.Name}); err != nil {
				t.Fatal(err)
			}
		}
	}
	save(t, writer, blob.Data, data)
	reader := repotest.Open(t, be)
	for i, h := range handles {
		if got, err := reader.ReadBlob(t.Context(), h, nil); err != nil || !bytes.Equal(got, data[i]) {
			t.Errorf("blob %d was said to be durable: %v", i, err)
		}
	}
}

// An interrupt while the last index file is on its way must not lose hours of packs.
func TestInterruptedLastIndexIsWrittenAgain(t *testing.T) {
	_, be := repotest.New(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r := repotest.Open(t, fault.New(be, func(c fault.Call) fault.Fault {
		if c.Op == fault.Save && c.File.Kind == backend.Index && ctx.Err() == nil {
			cancel()
			return fault.Fault{Mode: fault.Before, Err: context.Canceled}
		}
		return fault.Fault{}
	}))
	var saved repo.Saved
	err := r.Write(ctx, func(ctx context.Context, w *repo.Writer) (err error) {
		saved, err = w.SaveBlob(ctx, blob.Data, []byte("content"))
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("Write: %v, want %v", err, context.Canceled)
	}
	_, ok, err := repotest.Open(t, be).LookupBlob(blob.Handle{Type: blob.Data, ID: saved.ID})
	if err != nil || !ok {
		t.Fatalf("the blob is in a stored pack but in no index: %v", err)
	}
}

// While the backend is slow, full packs must not pile up in the hands of the callers.
func TestSlowBackendHoldsCallersBack(t *testing.T) {
	_, be := repotest.New(t, 1)
	held := heldPacks{be, make(chan struct{})}
	o := repotest.Options()
	o.PackBytes = repo.MinPackBytes
	r, err := repo.Open(t.Context(), held, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const callers, blobBytes = 8, 1 << 20
	var taken atomic.Int64
	err = r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		var group sync.WaitGroup
		for i := range callers {
			rng := rand.NewChaCha8([32]byte{byte(i)})
			group.Go(func() {
				p := make([]byte, blobBytes)
				for range 6 {
					rng.Read(p)
					if _, err := w.SaveBlob(ctx, blob.Data, p); err != nil {
						t.Error(err)
					}
					taken.Add(blobBytes)
				}
			})
		}
		for last := int64(-1); taken.Load() != last; time.Sleep(300 * time.Millisecond) {
			last = taken.Load()
		}
		// Two packs are being stored, and one is full and waits.
		if got, most := taken.Load(), int64(3*repo.MinPackBytes); got > most {
			t.Errorf("%d MiB were taken in while nothing could be stored, want %d at most", got>>20, most>>20)
		}
		close(held.release)
		group.Wait()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
