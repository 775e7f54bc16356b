package fs

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"

	"vitrine/fs/readahead"
	"vitrine/fs/tree"
	"vitrine/repo"
	"vitrine/repo/blob"
)

const (
	pushFileBytes = 1 << 20 // files up to here gain from being pushed; above they have several chunks anyway
	pushBytes     = 4 << 20 // plain bytes of one window, which is also what it holds in RAM
	pushFiles     = 512     // files of one window at most
	pushFirst     = 32      // files of the first window of a directory; they double
	pushQueue     = 256     // jobs that wait for a worker; more are left to their readers
	pushStreams   = 4096    // directories that are remembered
	pushClients   = 64      // programs that are remembered
	// nearEntries is how far one read may be from the last for being taken as the next in order:
	// directories, links and large files may be between them.
	nearEntries = 32
	// probeAfter is how many files are pushed for a program that asks for none, before one is
	// left for it to ask for. When it does not ask for several of them, it has stopped reading.
	probeAfter = 128
	distrust   = 8 * probeAfter
	// How often and after how long it is asked again whether the kernel knows the first file of a
	// directory.
	learnTries = 5
	learnPause = 50 * time.Microsecond
)

// pusher puts the content of small files into the kernel's page cache ahead of programs that read
// whole directories (cp, tar, rsync, diff and grep do), so that most files cost them no request.
//
// A program that has read a file of a directory that it listed is taken for one that reads what it
// lists: the directories that it lists from then on are pushed as soon as it begins to. Others
// (find, ls) get nothing. Where one program lists and others read (find -exec, xargs), two reads in
// order are the sign, in each directory anew.
//
// One window of files is pushed at a time. Reads of what was pushed are not seen, so one file
// of a window that others follow, its tripwire, is not pushed: when its read arrives, the reader is
// in that window, and the next one is prepared. Of files of several chunks, which are never pushed, the
// beginnings are loaded, so that their readers find them in the cache.
//
// A push waits for pages that a READ of the same file holds, so it is done by a worker that no
// request waits for, and without a lock; and none is begun of a file that is asked for, see asked.
type pusher struct {
	*nodes
	read func(ctx context.Context, hs []blob.Handle, use func(i int, open repo.OpenBlob) bool)
	// store gives the kernel the whole content of a file. ENOENT: it does not know the node.
	store func(id tree.NodeID, content []byte) fuse.Status

	jobs   chan uint32  // directories whose files are to be pushed; closed by close
	aheads chan *client // walks that went on; closed by close

	mu      sync.Mutex // guards the rest; held for bookkeeping only
	streams map[uint32]*pushStream
	clients map[uint32]*client
	loaded  map[uint32]int // bytes that were loaded for directories which were not listed yet
	path    readahead.Path // to the store, as the loads ahead of walks see it
	off     bool           // this kernel does not take pushes
}

// client is a program, or rather a thread of one, that lists directories.
type client struct {
	at       tree.NodeID // directory that it listed last
	dir      uint32      // number of its tree blob
	ahead    bool        // a worker looks ahead of it, or it waits for one
	left     int         // directories ahead that were looked at
	refill   int         // how many are left when the next ones are looked at
	reads    bool        // it reads what it lists
	unproven int         // files pushed for it since it asked for one
}

// pushStream is how far the reader of a directory is, in places of its tree blob.
type pushStream struct {
	client uint32 // who listed it; 0 when it is not known
	last   int    // read last, -1 before the first
	next   int    // where the next window begins
	trip   int    // the read that asks for the next window; never when there is none
	window int    // files of the next window
	missed int    // reads of what was pushed: the kernel dropped it
	busy   bool   // a worker has it, or it waits for one
	known  bool   // the kernel took a file; belongs to the worker
}

const never = math.MaxInt

func newPusher(n *nodes, store func(tree.NodeID, []byte) fuse.Status) *pusher {
	return &pusher{
		nodes: n, read: batchReader(n.src), store: store,
		jobs: make(chan uint32, pushQueue), aheads: make(chan *client, pushClients),
		streams: make(map[uint32]*pushStream), clients: make(map[uint32]*client), loaded: make(map[uint32]int),
	}
}

// batchReader returns the ReadBlobs of sources that have it, and else reads one by one.
func batchReader(src Source) func(context.Context, []blob.Handle, func(int, repo.OpenBlob) bool) {
	if b, ok := src.(interface {
		ReadBlobs(context.Context, []blob.Handle, func(int, repo.OpenBlob) bool)
	}); ok {
		return b.ReadBlobs
	}
	return func(ctx context.Context, hs []blob.Handle, use func(int, repo.OpenBlob) bool) {
		for i, h := range hs {
			if !use(i, func(buf []byte) ([]byte, error) { return src.ReadBlob(ctx, h, buf) }) {
				return
			}
		}
	}
}

