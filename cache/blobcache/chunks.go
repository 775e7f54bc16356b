package blobcache

import (
	"context"
	"sync"

	"vitrine/repo/blob"
)

// spentBytes bounds the chunks that are kept although all of their bytes were read: for a second
// reader that is close behind the first. The kernel has them anyway. Those who stream get along with
// few buffers then, which the processor's caches still hold.
const spentBytes = 16 << 20

// Chunks keeps the plain bytes of large blobs within a budget of bytes, in buffers that are
// used again. So whoever gets one holds a reference and gives it back. All methods may be called in
// parallel.
//
// A chunk comes into being in one of two ways, each of which happens once for all who ask at the same
// time. A reader's Get loads it on the reader's goroutine; Reserve promises that it is on its way
// with others, and those who want it wait. When its sealed bytes are there (Promise.Ready),
// whoever comes first decodes them: a reader who waits for them rather than a worker who has others to
// do before. So decoding uses as many processors as there are readers and workers, and no reader waits
// behind what nobody reads yet.
//
// Everything counts: chunks, buffers promised, buffers that a reply still refers to, buffers
// waiting for their next use. A reader is always served, if need be beyond the budget.
type Chunks struct {
	budgetBytes int64

	mu         sync.Mutex // guards all below and the chunks; held for the bookkeeping only
	closed     bool
	entries    map[blob.Handle]*chunk
	recent     chunk // ring of whole chunks: recent.next was used last
	spent      chunk // ring of those whose bytes were all read, the newest first
	spentBytes int64
	pool       buffers
	stats      ChunkStats

	making sync.WaitGroup // one per load and promise
}

// ChunkStats are counters since NewChunks and the present fill.
type ChunkStats struct {
	Hits      int64 // Get found the chunk
	Misses    int64 // Get loaded it
	Shared    int64 // Get waited for another who made it
	Decoded   int64 // Get decoded what had been fetched ahead
	Promised  int64 // by Reserve
	Wasted    int64 // promised, and evicted before anybody read it
	Evictions int64
	Refused   int64 // Reserve found no room

	Entries     int
	Bytes       int64 // of all buffers
	FreeBytes   int64 // of those that wait for their next use
	BudgetBytes int64
}

type chunkState uint8

const (
	arriving chunkState = iota // somebody reads or decodes it
	sealed                     // its sealed bytes are there: who comes first calls open
	whole
	failed
)

// chunk is one blob. The fields below its key are guarded by Chunks.mu, but for plain and err, which
// are fixed when done is closed, and buf, which belongs to who decodes until then.
type chunk struct {
	key     blob.Handle
	promise bool          // made by Reserve
	fetched chan struct{} // of a promise: closed when state is sealed or beyond
	done    chan struct{} // closed when state is whole or failed

	state      chunkState
	open       Open
	cancel     context.CancelFunc // of open while it runs
	refs       int                // readers, and one of the cache while the chunk is in entries
	used       int                // bytes that were read; may count some twice
	read       bool               // somebody asked for it
	isSpent    bool               // in the ring of those
	buf        []byte             // with no length; nil when given back
	plain      []byte
	err        error
	prev, next *chunk // in a ring; nil when in none
}

// Open makes the plain bytes of a blob, appended to what buffer returns, if there is room. buffer is
// called once at most, and late: many wait for their turn to decode, and buffers that are used at once are still in
// the processor's caches.
type Open func(ctx context.Context, buffer func() []byte) ([]byte, error)

// NewChunks returns an empty cache.
func NewChunks(budgetBytes int64) *Chunks {
	c := &Chunks{budgetBytes: budgetBytes, entries: make(map[blob.Handle]*chunk)}
	for _, ring := range []*chunk{&c.recent, &c.spent} {
		ring.prev, ring.next = ring, ring
	}
	return c
}

// Ref is a reader's hold on a chunk. The zero value holds nothing.
type Ref struct {
	cache *Chunks
	chunk *chunk
}

// Bytes returns the plain bytes, which must not be changed, nor used after Release.
func (r Ref) Bytes() []byte { return r.chunk.plain }

// Release gives the chunk back, of which usedBytes were used. It is called once. Who forgets it
// costs the cache a buffer, and harms nobody.
func (r Ref) Release(usedBytes int) {
	if r.cache == nil {
		return
	}
	r.cache.mu.Lock()
	defer r.cache.mu.Unlock()
	r.chunk.used += usedBytes
	r.cache.drop(r.chunk)
	r.cache.retire(r.chunk)
	if r.cache.pool.totalBytes > r.cache.budgetBytes { // more was being read than it allows
		r.cache.room(0, true)
	}
}

