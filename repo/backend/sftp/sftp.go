// Package sftp stores a repository in a directory of a server that is reached by SSH, in the layout
// restic uses. The system's ssh makes the connections, so that ssh_config, agent and known hosts
// count; the protocol on them is SFTP version 3.
//
// # Connections
//
// A Backend has one connection, and further ones, up to Config.Connections, as soon as those that
// there are have enough to do: what a session may have on the line is limited (2 MiB with OpenSSH), so
// that on a long line several carry more than one. Across 50 ms, 8 calls at a time, BenchmarkFar gave
// 39, 77 and 147 MB/s of reads and 37, 68 and 110 MB/s of saves over 1, 2 and 5 connections. A call takes the connection with the least to
// carry, a read rather one that has the pack open. Every connection is an ssh process in a session of
// its own: neither Ctrl-C nor a question for a password reaches the terminal through it. When a
// connection breaks, the calls on it fail, without a class, that is, transient; the next call
// makes another one. Close ends all of them.
//
// # How a file is published
//
// As package local does it, as far as the server can. For data/ab/abcd… the requests are, each after
// the answer to the one before it, but for those in one line, which are sent together:
//
//	open("data/ab/abcd…-tmp-5f3c…", write, create, exclusive)
//	write(…)  setstat(the file's name, mode)  open("data/ab")     64 writes of 32 KiB at a time
//	fsync(file)                                                   fsync@openssh.com
//	close(file)
//	rename("data/ab/abcd…-tmp-5f3c…", "data/ab/abcd…")   posix-rename@openssh.com
//	fsync("data/ab")
//
// A server without fsync keeps what it says it has. Without posix-rename the plain rename is
// used, and when that refuses because the name is there, the name is removed first. Config always
// takes the plain rename, which at OpenSSH replaces nothing, so that of two inits one wins (but for backend.WithReplace). When a
// request before the rename fails, or the context ends, the temporary file is removed, over
// another connection if need be. Where that cannot be done, since there is none for some seconds, the next Save that succeeds tries
// it once more, and Close, for some seconds, before it gives up and warns. Both also do so when the connection was lost
// before the server had answered the open, and the file is not there: it may be made a little later.
//
// Temporary files of others and foreign files are left alone, and none is listed. Modes are those of package local; a
// server that does not set modes is used all the same.
package sftp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"sync/atomic"

	"github.com/pkg/sftp"

	"vitrine/repo/backend"
)

// Backend is a backend.Backend behind SFTP.
type Backend struct {
	cfg               Config
	opened            bool // with a config, which must be there
	pool              *pool
	dirMode, fileMode fs.FileMode

	left    leftovers
	tidyEnd func()       // tidyLast for Close, which has no context
	dirSync atomic.Int32 // whether the server syncs directories: syncUnknown, syncWorks, syncFails
}

var _ backend.Backend = (*Backend)(nil)

// Open connects and opens the repository at the location; that it is a directory is all it checks. A
// missing one is an error of class backend.ErrNotExist. A server that refuses is one of class
// backend.ErrDenied, one with another host key than is known of class backend.ErrUntrusted.
func Open(ctx context.Context, cfg Config) (backend.Backend, error) {
	b := newBackend(ctx, cfg)
	var root, config fs.FileInfo
	err := b.on(ctx, "", 0, await, func(c *conn) error {
		missing := make(chan error, 1)
		go func() {
			var err error
			config, err = c.client.Stat(path.Join(cfg.Path, "config"))
			missing <- err
		}()
		var err error
		root, err = c.client.Stat(cfg.Path)
		if other := <-missing; lost(other) {
			err = errors.Join(err, other)
		}
		return err
	})
	if err == nil && !root.IsDir() {
		err = backend.Classed(backend.ErrDenied, errors.New("it is not a directory"))
	}
	if err != nil {
		b.pool.close()
		return nil, fmt.Errorf("open %s: %w", cfg.Public(), b.explain(err))
	}
	if config != nil {
		b.opened = true
		if config.Mode()&0o040 != 0 {
			b.dirMode, b.fileMode = 0o770, 0o440
		}
	}
	return b, nil
}

