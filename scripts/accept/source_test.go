package accept

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"vitrine/scripts/internal/sample"
)

// realTree returns a directory of real files with a few made ones, shared by all tests and
// not to be changed: in the long form at least 50 000 files and 2 GiB.
func realTree(t *testing.T) string {
	t.Helper()
	if !long {
		return smallTree(t)
	}
	return built(t, largeTree)
}

// smallTree is the realTree of the short form, for tests that work on many copies.
func smallTree(t *testing.T) string {
	t.Helper()
	return built(t, littleTree)
}

func built(t *testing.T, tree func() (string, error)) string {
	t.Helper()
	dir, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var littleTree = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(base, "small")
	src := sample.GoEnv("GOROOT") + "/src/"
	if err := sample.Copy(dir, src+"net", src+"crypto", src+"encoding"); err != nil {
		return "", err
	}
	return dir, addMade(filepath.Join(dir, "made"))
})

var largeTree = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(base, "large")
	if err := sample.CopySome(dir, 50_000, 2<<30); err != nil {
		return "", err
	}
	return dir, addMade(filepath.Join(dir, "made"))
})

// addMade writes what real trees seldom have side by side: a file of many chunks, one of zeros, one
// that no compressor shrinks, hard links, symlinks, xattrs, an empty directory.
func addMade(dir string) error {
	if err := os.MkdirAll(dir+"/empty", 0o711); err != nil {
		return err
	}
	random := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 12<<20)
	random.Read(noise)
	words := strings.Repeat("the quick brown fox jumps over the lazy dog\n", 100_000)
	for name, content := range map[string][]byte{
		"noise": noise, "words": []byte(words), "zeros": make([]byte, 20<<20), "nothing": nil,
		"512k": noise[:512<<10], "8m": noise[:8<<20], "one": noise[:1],
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o640); err != nil {
			return err
		}
	}
	return errors.Join(
		os.Link(dir+"/noise", dir+"/empty-not"),
		os.Symlink("noise", dir+"/link"),
		os.Symlink("/nowhere/at all", dir+"/dangling"),
		os.Chmod(dir+"/words", 0o4755),
		syscall.Setxattr(dir+"/one", "user.vitrine", []byte{0, 1, 2, 255}, 0),
		os.WriteFile(dir+"/\"odd\\\n\xff name", []byte("x"), 0o600),
	)
}
