package repo

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
)

func TestPlanSpans(t *testing.T) {
	a, b := blob.ID{1}, blob.ID{2}
	at := func(pack blob.ID, offset, length uint32) blob.Location {
		return blob.Location{Pack: pack, OffsetBytes: offset, LengthBytes: length}
	}
	const spanBytes, spanGapBytes = 4 << 20, 64 << 10
	const gap = spanGapBytes
	for _, tc := range []struct {
		name string
		locs []blob.Location
		want []Span
	}{
		{"nothing", nil, nil},
		{"unknown and too short", []blob.Location{{}, at(a, 0, 31)}, nil},
		{"large", []blob.Location{at(a, 0, spanBytes+1), at(a, spanBytes+1, 100)}, []Span{{a, 0, spanBytes + 1, []int{0}}, {a, spanBytes + 1, 100, []int{1}}}},
		{"too large", []blob.Location{at(a, 0, maxPooledBytes+1), at(a, maxPooledBytes+1, 100)}, []Span{{a, maxPooledBytes + 1, 100, []int{1}}}},
		{"neighbours in any order", []blob.Location{at(a, 300, 100), at(a, 100, 100), at(a, 200, 100)}, []Span{{a, 100, 300, []int{1, 2, 0}}}},
		{"two packs", []blob.Location{at(b, 0, 100), at(a, 0, 100), at(b, 100, 50)}, []Span{{a, 0, 100, []int{1}}, {b, 0, 150, []int{0, 2}}}},
		{"a small gap", []blob.Location{at(a, 0, 100), at(a, 100+gap, 100)}, []Span{{a, 0, 200 + gap, []int{0, 1}}}},
		{"a large gap", []blob.Location{at(a, 0, 100), at(a, 101+gap, 100)}, []Span{{a, 0, 100, []int{0}}, {a, 101 + gap, 100, []int{1}}}},
		{"full", []blob.Location{at(a, 0, spanBytes), at(a, spanBytes, 100)}, []Span{{a, 0, spanBytes, []int{0}}, {a, spanBytes, 100, []int{1}}}},
		{"the same twice", []blob.Location{at(a, 0, 100), at(a, 0, 100)}, []Span{{a, 0, 100, []int{0}}}},
		{"overlapping", []blob.Location{at(a, 0, 100), at(a, 50, 100)}, []Span{{a, 0, 100, []int{0}}}},
		{"at the end of what 32 bits count", []blob.Location{at(a, 1<<32-200, 100), at(a, 1<<32-100, 100)}, []Span{{a, 1<<32 - 200, 200, []int{0, 1}}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := PlanSpans(tc.locs, SpanLimits{MaxBytes: spanBytes, GapBytes: spanGapBytes})
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}
