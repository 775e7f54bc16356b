package repo_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
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
		// Two packs are being stored, two are ready, and one more is full.
		if got, most := taken.Load(), int64(5*repo.MinPackBytes); got > most {
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

// TestSaveBlobs: several blobs at a time become what they become one by one.
func TestSaveBlobs(t *testing.T) {
	r, _ := repotest.New(t, 2)
	var plains [][]byte
	for i := range 150 {
		plains = append(plains, bytes.Repeat([]byte{byte(i % 100)}, i*37%5000)) // some twice
	}
	saved := make([]repo.Saved, len(plains))
	err := r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		return w.SaveBlobs(ctx, blob.Data, plains, saved)
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[blob.ID]bool{}
	for i, p := range plains {
		id := blob.Hash(p)
		if saved[i].ID != id || saved[i].New == seen[id] {
			t.Errorf("blob %d: %+v, want %v, new %v", i, saved[i], id, !seen[id])
		}
		seen[id] = true
		got, err := r.ReadBlob(t.Context(), blob.Handle{Type: blob.Data, ID: id}, nil)
		if err != nil || !bytes.Equal(got, p) {
			t.Errorf("blob %d: read %d bytes, %v", i, len(got), err)
		}
	}
}

// TestLockCheck: nothing is stored before it is sure that the lock holds, and nothing when it does not.
func TestLockCheck(t *testing.T) {
	r, _ := repotest.New(t, 2)
	lost := errors.New("the lock does not hold")
	asked := 0
	ctx := repo.WithLockCheck(t.Context(), func(context.Context) error { asked++; return lost })
	err := r.Write(ctx, func(ctx context.Context, w *repo.Writer) error {
		_, err := w.SaveBlob(ctx, blob.Data, []byte("content"))
		return err
	})
	if !errors.Is(err, lost) || asked != 1 {
		t.Errorf("error %v, asked %d times", err, asked)
	}
	for _, kind := range []backend.Kind{backend.Pack, backend.Index} {
		if files, err := r.ListFiles(t.Context(), kind); err != nil || len(files) > 0 {
			t.Errorf("%v: %d files, %v", kind, len(files), err)
		}
		if _, err := r.SaveFile(ctx, kind, []byte("{}")); !errors.Is(err, lost) {
			t.Errorf("save %v: %v", kind, err)
		}
		if err := r.RemoveFile(ctx, kind, blob.ID{1}); !errors.Is(err, lost) {
			t.Errorf("remove %v: %v", kind, err)
		}
	}
	if id, err := r.SaveFile(ctx, backend.Lock, []byte("{}")); err != nil || r.RemoveFile(ctx, backend.Lock, id) != nil {
		t.Errorf("a lock is not asked for: %v", err)
	}
}

// TestLockLost: a run whose lock is lost lists none of its packs, since others may have removed them.
func TestLockLost(t *testing.T) {
	r, _ := repotest.New(t, 2)
	lost := errors.New("lost")
	working, lose := context.WithCancelCause(t.Context())
	ctx := repo.WithLockCheck(working, func(context.Context) error { return context.Cause(working) })
	err := r.Write(ctx, func(ctx context.Context, w *repo.Writer) error {
		noise, rng := make([]byte, 1<<20), rand.NewChaCha8([32]byte{})
		for range repo.DefaultPackBytes / len(noise) {
			rng.Read(noise)
			if _, err := w.SaveBlob(ctx, blob.Data, noise); err != nil {
				return err
			}
		}
		for {
			packs, err := r.ListFiles(t.Context(), backend.Pack)
			if err != nil {
				return err
			}
			if len(packs) > 0 {
				lose(lost)
				return context.Cause(ctx)
			}
		}
	})
	if !errors.Is(err, lost) {
		t.Error(err)
	}
	if files, err := r.ListFiles(t.Context(), backend.Index); err != nil || len(files) > 0 {
		t.Errorf("%d index files, %v", len(files), err)
	}
}

// TestLockLostDuringSave: what names files that others may have removed since is taken back.
func TestLockLostDuringSave(t *testing.T) {
	r, _ := repotest.New(t, 2)
	lost := errors.New("the lock is lost")
	asked := 0
	ctx := repo.WithLockCheck(t.Context(), func(context.Context) error {
		if asked++; asked%2 == 0 { // after the file was stored
			return lost
		}
		return nil
	})
	for _, kind := range []backend.Kind{backend.Index, backend.Snapshot} {
		id, err := r.SaveFile(ctx, kind, []byte("{}"))
		if !errors.Is(err, lost) || !id.IsZero() || strings.Contains(err.Error(), "may be there") {
			t.Errorf("save %v: %v, %v", kind, id, err)
		}
	}
	tree := blob.Hash([]byte("tree"))
	sn := &snapshot.Snapshot{Time: time.Now(), Tree: &tree}
	if _, err := r.SaveSnapshot(ctx, sn); !errors.Is(err, lost) || !sn.ID.IsZero() {
		t.Errorf("SaveSnapshot: %v, %v", sn.ID, err)
	}
	for _, kind := range []backend.Kind{backend.Index, backend.Snapshot} {
		if files, err := r.ListFiles(t.Context(), kind); err != nil || len(files) > 0 {
			t.Errorf("%v: %d files are left, %v", kind, len(files), err)
		}
	}
	if asked != 6 {
		t.Errorf("asked %d times, want 6", asked)
	}
}

// What a scope remembers of its blobs is on disk when they are many, in a file that its end closes; and so does that of a dry run.
func TestWriteClosesItsFile(t *testing.T) {
	_, be := repotest.New(t, 2)
	dir := t.TempDir()
	o := repotest.Options()
	o.Scratch = func(string) (string, error) { return dir, nil }
	r, err := repo.Open(t.Context(), be, o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	open := func() (n int) {
		links, err := filepath.Glob("/proc/self/fd/*")
		if err != nil {
			t.Fatal(err)
		}
		for _, link := range links {
			if path, err := os.Readlink(link); err == nil && strings.HasPrefix(path, dir) {
				n++
			}
		}
		return n
	}
	// Sets of blobs are divided by their first byte; those of one part are enough for its file.
	var plains [][]byte
	for i := uint64(0); len(plains) < 10_000; i++ {
		if p := binary.LittleEndian.AppendUint64(nil, i); blob.Hash(p)[0]%16 == 0 {
			plains = append(plains, p)
		}
	}
	saved := make([]repo.Saved, len(plains))
	dry := r.NewDryWriter()
	if err := dry.SaveBlobs(t.Context(), blob.Data, plains, saved); err != nil {
		t.Fatal(err)
	}
	if n := open(); n != 1 {
		t.Errorf("%d files are open during a dry run", n)
	}
	if dry.Close(); open() != 0 {
		t.Error("a dry run leaves its file open")
	}
	err = r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		if err := w.SaveBlobs(ctx, blob.Data, plains, saved); err != nil {
			return err
		}
		if n := open(); n != 1 {
			t.Errorf("%d files are open during a scope", n)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n := open(); n != 0 {
		t.Errorf("the scope has left %d files open", n)
	}
}
