// Package cache finds and makes the directory in which vitrine keeps what it can make again.
//
// Everything lies below one directory named vitrine, whatever base is given, so that a base
// shared with restic (whose cache has directories named by repository id, too) does no harm:
//
//	<base>/vitrine/CACHEDIR.TAG      tells backup programs to leave the directory out
//	<base>/vitrine/<repository id>/  mode 0700, one subdirectory per package that caches
//
// A cache is never a source of truth. Deleting any part of it, also while vitrine runs, costs
// time and nothing else; every package below keeps that promise for its own files.
package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"vitrine/repo/blob"
)

// name is the directory that holds everything of ours.
const name = "vitrine"

// tag is the content of CACHEDIR.TAG; its first line is fixed by https://bford.info/cachedir/.
const tag = "Signature: 8a477f597d28d172789f06886806bc55\n" +
	"# This directory is a cache of vitrine. It may be deleted at any time.\n"

// ErrNoBase tells that the environment names no place for a cache.
var ErrNoBase = errors.New("no place for a cache: none of VITRINE_CACHE_DIR, RESTIC_CACHE_DIR, XDG_CACHE_HOME and HOME is set")

// DefaultBase returns the base for Open from the environment: the first that is set of
// VITRINE_CACHE_DIR, RESTIC_CACHE_DIR, XDG_CACHE_HOME and HOME (there .cache). A relative
// XDG_CACHE_HOME is ignored, as its specification demands.
func DefaultBase(env func(string) string) (string, error) {
	for _, v := range []string{"VITRINE_CACHE_DIR", "RESTIC_CACHE_DIR"} {
		if dir := env(v); dir != "" {
			return filepath.Abs(dir)
		}
	}
	if dir := env("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, name), nil
	}
	if dir := env("HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, ".cache", name), nil
	}
	return "", ErrNoBase
}

// Top returns the directory that has the caches of all repositories: base/vitrine, or base itself
// when that is named vitrine already.
func Top(base string) string {
	top := filepath.Clean(base)
	if filepath.Base(top) != name {
		top = filepath.Join(top, name)
	}
	return top
}

// Dir is the cache of one repository.
type Dir struct {
	path string
}

// Open makes the directory of one repository below Top(base). repoID is the id of the repository's config, 64 hexadecimal digits.
func Open(base, repoID string) (*Dir, error) {
	if _, err := blob.ParseID(repoID); err != nil {
		return nil, fmt.Errorf("open cache: repository %w", err)
	}
	if base == "" {
		return nil, errors.New("open cache: empty base directory")
	}
	top := Top(base)
	d := &Dir{path: filepath.Join(top, repoID)}
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	// A directory that somebody made before us with his umask: close it to others.
	for _, dir := range []string{top, d.path} {
		if st, err := os.Stat(dir); err == nil && st.Mode().Perm() != 0o700 {
			if err := os.Chmod(dir, 0o700); err != nil {
				return nil, fmt.Errorf("open cache: %w", err)
			}
		}
	}
	if err := writeTag(filepath.Join(top, "CACHEDIR.TAG")); err != nil {
		return nil, fmt.Errorf("open cache: %w", err)
	}
	return d, nil
}

// writeTag leaves an existing tag alone: two processes may come here at once.
func writeTag(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(tag)
	return errors.Join(err, f.Close())
}

// Path returns the directory of the repository.
func (d *Dir) Path() string { return d.path }

// Sub returns the subdirectory of the given plain name, made when it is missing.
func (d *Dir) Sub(name string) (string, error) {
	if !filepath.IsLocal(name) || filepath.Base(name) != name || name == "." {
		return "", fmt.Errorf("cache subdirectory %q: not a plain name", name)
	}
	path := filepath.Join(d.path, name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", fmt.Errorf("cache subdirectory: %w", err)
	}
	return path, nil
}