// Get returns the blob of sizeBytes plain bytes. When nobody has it or is making it, load does,
// on the caller's goroutine and with the values of its context, but not its end: only Close
// cancels it. Its error goes to all who wait and is not kept.
func (c *Chunks) Get(ctx context.Context, key blob.Handle, sizeBytes int, load Open) (Ref, error) {
	c.mu.Lock()
	e := c.entries[key]
	switch {
	case e == nil && c.closed:
		c.mu.Unlock()
		return Ref{}, ErrClosed
	case e == nil:
		c.stats.Misses++
		e = &chunk{key: key, done: make(chan struct{}), refs: 2, read: true}
		c.entries[key] = e
		c.making.Add(1)
		c.make(ctx, e, load, func() []byte {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.room(sizeBytes, true)
			c.buffer(e, sizeBytes)
			return e.buf
		})
		return c.ref(e)
	case e.state == whole:
		c.stats.Hits++
		if e.refs++; !e.isSpent {
			e.unlink()
			e.link(&c.recent)
		}
		e.read = true
		c.mu.Unlock()
		return Ref{c, e}, nil
	}
	e.refs++
	e.read = true
	if e.state == arriving {
		c.stats.Shared++
		c.mu.Unlock()
		select {
		case <-e.fetched:
		case <-e.done:
		}
		c.mu.Lock()
	}
	if e.state == sealed {
		c.stats.Decoded++
		e.state = arriving
		c.make(ctx, e, e.open, e.reserved)
	} else {
		c.mu.Unlock()
		<-e.done
	}
	return c.ref(e)
}

// ref returns what a reader gets when the chunk is done.
func (c *Chunks) ref(e *chunk) (Ref, error) {
	if e.err != nil {
		return Ref{}, e.err
	}
	return Ref{c, e}, nil
}

// buffer gives a chunk its buffer, for which there is room. The caller holds mu; it is let go while
// new memory is taken, and the chunk is in entries by then.
func (c *Chunks) buffer(e *chunk, sizeBytes int) {
	if e.buf = c.pool.take(sizeBytes); e.buf != nil {
		return
	}
	capacity := c.pool.count(sizeBytes)
	c.mu.Unlock()
	e.buf = make([]byte, 0, capacity)
	c.mu.Lock()
}

// reserved returns the buffer that a promise has.
func (e *chunk) reserved() []byte { return e.buf }

// make calls open and publishes what it returns. The caller holds mu and has set the state to
// arriving; make lets it go.
func (c *Chunks) make(ctx context.Context, e *chunk, open Open, buffer func() []byte) {
	ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer e.cancel()
	if c.closed {
		e.cancel()
	}
	c.mu.Unlock()
	defer c.making.Done()
	err := errPanic
	var plain []byte
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		e.open, e.err = nil, err
		if err != nil {
			e.state = failed
			delete(c.entries, e.key)
			c.give(e)
			close(e.done)
			return
		}
		if e.plain = plain; cap(plain) > 0 && (cap(e.buf) == 0 || &plain[:1][0] != &e.buf[:1][0]) { // there was no room
			c.pool.give(e.buf)
			c.pool.totalBytes += int64(cap(plain))
			e.buf = plain[:0]
		}
		e.state = whole
		close(e.done)
		if c.closed {
			delete(c.entries, e.key)
			c.drop(e)
			return
		}
		e.link(&c.recent)
	}()
	plain, err = open(ctx, buffer)
}

// Promise is a chunk that is on its way, for Ready and then Run to be called once each.
type Promise struct {
	cache *Chunks
	chunk *chunk
}

// Reserve promises a blob of sizeBytes plain bytes; nil when it is there, or on its way, or when
// there is no room but for what nobody has read yet.
func (c *Chunks) Reserve(key blob.Handle, sizeBytes int) *Promise {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.entries[key] != nil {
		return nil
	}
	if !c.room(sizeBytes, false) {
		c.stats.Refused++
		return nil
	}
	c.stats.Promised++
	e := &chunk{key: key, promise: true, fetched: make(chan struct{}), done: make(chan struct{}), refs: 1}
	c.entries[key] = e
	c.making.Add(1)
	c.buffer(e, sizeBytes)
	return &Promise{c, e}
}

