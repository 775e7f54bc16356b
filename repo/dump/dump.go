// Package dump writes files of a snapshot as one stream: the content of a file, or a directory as a tar or
// zip archive.
//
//	walk         goes through the trees in order, some loaded ahead, and cuts batches of neighbours
//	   │
//	readers      read and verify batches, several at a time
//	   │
//	the caller   writes batch after batch in the order of the walk
//
// Memory: readAhead batches of batchBytes, or of one chunk where that is longer.
package dump

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/walk"
)

const (
	batchBytes = 4 << 20
	batchFiles = 256
	readAhead  = 6
)

// Store is what is read from; *repo.Repository has it.
type Store interface {
	LoadTree(ctx context.Context, id blob.ID) ([]snapshot.Node, error)
	Parts(content []blob.ID, sizeBytes, mostBytes int64) ([]repo.Part, error)
	ReadBlobs(ctx context.Context, hs []blob.Handle, use func(i int, open repo.OpenBlob) bool)
}

// sink takes what is dumped, in order.
type sink interface {
	// begin announces an entry.
	begin(name string, n *snapshot.Node) error
	// content takes what follows of the file that began last. p is only valid during the call.
	content(p []byte) error
}

// File writes the content of a regular file. It ends at the first error: what was written before is
// right, and not all.
func File(ctx context.Context, s Store, n *snapshot.Node, w io.Writer) error {
	return run(ctx, s, raw{w}, func(ctx context.Context, b *batcher) error { return b.add(ctx, "", n) })
}

// raw writes contents and nothing else.
type raw struct{ io.Writer }

func (raw) begin(string, *snapshot.Node) error { return nil }
func (w raw) content(p []byte) error           { _, err := w.Write(p); return err }

// Format is that of an archive.
type Format uint8

// The formats.
const (
	Tar Format = iota // PAX, with extended attributes and ACLs as GNU tar, bsdtar and restic write them
	Zip               // deflated; owners and extended attributes are left out
)

// ParseFormat reads the word that the flag --archive takes.
func ParseFormat(s string) (Format, error) {
	switch s {
	case "tar":
		return Tar, nil
	case "zip":
		return Zip, nil
	}
	return 0, fmt.Errorf("%q: choose tar or zip", s)
}

// Archive writes the entries below a tree as an archive; dir is where they are in the snapshot, and
// becomes a part of their names, without the slash in front. Sockets are left out. It ends at the first error, and the
// archive is not complete then.
func Archive(ctx context.Context, s Store, f Format, tree blob.ID, dir string, w io.Writer) error {
	var to interface {
		sink
		io.Closer
	}
	if f == Zip {
		to = newZip(w)
	} else {
		to = newTar(w)
	}
	err := run(ctx, s, to, func(ctx context.Context, b *batcher) error {
		nodes, err := s.LoadTree(ctx, tree)
		if err != nil {
			return fmt.Errorf("read %s: %w", dir, err)
		}
		return b.below(ctx, dir, nodes)
	})
	if err != nil {
		return err // without its end, so that nobody takes it for whole
	}
	return to.Close()
}

// entry is a node, or a part of a file's content.
type entry struct {
	name  string
	node  *snapshot.Node
	part  repo.Part
	first bool // the node begins here
}

// batch is read by one reader.
type batch struct {
	entries   []entry
	sizeBytes int64

	done   chan struct{}
	chunks [][]byte // plain, of all entries in their order, as far as they could be read
	err    error    // why there are no more
}

// batcher makes batches of what the walk comes to, and has them read.
type batcher struct {
	store Store
	out   chan *batch
	cur   *batch
}

// below adds everything in a directory.
func (b *batcher) below(ctx context.Context, dir string, nodes []snapshot.Node) error {
	all := func(*snapshot.Node) bool { return true }
	return walk.Ahead(ctx, b.store.LoadTree, nodes, all, func(n *snapshot.Node, tree *walk.Coming) error {
		name := path.Join(dir, n.Name)
		if err := b.add(ctx, name, n); err != nil || tree == nil {
			return err
		}
		nodes, err := tree.Wait()
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		return b.below(ctx, name, nodes)
	})
}

