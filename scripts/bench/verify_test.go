package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestVerify lets restic be both programs: what it says of a sound repository, of one with another root tree, and of a damaged one.
func TestVerify(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{work: dir, vitrine: "restic"}
	p := b.ours()
	files := dir + "/files" // the working directory is dir: nothing above the files gets into the tree
	if err := errors.Join(os.WriteFile(dir+"/password", []byte("bench\n"), 0o600), os.Mkdir(files, 0o755), writeNoise(files+"/a", 2<<20)); err != nil {
		t.Fatal(err)
	}
	if err := b.firstBackup(t.Context(), p, "files", spec{}); err != nil {
		t.Fatal(err)
	}
	if err := b.verify(t.Context(), p, "files"); err != nil {
		t.Fatal(err)
	}
	if last, err := filepath.Glob(p.repo + "/snapshots/*"); err != nil || len(last) != 1 {
		t.Errorf("there are the snapshots %v, %v; want the one that there was", last, err)
	}

	// A program that does not see one of the files.
	other := dir + "/blind"
	if err := errors.Join(os.WriteFile(files+"/b", []byte("b"), 0o600), os.WriteFile(other, []byte("#!/bin/sh\nexec restic \"$@\" --exclude b\n"), 0o700)); err != nil {
		t.Fatal(err)
	}
	blind := p
	blind.path = other
	if err := b.verify(t.Context(), blind, "files"); err == nil || !strings.Contains(err.Error(), "the root tree of files is") {
		t.Errorf("other root trees: %v", err)
	}

	packs, err := filepath.Glob(p.repo + "/data/*/*")
	if err != nil || len(packs) == 0 {
		t.Fatal(packs, err)
	}
	for _, pack := range packs {
		content, err := os.ReadFile(pack)
		if err == nil {
			content[0] ^= 1
			err = errors.Join(os.Chmod(pack, 0o600), os.WriteFile(pack, content, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := b.verify(t.Context(), p, "files"); err == nil || !strings.Contains(err.Error(), "what vitrine has written") {
		t.Errorf("a damaged repository: %v", err)
	}
	if want := (verified{3, 2, 2, 1}); b.verified != want {
		t.Errorf("counted are %+v, want %+v", b.verified, want)
	}
}
