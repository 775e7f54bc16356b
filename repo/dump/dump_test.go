package dump_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"testing"

	"vitrine/repo"
	"vitrine/repo/archive"
	"vitrine/repo/backend"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/dump"
	"vitrine/repo/repotest"
	"vitrine/repo/source/sourcetest"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stored makes a repository with many small files around one of several parts, and returns their contents
// by name, the tree, and the store.
func stored(t *testing.T) (r *repo.Repository, be *mem.Backend, tree blob.ID, want map[string][]byte) {
	t.Helper()
	dir := t.TempDir()
	want = map[string][]byte{}
	for i := range 600 {
		want[fmt.Sprintf("d%d/f%03d", i/100, i)] = fmt.Appendf(nil, "content of file %d", i)
	}
	want["d3/big"] = sourcetest.Noise(5, 9<<20)
	want["d3/empty"] = []byte{}
	for name, content := range want {
		check(t, os.MkdirAll(dir+"/"+name[:2], 0o755))
		check(t, os.WriteFile(dir+"/"+name, content, 0o644))
	}
	r, be = repotest.New(t, 2)
	res, err := archive.Run(t.Context(), r, archive.Options{Targets: []string{dir}, Force: true})
	check(t, err)
	node, err := r.FindNode(t.Context(), *res.Snapshot.Tree, dir)
	check(t, err)
	return r, be, *node.Subtree, want
}

func untar(t *testing.T, p []byte) (got map[string][]byte, names []string, err error) {
	got = map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(p)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return got, names, nil
		}
		if err != nil {
			return got, names, err
		}
		names = append(names, h.Name)
		if h.Typeflag == tar.TypeReg {
			if got[h.Name], err = io.ReadAll(r); err != nil {
				delete(got, h.Name)
				return got, names, err
			}
		}
	}
}

func TestTar(t *testing.T) {
	r, _, tree, want := stored(t)
	var out bytes.Buffer
	check(t, dump.Archive(t.Context(), r, dump.Tar, tree, "/", &out))
	got, names, err := untar(t, out.Bytes())
	check(t, err)
	if !maps.EqualFunc(want, got, bytes.Equal) {
		t.Error("the contents differ")
	}
	if names[0] != "d0/" || names[1] != "d0/f000" || len(names) != len(want)+6 {
		t.Errorf("%d names, first %q", len(names), names[:3])
	}
	node, err := r.FindNode(t.Context(), tree, "d3/big")
	check(t, err)
	out.Reset()
	check(t, dump.File(t.Context(), r, node, &out))
	if !bytes.Equal(out.Bytes(), want["d3/big"]) {
		t.Error("the content of the file differs")
	}
}

// Damage ends an archive before its end, and what stands in it is right.
func TestDamage(t *testing.T) {
	r, be, tree, want := stored(t)
	node, err := r.FindNode(t.Context(), tree, "d3/big")
	check(t, err)
	loc, ok, err := r.LookupBlob(blob.Handle{Type: blob.Data, ID: node.Content[len(node.Content)-1]})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	check(t, be.Remove(t.Context(), backend.File{Kind: backend.Pack, Name: loc.Pack.String()}))
	var out bytes.Buffer
	err = dump.Archive(t.Context(), r, dump.Tar, tree, "/", &out)
	if !errors.Is(err, backend.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	got, _, err := untar(t, out.Bytes())
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the archive seems to be whole: %v", err)
	}
	for name, content := range got {
		if !bytes.Equal(content, want[name]) {
			t.Errorf("%s is wrong", name)
		}
	}
	// The name of a single file is with the caller.
	err = dump.File(t.Context(), r, node, io.Discard)
	if !errors.Is(err, backend.ErrNotExist) || !strings.HasPrefix(err.Error(), "load data/") {
		t.Errorf("of one file: error %v", err)
	}
}

// failing is a writer that fails after some bytes.
type failing struct {
	left int
	fail func() error
}

func (f *failing) Write(p []byte) (int, error) {
	if f.left -= len(p); f.left < 0 {
		return 0, f.fail()
	}
	return len(p), nil
}

func TestEnds(t *testing.T) {
	r, _, tree, _ := stored(t)
	full := errors.New("full")
	for _, after := range []int{0, 100_000, 5 << 20} {
		if err := dump.Archive(t.Context(), r, dump.Tar, tree, "/", &failing{after, func() error { return full }}); !errors.Is(err, full) {
			t.Errorf("a writer that fails after %d bytes: %v", after, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		err := dump.Archive(ctx, r, dump.Tar, tree, "/", &failing{after, func() error { cancel(); return nil }})
		cancel()
		if err == nil {
			t.Errorf("interrupted after %d bytes, and no error", after)
		}
	}
}