// noteRead tells that a program asks for the beginning of a file. It never blocks.
func (p *pusher) noteRead(who uint32, id tree.NodeID) {
	dir, entry, ok := tree.FilePlace(id)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	s, c := p.streams[dir], p.clients[who]
	listed := c != nil && (c.dir == dir || s != nil && s.client == who)
	if listed {
		if !c.reads { // what was looked at ahead of it were trees alone
			c.left = 0
		}
		c.reads, c.unproven = true, 0
		p.goAhead(c)
	}
	switch {
	case s == nil:
		s = p.remember(dir)
		s.last, s.next = entry, entry+1
		if listed {
			s.client = who
			p.enqueue(dir, s)
		}
	case s.advance(entry):
		p.enqueue(dir, s)
	}
}

// advance tells whether the read of an entry asks for a window.
func (s *pushStream) advance(entry int) bool {
	last := s.last
	if entry <= last || entry > max(last, s.next)+nearEntries {
		if entry != last { // else it is another page of the same file
			// Somewhere else. A worker that is at it ends with its window.
			s.last, s.next, s.trip, s.window, s.missed = entry, entry+1, never, pushFirst, 0
		}
		return false
	}
	s.last = entry
	switch {
	case entry >= s.trip || entry >= s.next: // the next window, or in order without any
		return true
	case !s.busy:
		// Pushed, and yet it is asked for. A few may be lost to chance.
		if s.missed++; s.missed < 3 {
			return false
		}
		s.missed, s.next = 0, entry+1
		return true
	}
	return false
}

// noteListed tells that a program begins to list a directory. It never blocks.
func (p *pusher) noteListed(who uint32, id tree.NodeID) {
	dir, ok := p.tree.DirNumber(id)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.clients[who]
	if c == nil {
		if len(p.clients) >= pushClients {
			clear(p.clients)
		}
		c = &client{}
		p.clients[who] = c
	}
	c.at, c.dir = id, dir
	if s := p.streams[dir]; c.reads && s == nil {
		s = p.remember(dir)
		s.client = who
		p.enqueue(dir, s)
	}
	c.left--
	p.goAhead(c)
}

// goAhead has somebody look ahead of a walk, when there is little left of what was looked at. It needs mu.
func (p *pusher) goAhead(c *client) {
	if c.ahead || c.left > c.refill {
		return
	}
	select {
	case p.aheads <- c:
		c.ahead = true
	default:
	}
}

// remember needs mu.
func (p *pusher) remember(dir uint32) *pushStream {
	if len(p.streams) >= pushStreams {
		for k, s := range p.streams {
			if !s.busy {
				delete(p.streams, k)
			}
		}
	}
	s := &pushStream{last: -1, trip: never, window: pushFirst}
	p.streams[dir] = s
	return s
}

// enqueue needs mu.
func (p *pusher) enqueue(dir uint32, s *pushStream) {
	if s.busy || p.off {
		return // its worker will see how far the reader is
	}
	select {
	case p.jobs <- dir:
		s.busy = true
	default:
	}
}

// run does the work until close; what is under way when ctx ends is given up.
func (p *pusher) run(ctx context.Context) {
	var wg sync.WaitGroup
	for range pushWorkers {
		wg.Go(func() {
			var buf []byte
			for dir := range p.jobs {
				for more := true; more; {
					buf, more = p.window(ctx, dir, buf)
				}
			}
		})
		wg.Go(func() {
			for c := range p.aheads {
				for p.lookAhead(ctx, c) {
				}
			}
		})
	}
	wg.Wait()
}

const pushWorkers = 2 // directories at the same time

func (p *pusher) close() {
	close(p.jobs)
	close(p.aheads)
}

// window pushes one window of a directory. It tells whether the reader wants the next one
// already; otherwise the stream is not busy any more. buf is for reuse.
func (p *pusher) window(ctx context.Context, dir uint32, buf []byte) ([]byte, bool) {
	p.mu.Lock()
	s := p.streams[dir]
	from, size := max(s.next, s.last+1), s.window
	off := p.off
	p.mu.Unlock()

	var files []tree.NextFile
	more := false
	if !off && ctx.Err() == nil {
		// An error is the reader's to see.
		files, more, _ = p.tree.NextFiles(ctx, dir, from, nextFiles(size))
	}
	p.mu.Lock()
	s.planned(files, more, p.probe(s.client, len(files)))
	trip := s.trip
	p.mu.Unlock()

	buf, stopped := p.push(ctx, s, files, trip, buf)

	p.mu.Lock()
	defer p.mu.Unlock()
	if stopped >= 0 && s.next > stopped {
		s.next, s.trip, s.window = stopped, stopped, pushFirst
	}
	s.busy = len(files) > 0 && s.last >= s.trip && stopped < 0
	return buf, s.busy
}

