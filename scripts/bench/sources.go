package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"vitrine/scripts/internal/sample"
)

// sourceTar is a tar of the sources that this machine has. Every file in it is another one: what is there twice would be
// stored once and falsify the figures. When there are not enough sources it goes on with other texts, and then with
// programs, but takes nothing that is compressed already.
//
// A process of its own makes it, for the same reason as with the ballast.
type sourceTar struct {
	Path      string
	MostBytes int64    // that the tar may have
	Roots     []string // where files are looked for
	Step      int      // one of so many files of each kind is taken; up to 1: all

	Bytes int64                // of the tar
	Of    [fileKinds]kindOfTar // what is in it
}

type kindOfTar struct{ Files, Bytes int64 }

// fileKind is what a file holds; the first ones are taken first.
type fileKind int

const (
	sourceFile fileKind = iota
	textFile            // documentation, data
	otherFile           // programs and whatever else compresses
	fileKinds
	packedFile // never taken
)

// extensions by kind; others are of otherFile.
var extensions = map[fileKind]string{
	sourceFile: "go s S c cc cpp cxx h hh hpp inc inl def td rs py pyi pyx pxd pl pm t rb java kt scala js mjs cjs ts tsx jsx vue sh bash awk sed lua vim el lisp scm tcl php swift zig f f90 " +
		"m4 cmake mk am ac in y l proto sql css scss less asm tmpl decTest",
	textFile: "html htm xhtml md rst txt text json jsonl xml xsd xsl dtd yaml yml toml tsv csv svg tex texi info pod man po pot ini conf cfg list map ipynb properties ps rtf",
	packedFile: "gz tgz bz2 tbz xz txz lz lz4 zst zip jar war jmod whl egg crate deb rpm apk 7z rar br png jpg jpeg gif webp avif ico woff woff2 eot pdf mp3 mp4 ogg webm flac " +
		"pack idx rmeta rlib sym pyc pyo",
}

var kindOf = func() map[string]fileKind {
	kinds := map[string]fileKind{}
	for kind, all := range extensions {
		for extension := range strings.FieldsSeq(all) {
			kinds["."+extension] = kind
		}
	}
	return kinds
}()

// kindOfFile tells by the name; a name that says nothing is of the last kind.
func kindOfFile(name string) fileKind {
	if kind, ok := kindOf[filepath.Ext(name)]; ok {
		return kind
	}
	switch name {
	case "Makefile", "Dockerfile", "go.mod", "go.sum", "configure":
		return sourceFile
	case "README", "LICENSE", "COPYING", "NEWS", "ChangeLog", "copyright", "changelog":
		return textFile
	}
	return otherFile
}

// String is what the rows of the report say of it.
func (s *sourceTar) String() string {
	parts := []string{fmt.Sprintf("%d MiB sources", mib(s.Of[sourceFile].Bytes))}
	for kind, name := range []string{textFile: "documentation and data", otherFile: "programs"} {
		if of := s.Of[kind]; name != "" && of.Files > 0 {
			parts = append(parts, fmt.Sprintf("%d MiB %s", mib(of.Bytes), name))
		}
	}
	if len(parts) == 1 {
		return fmt.Sprintf("a tar of sources, %d MiB", mib(s.Bytes))
	}
	return fmt.Sprintf("a tar of sources, %d MiB, of which %s", mib(s.Bytes), strings.Join(parts, ", "))
}

// mib rounds.
func mib(bytes int64) int64 { return (bytes + 1<<19) >> 20 }

// tarArgument makes this program one that makes a tar: it reads a sourceTar and writes what became of it.
const tarArgument = "tar-sources"

// needSources makes the tar, once for all sections that use it, in a directory of its own.
func (b *bench) needSources(ctx context.Context) (dir, what string, err error) {
	dir = b.work + "/sources"
	if b.sources == nil {
		if b.sources, err = b.makeSources(ctx, dir, b.scale.fileBytes, 1); err != nil {
			return dir, "", err
		}
	}
	return dir, b.sources.String(), nil
}

// dropSources makes room.
func (b *bench) dropSources() error {
	b.sources = nil
	return os.RemoveAll(b.work + "/sources")
}

