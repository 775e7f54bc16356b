package cli

import (
	"runtime"
	"testing"

	"vitrine/repo/archive"
)

// reads counts what it is told.
type reads struct {
	archive.Reporter
	bytes int
}

func (r *reads) Read(n int) { r.bytes += n }

// One goroutine more runs from when a backup is seen to read, once, and from the start when it will.
func TestReadingTakesOneMore(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for _, tc := range []struct {
		name   string
		env    string
		all    bool
		read   int // at a time
		times  int
		before int // how many of them come first
	}{
		{"all is read", "", true, 1, 2, 0},
		{"small files", "", false, 1, 5000, muchBytes / readBytes},
		{"large files", "", false, 8 << 20, 20, muchBytes / (8 << 20)},
		{"a few files", "", false, 1, 4000, 4000},
		{"the user says how many", "1", true, 8 << 20, 20, 20},
	} {
		runtime.GOMAXPROCS(before)
		t.Setenv("GOMAXPROCS", tc.env)
		told := &reads{}
		r := newReading(told, tc.all)
		for i := range tc.times + 1 {
			want := before
			if i >= tc.before && tc.before < tc.times {
				want++
			}
			if n := runtime.GOMAXPROCS(0); n != want {
				t.Errorf("%s: %d may run after %d reads, want %d", tc.name, n, i, want)
				break
			}
			if i < tc.times {
				r.Read(tc.read)
			}
		}
		if told.bytes != tc.times*tc.read {
			t.Errorf("%s: the reporter is told of %d bytes, not %d", tc.name, told.bytes, tc.times*tc.read)
		}
	}
}
