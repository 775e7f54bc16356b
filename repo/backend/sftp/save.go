package sftp

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
)

const (
	syncUnknown = iota
	syncWorks
	syncFails
)

// Extensions of OpenSSH.
const (
	extFsync       = "fsync@openssh.com"
	extPosixRename = "posix-rename@openssh.com"
	extStatVFS     = "statvfs@openssh.com"
)

func (c *conn) has(extension string) bool {
	_, ok := c.client.HasExtension(extension)
	return ok
}

// Save implements backend.Backend.
func (b *Backend) Save(ctx context.Context, f backend.File, content []byte) error {
	err := ready(ctx, f)
	if err == nil {
		err = b.publish(ctx, b.path(f), content, backend.Replaces(ctx, f))
		b.pool.drop(b.path(f))
	}
	if err != nil {
		return fmt.Errorf("save %v: %w", f, b.explain(err))
	}
	return nil
}

// publish makes content durable under a name: the only place that writes files. The order of the
// requests is in the package documentation.
func (b *Backend) publish(ctx context.Context, name string, content []byte, replace bool) error {
	var random [8]byte
	rand.Read(random[:]) // never fails
	temp := &temporary{name: name + "-tmp-" + hex.EncodeToString(random[:])}
	left := false // whether temp may be there
	err := b.on(ctx, "", len(content), await, func(c *conn) error {
		if !replace {
			if _, err := c.client.Stat(name); err == nil {
				return backend.ErrExist
			} else if !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		left = true
		sync := b.beginSync(c, path.Dir(name))
		err := b.write(ctx, c, temp, content)
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = c.rename(temp.name, name, replace)
		}
		if err == nil {
			left = false
		}
		return sync(err)
	})
	if left {
		b.tidy(ctx, temp)
	} else if err == nil {
		b.tidyMore(ctx)
	}
	return err
}

// write makes a new file with the content, durable but for its name.
func (b *Backend) write(ctx context.Context, c *conn, temp *temporary, content []byte) error {
	err := b.fill(ctx, c, temp, content)
	if code(err) != 0 {
		var vfs *sftp.StatVFS
		if c.has(extStatVFS) {
			vfs, _ = c.client.StatVFS(path.Dir(temp.name)) // without it the message says less
		}
		err = b.explainWrite(vfs, err, int64(len(content)))
	}
	return err
}