// Create connects, makes the directories of a new repository, where one must not be yet (an error
// of class backend.ErrExist), and opens it. Existing directories are kept, so a Create that was
// interrupted can be repeated.
func Create(ctx context.Context, cfg Config) (backend.Backend, error) {
	b := newBackend(ctx, cfg)
	if err := b.makeLayout(ctx); err != nil {
		b.pool.close()
		return nil, fmt.Errorf("create %s: %w", cfg.Public(), b.explain(err))
	}
	return b, nil
}

func newBackend(ctx context.Context, cfg Config) *Backend {
	b := &Backend{cfg: cfg, pool: newPool(cfg), dirMode: 0o700, fileMode: 0o400}
	b.tidyEnd = func() { b.tidyLast(context.WithoutCancel(ctx)) }
	return b
}

func (c *Config) log() *slog.Logger {
	if c.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return c.Log
}

// on runs an operation on a connection. name is the pack it reads, or ""; it carries n bytes.
func (b *Backend) on(ctx context.Context, name string, n int, p patience, op func(*conn) error) error {
	weight := int64(n) + callWeight
	c, err := b.pool.get(ctx, name, weight)
	if err != nil {
		return err
	}
	defer b.pool.put(c, weight)
	return c.do(ctx, p, func() error { return op(c) })
}

// stillThere is asked when something is missing. It returns an error without a class when the config of an opened repository
// is, too: then its disk is not mounted at the server, and nothing about its files can be told.
func (b *Backend) stillThere(ctx context.Context) error {
	if !b.opened {
		return nil
	}
	return b.on(ctx, "", 0, leave, b.hasConfig)
}

