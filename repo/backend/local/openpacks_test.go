package local

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo/backend"
)

// openFDs counts this process's open files below dir.
func openFDs(t *testing.T, dir string) int {
	t.Helper()
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, dir) {
			n++
		}
	}
	return n
}

func packFile(i int) backend.File {
	const digits = "0123456789abcdef"
	name := []byte(strings.Repeat("0", 64))
	for p := 63; i > 0; p-- {
		name[p] = digits[i%16]
		i /= 16
	}
	return backend.File{Kind: backend.Pack, Name: string(name)}
}

func readOne(ctx context.Context, b *Backend, f backend.File) error {
	return b.ReadAt(ctx, f, make([]byte, 1), 0)
}

func TestOpenPacksAreFewAndShortLived(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b, err := Create(dir)
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		const packs = openPackLimit + 20
		for i := range packs {
			if err := b.Save(ctx, packFile(i), []byte("content")); err != nil {
				t.Fatal(err)
			}
			if err := readOne(ctx, b, packFile(i)); err != nil {
				t.Fatal(err)
			}
		}
		if n := openFDs(t, dir); n != openPackLimit {
			t.Errorf("%d packs are open, want %d", n, openPackLimit)
		}

		// What this process removes is gone at once, what another one removes a little later.
		if err := b.Remove(ctx, packFile(packs-1)); err != nil {
			t.Fatal(err)
		}
		if err := readOne(ctx, b, packFile(packs-1)); !errors.Is(err, backend.ErrNotExist) {
			t.Errorf("removed here: %v", err)
		}
		if err := os.Remove(b.path(packFile(packs - 2))); err != nil {
			t.Fatal(err)
		}
		if err := readOne(ctx, b, packFile(packs-2)); err != nil {
			t.Errorf("removed elsewhere, just now: %v", err)
		}
		time.Sleep(openPackTime / 2)
		if err := readOne(ctx, b, packFile(0)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(openPackTime / 2)
		synctest.Wait()
		if err := readOne(ctx, b, packFile(packs-2)); !errors.Is(err, backend.ErrNotExist) {
			t.Errorf("removed elsewhere, a while ago: %v", err)
		}
		if n := openFDs(t, dir); n != 1 {
			t.Errorf("%d packs are open after a while, want the one that was opened later", n)
		}
		time.Sleep(openPackTime / 2)
		synctest.Wait()
		if n := openFDs(t, dir); n != 0 {
			t.Errorf("%d packs are open after a longer while, want 0", n)
		}

		if err := readOne(ctx, b, packFile(1)); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if n := openFDs(t, dir); n != 0 {
			t.Errorf("%d packs are open after Close, want 0", n)
		}
	})
}

// TestReplacedPack: a damaged pack that is saved again is read anew.
func TestReplacedPack(t *testing.T) {
	b, err := Create(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, content := range []string{"damaged", "whole"} {
		if err := b.Save(t.Context(), packFile(1), []byte(content)); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(content))
		if err := b.ReadAt(t.Context(), packFile(1), got, 0); err != nil || string(got) != content {
			t.Errorf("read %q, %v, want %q", got, err, content)
		}
	}
}
