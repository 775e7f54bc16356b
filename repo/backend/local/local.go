// Package local stores a repository in a directory, in the layout restic uses.
//
// # How a file is published
//
// There is one helper for it, publish. For data/ab/abcd… it makes these calls, in this order:
//
//	open("data/ab/abcd…-tmp-5f3c…", O_WRONLY|O_CREAT|O_EXCL, 0400)
//	write(…)                                     all of the content
//	fsync(file)                                  the bytes are durable
//	close(file)
//	rename("data/ab/abcd…-tmp-5f3c…", "data/ab/abcd…")   the name appears, whole or not at all
//	fsync("data/ab")                             the name is durable
//
// Config is renamed with RENAME_NOREPLACE, so that of two inits one wins. When a directory is
// missing it is made and its parent is synced before any file is created in it. When a call
// before the rename fails, or the context ends, the temporary file is removed.
//
// # Removal
//
// Remove syncs the directory for every kind but Pack and Lock. The order of removals in FORMAT.md
// section 9 (snapshot, index, packs) must survive a power loss; packs and locks come last in
// it, and one that comes back is an orphan.
//
// # Temporary and foreign files
//
// Temporary names are "<final name>-tmp-<random>", as restic's are, in the directory of the final
// name. A writer that was killed leaves one behind. List ignores them, as it ignores every
// name that is not a file's, a pack in the wrong sub-directory, and what is not a regular file.
// Nothing here deletes them: whether their writer is dead is known only under an exclusive lock, so that is
// for prune.
//
// # Modes
//
// Directories 0700, files 0400, as restic leaves them; when config is readable by its group,
// directories 0770 and files 0440.
package local

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"sync"

	"vitrine/repo/backend"
)

// writeBytes is how much is written between two looks at the context.
const writeBytes = 4 << 20

// Backend is a backend.Backend in a local directory.
type Backend struct {
	fsys              FS
	root              string // absolute
	opened            bool   // with a config, which must be there
	dirMode, fileMode fs.FileMode

	// mkdir is held for writing from the mkdir of a directory to the fsync of its parent, and for
	// reading while a file is created, so that no file is ever durable in a directory that is
	// not. No other lock is taken under it.
	mkdir sync.RWMutex

	packs openPacks
}

var _ backend.Backend = (*Backend)(nil)

// Create makes the directories of a new repository at dir, where a repository must not be yet,
// and opens it. Existing directories are kept, so a Create that was interrupted can be repeated.
func Create(dir string) (*Backend, error) { return CreateFS(OS{}, dir) }

// Open opens the repository at dir. That dir is a directory is all it checks; a missing one is
// an error of class backend.ErrNotExist.
func Open(dir string) (*Backend, error) { return OpenFS(OS{}, dir) }

// CreateFS is Create on another file system.
func CreateFS(fsys FS, dir string) (*Backend, error) {
	b, err := newBackend(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("create %s: %w", dir, err)
	}
	if b.opened {
		return nil, fmt.Errorf("create %s: there is a config file in it: %w", dir, backend.ErrExist)
	}
	if err := b.makeLayout(); err != nil {
		return nil, fmt.Errorf("create %s: %w", dir, b.explain(err))
	}
	return b, nil
}

// OpenFS is Open on another file system.
func OpenFS(fsys FS, dir string) (*Backend, error) {
	b, err := newBackend(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	info, err := fsys.Stat(b.root)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, b.explain(err))
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("open %s: it is not a directory", dir)
	}
	return b, nil
}

func newBackend(fsys FS, dir string) (*Backend, error) {
	if dir == "" {
		return nil, errors.New("the name of the directory is empty")
	}
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	b := &Backend{fsys: fsys, root: root, dirMode: 0o700, fileMode: 0o400}
	if info, err := fsys.Stat(b.config()); err == nil {
		b.opened = true
		if info.Mode()&0o040 != 0 {
			b.dirMode, b.fileMode = 0o770, 0o440
		}
	}
	return b, nil
}

func (b *Backend) config() string { return filepath.Join(b.root, "config") }

// stillThere is asked when something is missing. It returns an error without a class when the config of an opened repository
// is, too: then its disk is not mounted, and nothing about its files can be told.
func (b *Backend) stillThere() error {
	if !b.opened {
		return nil
	}
	_, err := b.fsys.Stat(b.config())
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("not even the config is in %s any more: is its disk mounted?", b.root)
	}
	return err
}

