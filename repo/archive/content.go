package archive

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/chunker"
	"vitrine/repo/snapshot"
	"vitrine/repo/source"
)

func dataHandle(id blob.ID) blob.Handle { return blob.Handle{Type: blob.Data, ID: id} }

// newFile reads a file and stores its content.
func (r *run) newFile(ctx context.Context, i int, old *snapshot.Node, w *work) {
	b := w.b
	f, err := b.at.OpenFile(b.entries[i].Name)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		err = errChanged // a link, or a socket
	}
	if err != nil {
		r.fail(b, i, err)
		return
	}
	defer f.Close()
	if err := f.Stat(&w.stat); err != nil {
		r.fail(b, i, err)
		return
	}
	if source.NodeType(&w.stat) != snapshot.File {
		r.fail(b, i, errChanged)
		return
	}
	if !wantedStat(r.filter, &b.group, &w.stat) {
		return
	}
	n := &w.node
	r.nodes.Fill(n, b.nameOf(i), &w.stat)
	if n.Xattrs, err = f.Xattrs(); err != nil {
		r.fail(b, i, err)
	}
	if n.Size >= chunker.MinBytes {
		r.readLarge(ctx, f, nil, i, old, w)
		return
	}
	if len(w.small)-w.used <= int(n.Size) && !r.saveSmall(ctx, w) {
		return
	}
	// What has grown to chunker.MinBytes by now is to be cut.
	room := w.small[w.used:min(w.used+chunker.MinBytes, len(w.small))]
	length, whole, err := readSmall(f, room, int(n.Size))
	if err != nil {
		r.fail(b, i, err)
		return
	}
	if !whole {
		r.readLarge(ctx, f, room[:length], i, old, w)
		return
	}
	n.Size = uint64(length)
	if length == 0 {
		n.Content = w.content[:0]
		r.keep(i, n, Item{Type: snapshot.File, Change: change(n, old)}, w)
		return
	}
	w.files = append(w.files, smallFile{i, *n, old})
	w.contents = append(w.contents, room[:length])
	w.used += length
	w.longest = max(w.longest, length)
	if w.used >= max(smallTogether, 2*w.longest) || len(w.files) == len(w.saved) {
		r.saveSmall(ctx, w)
	}
}

// smallFile is a file that is read but not stored.
type smallFile struct {
	entry int
	node  snapshot.Node // its content is missing
	old   *snapshot.Node
}

// smallTogether is how many bytes of small files are stored together at least: their hashes take less time
// then, and they are still in the processor's cache when they are compressed. A longer file waits for as much beside it.
const smallTogether = 128 << 10

// smallBytes is room for two files.
const smallBytes = 2 * chunker.MinBytes

// saveSmall stores the small files that w has collected. False means that the backup ends.
func (r *run) saveSmall(ctx context.Context, w *work) bool {
	saved := w.saved[:len(w.files)]
	err := r.store.SaveBlobs(ctx, blob.Data, w.contents, saved)
	if err != nil {
		r.abort(err)
	} else {
		for i := range w.files {
			f := &w.files[i]
			it := Item{Type: snapshot.File, SizeBytes: f.node.Size}
			addSaved(&it, w.contents[i], &saved[i])
			r.rep.Read(len(w.contents[i]))
			w.content[0] = saved[i].ID
			f.node.Content = w.content[:]
			it.Change = change(&f.node, f.old)
			r.keep(f.entry, &f.node, it, w)
		}
	}
	w.dropSmall()
	return err == nil
}

// readSmall reads a file that seems to fit into buf. It returns false when the file goes on.
// A read that ends where the metadata says is the end, and one system call; a file that has grown by
// then is as if it had been read before that.
func readSmall(f io.Reader, buf []byte, expected int) (length int, whole bool, err error) {
	for length < len(buf) {
		n, err := f.Read(buf[length:])
		length += n
		if err == io.EOF || err == nil && length == expected && length > 0 {
			return length, true, nil
		}
		if err != nil {
			return length, false, err
		}
	}
	return length, false, nil
}

// saveData stores the chunks of a job and adds to the item what that took. saved, which is as long at least, gets what became of each.
// False means that the backup ends.
func (r *run) saveData(ctx context.Context, job *chunkJob, saved []repo.Saved, it *Item) bool {
	var err error
	if job.hashed {
		saved[0], err = r.store.SaveHashed(ctx, dataHandle(job.id), job.data[0])
	} else {
		err = r.store.SaveBlobs(ctx, blob.Data, job.data[:job.n], saved)
	}
	if err != nil {
		r.abort(err)
		return false
	}
	for i, p := range job.data[:job.n] {
		addSaved(it, p, &saved[i])
		r.rep.Read(len(p))
	}
	return true
}

