package repo

import (
	"cmp"
	"context"
	"slices"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

const (
	// spanBytes is the most that is read with one request. A backend with latency wants large
	// requests, and several of them.
	spanBytes = 4 << 20
	// spanGapBytes may lie between two blobs that are read together: fetching that much
	// costs less than another request.
	spanGapBytes = 64 << 10
	// spanParallel is how many requests one call has under way.
	spanParallel = 4
)

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
	buffers := r.readSpans(ctx, planSpans(locs), locs, sealed)
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
func (r *Repository) readSpans(ctx context.Context, spans []span, locs []blob.Location, sealed [][]byte) []*[]byte {
	buffers := make([]*[]byte, len(spans))
	var g errgroup.Group
	g.SetLimit(spanParallel)
	for k, s := range spans {
		buffers[k] = getSealed()
		g.Go(func() error {
			buf := slices.Grow((*buffers[k])[:0], s.length)[:s.length]
			*buffers[k] = buf
			f := backend.File{Kind: backend.Pack, Name: s.pack.String()}
			if r.be.ReadAt(ctx, f, buf, int64(s.offset)) != nil {
				return nil // ReadBlob will say what is wrong, blob by blob
			}
			for _, i := range s.blobs {
				at := int(locs[i].OffsetBytes - s.offset)
				sealed[i] = buf[at : at+int(locs[i].LengthBytes) : at+int(locs[i].LengthBytes)]
			}
			return nil
		})
	}
	g.Wait()
	return buffers
}

// span is a range of a pack with the blobs (indexes into the list of locations) in it.
type span struct {
	pack   blob.ID
	offset uint32
	length int
	blobs  []int
}

// planSpans puts blobs into ranges: by pack and offset, small gaps included, none of them longer
// than spanBytes. Blobs never overlap in a range, since opening one overwrites it: of several at
// one place only the first is in.
func planSpans(locs []blob.Location) []span {
	order := make([]int, 0, len(locs))
	for i, loc := range locs {
		if loc.LengthBytes >= blob.SealOverheadBytes && loc.LengthBytes <= spanBytes {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := &locs[a], &locs[b]
		return cmp.Or(x.Pack.Compare(y.Pack), cmp.Compare(x.OffsetBytes, y.OffsetBytes))
	})
	var spans []span
	for _, i := range order {
		loc := &locs[i]
		if n := len(spans); n > 0 && spans[n-1].pack == loc.Pack {
			last := &spans[n-1]
			end := int64(last.offset) + int64(last.length)
			if int64(loc.OffsetBytes) < end {
				continue
			}
			length := int64(loc.OffsetBytes) + int64(loc.LengthBytes) - int64(last.offset)
			if int64(loc.OffsetBytes)-end <= spanGapBytes && length <= spanBytes {
				last.length = int(length)
				last.blobs = append(last.blobs, i)
				continue
			}
		}
		spans = append(spans, span{loc.Pack, loc.OffsetBytes, int(loc.LengthBytes), []int{i}})
	}
	return spans
}