// makeLayout makes every directory of the repository durable.
func (b *Backend) makeLayout() error {
	if err := b.mkdirAll(b.root); err != nil {
		return err
	}
	for _, kind := range backend.Kinds {
		if kind == backend.Config {
			continue
		}
		if err := b.mkdirOnly(filepath.Join(b.root, kind.Dir())); err != nil {
			return err
		}
	}
	packs := filepath.Join(b.root, backend.Pack.Dir())
	for i := range 256 {
		if err := b.mkdirOnly(filepath.Join(packs, hex.EncodeToString([]byte{byte(i)}))); err != nil {
			return err
		}
	}
	return errors.Join(b.fsys.SyncDir(packs), b.fsys.SyncDir(b.root))
}

func (b *Backend) mkdirOnly(dir string) error {
	err := b.fsys.Mkdir(dir, b.dirMode)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

// mkdirAll makes dir and its missing parents, each durable before anything is put in it.
func (b *Backend) mkdirAll(dir string) error {
	if info, err := b.fsys.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	}
	parent := filepath.Dir(dir)
	if parent != dir {
		if err := b.mkdirAll(parent); err != nil {
			return err
		}
	}
	if err := b.mkdirOnly(dir); err != nil {
		return err
	}
	if err := b.fsys.SyncDir(parent); err != nil {
		// A directory left here would be taken for a durable one by the next Save.
		return errors.Join(err, b.fsys.Remove(dir))
	}
	return nil
}

// Save implements backend.Backend.
func (b *Backend) Save(ctx context.Context, f backend.File, content []byte) error {
	err := f.Check()
	if err == nil {
		err = b.publish(ctx, b.path(f), content, backend.Replaces(ctx, f))
		b.packs.drop(b.path(f))
	}
	if err != nil {
		return fmt.Errorf("save %v: %w", f, b.explain(err))
	}
	return nil
}

// publish makes content durable under the name path: the only place that writes files. The
// order of the calls is in the package documentation.
func (b *Backend) publish(ctx context.Context, path string, content []byte, replace bool) error {
	file, temp, err := b.createTemp(ctx, path)
	if err != nil {
		return err
	}
	if err := writeSynced(ctx, file, content); err != nil {
		return errors.Join(err, b.fsys.Remove(temp))
	}
	if err := b.fsys.Rename(temp, path, replace); err != nil {
		return errors.Join(err, b.fsys.Remove(temp))
	}
	return b.fsys.SyncDir(filepath.Dir(path))
}

// createTemp opens a new file beside path, and makes the directory when it is missing.
func (b *Backend) createTemp(ctx context.Context, path string) (WriteFile, string, error) {
	var random [8]byte
	rand.Read(random[:]) // never fails
	temp := path + "-tmp-" + hex.EncodeToString(random[:])
	for made := false; ; made = true {
		if err := ctx.Err(); err != nil {
			return nil, "", err
		}
		b.mkdir.RLock()
		file, err := b.fsys.Create(temp, b.fileMode)
		b.mkdir.RUnlock()
		if made || !errors.Is(err, fs.ErrNotExist) {
			return file, temp, err
		}
		// The repository itself is never made again: when its disk is not mounted, the
		// backup must not go to the place where it would be.
		if _, err := b.fsys.Stat(b.root); err != nil {
			return nil, "", err
		}
		if err := b.stillThere(); err != nil {
			return nil, "", err
		}
		b.mkdir.Lock()
		err = b.mkdirAll(filepath.Dir(path))
		b.mkdir.Unlock()
		if err != nil {
			return nil, "", err
		}
	}
}

// writeSynced writes, syncs and closes the file.
func writeSynced(ctx context.Context, file WriteFile, content []byte) error {
	for len(content) > 0 {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, file.Close())
		}
		n := min(len(content), writeBytes)
		if _, err := file.Write(content[:n]); err != nil {
			return errors.Join(err, file.Close())
		}
		content = content[n:]
	}
	err := ctx.Err()
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// ReadAt implements backend.Backend.
func (b *Backend) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	err := b.readAt(ctx, f, p, offsetBytes)
	if err != nil {
		return fmt.Errorf("read %v at %d+%d: %w", f, offsetBytes, len(p), b.explain(err))
	}
	return nil
}

func (b *Backend) readAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	if err := ready(ctx, f); err != nil {
		return err
	}
	if f.Kind == backend.Pack {
		pack, err := b.packs.get(b.path(f), b.fsys.Open)
		if err != nil {
			return err
		}
		return errors.Join(backend.ReadRange(pack.file, p, offsetBytes), b.packs.put(pack))
	}
	file, err := b.fsys.Open(b.path(f))
	if err != nil {
		return err
	}
	return errors.Join(backend.ReadRange(file, p, offsetBytes), file.Close())
}

