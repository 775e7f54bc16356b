package fs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"vitrine/cache/blobcache"
	"vitrine/fs/readahead"
	"vitrine/fs/tree"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// spanSource is a Source that reads neighbours with one request; *repo.Repository is one. Others
// are read blob by blob.
type spanSource interface {
	ReadSpan(ctx context.Context, s *repo.Span, buf []byte) error
	DecodeBlob(e blob.Entry, sealed, buf []byte) ([]byte, error)
}

const (
	// aheadJobs is how many windows may wait to be fetched.
	aheadJobs = 256
	// aheadSlots is how many requests are under way or wait for their bytes to be decoded,
	// where the cache is large; each takes 1 to 4 MiB beside the chunks that come of it.
	aheadSlots     = 16
	slotCacheBytes = 8 << 20 // of the cache for each slot
)

// streamer reads ahead in files of several chunks. What to fetch is decided by package readahead;
// this is the executor: one goroutine turns windows into requests, a goroutine for each request
// reads and then decodes, unless a reader who waits is faster (see blobcache.Chunks).
//
// Those that somebody waits for go first, and decoding ahead leaves a processor free, where there are
// several (see turns).
type streamer struct {
	src    Source
	spans  spanSource // nil when src is none
	chunks *blobcache.Chunks
	count  func(id blob.ID, bytes int, by *amount)
	ahead  *amount
	jobs   chan window   // closed by close
	slots  chan struct{} // one for each request whose sealed bytes are in memory
	spare  *turns

	mu      sync.Mutex // guards the rest
	streams readahead.Streams
	path    readahead.Path
	carried int64 // bytes that requests brought
}

// window is a part of a file to be fetched.
type window struct {
	id     tree.NodeID
	layout *tree.Layout
	readahead.Range
}

// newStreamer returns a streamer into chunks. What it brings is counted in ahead.
func newStreamer(src Source, chunks *blobcache.Chunks, sp *turns, count func(blob.ID, int, *amount), ahead *amount) *streamer {
	budget := chunks.Stats().BudgetBytes
	s := &streamer{
		src: src, chunks: chunks, count: count, ahead: ahead,
		jobs:    make(chan window, aheadJobs),
		slots:   make(chan struct{}, min(max(budget/slotCacheBytes, 2), aheadSlots)),
		spare:   sp,
		streams: readahead.Streams{BudgetBytes: uint64(budget / 2)},
	}
	s.spans, _ = src.(spanSource)
	return s
}

func (s *streamer) note(id tree.NodeID, l *tree.Layout, i int) {
	if l.Len() == 1 {
		return
	}
	c := l.Chunk(i)
	end := l.Chunk(l.Len() - 1).End
	s.mu.Lock()
	next := s.streams.Note(uint64(id), readahead.Range{From: c.Start, To: c.End}, end, s.path.Window())
	s.mu.Unlock()
	s.enqueue(id, l, next)
}

func (s *streamer) expect(id tree.NodeID, l *tree.Layout) {
	s.mu.Lock()
	first := s.streams.Expect(uint64(id), l.Size())
	s.mu.Unlock()
	s.enqueue(id, l, first)
}

// enqueue has a range fetched, unless it is empty.
func (s *streamer) enqueue(id tree.NodeID, l *tree.Layout, r readahead.Range) {
	if r.From == r.To {
		return
	}
	select {
	case s.jobs <- window{id, l, r}:
	default: // too much to do: the reader will ask itself
	}
}

func (s *streamer) run(ctx context.Context) {
	var wg sync.WaitGroup
	for w := range s.jobs {
		s.fetch(ctx, w, &wg)
	}
	wg.Wait()
}

func (s *streamer) close() { close(s.jobs) }

