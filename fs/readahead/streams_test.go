package readahead

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

const m = 1 << 20

// note is a chunk of a file, in MiB, and what is to be fetched after it.
type note struct {
	file     uint64
	from, to uint64
	want     Range
}

func TestStreams(t *testing.T) {
	none := Range{}
	for _, tc := range []struct {
		name                   string
		size, max, budgetBytes uint64
		notes                  []note
	}{
		{"one look", 100, 16, 1000, []note{{1, 0, 1, none}}},
		{"in order, doubling to the maximum", 100, 8, 1000, []note{
			{1, 0, 1, none}, {1, 1, 2, Range{2, 4}}, {1, 2, 3, Range{4, 7}}, {1, 3, 4, none}, {1, 4, 5, Range{7, 13}},
			{1, 5, 6, none}, {1, 8, 9, Range{13, 17}}, {1, 9, 10, none}, {1, 12, 13, Range{17, 21}},
		}},
		{"to the end of the file", 5, 16, 1000, []note{
			{1, 0, 1, none}, {1, 1, 2, Range{2, 4}}, {1, 2, 3, Range{4, 5}}, {1, 3, 4, none}, {1, 4, 5, none},
			{1, 0, 1, none}, {1, 1, 2, Range{2, 4}}, // read once more
		}},
		{"the same chunk again", 100, 16, 1000, []note{{1, 0, 8, none}, {1, 0, 8, Range{8, 10}}, {1, 0, 8, none}}},
		{"the kernel's requests in any order", 100, 16, 1000, []note{
			{1, 2, 3, none}, {1, 0, 1, Range{3, 5}}, {1, 1, 2, none}, {1, 5, 6, Range{6, 10}}, {1, 3, 4, none}, {1, 4, 5, none},
			{1, 6, 7, none}, {1, 9, 10, Range{10, 18}},
		}},
		{"requests that come after the last one", 12, 16, 1000, []note{
			{1, 0, 1, none}, {1, 1, 2, Range{2, 4}}, {1, 11, 12, none}, {1, 9, 10, none}, {1, 10, 11, none}, {1, 8, 9, none},
		}},
		{"at random", 1000, 16, 1000, []note{{1, 500, 501, none}, {1, 100, 101, none}, {1, 900, 901, none}, {1, 300, 301, none}, {1, 700, 701, none}}},
		{"from the middle", 1000, 16, 1000, []note{{1, 500, 501, none}, {1, 501, 502, Range{502, 504}}}},
		{"backwards", 1000, 16, 1000, []note{{1, 500, 501, none}, {1, 480, 481, none}, {1, 460, 461, none}}},
		{"two readers of one file", 1000, 16, 1000, []note{
			{1, 0, 1, none}, {1, 500, 501, none}, {1, 1, 2, Range{2, 4}}, {1, 501, 502, Range{502, 504}}, {1, 2, 3, Range{4, 7}}, {1, 502, 503, Range{504, 507}},
		}},
		{"one budget for all", 1000, 16, 8, []note{
			{1, 0, 1, none}, {1, 1, 2, Range{2, 4}}, {1, 3, 4, Range{4, 8}}, {1, 7, 8, Range{8, 16}}, // alone
			{2, 0, 1, none}, {2, 1, 2, Range{2, 4}}, {2, 3, 4, Range{4, 8}}, {2, 7, 8, Range{8, 12}}, // half for each
		}},
		{"one path for all", 1000, 8, 1000, []note{
			{1, 0, 1, none}, {1, 1, 2, Range{2, 4}}, {2, 0, 1, none}, {2, 1, 2, Range{2, 4}}, {3, 0, 1, none}, {3, 1, 2, Range{2, 4}},
			{4, 0, 1, none}, {4, 1, 2, Range{2, 4}}, {5, 0, 1, none}, {5, 1, 2, Range{2, 4}}, {5, 3, 4, Range{4, 6}}, {5, 5, 6, Range{6, 8}},
		}},
		{"no budget", 1000, 16, 0, []note{{1, 0, 1, none}, {1, 1, 2, none}, {1, 2, 3, none}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := Streams{BudgetBytes: tc.budgetBytes * m}
			for k, n := range tc.notes {
				got := s.Note(n.file, Range{n.from * m, n.to * m}, tc.size*m, tc.max*m)
				got = Range{got.From / m, got.To / m}
				if diff := cmp.Diff(n.want, got); diff != "" {
					t.Errorf("note %d, of %d to %d: %s", k, n.from, n.to, diff)
				}
			}
		})
	}
}

func TestPassed(t *testing.T) {
	s := Streams{BudgetBytes: 1000 * m}
	for at := range uint64(10) {
		s.Note(1, Range{at * m, at*m + m}, 100*m, 16*m)
	}
	for _, tc := range []struct {
		file, from, to uint64
		want           bool
	}{
		{1, 8, 10, true}, {1, 9, 11, false}, {1, 10, 12, false}, {1, 0, 1, true}, {2, 10, 12, true},
	} {
		if got := s.Passed(tc.file, Range{tc.from * m, tc.to * m}); got != tc.want {
			t.Errorf("file %d, %d to %d: passed is %v", tc.file, tc.from, tc.to, got)
		}
	}
	s.Note(1, Range{10 * m, 100 * m}, 100*m, 16*m)
	if !s.Passed(1, Range{98 * m, 100 * m}) {
		t.Error("the end of a file that was read is wanted")
	}
	s.Expect(3, 50*m)
	if s.Passed(3, Range{0, m}) {
		t.Error("the beginning of a file that is expected is not wanted")
	}
}

func TestStreamsAreForgotten(t *testing.T) {
	s := Streams{BudgetBytes: 100 * m}
	for file := range uint64(10 * maxCursors) {
		for at := uint64(0); at < 1000*m; at += 50 * m {
			s.Note(file, Range{at, at + m}, 1000*m, 16*m)
		}
	}
	if n := len(s.cursors); n > maxCursors {
		t.Errorf("%d streams are remembered", n)
	}
	if n := s.active(); n != 0 {
		t.Errorf("%d jumping readers have windows", n)
	}
	// One that stands still gives its share back.
	s = Streams{BudgetBytes: 100 * m}
	for at := range uint64(2) {
		s.Note(1, Range{at * m, at*m + m}, 1000*m, 16*m)
	}
	for at := range uint64(activeNotes + 1) {
		s.Note(2, Range{at, at + 1}, 1000*m, 16*m)
	}
	if n := s.active(); n != 1 {
		t.Errorf("%d active streams, one of two stands still", n)
	}
}
