package check

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/blobtable"
)

// dataBytes bounds the packs in memory; a larger one is read alone.
const dataBytes = 128 << 20

// bufferStep rounds buffers up, so that they fit the next pack too.
const bufferStep = 4 << 20

// maxPackBytes is beyond what the offsets of a pack can address.
const maxPackBytes = 1 << 32

// dataReader reads packs whole.
type dataReader struct {
	*run
	total   int64
	budget  *semaphore.Weighted
	buffers sync.Pool  // of *[]byte
	mu      sync.Mutex // guards run.damaged, res.PacksRead and res.BytesRead
}

// readData verifies the given packs.
func (c *run) readData(ctx context.Context, packs []candidate) error {
	d := &dataReader{run: c, budget: semaphore.NewWeighted(dataBytes)}
	d.buffers.New = func() any { return new([]byte) }
	for _, p := range packs {
		d.total += p.sizeBytes
	}
	// In the order of their names, which is that of directories.
	slices.SortFunc(packs, func(a, b candidate) int { return a.id.Compare(b.id) })
	c.report.begin(Data, d.total)
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0) + 1) // one waits for the disk
	for _, p := range packs {
		weight := min(dataBytes, p.sizeBytes)
		if d.budget.Acquire(groupCtx, weight) != nil {
			break // a context has ended, Wait or ended tell
		}
		group.Go(func() error {
			defer d.budget.Release(weight)
			return d.checkPack(groupCtx, p)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return ended(ctx)
}

// restoreAdvice ends the messages about packs.
const restoreAdvice = "put the pack back from a copy of the repository, or save what can be read of it with `vitrine repair packs`"

// checkPack reads one pack.
func (d *dataReader) checkPack(ctx context.Context, p candidate) error {
	defer d.report.advance(Data, p.sizeBytes, d.total)
	if p.sizeBytes > maxPackBytes {
		d.report.broken(p.id, "pack/%s has %d bytes, more than a pack can; %s", p.id.Short(), p.sizeBytes, restoreAdvice)
		return nil
	}
	buf := d.buffers.Get().(*[]byte)
	if int64(cap(*buf)) < p.sizeBytes {
		*buf = make([]byte, (p.sizeBytes+bufferStep-1)/bufferStep*bufferStep)
	}
	defer func() {
		if cap(*buf) <= dataBytes {
			d.buffers.Put(buf)
		}
	}()
	content := (*buf)[:p.sizeBytes]
	err := d.be.ReadAt(ctx, backend.File{Kind: backend.Pack, Name: p.id.String()}, content, 0)
	if ended(ctx) != nil {
		return ended(ctx)
	}
	d.asked(err)
	if err != nil {
		d.tellUnread(p, err)
		return d.silent()
	}
	named := blob.Hash(content) == p.id
	if !named {
		d.report.broken(p.id, "pack/%s: content does not match its name; %s", p.id.Short(), restoreAdvice)
	}
	entries, err := d.r.ListPackBytes(ctx, p.id, content)
	if err != nil {
		d.report.broken(p.id, "%w; %s", err, restoreAdvice)
	}
	tell := func(format string, args ...any) { d.report.broken(p.id, format, args...) }
	if err != nil || !d.agree(p, entries) {
		entries = d.indexed(p.no) // what readers go by
		if err == nil && named {
			tell = d.report.index // the pack is as it was written
		}
	}
	d.checkBlobs(p, entries, content, tell)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.res.PacksRead++
	d.res.BytesRead += p.sizeBytes
	return nil
}

// tellUnread tells of a pack that could not be read whole. It is damage only when the store says so: one that is out of
// reach may have all of it.
func (d *dataReader) tellUnread(p candidate, err error) {
	switch {
	case errors.Is(err, backend.ErrShort):
		d.report.broken(p.id, "pack/%s is cut: %w; %s", p.id.Short(), err, restoreAdvice)
	case errors.Is(err, backend.ErrNotExist):
		d.report.index("pack/%s was listed and is not there: %w; put the pack back from a copy of the repository", p.id.Short(), err)
	default:
		d.report.unread("pack/%s could not be read: %w; %s", p.id.Short(), err, unreadAdvice)
		return
	}
	d.addDamage(p.no, d.indexed(p.no))
}

// checkBlobs decodes the blobs of a pack; tell hears of those that are damaged, of the first only unless all are wanted.
// For those that are beyond its end its length stands, which was told before.
func (d *dataReader) checkBlobs(p candidate, entries []blob.Entry, content []byte, tell func(format string, args ...any)) {
	var inside, bad []blob.Entry
	var first error
	missing := 0
	damaged := func(e blob.Entry, err error) {
		if bad = append(bad, e); len(bad) == 1 {
			first = err
		}
		if d.report.each {
			tell("%w; %s", err, restoreAdvice)
		}
	}
	for _, e := range entries {
		if end := int64(e.OffsetBytes) + int64(e.LengthBytes); end <= int64(len(content)) {
			inside = append(inside, e)
			continue
		}
		missing++ // what the pack holds was asked before, and the files that need it were named
		if d.report.each {
			tell("pack/%s: %v at %d+%d is beyond its end; %s", p.id.Short(), e.Handle, e.OffsetBytes, e.LengthBytes, restoreAdvice)
		}
	}
	if !d.report.each {
		d.report.more(missing)
	}
	var batch []repo.Decoding // its buffers are used again
	for len(inside) > 0 {
		n := repo.DecodeTogether(inside)
		batch = slices.Grow(batch[:0], n)[:n]
		for i, e := range inside[:n] {
			b := &batch[i]
			if b.Plain != nil {
				b.Buf = b.Plain
			}
			// A copy, since decoding overwrites and the entries of a bad index may overlap.
			b.Entry, b.Sealed = e, append(b.Sealed[:0], content[e.OffsetBytes:][:e.LengthBytes]...)
		}
		d.r.DecodeBlobs(batch)
		for i := range batch {
			if err := batch[i].Err; err != nil {
				damaged(batch[i].Entry, err)
			}
		}
		inside = inside[n:]
	}
	switch {
	case d.report.each || len(bad) == 0:
	case len(bad) == 1:
		tell("%w; %s", first, restoreAdvice)
	default:
		tell("pack/%s: %d of its %s are damaged, the first: %w; %s", p.id.Short(), len(bad), count(len(entries), "blob"), first, restoreAdvice)
		d.report.more(len(bad) - 1)
	}
	d.addDamage(p.no, bad)
}

// agree reports whether the index says of a pack what its header says, and tells if not.
func (d *dataReader) agree(p candidate, header []blob.Entry) bool {
	unlisted := 0
	for i := range header {
		if !d.lists(p.no, &header[i]) {
			unlisted++
		}
	}
	extra := d.table.Packs()[p.no].Blobs - (len(header) - unlisted)
	if unlisted == 0 && extra == 0 {
		return true
	}
	d.report.index("pack/%s: its header and the index disagree: the index lacks %s of the header, the header %s of the index; rebuild the index from the packs",
		p.id.Short(), count(unlisted, "blob"), count(extra, "blob"))
	return false
}

// lists reports whether the index has the entry of a pack's header as it is.
func (d *dataReader) lists(pack uint32, e *blob.Entry) bool {
	copies, _ := d.table.Lookup(e.Handle)
	return slices.Contains(copies, blobtable.NewEntry(e, pack))
}

// indexed returns what the index says of a pack. It looks at the whole table: it is for damage.
func (d *dataReader) indexed(pack uint32) []blob.Entry {
	var entries []blob.Entry
	d.table.All(func(h blob.Handle, e *blobtable.Entry, _ int) {
		if e.Pack == pack {
			entries = append(entries, blob.Entry{Handle: h, Location: d.table.Location(e)})
		}
	})
	return entries
}

func (d *dataReader) addDamage(pack uint32, entries []blob.Entry) {
	if len(entries) == 0 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range entries {
		d.damaged[blobtable.NewEntry(&entries[i], pack)] = true
	}
}
