package check

import (
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
)

func TestParseSubset(t *testing.T) {
	tests := []struct {
		in   string
		want subset
		bad  string
	}{
		{in: ""},
		{in: "1/1", want: subset{part: 1, parts: 1}},
		{in: "3/7", want: subset{part: 3, parts: 7}},
		{in: "5%", want: subset{percent: 5}},
		{in: "0.5%", want: subset{percent: 0.5}},
		{in: "100%", want: subset{percent: 100}},
		{in: "1000", want: subset{bytes: 1000}},
		{in: "3k", want: subset{bytes: 3 << 10}},
		{in: "100M", want: subset{bytes: 100 << 20}},
		{in: "2g", want: subset{bytes: 2 << 30}},
		{in: "1T", want: subset{bytes: 1 << 40}},
		{in: "0/3", bad: "part 0 of 3"},
		{in: "4/3", bad: "part 4 of 3"},
		{in: "1/0", bad: "part 1 of 0"},
		{in: "/", bad: "no number"},
		{in: "1/x", bad: "no number"},
		{in: "0%", bad: "percentage"},
		{in: "101%", bad: "percentage"},
		{in: "NaN%", bad: "percentage"},
		{in: "1e999%", bad: "percentage"},
		{in: "%", bad: "no number"},
		{in: "0", bad: "range"},
		{in: "-5M", bad: "range"},
		{in: "99999999999999999999", bad: "range"},
		{in: "9000000000000T", bad: "range"},
		{in: "M", bad: "no number"},
		{in: "some", bad: "no number"},
		{in: "5X", bad: "no number"},
	}
	for _, test := range tests {
		got, err := parseSubset(test.in)
		switch {
		case test.bad != "" && (err == nil || !strings.Contains(err.Error(), test.bad) || !strings.Contains(err.Error(), "2/5, 5% or 100M")):
			t.Errorf("%q: error %v, want one with %q and the forms", test.in, err, test.bad)
		case test.bad == "" && (err != nil || got != test.want):
			t.Errorf("%q: %+v, %v, want %+v", test.in, got, err, test.want)
		}
	}
}

// candidates have random IDs and 100 bytes each.
func candidates(n int) []candidate {
	rng := rand.New(rand.NewPCG(1, 2))
	all := make([]candidate, n)
	for i := range all {
		binary.BigEndian.PutUint64(all[i].id[:], rng.Uint64())
		all[i].sizeBytes = 100
		all[i].no = uint32(i)
	}
	return all
}

func TestChooseParts(t *testing.T) {
	all := candidates(3000)
	want := map[blob.ID]int{}
	for _, p := range all {
		want[p.id] = 1
	}
	for _, parts := range []uint64{1, 2, 7, 300} {
		seen := map[blob.ID]int{}
		for part := uint64(1); part <= parts; part++ {
			chosen := subset{part: part, parts: parts}.choose(all, nil)
			if want := 3000 / int(parts); parts < 10 && (len(chosen) < want*8/10 || len(chosen) > want*12/10) {
				t.Errorf("part %d/%d has %d packs", part, parts, len(chosen))
			}
			for _, p := range chosen {
				seen[p.id]++
			}
		}
		if diff := cmp.Diff(want, seen); diff != "" {
			t.Errorf("%d parts, -want +got:\n%s", parts, diff)
		}
	}
}

func TestChooseByChance(t *testing.T) {
	tests := []struct {
		name string
		s    subset
		want int
	}{
		{"all", subset{}, 1000},
		{"5%", subset{percent: 5}, 50},
		{"100%", subset{percent: 100}, 1000},
		{"two or three packs", subset{percent: 0.26}, 3},
		{"two or three packs, less", subset{percent: 0.24}, 2},
		{"at least one", subset{percent: 0.001}, 1},
		{"bytes", subset{bytes: 1050}, 10},
		{"few bytes", subset{bytes: 1}, 1},
		{"more bytes than there are", subset{bytes: 1 << 40}, 1000},
	}
	for _, test := range tests {
		rng := rand.New(rand.NewPCG(3, 4))
		chosen := test.s.choose(candidates(1000), rng.Shuffle)
		seen := map[uint32]bool{}
		for _, p := range chosen {
			seen[p.no] = true
		}
		if len(chosen) != test.want || len(seen) != test.want {
			t.Errorf("%s: %d packs, %d different, want %d", test.name, len(chosen), len(seen), test.want)
		}
		if test.want == 50 && seen[0] && seen[1] && seen[2] {
			t.Errorf("%s: the first packs, not some by chance", test.name)
		}
	}
	if got := (subset{percent: 5}).choose(nil, rand.Shuffle); len(got) != 0 {
		t.Errorf("of nothing: %v", got)
	}
}
