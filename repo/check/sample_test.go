package check_test

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/snapshot"
)

// sample is a repository with two snapshots of this tree, of which the first lacks sub/c:
//
//	/srv/a      two chunks
//	/srv/empty  none
//	/srv/sub/b  one chunk, compressible
//	/srv/sub/c  one chunk
type sample struct {
	t           *testing.T
	version     uint
	r           *repo.Repository
	be          *mem.Backend
	a1, a2      blob.ID
	b, c        blob.ID
	sub, srv    blob.ID // of the second snapshot
	first, last blob.ID // snapshots
}

func newSample(t *testing.T, version uint) *sample {
	s := &sample{t: t, version: version}
	s.r, s.be = repotest.New(t, version)
	s.first = s.backup(false)
	s.last = s.backup(true)
	return s
}

// clone returns a copy to damage.
func (s *sample) clone(t *testing.T) *sample {
	c := *s
	c.t, c.be = t, s.be.Clone()
	c.r = repotest.Open(t, c.be)
	return &c
}

// reopen returns the repository without what was decoded before.
func (s *sample) reopen() *repo.Repository {
	s.t.Helper()
	r, err := repo.Open(s.t.Context(), s.be, repo.Options{Password: []byte(repotest.Password)})
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *sample) blob(w *repo.Writer, t blob.Type, plain []byte) blob.ID {
	s.t.Helper()
	saved, err := w.SaveBlob(s.t.Context(), t, plain)
	if err != nil {
		s.t.Fatal(err)
	}
	return saved.ID
}

func (s *sample) tree(w *repo.Writer, nodes ...snapshot.Node) blob.ID {
	s.t.Helper()
	var e snapshot.TreeEncoder
	for i := range nodes {
		if err := e.Add(&nodes[i]); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.blob(w, blob.Tree, e.Finish())
}

func file(name string, bytes uint64, content ...blob.ID) snapshot.Node {
	if content == nil {
		content = []blob.ID{}
	}
	return snapshot.Node{Name: name, Type: snapshot.File, Mode: 0o644, Size: bytes, Content: content}
}

func dir(name string, tree blob.ID) snapshot.Node {
	return snapshot.Node{Name: name, Type: snapshot.Dir, Mode: fs.ModeDir | 0o755, Subtree: &tree}
}

func (s *sample) backup(withC bool) blob.ID {
	s.t.Helper()
	var root blob.ID
	s.write(func(w *repo.Writer) {
		s.a1 = s.blob(w, blob.Data, backendtest.Content(1, 100_000))
		s.a2 = s.blob(w, blob.Data, backendtest.Content(2, 50_000))
		s.b = s.blob(w, blob.Data, bytes.Repeat([]byte("text "), 2000))
		files := []snapshot.Node{file("b", 10_000, s.b)}
		if withC {
			s.c = s.blob(w, blob.Data, backendtest.Content(3, 3000))
			files = append(files, file("c", 3000, s.c))
		}
		s.sub = s.tree(w, files...)
		s.srv = s.tree(w, file("a", 150_000, s.a1, s.a2), file("empty", 0), dir("sub", s.sub))
		root = s.tree(w, dir("srv", s.srv))
	})
	return s.snapshot(&root)
}

func (s *sample) write(fn func(w *repo.Writer)) {
	s.t.Helper()
	err := s.r.Write(s.t.Context(), func(_ context.Context, w *repo.Writer) error {
		fn(w)
		return nil
	})
	if err == nil {
		err = s.r.RefreshIndex(s.t.Context())
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *sample) snapshot(root *blob.ID) blob.ID {
	s.t.Helper()
	id, err := s.r.SaveSnapshot(s.t.Context(), &snapshot.Snapshot{Time: time.Unix(1e9, 0), Tree: root, Paths: []string{"/srv"}, Hostname: "host"})
	if err != nil {
		s.t.Fatal(err)
	}
	return id
}

// snapshotOf adds a snapshot whose root has these nodes.
func (s *sample) snapshotOf(nodes ...snapshot.Node) {
	s.t.Helper()
	var root blob.ID
	s.write(func(w *repo.Writer) { root = s.tree(w, nodes...) })
	s.snapshot(&root)
}

func (s *sample) place(t blob.Type, id blob.ID) blob.Location {
	s.t.Helper()
	loc, ok, err := s.r.LookupBlob(blob.Handle{Type: t, ID: id})
	if err != nil || !ok {
		s.t.Fatalf("blob %s: %v, %v", id.Short(), ok, err)
	}
	return loc
}

func packFile(id blob.ID) backend.File { return backend.File{Kind: backend.Pack, Name: id.String()} }

// change replaces a file by what fn makes of it; nil removes it.
func (s *sample) change(f backend.File, fn func([]byte) []byte) {
	s.t.Helper()
	content, err := s.be.ReadAll(s.t.Context(), f, 1<<30)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.be.Remove(s.t.Context(), f); err != nil {
		s.t.Fatal(err)
	}
	if content = fn(content); content != nil {
		if err := s.be.Save(s.t.Context(), f, content); err != nil {
			s.t.Fatal(err)
		}
	}
}

// files returns the files of a kind by name.
func (s *sample) files(kind backend.Kind) []backend.File {
	s.t.Helper()
	var files []backend.File
	err := s.be.List(s.t.Context(), kind, func(info backend.Info) error {
		files = append(files, backend.File{Kind: kind, Name: info.Name})
		return nil
	})
	if err != nil {
		s.t.Fatal(err)
	}
	slices.SortFunc(files, func(a, b backend.File) int { return strings.Compare(a.Name, b.Name) })
	return files
}

func gone([]byte) []byte { return nil }

func flipAt(offset int) func([]byte) []byte {
	return func(p []byte) []byte {
		if offset < 0 {
			offset += len(p)
		}
		p[offset] ^= 0x10
		return p
	}
}

func cut(n int) func([]byte) []byte { return func(p []byte) []byte { return p[:len(p)-n] } }

// indexOf returns the index file that lists the pack.
func (s *sample) indexOf(pack blob.ID) backend.File {
	s.t.Helper()
	for _, f := range s.files(backend.Index) {
		id, err := blob.ParseID(f.Name)
		if err != nil {
			s.t.Fatal(err)
		}
		lists := false
		err = s.r.LoadIndexFile(s.t.Context(), id, func(e blob.Entry) error {
			lists = lists || e.Pack == pack
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
		if lists {
			return f
		}
	}
	s.t.Fatal("no index lists the pack")
	return backend.File{}
}

// index adds an index file with one data blob.
func (s *sample) index(pack string, id blob.ID, offset, length uint32) {
	s.t.Helper()
	_, err := s.r.SaveFile(s.t.Context(), backend.Index, fmt.Appendf(nil,
		`{"packs":[{"id":"%s","blobs":[{"id":"%v","type":"data","offset":%d,"length":%d}]}]}`, pack, id, offset, length))
	if err != nil {
		s.t.Fatal(err)
	}
}
