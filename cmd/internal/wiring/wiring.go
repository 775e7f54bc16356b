// Package wiring puts the objects of a run together. It is the only importer of concrete
// backends and of the index cache, so this is the place to look for what is really used.
package wiring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"vitrine/cache"
	"vitrine/cache/indexdb"
	"vitrine/cache/packcache"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/s3"
	"vitrine/repo/blob"
)

// OpenBackend opens the store at the location and makes sure that a repository is in it;
// none is an error of class repo.ErrNoRepository.
func OpenBackend(ctx context.Context, location string, o StoreOptions) (backend.Backend, error) {
	store, err := openStore(ctx, location, o)
	if err != nil {
		return nil, err
	}
	be := o.wrap(ctx, store, schemeOf(location))
	_, err = be.Stat(ctx, backend.File{Kind: backend.Config})
	if errors.Is(err, s3.ErrNoBucket) {
		return nil, errors.Join(noRepository(be.Location(), "there is no such bucket"), be.Close())
	} else if errors.Is(err, backend.ErrNotExist) {
		return nil, errors.Join(noRepository(be.Location(), "there is no config file in it"), be.Close())
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", be.Location(), err), be.Close())
	}
	return be, nil
}

// noRepository is of class repo.ErrNoRepository. Scripts look for the question, which is restic's.
func noRepository(location, why string) error {
	return fmt.Errorf("%w: %s. Is there a repository at the following location? %s; `vitrine init` makes one", repo.ErrNoRepository, why, location)
}

// Exists is the error of class repo.ErrExists for a repository that is in the way of a new one.
func Exists(location string) error {
	return fmt.Errorf("%s: %w (config file already exists): use it as it is (`vitrine snapshots` shows what is in it), or choose another place for a new one", location, repo.ErrExists)
}

// CreateBackend makes the store for a new repository at the location; one that is there already is
// an error of class repo.ErrExists.
func CreateBackend(ctx context.Context, location string, o StoreOptions) (backend.Backend, error) {
	store, err := createStore(ctx, location, o)
	if errors.Is(err, backend.ErrExist) {
		return nil, Exists(Shown(location))
	} else if err != nil {
		return nil, err
	}
	return o.wrap(ctx, store, schemeOf(location)), nil
}

// Options say how a repository is opened.
type Options struct {
	Password    []byte
	KeyHint     string
	Compression string
	PackBytes   int  // 0 means the default
	NoVerify    bool // leave out opening again what was sealed

	// Index is what the command needs of the index.
	Index IndexUse
	// PassOver is told, in parallel, of index files that are not what their names promise, and are left out of a cached index
	// until they are: one may just be on its way to a store that writes in place. nil makes them an error.
	PassOver func(id blob.ID, err error)
	// CacheBase is the directory below which caches are kept; "" keeps the index in memory and no files.
	CacheBase string
	// CacheFiles keeps files of the store below CacheBase, for a store that is slower than the local disk
	// and a command that may be told what was there a moment ago.
	CacheFiles bool
	// CacheBytes bounds those files; 0 means the default of package packcache.
	CacheBytes int64

	Log *slog.Logger // nil discards
}

// IndexUse is the part that the index plays in a command.
type IndexUse uint8

// What a command may need of the index.
const (
	NoIndex     IndexUse = iota // it reads or writes no blob
	MemoryIndex                 // the repository's own files, whatever the cache says
	CachedIndex                 // the cache, or memory when there is none
	BusyIndex                   // that, for a command that looks up most blobs: a cache that is not large is read into memory then
)

// Cached reports whether the index is kept in the cache.
func (u IndexUse) Cached() bool { return u == CachedIndex || u == BusyIndex }

// tableEntries is the largest index that BusyIndex reads into memory: 33 MiB, beside the 200 to
// 250 MiB that a backup takes.
const tableEntries = 1 << 20