// probe tells whether one of n files must be left for the program to ask for. It needs mu.
func (p *pusher) probe(who uint32, n int) bool {
	c := p.clients[who]
	if c == nil {
		return true
	}
	c.unproven += n
	c.reads = c.reads && c.unproven < distrust
	return c.unproven >= probeAfter
}

// planned notes what the window has and chooses its tripwire.
func (s *pushStream) planned(files []tree.NextFile, more, probe bool) {
	s.trip = never
	n := len(files)
	if n == 0 {
		return
	}
	s.next = files[n-1].Entry + 1
	s.window = min(2*s.window, pushFiles)
	switch {
	case more && s.last >= 0:
		s.trip = files[0].Entry // one window is prepared while the one before is read
	case more:
		s.trip = files[n/2].Entry
	case probe:
		s.trip = files[n-1].Entry
	}
}

// push gives the kernel all files but the tripwire and those that the reader has passed. It returns
// the place at which it had to stop because the kernel does not know the file, -1 when there was
// none. What is in the cache goes first, the rest is read together.
func (p *pusher) push(ctx context.Context, s *pushStream, files []tree.NextFile, trip int, buf []byte) (_ []byte, stopped int) {
	stopped = -1
	var missing []int
	var hs []blob.Handle
	for i := range files {
		f := &files[i]
		if !f.Small() {
			p.expectLarge(ctx, f.ID)
			continue
		}
		h := blob.Handle{Type: blob.Data, ID: f.Blob}
		plain, cached := p.blobs.Peek(h)
		switch {
		case !cached:
			missing, hs = append(missing, i), append(hs, h)
		case f.Entry == trip || p.passed(s, f):
		case !p.give(s, f, plain):
			return buf, f.Entry
		}
	}
	p.read(ctx, hs, func(k int, open repo.OpenBlob) bool {
		f := &files[missing[k]]
		if ctx.Err() != nil {
			return false
		}
		if p.passed(s, f) {
			return true
		}
		var plain []byte
		var err error
		p.spare.guess(func() { plain, err = open(buf) })
		if err != nil {
			return true // the reader will see it, and tell the log
		}
		buf = plain
		p.stats.push.add(len(plain))
		given := f.Entry != trip && p.give(s, f, plain)
		if !given || len(plain) != f.Bytes { // it will be asked for
			p.blobs.Put(hs[k], slices.Clone(plain))
			p.stats.unread.add(f.Blob, len(plain), p.cached)
		}
		if f.Entry != trip && !given {
			stopped = f.Entry
		}
		return stopped < 0
	})
	return buf, stopped
}

// nextFiles bounds a window of so many files.
func nextFiles(most int) tree.Files {
	return tree.Files{Most: most, SmallBytes: pushFileBytes, SumBytes: pushBytes, LargeBytes: readahead.FirstBytes}
}

// expectLarge has the beginning of a file of several chunks loaded.
func (p *pusher) expectLarge(ctx context.Context, id tree.NodeID) {
	if l, err := p.tree.Layout(ctx, id); err == nil && l.Len() > 1 { // an error is the reader's to see
		p.nodes.ahead.expect(id, l)
	}
}

// give pushes one file. False when the kernel does not take it. It is given a moment to learn of the
// first one, which it may be listing just now.
func (p *pusher) give(s *pushStream, f *tree.NextFile, plain []byte) bool {
	// Content of another length would make the kernel believe in that length.
	if len(plain) != f.Bytes || p.asked.has(f.ID) {
		return true
	}
	st := p.store(f.ID, plain)
	for try := 0; st == fuse.ENOENT && !s.known && try < learnTries; try++ {
		time.Sleep(learnPause)
		st = p.store(f.ID, plain)
	}
	s.known = true
	switch st {
	case fuse.OK:
		p.stats.pushed.add(len(plain))
		p.stats.unread.read(f.Blob)
	case fuse.ENOSYS:
		p.mu.Lock()
		p.off = true
		p.mu.Unlock()
	}
	return st == fuse.OK
}

// passed tells whether the reader has the file already, or somebody is at it.
func (p *pusher) passed(s *pushStream, f *tree.NextFile) bool {
	if p.asked.has(f.ID) {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return f.Entry <= s.last
}