// addSaved adds to the item what storing p took.
func addSaved(it *Item, p []byte, saved *repo.Saved) {
	if saved.New {
		it.DataBlobs++
		it.DataBytes += uint64(len(p))
		it.DataStoredBytes += uint64(saved.StoredBytes)
	}
}

// largeFile is a file whose chunks are in work. The last one to let go of it makes its node.
type largeFile struct {
	node snapshot.Node
	// done is called once, when content and size are complete.
	done func(ctx context.Context, f *largeFile)

	pending atomic.Int32 // jobs in work, and one for the reader

	mu     sync.Mutex // guards node.Content, it and failed
	it     Item
	failed bool // it cannot be read to its end, or the backup ends
}

// newLarge returns a largeFile that the caller must let go of.
func newLarge(n *snapshot.Node, done func(ctx context.Context, f *largeFile)) *largeFile {
	f := &largeFile{node: *n, done: done}
	f.node.Content = []blob.ID{}
	f.pending.Store(1)
	return f
}

func (f *largeFile) fail() {
	f.mu.Lock()
	f.failed = true
	f.mu.Unlock()
}

// grow makes room in the content for n more chunks and returns the index of the first.
func (f *largeFile) grow(n int) (index int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	index = len(f.node.Content)
	f.node.Content = slices.Grow(f.node.Content, n)[:index+n]
	return index
}

// letGo makes the node when nobody else works on the file.
func (f *largeFile) letGo(ctx context.Context) {
	if f.pending.Add(-1) == 0 {
		f.done(ctx, f)
	}
}

// chunkGroup is how many chunks of a file are stored together, so that their hashes take less time.
const chunkGroup = 4

// chunkJob is some chunks in a row to be stored.
type chunkJob struct {
	f     *largeFile
	index int // of the first
	n     int
	data  [chunkGroup][]byte
	segs  [chunkGroup]*segment // which hold data, each let go when all is stored
	// hashed tells that there is one chunk, whose hash is id.
	hashed bool
	id     blob.ID
}

// add appends a chunk that is in seg.
func (j *chunkJob) add(chunk []byte, seg *segment) {
	seg.retain()
	j.data[j.n], j.segs[j.n] = chunk, seg
	j.n++
}

// readLarge cuts a file into chunks and hands them out. It returns when the file is read; the
// chunks may still be in work. prefix is what was read of it before.
func (r *run) readLarge(ctx context.Context, f *source.File, prefix []byte, i int, old *snapshot.Node, w *work) {
	f.Sequential()
	b := w.b
	b.pending.Add(1)
	large := newLarge(&w.node, func(ctx context.Context, large *largeFile) {
		var c counts
		if large.failed {
			c.addData(&large.it)
		} else {
			n, it := &large.node, &large.it
			it.Type, it.SizeBytes, it.Change = snapshot.File, n.Size, change(n, old)
			it.Dir, it.Name = b.at.abs, n.Name
			b.results[i] = encoded{n.Name, n.AppendJSON(nil)}
			c.count(it)
			r.rep.Done(*it)
		}
		r.counts.add(&c)
		r.batchDone(ctx, b)
	})
	expected := int64(w.node.Size)
	if len(prefix) > 0 {
		expected = maxSegment // the metadata was wrong once already
	}
	r.rep.Started(b.at.abs, w.node.Name, w.node.Size)
	if err := r.readChunks(ctx, f, prefix, expected, large); err != nil {
		r.fail(b, i, err)
		large.fail()
	}
	large.letGo(ctx)
}

// readBytes is how much of a large file is read at a time: so little that it is still in the processor's caches when it is
// cut.
const readBytes = 512 << 10

// readChunks reads in to its end and sets the node's size. What the chunker cannot decide without
// more bytes, less than a chunk, moves on to the next segment. The error is one of in; any
// other ends the backup.
func (r *run) readChunks(ctx context.Context, in io.Reader, prefix []byte, expected int64, large *largeFile) error {
	seg := r.buffers.get(ctx, expected)
	if seg == nil {
		large.fail()
		return nil
	}
	open := r.newOpen(large)
	defer func() {
		r.dispatchAll(ctx, open)
		seg.release()
	}()
	held := copy(seg.buf, prefix) // bytes in seg.buf
	begin, scanned := 0, 0        // where the next chunk begins there, and how many of its bytes have no cut among them
	var length int64
	for eof := false; ; {
		for end := min(held+readBytes, len(seg.buf)); held < end && !eof; {
			n, err := in.Read(seg.buf[held:end])
			held += n
			if eof = err == io.EOF; err != nil && !eof {
				return err
			}
			if ctx.Err() != nil {
				large.fail()
				return nil
			}
		}
		for begin < held {
			rest := seg.buf[begin:held]
			cut := r.chunker.CutFrom(rest, scanned)
			if cut == len(rest) && cut < chunker.MaxBytes && !eof {
				scanned = cut
				break
			}
			r.add(ctx, open, rest[:cut:cut], seg)
			length += int64(cut)
			begin, scanned = begin+cut, 0
		}
		if eof {
			large.node.Size = uint64(length)
			return nil
		}
		if held == len(seg.buf) {
			rest := seg.buf[begin:]
			seg = r.nextSegment(ctx, seg, rest, open)
			begin, held = 0, len(rest)
		}
	}
}