// hasConfig is stillThere on a connection.
func (b *Backend) hasConfig(c *conn) error {
	if !b.opened {
		return nil
	}
	_, err := c.client.Stat(path.Join(b.cfg.Path, "config"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("not even the config is in %s any more: is its disk mounted?", b.cfg.Path)
	}
	return err
}

// failed is explain for a call on a file that is there or not, which is found out with the store itself.
func (b *Backend) failed(ctx context.Context, err error) error {
	if err = b.explain(err); errors.Is(err, backend.ErrNotExist) {
		if err := b.stillThere(ctx); err != nil {
			return b.explain(err)
		}
	}
	return err
}

// ReadAt implements backend.Backend.
func (b *Backend) ReadAt(ctx context.Context, f backend.File, p []byte, offsetBytes int64) error {
	err := ready(ctx, f)
	if err == nil && offsetBytes < 0 {
		err = fmt.Errorf("negative offset: %w", backend.ErrShort)
	}
	if err == nil {
		name := b.path(f)
		if f.Kind == backend.Pack {
			err = b.on(ctx, name, len(p), await, func(c *conn) error { return c.readPack(name, p, offsetBytes) })
		} else {
			err = b.on(ctx, "", len(p), await, func(c *conn) error { return c.readOnce(name, p, offsetBytes) })
		}
	}
	if err != nil {
		return fmt.Errorf("read %v at %d+%d: %w", f, offsetBytes, len(p), b.failed(ctx, err))
	}
	return nil
}

// readPack reads from a pack that is kept open. When that fails for a reason that opening may cure,
// or at least tell, as when the pack is there no more, it opens it anew.
func (c *conn) readPack(name string, p []byte, offsetBytes int64) error {
	pack, fresh := c.packs.get(name, c.client.Open)
	err := pack.err
	if err == nil {
		err = backend.ReadRange(pack.file, p, offsetBytes)
	}
	again := err != nil && !fresh && !lost(err)
	if again {
		c.packs.forget(pack)
	}
	c.packs.put(pack)
	if again {
		return c.readOnce(name, p, offsetBytes)
	}
	return err
}

func (c *conn) readOnce(name string, p []byte, offsetBytes int64) error {
	file, err := c.client.Open(name)
	if err != nil {
		return err
	}
	defer c.closeLater(file)
	return backend.ReadRange(file, p, offsetBytes)
}

// closeLater closes a file that was only read, without a wait for the answer.
func (c *conn) closeLater(file *sftp.File) { c.calls.Go(func() { file.Close() }) }

// ReadAll implements backend.Backend.
func (b *Backend) ReadAll(ctx context.Context, f backend.File, maxBytes int64) ([]byte, error) {
	err := ready(ctx, f)
	got := make(chan []byte, 1)
	if err == nil {
		err = b.on(ctx, "", packetBytes, leave, func(c *conn) error {
			content, err := c.readAll(b.path(f), maxBytes)
			got <- content
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read %v: %w", f, b.failed(ctx, err))
	}
	return <-got, nil
}

// readAll asks for the first bytes and the size at the same time: most files are small.
func (c *conn) readAll(name string, maxBytes int64) ([]byte, error) {
	file, err := c.client.Open(name)
	if err != nil {
		return nil, err
	}
	defer c.closeLater(file)
	var info fs.FileInfo
	stat := make(chan error, 1)
	go func() {
		var err error
		info, err = file.Stat()
		stat <- err
	}()
	first := make([]byte, max(1, min(packetBytes, maxBytes)))
	n, readErr := file.ReadAt(first, 0)
	if err := <-stat; err != nil {
		return nil, err
	}
	if readErr != nil && readErr != io.EOF {
		return nil, readErr
	}
	size := info.Size()
	if size < 0 || size > maxBytes { // uint64 on the wire
		return nil, fmt.Errorf("%d bytes, at most %d allowed: %w", uint64(size), maxBytes, backend.ErrTooBig)
	}
	n = min(n, int(size))
	content := first[:n]
	if int64(n) < size {
		content = make([]byte, size)
		copy(content, first[:n])
		err = backend.ReadRange(file, content[n:], int64(n))
	}
	return content, err
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
	size := make(chan int64, 1)
	if err == nil {
		err = b.on(ctx, "", 0, leave, func(c *conn) error {
			info, err := c.client.Stat(b.path(f))
			if err != nil {
				return err
			}
			size <- info.Size()
			return possible(info)
		})
	}
	if err != nil {
		return backend.Info{}, fmt.Errorf("stat %v: %w", f, b.failed(ctx, err))
	}
	return backend.Info{Name: f.Name, SizeBytes: <-size}, nil
}

// possible returns an error when the server gives a file a size that none has: a uint64 on the wire, it may come
// as a negative number.
func possible(info fs.FileInfo) error {
	if info.Size() < 0 {
		return fmt.Errorf("the server gives %s a size of %d bytes", info.Name(), uint64(info.Size()))
	}
	return nil
}

// Remove implements backend.Backend. It syncs the directory for the kinds for which package
// local does, and for its reasons.
func (b *Backend) Remove(ctx context.Context, f backend.File) error {
	err := ready(ctx, f)
	if err == nil {
		name := b.path(f)
		err = b.on(ctx, "", 0, leave, func(c *conn) error {
			err := c.client.Remove(name)
			if err == nil && f.Kind != backend.Pack && f.Kind != backend.Lock {
				err = b.syncDir(c, path.Dir(name))
			}
			return err
		})
		b.pool.drop(name)
	}
	if err != nil {
		return fmt.Errorf("remove %v: %w", f, b.failed(ctx, err))
	}
	return nil
}

// Location implements backend.Backend.
func (b *Backend) Location() string { return b.cfg.Public() }

// Close implements backend.Backend. It removes temporary files that are left, and waits until every ssh process has ended,
// both of which take at most some seconds.
func (b *Backend) Close() error {
	b.tidyEnd()
	b.pool.close()
	return nil
}

func (b *Backend) path(f backend.File) string { return path.Join(b.cfg.Path, f.Path()) }