// fill is write without an explanation of what fails.
func (b *Backend) fill(ctx context.Context, c *conn, temp *temporary, content []byte) error {
	file, err := b.createTemp(ctx, c, temp.name)
	temp.unsure = lost(err)
	if err != nil {
		return err
	}
	mode := make(chan error, 1)
	go func() { mode <- c.client.Chmod(temp.name, b.fileMode) }() // that of file would wait for the writes
	_, err = file.ReadFromWithConcurrency(until(ctx, content), min(inFlight, len(content)/packetBytes+1))
	if modeErr := <-mode; err == nil && lost(modeErr) {
		err = modeErr
	}
	if err == nil && c.has(extFsync) {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

// readerFunc is an io.Reader.
type readerFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// until returns a reader of content that ends with the context.
func until(ctx context.Context, content []byte) io.Reader {
	from := bytes.NewReader(content)
	return readerFunc(func(p []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return from.Read(p)
	})
}

// createTemp opens a new file, and makes its directory when that is missing.
func (b *Backend) createTemp(ctx context.Context, c *conn, temp string) (*sftp.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	file, err := c.client.OpenFile(temp, flags)
	if !errors.Is(err, fs.ErrNotExist) {
		return file, err
	}
	// The repository itself is never made again: when its disk is not mounted, the backup must
	// not go to the place where it would be.
	if err := b.hasConfig(c); err != nil {
		return nil, err
	}
	if _, err := c.client.Stat(b.cfg.Path); err != nil {
		return nil, err
	}
	if err := b.mkdirAll(ctx, c, path.Dir(temp)); err != nil {
		return nil, err
	}
	return c.client.OpenFile(temp, flags)
}

// rename gives a file its final name.
func (c *conn) rename(temp, name string, replace bool) error {
	if replace && c.has(extPosixRename) {
		return c.client.PosixRename(temp, name)
	}
	err := c.client.Rename(temp, name)
	if code(err) == 0 {
		return err
	}
	if _, statErr := c.client.Stat(name); statErr != nil {
		return err
	}
	if !replace {
		return backend.ErrExist
	}
	if err := c.client.Remove(name); err != nil {
		return err
	}
	return c.client.Rename(temp, name)
}

// beginSync opens a directory while something else goes on, and returns what must be called at the
// end of that, with its error: without one, the names in the directory are made durable. This
// needs a server that opens a directory like a file, as OpenSSH does on Unix; others are believed.
func (b *Backend) beginSync(c *conn, dir string) func(error) error {
	if !c.has(extFsync) || b.dirSync.Load() == syncFails {
		return func(err error) error { return err }
	}
	var file *sftp.File
	opened := make(chan error, 1)
	go func() {
		var err error
		file, err = c.client.Open(dir)
		opened <- err
	}()
	return func(err error) error {
		openErr := <-opened
		if err == nil && errors.Is(openErr, fs.ErrNotExist) {
			file, openErr = c.client.Open(dir) // it has been made since, for the file in it
		}
		if openErr == nil {
			defer c.closeLater(file)
		}
		if err != nil {
			return err
		}
		if openErr == nil {
			openErr = file.Sync()
		}
		if openErr == nil {
			b.dirSync.CompareAndSwap(syncUnknown, syncWorks)
		} else if !lost(openErr) && b.dirSync.CompareAndSwap(syncUnknown, syncFails) {
			b.cfg.log().Debug("the server does not sync directories", "error", openErr)
			return nil
		}
		return openErr
	}
}

// syncDir makes the names in a directory durable.
func (b *Backend) syncDir(c *conn, dir string) error { return b.beginSync(c, dir)(nil) }

// makeLayout makes every directory of the repository.
func (b *Backend) makeLayout(ctx context.Context) error {
	return b.on(ctx, "", 0, await, func(c *conn) error {
		if _, err := c.client.Stat(path.Join(b.cfg.Path, "config")); err == nil {
			return fmt.Errorf("there is a config file in it: %w", backend.ErrExist)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := b.mkdirAll(ctx, c, b.cfg.Path); err != nil {
			return err
		}
		var kinds []string
		for _, kind := range backend.Kinds {
			if kind != backend.Config {
				kinds = append(kinds, path.Join(b.cfg.Path, kind.Dir()))
			}
		}
		if err := b.mkdirs(ctx, c, kinds); err != nil {
			return err
		}
		packs := path.Join(b.cfg.Path, backend.Pack.Dir())
		if err := b.mkdirs(ctx, c, packDirs(packs)); err != nil {
			return err
		}
		for _, dir := range []string{packs, b.cfg.Path} {
			if err := b.syncDir(c, dir); err != nil {
				return err
			}
		}
		return nil
	})
}

// packDirs returns the 256 directories for packs.
func packDirs(root string) []string {
	all := make([]string, 256)
	for i := range all {
		all[i] = path.Join(root, hex.EncodeToString([]byte{byte(i)}))
	}
	return all
}

// mkdirs makes directories whose parent is there, many at a time.
func (b *Backend) mkdirs(ctx context.Context, c *conn, dirs []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(listParallel)
	for _, dir := range dirs {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return b.mkdir(c, dir)
		})
	}
	return group.Wait()
}

// mkdir makes one directory, or finds it there.
func (b *Backend) mkdir(c *conn, dir string) error {
	err := c.client.Mkdir(dir)
	if err == nil {
		if err := c.client.Chmod(dir, b.dirMode); lost(err) {
			return err
		}
		return nil
	}
	if info, statErr := c.client.Stat(dir); statErr == nil && info.IsDir() {
		return nil
	}
	return fmt.Errorf("make the directory %s: %w", dir, err)
}

// mkdirAll makes dir and its missing parents, each durable before anything is put in it.
func (b *Backend) mkdirAll(ctx context.Context, c *conn, dir string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if info, err := c.client.Stat(dir); err == nil {
		if !info.IsDir() {
			return fmt.Errorf("%s is not a directory", dir)
		}
		return nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	parent := path.Dir(dir)
	if parent != dir && parent != "." {
		if err := b.mkdirAll(ctx, c, parent); err != nil {
			return err
		}
	}
	if err := b.mkdir(c, dir); err != nil {
		return err
	}
	return b.syncDir(c, parent)
}
