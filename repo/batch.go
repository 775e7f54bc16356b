package repo

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/hugepage"
)

// batchLimits are those of ReadBlobs. A backend with latency wants large requests, and several of
// them.
var batchLimits = SpanLimits{MaxBytes: 4 << 20, GapBytes: 64 << 10}

const (
	// spanParallel is how many requests one call has under way.
	spanParallel = 4
	// batchMost is how much one call reads together, whatever the index and the caller say: a tree may tell less of its
	// files than they have.
	batchMost = 64 << 20
)

// OpenBlob returns the plain bytes of a blob, verified, appended to buf[:0].
type OpenBlob func(buf []byte) ([]byte, error)

// ReadBlobs reads blobs that are stored near each other with few requests, and then calls
// use for each, in the order of hs and on the caller's goroutine, until use returns false. The
// sealed bytes of all of hs are in memory meanwhile: the caller sets the bound, within 64 MiB. A blob that is in hs
// several times is read once. A blob costs
// processor time only when use calls open, which must be during the call. Since several are verified
// in less time than one by one, open decodes some of the next blobs too: two blobs at first, then
// twice as many each time, up to DecodeTogether; when use did not want all of them, it begins with two again.
// What cannot be read together with others (unknown, damaged, its pack gone, very large, above the bound) open gets as
// ReadBlob does, and its errors are those of ReadBlob. Of a store that does not answer open says so at once:
// that has been waited for already.
func (r *Repository) ReadBlobs(ctx context.Context, hs []blob.Handle, use func(i int, open OpenBlob) bool) {
	o := &opener{batch: r.fetch(ctx, hs), most: 1, plain: spanBuffers.Get().(*[]byte)}
	defer func() {
		o.release()
		putSpan(o.plain)
	}()
	for i := range hs {
		if !use(i, func(buf []byte) ([]byte, error) { return o.open(ctx, i, buf) }) {
			return
		}
	}
}

// batch is blobs that are read together.
type batch struct {
	r      *Repository
	hs     []blob.Handle
	locs   []blob.Location // zero where ReadBlob is to do it
	sealed [][]byte        // nil: it could not be read with the others, or has been decoded
	failed []error         // why the store did not give a blob: it will not to ReadBlob either
	buffer *[]byte         // holds what is sealed
}

// spanBuffers recycles the buffers of batches. Those of single blobs are others, since they are many and small.
var spanBuffers = sync.Pool{New: func() any { return new([]byte) }}

func putSpan(p *[]byte) {
	if cap(*p) <= maxPooledBytes {
		spanBuffers.Put(p)
	}
}

// grown returns a slice of n bytes, in the memory of p when that is enough. What is new has room for a little more, so
// that it serves for what is about as long.
func grown(p []byte, n int) []byte {
	const step = 256 << 10
	if n > cap(p) && n > step {
		p = make([]byte, n, (n+step-1)/step*step)
		hugepage.Advise(p)
		return p
	}
	return slices.Grow(p[:0], n)[:n]
}

// fetch reads the sealed bytes of blobs.
func (r *Repository) fetch(ctx context.Context, hs []blob.Handle) *batch {
	b := &batch{r: r, hs: hs, locs: make([]blob.Location, len(hs)), sealed: make([][]byte, len(hs)), failed: make([]error, len(hs))}
	for i, h := range hs {
		if loc, ok, err := r.LookupBlob(h); ok && err == nil {
			b.locs[i] = loc
		}
	}
	if err := b.readSpans(ctx, within(batchMost, PlanSpans(b.locs, batchLimits))); err != nil {
		b.failAll(err)
	} else {
		b.copyTwins()
	}
	return b
}

// within returns the first spans, as many as have at most so many bytes together.
func within(most int, spans []Span) []Span {
	for k := range spans {
		if most -= spans[k].LengthBytes; most < 0 {
			return spans[:k]
		}
	}
	return spans
}

// failAll gives the error of a store that does not answer to all blobs that were not read, for ReadBlob would have to ask it.
func (b *batch) failAll(away error) {
	for i := range b.hs {
		if b.sealed[i] == nil && b.failed[i] == nil {
			b.failed[i] = away
		}
	}
}

// copyTwins gives blobs that are in hs several times, of which only the first is in a span, bytes of their own, for opening
// one overwrites them.
func (b *batch) copyTwins() {
	room := batchMost
	var first map[blob.Location]int
	for i, loc := range b.locs {
		if b.sealed[i] != nil || b.failed[i] != nil || loc.LengthBytes == 0 {
			continue
		}
		if first == nil {
			first = make(map[blob.Location]int)
			for j, sealed := range b.sealed {
				if sealed != nil || b.failed[j] != nil {
					first[b.locs[j]] = j
				}
			}
		}
		j, ok := first[loc]
		if !ok {
			continue
		}
		b.failed[i] = b.failed[j]
		if n := len(b.sealed[j]); n > 0 && n <= room {
			b.sealed[i] = bytes.Clone(b.sealed[j])
			room -= n
		}
	}
}

