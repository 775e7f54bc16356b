// Package sample gathers real files to back up, for the bench and the acceptance tests.
package sample

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Copy copies trees, under their full real paths, into dir.
func Copy(dir string, from ...string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, f := range from {
		f, err := filepath.EvalSymlinks(f)
		if err != nil {
			return err
		}
		if out, err := exec.Command("rsync", "-aHAXR", f, dir+"/").CombinedOutput(); err != nil {
			return fmt.Errorf("copy %s: %w: %s", f, err, out)
		}
	}
	return nil
}

// entry is a file that could be taken.
type entry struct {
	path      string
	sizeBytes int64
	regular   bool // else a symbolic link
}

// CopySome copies about so many files and bytes into dir: of the Go module cache, the Go
// installation and parts of /usr, under their full real paths.
func CopySome(dir string, files int, sizeBytes int64) error {
	var all []entry
	for _, from := range []string{GoEnv("GOMODCACHE"), GoEnv("GOROOT"), "/usr/share", "/usr/include", "/usr/bin", "/usr/lib", "/usr/sbin"} {
		found, err := list(from)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	chosen, err := choose(all, files, sizeBytes)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var names strings.Builder
	for _, path := range chosen {
		names.WriteString(path + "\x00")
	}
	cmd := exec.Command("rsync", "-aHAX", "--from0", "--files-from=-", "/", dir+"/")
	cmd.Stdin = strings.NewReader(names.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("copy the sample: %w: %s", err, out)
	}
	return nil
}

// list finds the files and symbolic links below a directory, which need not exist.
func list(from string) ([]entry, error) {
	root, err := filepath.EvalSymlinks(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	var found []entry
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && (info.Mode().IsRegular() || info.Mode().Type() == fs.ModeSymlink) {
			found = append(found, entry{path, info.Size(), info.Mode().IsRegular()})
		}
		return err
	})
	return found, err
}

// smallBytes divides the files in two: most files are smaller, and most bytes are in the others.
const smallBytes = 64 << 10

// choose takes files until there are about as many files and bytes as asked for. Small files, in
// order, make up the number; large ones, in order, then the bytes. Symbolic links all come along.
func choose(all []entry, files int, sizeBytes int64) ([]string, error) {
	taken := make([]bool, len(all))
	var count int
	var size int64
	for i, e := range all {
		if e.sizeBytes >= smallBytes || e.regular && (count >= files*95/100 || size+e.sizeBytes > sizeBytes) {
			continue
		}
		taken[i] = true
		if e.regular {
			count++
			size += e.sizeBytes
		}
	}
	for i, e := range all {
		if e.sizeBytes >= smallBytes && size+e.sizeBytes <= sizeBytes {
			taken[i] = true
			count++
			size += e.sizeBytes
		}
	}
	if count < files*9/10 || size < sizeBytes*9/10 {
		return nil, fmt.Errorf("of %d files and %d bytes this machine has only %d and %d to copy", files, sizeBytes, count, size)
	}
	var chosen []string
	for i, e := range all {
		if taken[i] {
			chosen = append(chosen, e.path)
		}
	}
	return chosen, nil
}

// Measure counts the regular files below dir and their bytes.
func Measure(dir string) (files int, sizeBytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			files++
			sizeBytes += info.Size()
		}
		return err
	})
	return files, sizeBytes, err
}

// GoEnv asks the go command for one of its settings; "" when it has none to tell.
func GoEnv(name string) string {
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
