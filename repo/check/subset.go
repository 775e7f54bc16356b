package check

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"

	"vitrine/repo/blob"
	"vitrine/repo/blobtable"
)

// subset says which packs are read. Its zero value is all of them.
type subset struct {
	part, parts uint64  // the part-th, from 1, of parts; parts 0 means unset
	percent     float64 // 0 means unset
	bytes       int64   // 0 means unset
}

// parseSubset reads "n/t", "5%" or "100M"; "" is everything.
func parseSubset(s string) (subset, error) {
	sub, err := parseSubsetParts(s)
	if err != nil {
		return subset{}, fmt.Errorf("subset %q: %w; write it as 2/5, 5%% or 100M", s, err)
	}
	return sub, nil
}

// errNoNumber is what the parser of numbers says in words of its own.
var errNoNumber = errors.New("there is no number where one belongs")

func parseSubsetParts(s string) (subset, error) {
	if s == "" {
		return subset{}, nil
	}
	if part, parts, ok := strings.Cut(s, "/"); ok {
		n, err1 := strconv.ParseUint(part, 10, 32)
		t, err2 := strconv.ParseUint(parts, 10, 32)
		if err1 != nil || err2 != nil {
			return subset{}, errNoNumber
		}
		if n < 1 || n > t {
			return subset{}, fmt.Errorf("part %d of %d does not exist", n, t)
		}
		return subset{part: n, parts: t}, nil
	}
	if percent, ok := strings.CutSuffix(s, "%"); ok {
		f, err := strconv.ParseFloat(percent, 64)
		switch {
		case errors.Is(err, strconv.ErrSyntax):
			return subset{}, errNoNumber
		case err != nil || !(f > 0 && f <= 100):
			return subset{}, errors.New("the percentage is not above 0 and at most 100")
		}
		return subset{percent: f}, nil
	}
	number, factor := s, int64(1)
	if i := strings.IndexByte("KMGT", s[len(s)-1]&^0x20); i >= 0 {
		number, factor = s[:len(s)-1], 1<<(10*(i+1))
	}
	n, err := strconv.ParseInt(number, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrSyntax):
		return subset{}, errNoNumber
	case err != nil || n <= 0 || n > math.MaxInt64/factor:
		return subset{}, errors.New("the size is out of range")
	}
	return subset{bytes: n * factor}, nil
}

// candidate is a pack that could be read.
type candidate struct {
	id        blob.ID
	sizeBytes int64
	no        uint32
}

// choose returns the packs of the subset. A pack belongs to a part n/t by its ID, so the parts
// share no pack and are together all of them, also when the checks are days apart. The other
// subsets are drawn by chance and are at least one pack.
func (s subset) choose(all []candidate, shuffle func(n int, swap func(i, j int))) []candidate {
	switch {
	case s.parts > 0:
		var chosen []candidate
		for _, p := range all {
			if binary.BigEndian.Uint64(p.id[:])%s.parts == s.part-1 {
				chosen = append(chosen, p)
			}
		}
		return chosen
	case s.percent == 0 && s.bytes == 0:
		return all
	}
	var total, sum int64
	for _, p := range all {
		total += p.sizeBytes
	}
	want := s.bytes
	if s.percent > 0 {
		want = int64(float64(total) * s.percent / 100)
	}
	shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i, p := range all {
		more := p.sizeBytes // that a size does not exceed
		if s.percent > 0 {
			more /= 2 // as many packs as come nearest to a percentage
		}
		if i > 0 && sum+more > want {
			return all[:i]
		}
		sum += p.sizeBytes
	}
	return all
}

// packsToRead returns the packs of the subset that are there and that the checked snapshots need.
func (c *run) packsToRead(o Options, s subset) []candidate {
	var needed []bool
	if o.Only != nil {
		needed = make([]bool, len(c.table.Packs()))
		c.table.All(func(_ blob.Handle, e *blobtable.Entry, number int) {
			if c.table.IsUsed(number) {
				needed[e.Pack] = true
			}
		})
	}
	var all []candidate
	for no := range c.table.Packs() {
		p := &c.table.Packs()[no]
		if p.SizeBytes >= 0 && (needed == nil || needed[no]) {
			all = append(all, candidate{p.ID, p.SizeBytes, uint32(no)})
		}
	}
	return s.choose(all, rand.Shuffle)
}
