package repo_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
)

// cutOff makes a repository of four packs, of which three are in no index file any more.
func cutOff(t *testing.T) (be *mem.Backend, handles []blob.Handle, data [][]byte, unlisted []string) {
	t.Helper()
	r, be := repotest.New(t, 2)
	data = blobs(1, 20)
	handles = save(t, r, blob.Data, data[:5])
	kept, listed := names(t, r, backend.Index), names(t, r, backend.Pack)
	for i := 5; i < len(data); i += 5 {
		r := repotest.Open(t, be)
		handles = append(handles, save(t, r, blob.Type(i%2), data[i:i+5])...)
	}
	for name := range names(t, r, backend.Index) {
		if !kept[name] {
			remove(t, be, backend.File{Kind: backend.Index, Name: name})
		}
	}
	for name := range names(t, r, backend.Pack) {
		if !listed[name] {
			unlisted = append(unlisted, name)
		}
	}
	return be, handles, data, unlisted
}

func names(t *testing.T, r *repo.Repository, kind backend.Kind) map[string]bool {
	t.Helper()
	infos, err := r.ListFiles(t.Context(), kind)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]bool)
	for _, info := range infos {
		all[info.Name] = true
	}
	return all
}

func remove(t *testing.T, be backend.Backend, f backend.File) {
	t.Helper()
	if err := be.Remove(t.Context(), f); err != nil {
		t.Fatal(err)
	}
}

// mustKnow reads all blobs, and saves them again: nothing may be new.
func mustKnow(t *testing.T, be backend.Backend, handles []blob.Handle, data [][]byte) {
	t.Helper()
	r := repotest.Open(t, be)
	for i, h := range handles {
		if got, err := r.ReadBlob(t.Context(), h, nil); err != nil || !bytes.Equal(got, data[i]) {
			t.Errorf("blob %d: %d bytes, %v", i, len(got), err)
		}
	}
	before := len(names(t, r, backend.Pack))
	for i, h := range handles {
		save(t, r, h.Type, data[i:i+1])
	}
	if after := len(names(t, r, backend.Pack)); after != before {
		t.Errorf("%d packs are new", after-before)
	}
}

func TestAdopt(t *testing.T) {
	be, handles, data, _ := cutOff(t)
	r := repotest.Open(t, be)
	a, err := r.Adopt(t.Context())
	if err != nil || a.Packs != 3 || a.Blobs != 15 || a.Bytes == 0 || a.Unreadable != 0 {
		t.Fatalf("%+v, %v; want 3 packs with 15 blobs", a, err)
	}
	if n := len(names(t, r, backend.Index)); n != 2 {
		t.Errorf("%d index files, want 1 more", n)
	}
	mustKnow(t, be, handles, data)
	if a, err := r.Adopt(t.Context()); err != nil || a != (repo.Adopted{}) {
		t.Errorf("the second time: %+v, %v", a, err)
	}
}

// Index files that are not what their names promise are removed, and no others.
func TestRemoveUnfinished(t *testing.T) {
	be, handles, data, _ := cutOff(t)
	r := repotest.Open(t, be)
	if _, err := r.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	whole := names(t, r, backend.Index)
	half := backend.File{Kind: backend.Index, Name: strings.Repeat("ab", 32)}
	if err := be.Save(t.Context(), half, []byte("half of it")); err != nil {
		t.Fatal(err)
	}
	files := []blob.ID{blob.Hash([]byte("gone"))}
	for name := range names(t, r, backend.Index) {
		id, err := blob.ParseID(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, id)
	}
	for _, fn := range []func(context.Context, []blob.ID) ([]blob.ID, error){r.Unfinished, r.RemoveUnfinished} {
		if ids, err := fn(t.Context(), files); err != nil || len(ids) != 1 || ids[0].String() != half.Name {
			t.Errorf("%v, %v; want %s", ids, err, half.Name)
		}
	}
	if left := names(t, r, backend.Index); !maps.Equal(left, whole) {
		t.Errorf("left: %v, want %v", left, whole)
	}
	mustKnow(t, be, handles, data)
}

// Packs that are cut, damaged or of another size than their headers say stay as they are, and the others
// are adopted.
func TestAdoptLeavesWhatCannotBeRead(t *testing.T) {
	for name, spoil := range map[string]func([]byte) []byte{
		"empty":         func([]byte) []byte { return nil },
		"cut":           func(p []byte) []byte { return p[:len(p)-100] },
		"flipped":       func(p []byte) []byte { p[len(p)-40] ^= 1; return p },
		"first missing": func(p []byte) []byte { return p[100:] },
		"longer":        func(p []byte) []byte { return append(p, 0) },
		"noise":         func(p []byte) []byte { return bytes.Repeat([]byte{7}, len(p)) },
	} {
		t.Run(name, func(t *testing.T) {
			be, _, _, unlisted := cutOff(t)
			damaged := backend.File{Kind: backend.Pack, Name: unlisted[0]}
			p, err := be.ReadAll(t.Context(), damaged, 1<<30)
			if err != nil {
				t.Fatal(err)
			}
			remove(t, be, damaged)
			if err := be.Save(t.Context(), damaged, spoil(bytes.Clone(p))); err != nil {
				t.Fatal(err)
			}

			var log bytes.Buffer
			o := repotest.Options()
			o.Log = slog.New(slog.NewTextHandler(&log, nil))
			r, err := repo.Open(t.Context(), be, o)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			a, err := r.Adopt(t.Context())
			if err != nil || a.Packs != 2 || a.Unreadable != 1 {
				t.Errorf("%+v, %v; want 2 packs and 1 that cannot be read", a, err)
			}
			if n := strings.Count(log.String(), "level=WARN"); n != 1 || !strings.Contains(log.String(), unlisted[0][:8]) {
				t.Errorf("%d warnings, want 1 about %s:\n%s", n, unlisted[0][:8], log.String())
			}
			if !names(t, r, backend.Pack)[unlisted[0]] {
				t.Error("the damaged pack is gone")
			}
		})
	}
}