// release ends the use of what is sealed.
func (b *batch) release() { putSpan(b.buffer) }

// opener decodes the blobs of one call of ReadBlobs.
type opener struct {
	*batch

	// What was decoded last: from one blob that was asked for up to some that
	// follow it.
	first   int
	opened  []Decoding
	entries []blob.Entry
	asked   []bool  // for, once: a second time the bytes may be overwritten
	most    int     // blobs that it may have
	plain   *[]byte // holds the bytes of all but the first
}

// open is OpenBlob for blob i.
func (o *opener) open(ctx context.Context, i int, buf []byte) ([]byte, error) {
	if err := o.failed[i]; err != nil {
		return nil, failLoad(o.hs[i], o.locs[i], err)
	}
	if o.sealed[i] != nil {
		o.decode(i, buf)
	}
	if k := i - o.first; k >= 0 && k < len(o.opened) && !o.asked[k] {
		o.asked[k] = true
		if d := &o.opened[k]; d.Err == nil && k > 0 {
			return append(buf[:0], d.Plain...), nil
		} else if d.Err == nil {
			return d.Plain, nil // in buf already
		}
	}
	// Also after an error: this one says what is wrong, or finds another copy.
	return o.r.ReadBlob(ctx, o.hs[i], buf)
}

// decode makes a batch of blob i, whose bytes go to buf, and blobs behind it.
func (o *opener) decode(i int, buf []byte) {
	if slices.Contains(o.asked, false) {
		o.most = 1
	}
	o.most = min(2*o.most, decodeMost)
	o.entries = o.entries[:0]
	for j := i; j < len(o.hs) && len(o.entries) < o.most && o.sealed[j] != nil; j++ {
		o.entries = append(o.entries, blob.Entry{Handle: o.hs[j], Location: o.locs[j]})
	}
	o.entries = o.entries[:DecodeTogether(o.entries)]
	behind := 0
	for _, e := range o.entries[1:] {
		behind += int(e.Size())
	}
	free := slices.Grow((*o.plain)[:0], behind)
	*o.plain = free
	o.first, o.opened = i, o.opened[:0]
	for k, e := range o.entries {
		if k > 0 {
			n := int(e.Size())
			buf, free = free[:0:n], free[n:n]
		}
		o.opened = append(o.opened, Decoding{Entry: e, Sealed: o.sealed[i+k], Buf: buf})
		o.sealed[i+k] = nil // decoding overwrites it
	}
	o.asked = slices.Grow(o.asked[:0], len(o.opened))[:len(o.opened)]
	clear(o.asked)
	o.r.DecodeBlobs(o.opened)
}

// readSpans reads the spans and cuts them into sealed; what cannot be read stays nil there. The error is that of a store
// that does not answer.
func (b *batch) readSpans(ctx context.Context, spans []Span) error {
	n := 0
	for k := range spans {
		n += spans[k].LengthBytes
	}
	b.buffer = spanBuffers.Get().(*[]byte)
	*b.buffer = grown(*b.buffer, n)
	free := *b.buffer
	var g errgroup.Group
	g.SetLimit(spanParallel)
	var away away
	for k := range spans {
		s := &spans[k]
		buf := free[:s.LengthBytes:s.LengthBytes]
		free = free[s.LengthBytes:]
		read := func() error {
			err := away.get()
			if err == nil {
				err = b.r.ReadSpan(hinted(ctx, b.hs[s.Blobs[0]].Type), s, buf) // packs hold blobs of one type
				away.learn(err)
			}
			for _, i := range s.Blobs {
				switch {
				case err == nil:
					b.sealed[i] = s.Sealed(buf, b.locs[i])
				case !IsLost(err): // else ReadBlob will say what is wrong, blob by blob
					b.failed[i] = err
				}
			}
			return nil
		}
		if k < len(spans)-1 {
			g.Go(read)
		} else {
			_ = read() // which a goroutine of its own would only grow its stack for
		}
	}
	g.Wait()
	return away.get()
}

// away knows that the store does not answer: who has not yet asked need not wait for that again.
type away struct {
	mu  sync.Mutex
	err error // guarded by mu
}

func (a *away) get() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *away) learn(err error) {
	if err == nil || backend.IsPermanent(err) || IsLost(err) {
		return // the next pack may be another matter
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = fmt.Errorf("the store did not answer before: %w", err)
}
