package repo

import (
	"testing"

	"vitrine/repo/internal/compress"
)

// TestEncodersStaySmall has some blobs encoded at a time, again and again: only as many encoders may become large as there
// were large blobs at a time, whatever comes in between.
func TestEncodersStaySmall(t *testing.T) {
	const (
		small, medium, large = 1 << 10, 1 << 20, 8 << 20
		rounds               = 10
	)
	var s encoders
	together := func(sizes ...int) {
		var taken []*encoder
		for _, n := range sizes {
			e := s.get(n)
			e.frame = sized(e.frame, compress.BoundBytes(n))
			taken = append(taken, e)
		}
		for _, e := range taken {
			s.put(e)
		}
	}
	for range rounds {
		together(small, small, small)
		together(large, small, medium)
		together(small, large, small)
		together(medium, small, large)
		together(large)
		together(small)
	}
	if len(s.free) != 3 {
		t.Fatalf("%d encoders for three blobs at a time", len(s.free))
	}
	isLarge := 0
	for i, e := range s.free {
		if cap(e.frame) >= large {
			isLarge++
		}
		if i > 0 && cap(e.frame) < cap(s.free[i-1].frame) {
			t.Errorf("encoder %d is smaller than the one before it", i)
		}
	}
	if isLarge != 1 {
		t.Errorf("%d encoders are large, but there was one large blob at a time", isLarge)
	}
}