// Each operation fails in turn: nothing is lost, and the next time it succeeds.
func TestAdoptAfterFaults(t *testing.T) {
	be, handles, data, _ := cutOff(t)
	for _, mode := range []fault.Mode{fault.Before, fault.After, fault.Short} {
		for i, done := 0, false; !done; i++ {
			be := be.Clone()
			faulty := fault.New(be, func(c fault.Call) fault.Fault {
				if c.N == i {
					return fault.Fault{Mode: mode}
				}
				return fault.Fault{}
			})
			r, err := repo.Open(t.Context(), faulty, repotest.Options())
			if err != nil {
				continue
			}
			_, err = r.Adopt(t.Context())
			done = faulty.Calls() <= i
			if done && err != nil {
				t.Errorf("mode %d, no fault: %v", mode, err)
			}
			r.Close()
			if _, err := repotest.Open(t, be).Adopt(t.Context()); err != nil {
				t.Errorf("mode %d, after a fault at %d: %v", mode, i, err)
			}
			mustKnow(t, be, handles, data)
		}
	}
}

// What another client lists while a scope is writing is known to it before long.
func TestWriteKnowsWhatOthersListMeanwhile(t *testing.T) {
	r, be := repotest.New(t, 2)
	o := repotest.Options()
	o.PackBytes = repo.MinPackBytes
	writer, err := repo.Open(t.Context(), be, o)
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	shared := blobs(5, 8)
	var twice, last blob.Handle
	err = writer.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		// One that both have packed, but not stored yet.
		if saved, err := w.SaveBlob(ctx, blob.Tree, shared[0]); !saved.New || err != nil {
			t.Errorf("new in both: %v, %v", saved, err)
		}
		own, err := w.SaveBlob(ctx, blob.Tree, []byte("own"))
		if err != nil {
			return err
		}
		last = blob.Handle{Type: blob.Tree, ID: own.ID}
		twice = save(t, r, blob.Tree, shared[:1])[0]
		handles := save(t, r, blob.Data, shared)
		if known, err := w.Known(handles[0]); known || err != nil {
			t.Errorf("known before the look: %v, %v", known, err)
		}
		// A full pack, so that there is something to list.
		for _, p := range blobs(6, 100) {
			if _, err := w.SaveBlob(ctx, blob.Data, p); err != nil {
				return err
			}
		}
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
			known, err := w.Known(handles[0])
			if err != nil {
				return err
			}
			if known {
				break
			}
			if time.Now().After(end) {
				return errors.New("still unknown after 20 s")
			}
		}
		for i, p := range shared {
			if saved, err := w.SaveBlob(ctx, blob.Data, p); saved.New || err != nil {
				t.Errorf("blob %d of another client is stored again, or %v", i, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	reader := repotest.Open(t, be)
	places := 0
	for name := range names(t, reader, backend.Index) {
		id, err := blob.ParseID(name)
		if err == nil {
			err = reader.LoadIndexFile(t.Context(), id, func(e blob.Entry) error {
				if e.Handle == twice {
					places++
				}
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if places != 1 {
		t.Errorf("a blob that was packed when another client listed it has %d places, want 1", places)
	}
	if got, err := reader.ReadBlob(t.Context(), last, nil); string(got) != "own" || err != nil {
		t.Errorf("its neighbour in the pack: %q, %v", got, err)
	}
}

// An index file that cannot be written ends the scope while it is at work, and its packs are listed at the end.
func TestIndexFileFailsMeanwhile(t *testing.T) {
	_, be := repotest.New(t, 2)
	failed := false
	o := repotest.Options()
	o.PackBytes = repo.MinPackBytes
	r, err := repo.Open(t.Context(), fault.New(be, func(c fault.Call) fault.Fault {
		if c.Op == fault.Save && c.File.Kind == backend.Index && !failed {
			failed = true
			return fault.Fault{Mode: fault.Before}
		}
		return fault.Fault{}
	}), o)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var handles []blob.Handle
	err = r.Write(t.Context(), func(ctx context.Context, w *repo.Writer) error {
		for _, p := range blobs(6, 100) {
			saved, err := w.SaveBlob(ctx, blob.Data, p)
			if err != nil {
				return err
			}
			handles = append(handles, blob.Handle{Type: blob.Data, ID: saved.ID})
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Second):
			t.Error("the scope goes on without an index")
			return nil
		}
	})
	if !errors.Is(err, fault.ErrInjected) {
		t.Errorf("Write: %v, want %v", err, fault.ErrInjected)
	}
	if _, ok, err := repotest.Open(t, be).LookupBlob(handles[0]); !ok || err != nil {
		t.Errorf("the first pack is in no index: %v", err)
	}
}
