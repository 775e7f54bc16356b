package cache

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"vitrine/repo/blob"
)

// Info is what List tells of the cache of one repository.
type Info struct {
	RepoID string
	Path   string
	Used   time.Time // when a run opened it last
}

// List returns the caches below Top(base), those used last first. A base without any is no error.
func List(base string) ([]Info, error) {
	top := Top(base)
	entries, err := os.ReadDir(top)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("list caches: %w", err)
	}
	var list []Info
	for _, e := range entries {
		if _, err := blob.ParseID(e.Name()); err != nil || !e.IsDir() {
			continue
		}
		st, err := e.Info()
		if err != nil {
			continue // it vanished meanwhile
		}
		list = append(list, Info{e.Name(), filepath.Join(top, e.Name()), st.ModTime()})
	}
	slices.SortStableFunc(list, func(a, b Info) int { return b.Used.Compare(a.Used) })
	return list, nil
}

// Size returns the bytes that the files of the cache have. What vanishes meanwhile
// does not count.
func (i Info) Size() (int64, error) {
	var total int64
	err := filepath.WalkDir(i.Path, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			var st fs.FileInfo
			if st, err = d.Info(); err == nil {
				total += st.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("size of cache: %w", err)
	}
	return total, nil
}

// Remove deletes the cache. Programs that use it meanwhile lose time, no more.
func (i Info) Remove() error {
	if err := os.RemoveAll(i.Path); err != nil {
		return fmt.Errorf("remove cache: %w", err)
	}
	return nil
}
