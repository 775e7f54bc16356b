package restore

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// file is a regular file that is being restored.
type file struct {
	*run
	dir   *dir
	node  *snapshot.Node
	links *links // the other names of it; nil when it has none

	left   atomic.Int32 // parts that are not done
	failed atomic.Bool

	decide sync.Once // sets the next two
	action Action
	stays  bool // nothing at all is changed

	create sync.Once // sets the next three
	fd     int
	temp   string
	err    error
}

// part is a run of a file's chunks.
type part struct {
	repo.Part
	f *file
}

// batch restores parts.
func (r *run) batch(ctx context.Context, parts []part) {
	var chunks []blob.Handle
	var of []int // the part of each chunk
	for i, p := range parts {
		if p.f.decideOnce(ctx) {
			for _, id := range p.f.node.Content[p.From:p.To] {
				chunks = append(chunks, blob.Handle{Type: blob.Data, ID: id})
				of = append(of, i)
			}
		}
	}
	done := 0 // parts
	finish := func(until int) {
		for ; done < until; done++ {
			parts[done].f.partDone(ctx)
		}
	}
	if len(chunks) > 0 && ctx.Err() == nil {
		r.store.LendBlobs(ctx, chunks, func(k int, lend repo.LendBlob) bool {
			finish(of[k]) // those before have all their chunks
			p := &parts[of[k]]
			if p.f.failed.Load() {
				return ctx.Err() == nil
			}
			plain, err := lend()
			if err == nil {
				err = p.f.put(plain, p.OffsetBytes)
				p.OffsetBytes += int64(len(plain))
			}
			if err != nil && ctx.Err() == nil {
				p.f.fail(err)
			}
			return ctx.Err() == nil
		})
	}
	finish(len(parts))
}

func (f *file) path() string { return f.dir.join(f.node.Name) }

// fail tells the first error of the file.
func (f *file) fail(err error) {
	if !f.failed.Swap(true) {
		f.run.failed(f.path(), err)
	}
}

// decideOnce reports whether content is to be written.
func (f *file) decideOnce(ctx context.Context) bool {
	if ctx.Err() != nil {
		return false
	}
	f.decide.Do(func() {
		if err := f.look(ctx); err != nil {
			f.fail(err)
		}
	})
	return !f.DryRun && !f.failed.Load() && f.action != Unchanged
}

// look finds out what is there.
func (f *file) look(ctx context.Context) error {
	if f.dir.fresh || f.dir.absent {
		return nil
	}
	var st unix.Stat_t
	err := lstat(f.dir.fd, f.node.Name, &st)
	if err == unix.ENOENT {
		return nil
	}
	if err != nil {
		return err
	}
	f.action = Updated
	if f.run.stays(f.node, &st) {
		f.action, f.stays = Unchanged, true
		return nil
	}
	if isDir(&st) { // told before anything is read
		if f.DryRun {
			return f.dir.clear(f.node.Name, &st)
		}
		return f.dir.obstacle(f.node.Name)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || uint64(st.Size) != f.node.Size {
		return nil
	}
	if f.Overwrite == IfChanged && unixTime(st.Mtim.Unix()).Equal(f.node.ModTime) {
		f.action = Unchanged
		return nil
	}
	same, err := f.same(ctx, f.dir.fd)
	if err == nil && same {
		f.action = Unchanged
	}
	return nil // what cannot be read is written anew
}

// open makes the temporary file once.
func (f *file) open() error {
	f.create.Do(func() {
		f.temp = f.mark + strconv.FormatUint(f.temps.Add(1), 36)
		f.fd, f.err = createFile(f.dir.fd, f.temp)
		if f.err != nil {
			f.fd, f.err = -1, fmt.Errorf("create the file: %w", f.err)
		}
	})
	return f.err
}

// put writes content.
func (f *file) put(plain []byte, offsetBytes int64) error {
	if err := f.open(); err != nil {
		return err
	}
	var err error
	if f.Sparse {
		err = writeSparse(f.fd, plain, offsetBytes)
	} else {
		err = writeAt(f.fd, plain, offsetBytes)
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	f.Reporter.Wrote(len(plain))
	return nil
}

// partDone is called once for each part; the last call finishes the file.
func (f *file) partDone(ctx context.Context) {
	if f.left.Add(-1) > 0 {
		return
	}
	if ctx.Err() == nil && !f.failed.Load() {
		if err := f.finish(); err != nil {
			f.fail(err)
		}
	}
	if f.fd >= 0 {
		closeFD(f.fd)
		if f.temp != "" {
			unix.Unlinkat(f.dir.fd, f.temp, 0)
		}
	}
	ok := ctx.Err() == nil && !f.failed.Load()
	if ok {
		f.run.done(f.path(), f.node, f.action)
	}
	f.links.made(ctx, ok, f.action)
	f.dir.entryDone(ctx)
}

// finish gives the file its metadata and its name.
func (f *file) finish() error {
	switch {
	case f.DryRun || f.stays:
		return nil
	case f.action == Unchanged:
		return f.attributes(named(f.dir.fd, f.node.Name), f.node, true)
	}
	if err := f.open(); err != nil { // an empty file
		return err
	}
	if f.Sparse {
		if err := unix.Ftruncate(f.fd, int64(f.node.Size)); err != nil {
			return fmt.Errorf("set the size: %w", err)
		}
	}
	failed := f.attributes(descriptor(f.fd), f.node, false)
	err := unix.Renameat(f.dir.fd, f.temp, f.dir.fd, f.node.Name)
	if err == unix.EISDIR {
		if err := f.dir.clear(f.node.Name, &unix.Stat_t{Mode: unix.S_IFDIR}); err != nil {
			return err
		}
		err = unix.Renameat(f.dir.fd, f.temp, f.dir.fd, f.node.Name)
	}
	if err != nil {
		return fmt.Errorf("give the file its name: %w", err)
	}
	f.temp = ""
	if failed != nil { // the content is there all the same
		f.run.failed(f.path(), failed)
	}
	return nil
}

// same reports whether the file of that name has the content of the node.
func (f *file) same(ctx context.Context, dirfd int) (bool, error) {
	fd, err := openFile(dirfd, f.node.Name)
	if err != nil {
		return false, err
	}
	defer closeFD(fd)
	offset := int64(0)
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for _, id := range f.node.Content {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		loc, ok, err := f.store.LookupBlob(blob.Handle{Type: blob.Data, ID: id})
		if err != nil || !ok {
			return false, err
		}
		*buf = grown(*buf, int(loc.Size()))
		n, err := readAt(fd, *buf, offset)
		if err != nil || n < len(*buf) || blob.Hash(*buf) != id {
			return false, err
		}
		offset += int64(n)
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return err == nil && st.Size == offset, err
}

// buffers are for reading what is on the disk.
var buffers = sync.Pool{New: func() any { return new([]byte) }}
