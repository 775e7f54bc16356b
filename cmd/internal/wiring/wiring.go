// Package wiring puts the objects of a run together. It is the only importer of concrete
// backends and of the index cache, so this is the place to look for what is really used.
package wiring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"strings"

	"vitrine/cache"
	"vitrine/cache/indexdb"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/backend/local"
)

// scheme is how a location begins that is not on a local disk: "sftp:", "s3:", "rest:https:".
// A single letter is none, nor is a name with a slash before the colon.
var scheme = regexp.MustCompile(`^([a-z][a-z0-9+.-]+):`)

// LocalDir returns the directory of a location on a local disk: "local:dir", or a path.
func LocalDir(location string) (string, error) {
	if dir, ok := strings.CutPrefix(location, "local:"); ok {
		location = dir
	} else if m := scheme.FindStringSubmatch(location); m != nil {
		return "", fmt.Errorf("repository %s: %s repositories are not yet supported, only directories are; write ./%s if it is the name of one",
			withoutPassword(location), m[1], withoutPassword(location))
	}
	if location == "" {
		return "", errors.New("the location of the repository is empty")
	}
	return location, nil
}

// credentials are what stands before the host of a URL.
var credentials = regexp.MustCompile(`://[^/]*@`)

func withoutPassword(location string) string {
	return credentials.ReplaceAllString(location, "://***@")
}

// user is what stands before the host where a location is no URL: sftp:user@host:/path.
var user = regexp.MustCompile(`^([a-z][a-z0-9+.-]+:)[^/]*@`)

// PublicName is what everybody may see of a location, as in /proc/mounts: the absolute path of a
// directory, and of any other location what is left without user, password and parameters.
func PublicName(location string) string {
	if dir, err := LocalDir(location); err == nil {
		if abs, err := filepath.Abs(dir); err == nil {
			return abs
		}
		return dir
	}
	location, _, _ = strings.Cut(location, "?")
	location = credentials.ReplaceAllString(location, "://")
	return user.ReplaceAllString(location, "$1")
}

// OpenBackend opens the store at the location and makes sure that a repository is in it;
// none is an error of class repo.ErrNoRepository.
func OpenBackend(ctx context.Context, location string, o StoreOptions) (backend.Backend, error) {
	dir, err := LocalDir(location)
	if err != nil {
		return nil, err
	}
	disk, err := local.Open(dir)
	if errors.Is(err, backend.ErrNotExist) {
		return nil, noRepository("local:"+dir, "the directory is not there")
	} else if err != nil {
		return nil, err
	}
	be := o.wrap(disk)
	_, err = be.Stat(ctx, backend.File{Kind: backend.Config})
	if errors.Is(err, backend.ErrNotExist) {
		return nil, errors.Join(noRepository(be.Location(), "there is no config file in it"), be.Close())
	} else if err != nil {
		return nil, errors.Join(err, be.Close())
	}
	return be, nil
}

func noRepository(location, why string) error {
	return fmt.Errorf("%s: %w: %s; check the location, or make a repository with `vitrine init`", location, repo.ErrNoRepository, why)
}

// CreateBackend makes the store for a new repository at the location.
func CreateBackend(location string, o StoreOptions) (backend.Backend, error) {
	dir, err := LocalDir(location)
	if err != nil {
		return nil, err
	}
	be, err := local.Create(dir)
	if errors.Is(err, backend.ErrExist) {
		return nil, fmt.Errorf("local:%s: %w", dir, repo.ErrExists)
	} else if err != nil {
		return nil, err
	}
	return o.wrap(be), nil
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
	// CacheBase is the directory below which caches are kept; "" keeps the index in memory.
	CacheBase string

	Log *slog.Logger // nil discards
}

// IndexUse is the part that the index plays in a command.
type IndexUse uint8

// What a command may need of the index.
const (
	NoIndex     IndexUse = iota // it reads or writes no blob
	MemoryIndex                 // the repository's own files, whatever the cache says
	CachedIndex                 // the cache, or memory when there is none
)

// OpenRepository opens the repository in the store, which it takes over also when it fails.
func OpenRepository(ctx context.Context, be backend.Backend, o Options) (*repo.Repository, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ro := repo.Options{
		Password: o.Password, KeyHint: o.KeyHint, Compression: o.Compression,
		PackBytes: o.PackBytes, NoVerify: o.NoVerify, Log: o.Log,
	}
	switch {
	case o.Index == CachedIndex && o.CacheBase != "":
		ro.OpenIndex = func(ctx context.Context, r *repo.Repository) (repo.Index, error) {
			return openCached(ctx, r, o.CacheBase, o.Log)
		}
	case o.Index != NoIndex:
		ro.OpenIndex = func(ctx context.Context, r *repo.Repository) (repo.Index, error) {
			return openMemory(ctx, r, o.Log)
		}
	}
	return repo.Open(ctx, be, ro)
}

// openCached opens the index cache. A cache that cannot be used costs memory and time, but is no
// reason to stop.
func openCached(ctx context.Context, r *repo.Repository, base string, log *slog.Logger) (repo.Index, error) {
	dir, err := cacheDir(base, r.Config().ID)
	if err == nil {
		var db *indexdb.DB
		if db, err = indexdb.Open(ctx, dir, r.Secret("index cache"), r, indexdb.Options{Log: log, Builder: indexdb.Self}); err == nil {
			return db, nil
		}
	}
	if ctx.Err() != nil {
		return nil, err
	}
	log.Warn("the index cache cannot be used; this run keeps the index in memory", "error", err)
	return openMemory(ctx, r, log)
}

func openMemory(ctx context.Context, r *repo.Repository, log *slog.Logger) (repo.Index, error) {
	m, err := indexdb.OpenMemory(ctx, r, indexdb.Options{Log: log})
	if err != nil {
		return nil, err // a nil *Memory in an interface would not be nil
	}
	return m, nil
}

func cacheDir(base, repoID string) (string, error) {
	dir, err := cache.Open(base, repoID)
	if err != nil {
		return "", err
	}
	if err := noteUse(dir); err != nil {
		return "", err
	}
	return dir.Sub("index")
}

// CacheBase returns the directory below which caches are kept when the user names none.
func CacheBase(env func(string) string) (string, error) { return cache.DefaultBase(env) }
