package wiring

import (
	"errors"
	"os"
	"time"

	"vitrine/cache"
)

// CacheInfo tells of the cache of one repository.
type CacheInfo = cache.Info

// Caches lists the caches below base, those used last first.
func Caches(base string) ([]CacheInfo, error) { return cache.List(base) }

// CacheTop returns the directory that has them.
func CacheTop(base string) string { return cache.Top(base) }

// noteUse gives the cache of a repository today's date, by which RemoveOldCaches goes.
func noteUse(dir *cache.Dir) error {
	now := time.Now()
	return os.Chtimes(dir.Path(), now, now)
}

// RemoveOldCaches deletes the caches below base that no run has used for that long, and
// returns how many. A cache that is in use all the same loses its names, not its open files.
func RemoveOldCaches(base string, unused time.Duration) (int, error) {
	list, err := cache.List(base)
	removed := 0
	errs := []error{err}
	for _, c := range list {
		if time.Since(c.Used) < unused {
			continue
		}
		if err := c.Remove(); err != nil {
			errs = append(errs, err)
			continue
		}
		removed++
	}
	return removed, errors.Join(errs...)
}
