package repo

import (
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/blob"
)

// batchLimits are those of ReadBlobs. A backend with latency wants large requests, and several of
// them.
var batchLimits = SpanLimits{MaxBytes: 4 << 20, GapBytes: 64 << 10}

// spanParallel is how many requests one call has under way.
const spanParallel = 4

// OpenBlob returns the plain bytes of a blob, verified, appended to buf[:0].
type OpenBlob func(buf []byte) ([]byte, error)

// ReadBlobs reads blobs that are stored near each other with few requests, and then calls
// use for each, in the order of hs and on the caller's goroutine, until use returns false. The
// sealed bytes of all of hs are in memory meanwhile: the caller sets the bound. A blob costs
// processor time only when use calls open, which must be during the call. What cannot be read
// together with others (unknown, damaged, its pack gone, very large) open gets as ReadBlob does, and its
// errors are those of ReadBlob.
func (r *Repository) ReadBlobs(ctx context.Context, hs []blob.Handle, use func(i int, open OpenBlob) bool) {
	locs := make([]blob.Location, len(hs)) // zero where ReadBlob is to do it
	for i, h := range hs {
		if loc, ok, err := r.LookupBlob(h); ok && err == nil {
			locs[i] = loc
		}
	}
	sealed := make([][]byte, len(hs))
	buffers := r.readSpans(ctx, PlanSpans(locs, batchLimits), locs, sealed)
	defer func() {
		for _, b := range buffers {
			putSealed(b)
		}
	}()
	for i, h := range hs {
		open := func(buf []byte) ([]byte, error) {
			if p := sealed[i]; p != nil {
				sealed[i] = nil // decoding overwrites it
				if plain, err := r.openBlob(h, locs[i], p, buf); err == nil {
					return plain, nil
				}
			}
			return r.ReadBlob(ctx, h, buf)
		}
		if !use(i, open) {
			return
		}
	}
}

// readSpans reads the spans and cuts them into sealed; what cannot be read stays nil there. The
// buffers go back to the pool when sealed is not needed any more.
func (r *Repository) readSpans(ctx context.Context, spans []Span, locs []blob.Location, sealed [][]byte) []*[]byte {
	buffers := make([]*[]byte, len(spans))
	var g errgroup.Group
	g.SetLimit(spanParallel)
	for k := range spans {
		s := &spans[k]
		buffers[k] = getSealed()
		g.Go(func() error {
			buf := slices.Grow((*buffers[k])[:0], s.LengthBytes)[:s.LengthBytes]
			*buffers[k] = buf
			if r.ReadSpan(ctx, s, buf) != nil {
				return nil // ReadBlob will say what is wrong, blob by blob
			}
			for _, i := range s.Blobs {
				sealed[i] = s.Sealed(buf, locs[i])
			}
			return nil
		})
	}
	g.Wait()
	return buffers
}