// openChunks are those of a file that are cut but not given away.
type openChunks struct {
	f     *largeFile
	group chunkJob // not full yet
	// hashes is used instead of the group by a reader that hashes. Then jobs has the chunks that are hashed, by name.
	hashes *repo.Hashes
	jobs   []chunkJob
	free   []int // names
}

// readersHash reports whether readers hash chunks themselves, so that there are always many of them under way, where many together
// take less time than a few. Many processors are kept busy by those who hash a few each: one reader would not be enough for them.
func readersHash() bool { return repo.HashesMost() > chunkGroup && processors() <= 4 }

func (r *run) newOpen(f *largeFile) *openChunks {
	o := &openChunks{f: f, group: chunkJob{f: f}}
	if r.readersHash {
		o.hashes = new(repo.Hashes)
		o.jobs = make([]chunkJob, repo.HashesMost())
		o.free = make([]int, len(o.jobs))
		for name := range o.free {
			o.free[name] = name
		}
	}
	return o
}

// add takes a chunk that is in seg.
func (r *run) add(ctx context.Context, o *openChunks, chunk []byte, seg *segment) {
	if o.hashes == nil {
		o.group.add(chunk, seg)
		if o.group.n == chunkGroup {
			r.dispatchGroup(ctx, o)
		}
		return
	}
	if !o.hashes.Free() {
		r.dispatchHashed(ctx, o)
	}
	name := o.free[len(o.free)-1]
	o.free = o.free[:len(o.free)-1]
	job := &o.jobs[name]
	*job = chunkJob{f: o.f, index: o.f.grow(1), hashed: true}
	job.add(chunk, seg)
	o.hashes.Begin(name, chunk)
}

// segments returns how many segments the chunks that are hashed hold.
func (o *openChunks) segments() int {
	n := 0
	for i := range o.jobs {
		seg := o.jobs[i].segs[0]
		if seg != nil && !slices.ContainsFunc(o.jobs[:i], func(other chunkJob) bool { return other.segs[0] == seg }) {
			n++
		}
	}
	return n
}

// dispatchHashed gives away the chunk that is hashed first. It is false when there is none.
func (r *run) dispatchHashed(ctx context.Context, o *openChunks) bool {
	if o.hashes == nil || o.hashes.Empty() {
		return false
	}
	name, id := o.hashes.End()
	o.jobs[name].id = id
	r.dispatch(ctx, &o.jobs[name])
	o.jobs[name] = chunkJob{} // it points to memory
	o.free = append(o.free, name)
	return true
}

// dispatchGroup gives away the group.
func (r *run) dispatchGroup(ctx context.Context, o *openChunks) {
	if o.group.n == 0 {
		return
	}
	o.group.index = o.f.grow(o.group.n)
	r.dispatch(ctx, &o.group)
	o.group = chunkJob{f: o.f}
}

// dispatchAll gives away all.
func (r *run) dispatchAll(ctx context.Context, o *openChunks) {
	r.dispatchGroup(ctx, o)
	for r.dispatchHashed(ctx, o) {
	}
}

// dispatch gives the chunks of job to a worker that has time, or stores them here: then all are busy, and the
// reader has no reason to run ahead.
func (r *run) dispatch(ctx context.Context, job *chunkJob) {
	job.f.pending.Add(1)
	select {
	case r.chunks <- *job:
	default:
		r.chunk(ctx, *job)
	}
}

// chunk stores the chunks of a job.
func (r *run) chunk(ctx context.Context, job chunkJob) {
	var it Item
	var saved [chunkGroup]repo.Saved
	ok := r.saveData(ctx, &job, saved[:], &it)
	for _, seg := range job.segs[:job.n] {
		seg.release()
	}
	f := job.f
	f.mu.Lock()
	f.failed = f.failed || !ok
	for i := range job.n {
		f.node.Content[job.index+i] = saved[i].ID
	}
	f.it.DataBlobs += it.DataBlobs
	f.it.DataBytes += it.DataBytes
	f.it.DataStoredBytes += it.DataStoredBytes
	f.mu.Unlock()
	f.letGo(ctx)
}