// fetch starts the requests for a window, as slots become free.
func (s *streamer) fetch(ctx context.Context, w window, wg *sync.WaitGroup) {
	chunks, spans := s.plan(w)
	for k := range spans {
		select {
		case s.slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		s.spare.takeCalm()
		// Only now: what a reader wants meanwhile it gets itself, rather than wait in line.
		f := s.reserve(w.id, chunks, &spans[k])
		if f == nil {
			<-s.slots
			continue
		}
		wg.Go(func() { s.bring(ctx, f) })
	}
}

// wanted is a chunk to be fetched.
type wanted struct {
	blob.Entry
	at readahead.Range // in the file
}

// plan returns the chunks of a window that are missing and the requests for them, in the order of the
// file.
func (s *streamer) plan(w window) ([]wanted, []repo.Span) {
	var chunks []wanted
	var locs []blob.Location
	for i := w.layout.Find(w.From); i < w.layout.Len(); i++ {
		c := w.layout.Chunk(i)
		if c.Start >= w.To {
			break
		}
		h := blob.Handle{Type: blob.Data, ID: c.ID}
		if c.Hole || c.Lost || s.chunks.Has(h) {
			continue
		}
		if loc, ok, err := s.src.LookupBlob(h); ok && err == nil && loc.Size() <= believedBytes { // else the reader will see
			chunks = append(chunks, wanted{blob.Entry{Handle: h, Location: loc}, readahead.Range{From: c.Start, To: c.End}})
			locs = append(locs, loc)
		}
	}
	s.mu.Lock()
	limits := repo.SpanLimits{MaxBytes: s.path.Request(), GapBytes: s.path.Gap()}
	s.mu.Unlock()
	spans := repo.PlanSpans(locs, limits)
	slices.SortFunc(spans, func(a, b repo.Span) int { return cmp.Compare(slices.Min(a.Blobs), slices.Min(b.Blobs)) })
	return chunks, spans
}

// flight is a request and the chunks that it brings.
type flight struct {
	span     repo.Span
	entries  []blob.Entry
	promises []*blobcache.Promise
	away     bool // the store was waited for in vain
}

// reserve promises the chunks of a span that are still missing and ahead of the reader; nil when
// there are none or there is no room.
func (s *streamer) reserve(id tree.NodeID, chunks []wanted, span *repo.Span) *flight {
	f := &flight{}
	for _, i := range span.Blobs {
		e := chunks[i].Entry
		if s.passed(id, chunks[i].at) {
			continue
		}
		if p := s.chunks.Reserve(e.Handle, int(e.Size())); p != nil {
			f.entries = append(f.entries, e)
			f.promises = append(f.promises, p)
		}
	}
	if len(f.entries) == 0 {
		return nil
	}
	first, last := f.entries[0], f.entries[len(f.entries)-1]
	f.span = repo.Span{Pack: span.Pack, OffsetBytes: int64(first.OffsetBytes)}
	f.span.LengthBytes = int(int64(last.OffsetBytes) + int64(last.LengthBytes) - f.span.OffsetBytes)
	return f
}

// passed tells whether the reader did not wait for a part of a file: when he has read it the cache may have
// dropped it already, and it would be fetched again for nobody.
func (s *streamer) passed(id tree.NodeID, part readahead.Range) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.streams.Passed(uint64(id), part)
}

// bring makes the request, keeps the promises and gives the slot back.
func (s *streamer) bring(ctx context.Context, f *flight) {
	sealed := s.chunks.Borrow(f.span.LengthBytes)[:f.span.LengthBytes]
	err := s.read(ctx, f, sealed)
	f.away = errors.Is(err, backend.ErrAway)
	var left atomic.Int64
	left.Store(int64(len(f.promises)))
	for i, p := range f.promises {
		p.Ready(func(ctx context.Context, buffer func() []byte) ([]byte, error) {
			defer func() {
				if left.Add(-1) == 0 {
					s.chunks.GiveBack(sealed)
					<-s.slots
				}
			}()
			return s.open(ctx, f, i, sealed, err, buffer())
		})
	}
	ctx = context.WithValue(ctx, guessed{}, true)
	for _, p := range f.promises {
		s.spare.guess(func() { p.Run(ctx) })
	}
}

// read reads the span, and learns from how long it takes.
func (s *streamer) read(ctx context.Context, f *flight, sealed []byte) error {
	if s.spans == nil {
		return nil
	}
	s.mu.Lock()
	before, began := s.carried, time.Now()
	s.mu.Unlock()
	if err := s.spans.ReadSpan(ctx, &f.span, sealed); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.carried += int64(len(sealed))
	s.path.Sample(time.Since(began), s.carried-before)
	return nil
}

// guessed is set in the context of those who decode what nobody waits for, and have their turn.
type guessed struct{}

// open returns chunk i of a flight. What could not be read with the others (readErr), or decoded,
// is read as if nothing had been guessed: so its reader gets the right error, or another copy.
func (s *streamer) open(ctx context.Context, f *flight, i int, sealed []byte, readErr error, buf []byte) ([]byte, error) {
	e := f.entries[i]
	if f.away {
		return nil, readErr // whoever asks anew will wait again
	}
	if s.spans != nil && readErr == nil {
		waited := ctx.Value(guessed{}) == nil
		if waited {
			s.spare.takeFirst()
		}
		plain, err := s.spans.DecodeBlob(e, f.span.Sealed(sealed, e.Location), buf)
		if waited {
			s.spare.putFirst() // not later: the store may be away
		}
		if err == nil {
			s.count(e.ID, len(plain), s.ahead)
			return plain, nil
		}
	}
	plain, err := s.src.ReadBlob(ctx, e.Handle, buf)
	if err == nil {
		s.count(e.ID, len(plain), s.ahead)
	}
	return plain, err
}

// blobStats adds up the two caches of plain content.
func (n *nodes) blobStats() blobcache.Stats {
	small, large := n.blobs.Stats(), n.chunks.Stats()
	return blobcache.Stats{
		Hits: small.Hits + large.Hits + large.Decoded, Misses: small.Misses + large.Misses,
		Shared: small.Shared + large.Shared, Evictions: small.Evictions + large.Evictions,
		Entries: small.Entries + large.Entries, Bytes: small.Bytes + large.Bytes,
		BudgetBytes: small.BudgetBytes + large.BudgetBytes,
	}
}
