package indexdb

import (
	"math/bits"
	"slices"
	"sort"

	"vitrine/repo/blob"
)

// fileRef is an index file that a run or a generation holds.
type fileRef struct {
	ID      blob.ID `json:"id"`
	Entries int64   `json:"entries"`
}

// packRow is a line of a pack table.
type packRow struct {
	id   blob.ID
	file uint32 // which of the holder's index files listed the pack
}

const packRowBytes = 36

// run is a set of index files in RAM, immutable.
type run struct {
	entries []entry // sorted by key; several of one key are several places
	packs   []packRow
	files   []fileRef
}

func (r *run) memoryBytes() int64 {
	return int64(len(r.entries))*entryBytes + int64(len(r.packs))*packRowBytes + int64(len(r.files))*40
}

// find returns the number of the first entry that is not less than k. Keys are uniformly distributed, so the
// place is guessed first and is off by about the square root of the length.
func (r *run) find(k dbKey) int {
	n := len(r.entries)
	if n == 0 {
		return 0
	}
	guess, _ := bits.Mul64(k.hi, uint64(n))
	lo, hi, step := int(guess), int(guess), 8
	// Widen until entries[lo-1] < k <= entries[hi], taking the ends as guards.
	if r.entries[lo].key.less(k) {
		for hi < n && r.entries[hi].key.less(k) {
			lo = hi + 1
			hi = min(hi+step, n)
			step *= 2
		}
	} else {
		for lo > 0 && !r.entries[lo-1].key.less(k) {
			hi = lo - 1
			lo = max(lo-step, 0)
			step *= 2
		}
	}
	return lo + sort.Search(hi-lo, func(i int) bool { return !r.entries[lo+i].key.less(k) })
}

// lookup calls fn with each place of the blob until fn returns false; it returns what fn did last,
// true when it was not called.
func (r *run) lookup(k dbKey, fn func(blob.Location) bool) bool {
	for i := r.find(k); i < len(r.entries) && r.entries[i].key == k; i++ {
		e := &r.entries[i]
		if !fn(e.location(r.packs[e.pack].id)) {
			return false
		}
	}
	return true
}

// keep returns a run with only those index files that fn wants: r itself when it wants all, nil when it
// wants none.
func (r *run) keep(fn func(blob.ID) bool) *run {
	wanted := make([]bool, len(r.files))
	var files []fileRef
	fileNo := make([]uint32, len(r.files))
	for i, f := range r.files {
		if fn(f.ID) {
			wanted[i] = true
			fileNo[i] = uint32(len(files))
			files = append(files, f)
		}
	}
	switch len(files) {
	case len(r.files):
		return r
	case 0:
		return nil
	}
	out := &run{files: files}
	packNo := make([]uint32, len(r.packs))
	for i, p := range r.packs {
		packNo[i] = uint32(len(out.packs))
		if wanted[p.file] {
			out.packs = append(out.packs, packRow{p.id, fileNo[p.file]})
		}
	}
	for _, e := range r.entries {
		if wanted[r.packs[e.pack].file] {
			e.pack = packNo[e.pack]
			out.entries = append(out.entries, e)
		}
	}
	out.entries = slices.Clip(out.entries)
	return out
}

// sortEntries returns the entries of all parts sorted by key; those of part i get packBase[i] added to
// their pack numbers. Uniform keys are spread to their places in linear time; insertion then
// mends the order among a few neighbours.
func sortEntries(parts [][]entry, packBase []uint32) []entry {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	width := max(bits.Len(uint(n))-3, 0) // 4 to 8 entries per slot
	next := make([]uint32, 1<<width+1)
	shift := uint(64 - width)
	for _, p := range parts {
		for i := range p {
			next[p[i].key.hi>>shift+1]++
		}
	}
	for i := 1; i < len(next); i++ {
		next[i] += next[i-1]
	}
	out := make([]entry, n)
	for part, p := range parts {
		base := packBase[part]
		for _, e := range p {
			slot := e.key.hi >> shift
			e.pack += base
			out[next[slot]] = e
			next[slot]++
		}
	}
	insertionSort(out)
	return out
}

// insertionSort is for entries that are nearly in order; it keeps the order of equal keys.
func insertionSort(p []entry) {
	for i := 1; i < len(p); i++ {
		e, j := p[i], i
		for ; j > 0 && e.key.less(p[j-1].key); j-- {
			p[j] = p[j-1]
		}
		p[j] = e
	}
}

// merge makes one run of several.
func merge(runs []*run) *run {
	if len(runs) == 1 {
		return runs[0]
	}
	out := &run{}
	parts := make([][]entry, len(runs))
	bases := make([]uint32, len(runs))
	for i, r := range runs {
		parts[i], bases[i] = r.entries, uint32(len(out.packs))
		files := uint32(len(out.files))
		for _, p := range r.packs {
			out.packs = append(out.packs, packRow{p.id, p.file + files})
		}
		out.files = append(out.files, r.files...)
	}
	out.packs, out.files = slices.Clip(out.packs), slices.Clip(out.files)
	out.entries = sortEntries(parts, bases)
	return out
}

// maxRuns bounds what a lookup costs: each run is searched, 0.1 µs for a miss.
const maxRuns = 8

// compact merges the smallest runs until there are at most maxRuns. Runs that are merged are
// set to nil in the slice given, so that they can be freed one by one.
func compact(runs []*run) []*run {
	if len(runs) <= maxRuns {
		return runs
	}
	slices.SortFunc(runs, func(a, b *run) int { return len(b.entries) - len(a.entries) })
	var groups [maxRuns][]*run
	var weight [maxRuns]int
	for i, r := range runs {
		lightest := 0
		for g := range weight {
			if weight[g] < weight[lightest] {
				lightest = g
			}
		}
		groups[lightest] = append(groups[lightest], r)
		weight[lightest] += len(r.entries) + 1
		runs[i] = nil
	}
	out := make([]*run, 0, maxRuns)
	for g := range groups {
		out = append(out, merge(groups[g]))
		groups[g] = nil
	}
	return out
}

// runBuilder gathers the entries of one index file.
type runBuilder struct {
	masker
	entries []entry
	packs   []packRow
	packNo  map[blob.ID]uint32
	last    blob.ID // pack of the entry before
	lastNo  uint32
}

// reset makes the builder ready for the next file; its buffers stay.
func (b *runBuilder) reset(k *keys) {
	b.keys = k
	b.entries, b.packs, b.last = b.entries[:0], b.packs[:0], blob.ID{}
	if b.packNo == nil {
		b.packNo = make(map[blob.ID]uint32)
	}
	clear(b.packNo)
}

func (b *runBuilder) add(e *blob.Entry) {
	key, ok := b.key(&e.Handle)
	if !ok {
		return // a type of a later version of the format: nobody will ask for it
	}
	if len(b.packs) == 0 || e.Pack != b.last {
		no, ok := b.packNo[e.Pack]
		if !ok {
			no = uint32(len(b.packs))
			b.packNo[e.Pack] = no
			b.packs = append(b.packs, packRow{id: e.Pack})
		}
		b.last, b.lastNo = e.Pack, no
	}
	b.entries = append(b.entries, entry{key: key, pack: b.lastNo, offset: e.OffsetBytes, length: e.LengthBytes, plain: e.PlainBytes})
}

func (b *runBuilder) finish(file blob.ID) *run {
	return &run{
		entries: sortEntries([][]entry{b.entries}, []uint32{0}),
		packs:   slices.Clone(b.packs),
		files:   []fileRef{{ID: file, Entries: int64(len(b.entries))}},
	}
}
