package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// Span is a range of a pack that is read with one request.
type Span struct {
	Pack        blob.ID
	OffsetBytes int64
	LengthBytes int
	Blobs       []int // those in it, as places in the list that was planned, by offset
}

// SpanLimits say how much is read with one request.
type SpanLimits struct {
	// MaxBytes is the most that several blobs may take together. A larger blob is read alone.
	MaxBytes int
	// GapBytes may lie between two blobs that are read together: fetching that much costs
	// less than another request.
	GapBytes int
}

// PlanSpans puts blobs into spans, by pack and offset. Blobs never overlap in a span, since opening
// one overwrites it: of several at one place only the first is in. Neither is what is too short to
// be a sealed blob, or so long that ReadBlobAt looks at the pack before it believes it.
func PlanSpans(locs []blob.Location, limits SpanLimits) []Span {
	order := make([]int, 0, len(locs))
	for i, loc := range locs {
		if loc.LengthBytes >= blob.SealOverheadBytes && loc.LengthBytes <= maxPooledBytes {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		x, y := &locs[a], &locs[b]
		return cmp.Or(x.Pack.Compare(y.Pack), cmp.Compare(x.OffsetBytes, y.OffsetBytes))
	})
	var spans []Span
	for _, i := range order {
		loc := &locs[i]
		if n := len(spans); n > 0 && spans[n-1].Pack == loc.Pack {
			last := &spans[n-1]
			gap := int64(loc.OffsetBytes) - last.OffsetBytes - int64(last.LengthBytes)
			if gap < 0 {
				continue
			}
			length := int64(last.LengthBytes) + gap + int64(loc.LengthBytes)
			if gap <= int64(limits.GapBytes) && length <= int64(limits.MaxBytes) {
				last.LengthBytes = int(length)
				last.Blobs = append(last.Blobs, i)
				continue
			}
		}
		spans = append(spans, Span{loc.Pack, int64(loc.OffsetBytes), int(loc.LengthBytes), []int{i}})
	}
	return spans
}

// ReadSpan reads a span into buf, which has its length. A pack that ends before it is an error of class
// ErrCorrupt.
func (r *Repository) ReadSpan(ctx context.Context, s *Span, buf []byte) error {
	f := backend.File{Kind: backend.Pack, Name: s.Pack.String()}
	if err := r.be.ReadAt(ctx, f, buf, s.OffsetBytes); err != nil {
		if errors.Is(err, backend.ErrShort) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return fmt.Errorf("load %d blobs of pack %s at %d+%d: %w", len(s.Blobs), s.Pack.Short(), s.OffsetBytes, s.LengthBytes, err)
	}
	return nil
}

// Sealed returns the sealed blob at loc, one of the span's, in the bytes that ReadSpan read, for
// DecodeBlob.
func (s *Span) Sealed(buf []byte, loc blob.Location) []byte {
	at := int64(loc.OffsetBytes) - s.OffsetBytes
	end := at + int64(loc.LengthBytes)
	return buf[at:end:end]
}
