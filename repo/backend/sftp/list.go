package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"
	"sync/atomic"

	"vitrine/repo/backend"
)

// listParallel is how many directories are read at a time. One takes four round trips or more, and
// data has 256.
const listParallel = 32

// List implements backend.Backend. A directory that is missing is taken for an empty one, if the config is there: copies
// made by tools that keep no empty directories are good repositories.
func (b *Backend) List(ctx context.Context, kind backend.Kind, fn func(backend.Info) error) error {
	var fromCaller error // returned as it is
	err := b.list(ctx, kind, func(infos []backend.Info) error {
		for _, info := range infos {
			if err := ctx.Err(); err != nil {
				return err
			}
			if fromCaller = fn(info); fromCaller != nil {
				return fromCaller
			}
		}
		return nil
	})
	if fromCaller == nil && err != nil {
		return fmt.Errorf("list %v files: %w", kind, b.explain(err))
	}
	return fromCaller
}

func (b *Backend) list(ctx context.Context, kind backend.Kind, fn func([]backend.Info) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir := path.Join(b.cfg.Path, kind.Dir())
	switch kind {
	case backend.Config:
		info, err := b.Stat(ctx, backend.File{Kind: kind})
		if errors.Is(err, backend.ErrNotExist) {
			return nil
		} else if err != nil {
			return err
		}
		return fn([]backend.Info{info})
	case backend.Pack:
		return b.listDirs(ctx, packDirs(dir), fn)
	}
	infos, err := b.listDir(ctx, dir, kind, "")
	if err != nil {
		return err
	}
	return fn(infos)
}

// listDirs lists the directories of packs, several at a time, and calls fn with each of them from
// this goroutine.
func (b *Backend) listDirs(ctx context.Context, dirs []string, fn func([]backend.Info) error) error {
	type listed struct {
		infos []backend.Info
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer cancel()
	results := make(chan listed)
	var next atomic.Int64
	for range min(listParallel, len(dirs)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(dirs); i = next.Add(1) - 1 {
				infos, err := b.listDir(ctx, dirs[i], backend.Pack, path.Base(dirs[i]))
				select {
				case results <- listed{infos, err}:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	for range dirs {
		select {
		case r := <-results:
			if r.err != nil {
				return r.err
			}
			if err := fn(r.infos); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// listDir returns the files of the kind in dir whose names start with prefix.
func (b *Backend) listDir(ctx context.Context, dir string, kind backend.Kind, prefix string) ([]backend.Info, error) {
	read := make(chan []fs.FileInfo, 1)
	err := b.on(ctx, "", 0, leave, func(c *conn) error {
		entries, err := c.client.ReadDirContext(ctx, dir)
		read <- entries
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, b.stillThere(ctx)
	} else if err != nil {
		return nil, err
	}
	var infos []backend.Info
	for _, entry := range <-read {
		name := entry.Name()
		if (backend.File{Kind: kind, Name: name}).Check() != nil || name[:len(prefix)] != prefix || !entry.Mode().IsRegular() {
			continue
		}
		if err := possible(entry); err != nil {
			return nil, err
		}
		infos = append(infos, backend.Info{Name: name, SizeBytes: entry.Size()})
	}
	return infos, nil
}
