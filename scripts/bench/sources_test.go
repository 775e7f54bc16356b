package main

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// makeTar makes a tar of one of step files of each kind, and returns the names in it.
func makeTar(t *testing.T, mostBytes int64, step int, files map[string]string) (*sourceTar, []string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		path := filepath.Join(dir, "root", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("a.go", dir+"/root/link.go"); err != nil {
		t.Fatal(err)
	}
	s := &sourceTar{Path: dir + "/tar", MostBytes: mostBytes, Step: step, Roots: []string{dir + "/root/first", dir + "/none", dir + "/root"}}
	if err := s.write(); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(s.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || info.Size() != s.Bytes || s.Bytes > mostBytes {
		t.Errorf("the tar has %d bytes, said are %d, most %d; %v", info.Size(), s.Bytes, mostBytes, err)
	}
	var names []string
	for in := tar.NewReader(f); ; {
		header, err := in.Next()
		if err == io.EOF {
			return s, names
		} else if err != nil {
			t.Fatal(err)
		}
		name := strings.TrimPrefix("/"+header.Name, dir+"/root/")
		names = append(names, name)
		content, err := io.ReadAll(in)
		if err != nil || string(content) != files[name] {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(content), err, len(files[name]))
		}
	}
}

func TestSourceTar(t *testing.T) {
	long := strings.Repeat("long/", 50) + "b.c"
	s, names := makeTar(t, 1<<20, 0, map[string]string{
		"z/a.go": "package a", "first/b.go": "package b", long: "int b;", "copy/of.go": "package a", // sources
		"README": "read me", "doc/a.html": "<p>", "doc/copy.html": "<p>",
		"bin/program": "\x7fELF", "zero.go": "not\x00go", "empty.go": "", "packed.gz": "packed", "a.pyc": "compiled",
	})
	want := []string{"first/b.go", "copy/of.go", long, "README", "doc/a.html", "bin/program"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("the tar (-want +got):\n%s", diff)
	}
	if want := [fileKinds]kindOfTar{{3, 24}, {2, 10}, {1, 4}}; s.Of != want {
		t.Errorf("it has %+v, want %+v", s.Of, want)
	}
}

// TestSourceTarStep takes every other file of each kind.
func TestSourceTarStep(t *testing.T) {
	_, names := makeTar(t, 1<<20, 2, map[string]string{
		"a.go": "a", "b.go": "b", "c.go": "c", "a.txt": "text a", "b.txt": "text b", "a.out": "a program", "b.out": "another program",
	})
	if diff := cmp.Diff([]string{"a.go", "c.go", "a.txt", "a.out"}, names); diff != "" {
		t.Errorf("the tar (-want +got):\n%s", diff)
	}
}

// TestSourceTarEnds fills a tar as far as its files allow, and takes sources only while there are some.
func TestSourceTarEnds(t *testing.T) {
	files := map[string]string{}
	for _, name := range strings.Split("abcdefghijklmnopqrst", "") {
		files[name+".txt"] = strings.Repeat(name, 10_000)
		files[name+".go"] = strings.Repeat(name, 10_000) + "\n"
	}
	const most = 150_000
	s, names := makeTar(t, most, 0, files)
	if slices.ContainsFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".go") }) || s.Of[sourceFile].Files != int64(len(names)) {
		t.Errorf("there are %v, said are %+v", names, s.Of)
	}
	if s.Bytes < most-10_000-tarHeader-2048 {
		t.Errorf("only %d of %d bytes are used", s.Bytes, most)
	}
}

func TestSourceTarSays(t *testing.T) {
	s := sourceTar{Bytes: 4<<30 - 100, Of: [fileKinds]kindOfTar{{10, 3 << 30}}}
	if got, want := s.String(), "a tar of sources, 4096 MiB"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	s.Of = [fileKinds]kindOfTar{{10, 1 << 30}, {2, 20 << 20}, {3, 30 << 20}}
	if got, want := s.String(), "a tar of sources, 4096 MiB, of which 1024 MiB sources, 20 MiB documentation and data, 30 MiB programs"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
}