// OpenRepository opens the repository in the store, which it takes over also when it fails.
func OpenRepository(ctx context.Context, be backend.Backend, o Options) (*repo.Repository, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ro := repo.Options{
		Password: o.Password, KeyHint: o.KeyHint, Compression: o.Compression,
		PackBytes: o.PackBytes, NoVerify: o.NoVerify, Log: o.Log,
	}
	if o.CacheFiles && o.CacheBase != "" {
		ro.Cache = func(repoID string, be backend.Backend) backend.Backend {
			return wrapCache(be, repoID, o)
		}
	}
	if o.CacheBase != "" {
		ro.Scratch = func(repoID string) (string, error) {
			dir, err := cache.Open(o.CacheBase, repoID)
			if err != nil {
				return "", err
			}
			return dir.Path(), nil
		}
	}
	switch {
	case o.Index.Cached() && o.CacheBase != "":
		ro.OpenIndex = func(ctx context.Context, r *repo.Repository) (repo.Index, error) {
			return openCached(ctx, r, o)
		}
	case o.Index != NoIndex:
		ro.OpenIndex = func(ctx context.Context, r *repo.Repository) (repo.Index, error) {
			return openMemory(ctx, r, o)
		}
	}
	return repo.Open(ctx, be, ro)
}

// openCached opens the index cache. A cache that cannot be used costs memory and time, but is no
// reason to stop.
func openCached(ctx context.Context, r *repo.Repository, o Options) (repo.Index, error) {
	dir, err := cacheDir(o.CacheBase, r.Config().ID, "index")
	if err == nil {
		io := o.indexOptions()
		io.Builder = indexdb.Self
		if o.Index == BusyIndex {
			io.TableEntries = tableEntries
		}
		var db *indexdb.DB
		if db, err = indexdb.Open(ctx, dir, r.Secret("index cache"), r, io); err == nil {
			return db, nil
		}
	}
	if ctx.Err() != nil {
		return nil, err
	}
	m, memErr := openMemory(ctx, r, o)
	if memErr != nil {
		return nil, memErr // the cache is not what is wrong
	}
	o.Log.Warn("the index cache cannot be used; this run keeps the index in memory", "error", err)
	return m, nil
}

// indexOptions are those that all kinds of index have in common.
func (o *Options) indexOptions() indexdb.Options {
	io := indexdb.Options{Log: o.Log}
	if o.PassOver != nil && o.Index.Cached() {
		io.PassOver = func(id blob.ID, err error) bool {
			if !errors.Is(err, repo.ErrNotAsNamed) {
				return false
			}
			o.PassOver(id, err)
			return true
		}
	}
	return io
}

func openMemory(ctx context.Context, r *repo.Repository, o Options) (repo.Index, error) {
	m, err := indexdb.OpenMemory(ctx, r, o.indexOptions())
	if err != nil {
		return nil, err // a nil *Memory in an interface would not be nil
	}
	return m, nil
}

// wrapCache puts the cache of files around a store, above the wrappers of StoreOptions.wrap: what it answers is no
// request for the meter, and cannot fail for lack of a network.
func wrapCache(be backend.Backend, repoID string, o Options) backend.Backend {
	dir, err := cacheDir(o.CacheBase, repoID, "packs")
	if err == nil {
		var cached backend.Backend
		if cached, err = packcache.New(be, dir, packcache.Options{BudgetBytes: o.CacheBytes, Log: o.Log}); err == nil {
			return cached
		}
	}
	o.Log.Warn("the cache of files cannot be used; this run reads all from the repository", "error", err)
	return be
}

// cacheDir returns a directory of the cache of a repository.
func cacheDir(base, repoID, sub string) (string, error) {
	dir, err := cache.Open(base, repoID)
	if err != nil {
		return "", err
	}
	if err := noteUse(dir); err != nil {
		return "", err
	}
	return dir.Sub(sub)
}

// CacheBase returns the directory below which caches are kept when the user names none.
func CacheBase(env func(string) string) (string, error) { return cache.DefaultBase(env) }