// makeSources makes a tar of one of step files of each kind.
func (b *bench) makeSources(ctx context.Context, dir string, mostBytes int64, step int) (*sourceTar, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	s := &sourceTar{Path: dir + "/file", MostBytes: mostBytes, Step: step, Roots: []string{sample.GoEnv("GOMODCACHE"), sample.GoEnv("GOROOT"), "/usr", "/opt"}}
	if home, err := os.UserHomeDir(); err == nil {
		s.Roots = append(s.Roots, home+"/.pyenv/versions", home+"/.rustup/toolchains")
	}
	if err := elsewhere(ctx, tarArgument, s); err != nil {
		return nil, err
	}
	fmt.Printf("bench: made %v: %d files, %d files, %d files\n", s, s.Of[sourceFile].Files, s.Of[textFile].Files, s.Of[otherFile].Files)
	if s.Bytes < mostBytes*9/10 {
		return nil, fmt.Errorf("this machine has files for a tar of %d bytes only, not of %d", s.Bytes, mostBytes)
	}
	return s, nil
}

// write makes the tar.
func (s *sourceTar) write() (err error) {
	var found [fileKinds][]string
	walked := map[string]bool{}
	for _, root := range s.Roots {
		if err := s.find(root, walked, &found); err != nil {
			return err
		}
	}
	f, err := os.Create(s.Path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := &tarOf{sourceTar: s, file: f, seen: map[[sha256.Size]byte]bool{}}
	out.tar = tar.NewWriter(out)
	for kind, paths := range found {
		for i := 0; i < len(paths); i += max(1, s.Step) {
			path := paths[i]
			if err := out.add(path, fileKind(kind)); err != nil {
				return err
			}
		}
	}
	if err := out.tar.Close(); err != nil {
		return err
	}
	s.Bytes = out.written
	return nil
}

// find looks for files below root, which need not exist. No directory is walked twice, no link is followed.
func (s *sourceTar) find(root string, walked map[string]bool, found *[fileKinds][]string) error {
	root, err := filepath.EvalSymlinks(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer func() { walked[root] = true }()
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrPermission), errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case d.IsDir() && walked[path]:
			return filepath.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		if kind := kindOfFile(d.Name()); kind < fileKinds {
			found[kind] = append(found[kind], path)
		}
		return nil
	})
}

const (
	tarEnd       = 1 << 10
	tarHeader    = 2 << 10 // of one file at most: names are shorter than 512 bytes
	longestName  = 512
	largestFile  = 64 << 20
	lookForZeros = 8000 // bytes; a text has none
)

// tarOf is a tar in the making.
type tarOf struct {
	*sourceTar
	tar     *tar.Writer
	file    *os.File
	written int64
	seen    map[[sha256.Size]byte]bool
}

func (t *tarOf) Write(p []byte) (int, error) {
	n, err := t.file.Write(p)
	t.written += int64(n)
	return n, err
}

// fits says whether there is room for a file of this size, and the padding of the one before.
func (t *tarOf) fits(sizeBytes int64) bool {
	const block = 512
	return t.written+tarHeader+sizeBytes+2*block+tarEnd <= t.MostBytes
}

// add stores a file if there is room for it and none with the same content in the tar.
func (t *tarOf) add(path string, kind fileKind) error {
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 || info.Size() > largestFile || len(path) > longestName || !t.fits(info.Size()) {
		return nil // it is gone, or one that we do not take
	}
	content, err := os.ReadFile(path)
	if err != nil || int64(len(content)) != info.Size() {
		return nil // others may not be readable, or be written to
	}
	if kind != otherFile && bytes.IndexByte(content[:min(len(content), lookForZeros)], 0) >= 0 {
		return nil // not what its name says
	}
	id := sha256.Sum256(content)
	if t.seen[id] {
		return nil
	}
	t.seen[id] = true
	header, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	header.Name = strings.TrimPrefix(path, "/")
	if err := t.tar.WriteHeader(header); err != nil {
		return err
	}
	if _, err := t.tar.Write(content); err != nil {
		return err
	}
	t.Of[kind].Files++
	t.Of[kind].Bytes += info.Size()
	return nil
}