// Ready says how to make the plain bytes. open is called once, soon, by Run or on a reader's
// goroutine.
func (p *Promise) Ready(open Open) {
	p.cache.mu.Lock()
	defer p.cache.mu.Unlock()
	p.chunk.open, p.chunk.state = open, sealed
	close(p.chunk.fetched)
}

// Run makes the plain bytes, unless a reader does. Of ctx see Get.
func (p *Promise) Run(ctx context.Context) {
	p.cache.mu.Lock()
	if p.chunk.state != sealed {
		p.cache.mu.Unlock()
		return
	}
	p.chunk.state = arriving
	p.cache.make(ctx, p.chunk, p.chunk.open, p.chunk.reserved)
}

// Borrow returns a buffer with no length for n bytes of the budget, for GiveBack to be called once.
func (c *Chunks) Borrow(n int) []byte {
	c.mu.Lock()
	c.room(n, true)
	e := chunk{}
	c.buffer(&e, n)
	c.mu.Unlock()
	return e.buf
}

// GiveBack takes what Borrow returned.
func (c *Chunks) GiveBack(buf []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.give(&chunk{buf: buf})
}

// Has tells whether a blob is there or on its way.
func (c *Chunks) Has(key blob.Handle) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entries[key] != nil
}

// Stats returns the counters.
func (c *Chunks) Stats() ChunkStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Entries, s.Bytes, s.FreeBytes, s.BudgetBytes = len(c.entries), c.pool.totalBytes, c.pool.freeBytes, c.budgetBytes
	return s
}

// Close cancels the loads under way, waits for them and for promises, and drops what nobody
// refers to. Later calls of Get return ErrClosed.
func (c *Chunks) Close() error {
	c.mu.Lock()
	c.closed = true
	for _, ring := range []*chunk{&c.recent, &c.spent} {
		for ring.prev != ring {
			c.evict(ring.prev)
		}
	}
	c.pool.forget(c.pool.freeBytes)
	for _, e := range c.entries {
		if e.cancel != nil {
			e.cancel()
		}
	}
	c.mu.Unlock()
	c.making.Wait()
	return nil
}

// room makes room for n bytes; false when that is not possible. Those who only guess must not
// push out what others guessed and nobody has read. The caller holds mu.
func (c *Chunks) room(n int, demand bool) bool {
	capacity, _ := classBytes(n)
	for {
		over := c.pool.totalBytes - c.budgetBytes
		short := over + int64(capacity)
		if short <= 0 || over <= 0 && c.pool.fits(n) {
			return true
		}
		victim := c.spent.victim(demand)
		if victim == nil && c.pool.freeBytes < short {
			victim = c.recent.victim(demand)
		}
		if victim == nil {
			return c.pool.forget(short)
		}
		c.evict(victim)
	}
}

// victim returns the oldest chunk of a ring that nobody refers to; without demand one that was read.
func (ring *chunk) victim(demand bool) *chunk {
	for e := ring.prev; e != ring; e = e.prev {
		if e.refs == 1 && (demand || e.read) {
			return e
		}
	}
	return nil
}

// retire lets go of a chunk of which all was read, if not now then soon. The caller holds mu.
func (c *Chunks) retire(e *chunk) {
	if e.prev == nil || e.used < len(e.plain) || e.isSpent {
		return
	}
	e.unlink()
	e.link(&c.spent)
	e.isSpent = true
	for c.spentBytes += int64(cap(e.buf)); c.spentBytes > spentBytes; {
		c.evict(c.spent.prev)
	}
}

// evict takes a whole chunk out of the cache. The caller holds mu.
func (c *Chunks) evict(e *chunk) {
	if e.isSpent {
		c.spentBytes -= int64(cap(e.buf))
	}
	c.stats.Evictions++
	if e.promise && !e.read {
		c.stats.Wasted++
	}
	e.unlink()
	e.prev, e.next = nil, nil
	delete(c.entries, e.key)
	c.drop(e)
}

// drop gives back one reference. The caller holds mu.
func (c *Chunks) drop(e *chunk) {
	if e.refs--; e.refs == 0 {
		c.give(e)
	}
}

// give takes the buffer of a chunk that nobody refers to. The caller holds mu.
func (c *Chunks) give(e *chunk) {
	buf := e.buf
	e.buf, e.plain = nil, nil
	c.pool.give(buf)
	if c.closed {
		c.pool.forget(c.pool.freeBytes)
	}
}

func (e *chunk) unlink() { e.prev.next, e.next.prev = e.next, e.prev }

func (e *chunk) link(at *chunk) {
	e.prev, e.next = at, at.next
	at.next.prev = e
	at.next = e
}
