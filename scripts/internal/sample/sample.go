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

// CopyUntil copies the Go module cache, the Go installation and then parts of /usr into dir,
// until there are so many files and bytes.
func CopyUntil(dir string, files int, sizeBytes int64) error {
	sources := []string{GoEnv("GOMODCACHE"), GoEnv("GOROOT"), "/usr/share", "/usr/include", "/usr/bin", "/usr/lib", "/usr/sbin"}
	for _, from := range sources {
		if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := Copy(dir, from); err != nil {
			return err
		}
		f, b, err := Measure(dir)
		if err != nil || f >= files && b >= sizeBytes {
			return err
		}
	}
	return fmt.Errorf("this machine has fewer than %d files or %d bytes to copy", files, sizeBytes)
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
