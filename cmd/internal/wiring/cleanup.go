package wiring

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"vitrine/cache"
)

// repositoryCache is the name of one repository's cache.
var repositoryCache = regexp.MustCompile(`^[0-9a-f]{64}$`)

// noteUse gives the cache of a repository today's date, by which RemoveOldCaches goes.
func noteUse(dir *cache.Dir) error {
	now := time.Now()
	return os.Chtimes(dir.Path(), now, now)
}

// RemoveOldCaches deletes the caches below base that no run has used for that long, and
// returns how many. A cache that is in use all the same loses its names, not its open files.
func RemoveOldCaches(base string, unused time.Duration) (int, error) {
	base = cache.Top(base)
	entries, err := os.ReadDir(base)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	removed := 0
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || !repositoryCache.MatchString(e.Name()) || time.Since(info.ModTime()) < unused {
			continue // one that vanishes meanwhile is none of ours
		}
		if err := os.RemoveAll(filepath.Join(base, e.Name())); err != nil {
			errs = append(errs, err)
			continue
		}
		removed++
	}
	return removed, errors.Join(errs...)
}
