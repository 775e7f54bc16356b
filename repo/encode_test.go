package repo

import (
	"slices"
	"strings"
	"testing"

	"vitrine/repo/internal/compress"
	"vitrine/repo/internal/seal"
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

// What is sealed is stored only if it opens to the blob: a bit that is wrong in what was sealed, in the frame or in the blob
// since then is noticed, and so is the frame of another blob.
func TestVerifySealed(t *testing.T) {
	r := &Repository{key: seal.NewKey(), codec: compress.New(compress.Auto), verify: true}
	plain := []byte(strings.Repeat("all that is shown was verified\n", 1000))
	other := slices.Clone(plain)
	other[17] ^= 1
	frame, ok := r.codec.Compress(nil, plain)
	if !ok {
		t.Fatal("the blob is not compressed")
	}
	for _, tc := range []struct {
		name           string
		content, plain []byte
		compressed     bool
	}{
		{"compressed", frame, plain, true},
		{"as it is", plain, plain, false},
	} {
		sealed := r.key.Seal(nil, tc.content)
		if err := r.verifySealed(sealed, tc.content, tc.plain, tc.compressed); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		for _, at := range []int{0, len(sealed) / 2, len(sealed) - 1} {
			sealed[at] ^= 4
			if r.verifySealed(sealed, tc.content, tc.plain, tc.compressed) == nil {
				t.Errorf("%s: byte %d of what is sealed differs, and nobody notices", tc.name, at)
			}
			sealed[at] ^= 4
		}
		for at := 0; at < len(tc.content); at += 1 + len(tc.content)/500 {
			changed := slices.Clone(tc.content)
			changed[at] ^= 1
			if r.verifySealed(sealed, changed, tc.plain, tc.compressed) == nil {
				t.Fatalf("%s: byte %d of what was sealed differs, and nobody notices", tc.name, at)
			}
		}
	}
	if r.verifySealed(r.key.Seal(nil, frame), frame, other, true) == nil {
		t.Error("the frame of another blob is taken")
	}
}