func (b *batcher) add(ctx context.Context, name string, n *snapshot.Node) error {
	parts, err := b.store.Parts(n.Content, int64(n.Size), batchBytes)
	if err != nil {
		return unread(name, err)
	}
	for i, p := range parts {
		if b.cur != nil && (len(b.cur.entries) >= batchFiles || b.cur.sizeBytes > 0 && b.cur.sizeBytes+p.SizeBytes > batchBytes) {
			if err := b.flush(ctx); err != nil {
				return err
			}
		}
		if b.cur == nil {
			b.cur = &batch{done: make(chan struct{})}
		}
		b.cur.entries = append(b.cur.entries, entry{name, n, p, i == 0})
		b.cur.sizeBytes += p.SizeBytes
	}
	return nil
}

// flush hands the batch over, and waits while there are too many.
func (b *batcher) flush(ctx context.Context) error {
	cur := b.cur
	if cur == nil {
		return nil
	}
	b.cur = nil
	select {
	case b.out <- cur:
		go b.read(ctx, cur)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// read fills a batch.
func (b *batcher) read(ctx context.Context, cur *batch) {
	defer close(cur.done)
	var chunks []blob.Handle
	var of []int
	for i, e := range cur.entries {
		if e.node.Type == snapshot.File {
			for _, id := range e.node.Content[e.part.From:e.part.To] {
				chunks = append(chunks, blob.Handle{Type: blob.Data, ID: id})
				of = append(of, i)
			}
		}
	}
	if len(chunks) == 0 {
		return
	}
	b.store.ReadBlobs(ctx, chunks, func(i int, open repo.OpenBlob) bool {
		plain, err := open(nil)
		if err == nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			cur.err = unread(cur.entries[of[i]].name, err)
			return false
		}
		cur.chunks = append(cur.chunks, plain)
		return true
	})
}

// run lets walk make batches and writes them.
func run(ctx context.Context, s Store, to sink, walk func(context.Context, *batcher) error) error {
	ctx, cancel := context.WithCancel(ctx)
	b := &batcher{store: s, out: make(chan *batch, readAhead)}
	var walkErr error
	go func() {
		defer close(b.out)
		if walkErr = walk(ctx, b); walkErr == nil {
			walkErr = b.flush(ctx)
		}
	}()
	var err error
	for cur := range b.out {
		<-cur.done
		if err == nil {
			if err = write(ctx, to, cur); err != nil {
				cancel() // and wait for those who are at work
			}
		}
	}
	ended := ctx.Err()
	cancel()
	switch {
	case err != nil:
		return err
	case walkErr != nil:
		return walkErr
	}
	return ended
}

// write gives a batch to the sink, as far as it could be read: the archive then ends inside of the file that
// could not, and its reader notices.
func write(ctx context.Context, to sink, b *batch) error {
	next := 0
	for _, e := range b.entries {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if e.first {
			if err := to.begin(e.name, e.node); err != nil {
				return describe(e, err)
			}
		}
		if e.node.Type != snapshot.File {
			continue
		}
		for range e.part.To - e.part.From {
			if next == len(b.chunks) {
				return b.err
			}
			if err := to.content(b.chunks[next]); err != nil {
				return describe(e, err)
			}
			next++
		}
	}
	return nil
}

// unread says what could not be read; a single file has no name here, and its caller says it.
func unread(name string, err error) error {
	if name == "" {
		return err
	}
	return fmt.Errorf("read %s: %w", name, err)
}

func describe(e entry, err error) error {
	if e.name == "" {
		return fmt.Errorf("write: %w", err)
	}
	return fmt.Errorf("write %s: %w", e.name, err)
}

// errTooLong says that a file has more content than its size.
var errTooLong = errors.New("its chunks are longer than its size")