// ReadAll implements backend.Backend.
func (b *Backend) ReadAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	content, err := b.readAll(ctx, f, maxBytes)
	if err != nil {
		return nil, fmt.Errorf("read %v: %w", f, b.explain(err))
	}
	return content, nil
}

func (b *Backend) readAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	if err := ready(ctx, f); err != nil {
		return nil, err
	}
	file, err := b.fsys.Open(b.path(f))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > maxBytes {
		return nil, fmt.Errorf("%d bytes, at most %d allowed: %w", info.Size(), maxBytes, backend.ErrTooBig)
	}
	content := make([]byte, info.Size())
	n, err := file.ReadAt(content, 0)
	if n == len(content) {
		return content, nil
	}
	if err == io.EOF {
		err = fmt.Errorf("it ends %d bytes early: %w", len(content)-n, backend.ErrShort)
	}
	return nil, err
}

// ready is what every call on a file begins with.
func ready(ctx context.Context, f backend.File) error {
	if err := f.Check(); err != nil {
		return err
	}
	return ctx.Err()
}

// Stat implements backend.Backend.
func (b *Backend) Stat(ctx context.Context, f backend.File) (backend.Info, error) {
	err := ready(ctx, f)
	var info fs.FileInfo
	if err == nil {
		info, err = b.fsys.Stat(b.path(f))
	}
	if err != nil {
		return backend.Info{}, fmt.Errorf("stat %v: %w", f, b.explain(err))
	}
	return backend.Info{Name: f.Name, SizeBytes: info.Size()}, nil
}

// List implements backend.Backend. A directory that is missing is taken for an empty one, if the config is there:
// copies made by tools that keep no empty directories are good repositories.
func (b *Backend) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	var fromCaller error // returned as it is
	wrapped := func(info backend.Info) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		fromCaller = fn(info)
		return fromCaller
	}
	if err := b.list(ctx, kind, wrapped); fromCaller == nil && err != nil {
		return fmt.Errorf("list %v files: %w", kind, b.explain(err))
	}
	return fromCaller
}

func (b *Backend) list(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if kind == backend.Config {
		info, err := b.fsys.Stat(b.config())
		if errors.Is(err, fs.ErrNotExist) {
			return b.stillThere()
		}
		if err != nil {
			return err
		}
		return fn(backend.Info{SizeBytes: info.Size()})
	}
	dir := filepath.Join(b.root, kind.Dir())
	if kind != backend.Pack {
		return b.listDir(dir, kind, "", fn)
	}
	for i := range 256 {
		if err := ctx.Err(); err != nil {
			return err
		}
		prefix := hex.EncodeToString([]byte{byte(i)})
		if err := b.listDir(filepath.Join(dir, prefix), kind, prefix, fn); err != nil {
			return err
		}
	}
	return nil
}

// listDir calls fn for the files of the kind in dir whose names start with prefix.
func (b *Backend) listDir(dir string, kind backend.Kind, prefix string, fn func(backend.Info) error) error {
	entries, err := b.fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return b.stillThere()
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		name := entry.Name()
		if (backend.File{Kind: kind, Name: name}).Check() != nil || name[:len(prefix)] != prefix {
			continue
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			if err := b.stillThere(); err != nil {
				return err
			}
			continue // removed since the directory was read
		}
		if err != nil {
			return err
		}
		if !info.Mode().IsRegular() {
			continue
		}
		if err := fn(backend.Info{Name: name, SizeBytes: info.Size()}); err != nil {
			return err
		}
	}
	return nil
}

// Remove implements backend.Backend.
func (b *Backend) Remove(ctx context.Context, f backend.File) error {
	err := ready(ctx, f)
	path := b.path(f)
	if err == nil {
		err = b.fsys.Remove(path)
		b.packs.drop(path)
	}
	if err == nil && f.Kind != backend.Pack && f.Kind != backend.Lock {
		err = b.fsys.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("remove %v: %w", f, b.explain(err))
	}
	return nil
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return "local:" + b.root }

// Close implements backend.Backend.
func (b *Backend) Close() error { return b.packs.close() }

// Root returns the absolute path of the repository.
func (b *Backend) Root() string { return b.root }

func (b *Backend) path(f backend.File) string {
	return filepath.Join(b.root, filepath.FromSlash(f.Path()))
}
