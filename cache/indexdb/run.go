package indexdb

import (
	"math/bits"
	"slices"

	"vitrine/repo/blob"
	"vitrine/repo/spill"
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

// run is a set of index files, immutable. Its entries are in RAM, or on disk.
type run struct {
	sorted
	spilled *spill.Run // nil: in RAM
	packs   []packRow
	files   []fileRef
}

// len is the number of entries.
func (r *run) len() int {
	if r.spilled != nil {
		return r.spilled.Len()
	}
	return len(r.entries)
}

func (r *run) memoryBytes() int64 {
	n := int64(len(r.entries))*entryBytes + int64(len(r.slots))*4 + int64(len(r.packs))*packRowBytes + int64(len(r.files))*40
	if r.spilled != nil {
		n += r.spilled.MemoryBytes()
	}
	return n
}

// sorted are entries in the order of their keys; several of one key are several places.
type sorted struct {
	entries []entry
	// slots has, for each value of the first bits of a key, where its entries end. Keys are
	// uniformly distributed, so that is 4 to 8 entries after their start.
	slots []uint32
	shift uint // 64 less those bits
}

// newSorted returns room for n entries. slots has one value more than is needed, for sortEntries.
func newSorted(n int) sorted {
	width := max(bits.Len(uint(n))-3, 0)
	return sorted{entries: make([]entry, n), slots: make([]uint32, 1<<width+1), shift: uint(64 - width)}
}

// mark fills slots for entries that are in order.
func (s *sorted) mark() {
	for i := range s.entries {
		s.slots[s.entries[i].key.hi>>s.shift] = uint32(i + 1)
	}
	for i := 1; i < len(s.slots); i++ {
		s.slots[i] = max(s.slots[i], s.slots[i-1])
	}
}

// find returns the number of the first entry that is not less than k.
func (s *sorted) find(k dbKey) int {
	slot, i := k.hi>>s.shift, uint32(0)
	if slot > 0 {
		i = s.slots[slot-1]
	}
	for end := s.slots[slot]; i < end && s.entries[i].key.less(k); {
		i++
	}
	return int(i)
}

// lookup calls fn with each place of the blob until fn returns false; more is what fn did last, true when it was not called.
func (r *run) lookup(m *masker, k dbKey, fn func(blob.Location) bool) (more bool, err error) {
	if r.spilled != nil {
		more = true
		err = r.findSpilled(m, k, func(e *entry) bool {
			more = fn(e.location(r.packs[e.pack].id))
			return more
		})
		return more, err
	}
	for i := r.find(k); i < len(r.entries) && r.entries[i].key == k; i++ {
		e := &r.entries[i]
		if !fn(e.location(r.packs[e.pack].id)) {
			return false, nil
		}
	}
	return true, nil
}

// keep returns a run with only those index files that fn wants: r itself when it wants all, nil
// when it wants none.
func (s *spiller) keep(m *masker, r *run, fn func(blob.ID) bool) (*run, error) {
	wanted := make([]bool, len(r.files))
	out, n := &run{}, 0
	fileNo := make([]uint32, len(r.files))
	for i, f := range r.files {
		if fn(f.ID) {
			wanted[i] = true
			fileNo[i] = uint32(len(out.files))
			out.files = append(out.files, f)
			n += int(f.Entries)
		}
	}
	switch len(out.files) {
	case len(r.files):
		return r, nil
	case 0:
		return nil, nil
	}
	packNo := make([]uint32, len(r.packs))
	for i, p := range r.packs {
		packNo[i] = uint32(len(out.packs))
		if wanted[p.file] {
			out.packs = append(out.packs, packRow{p.id, fileNo[p.file]})
		}
	}
	return out, s.fill(out, m, n, func(fn func(*entry) error) error {
		all, err := cursorsOf(m, []*run{r}, []uint32{0})
		if err != nil {
			return err
		}
		return all.each(func(e *entry) error {
			if !wanted[r.packs[e.pack].file] {
				return nil
			}
			kept := *e
			kept.pack = packNo[e.pack]
			return fn(&kept)
		})
	})
}

// sortEntries sorts the entries of all parts; those of part i get packBase[i] added to their pack
// numbers. Uniform keys are spread to their slots in linear time; insertion then mends the order
// among a few neighbours.
func sortEntries(parts [][]entry, packBase []uint32) sorted {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	s := newSorted(n)
	next := s.slots // first the number of entries of the slot before, then where the next one goes
	for _, p := range parts {
		for i := range p {
			next[p[i].key.hi>>s.shift+1]++
		}
	}
	for i := 1; i < len(next); i++ {
		next[i] += next[i-1]
	}
	for part, p := range parts {
		base := packBase[part]
		for _, e := range p {
			slot := e.key.hi >> s.shift
			e.pack += base
			s.entries[next[slot]] = e
			next[slot]++
		}
	}
	insertionSort(s.entries)
	return s
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

// merge makes one run of several, and has it on disk when it is large. On a disk that takes no more, those there stay what they
// are, since they have no place in RAM; only the others become one.
func (s *spiller) merge(m *masker, runs []*run) ([]*run, error) {
	all, inRAM := divide(runs)
	n := 0
	for _, r := range runs {
		n += r.len()
	}
	// Those in RAM may be thousands, of a few entries each, and become one first.
	switch len(inRAM) {
	case 0:
	case 1:
		all = append(all, inRAM[0])
	default:
		one, bases := list(inRAM)
		parts := make([][]entry, len(inRAM))
		for i, r := range inRAM {
			parts[i] = r.entries
		}
		one.sorted = sortEntries(parts, bases)
		all = append(all, one)
	}
	if len(all) == 1 && (all[0].spilled != nil || !s.wants(n)) {
		return all, nil
	}
	out, bases := list(all)
	done, err := s.toDisk(out, m, n, func(fn func(*entry) error) error {
		cursors, err := cursorsOf(m, all, bases)
		if err != nil {
			return err
		}
		return cursors.each(fn)
	})
	if done {
		return []*run{out}, nil
	}
	return all, err
}

// list returns a run with the packs and files of all runs, and what is added to pack numbers of each.
func list(runs []*run) (all *run, bases []uint32) {
	all, bases = &run{}, make([]uint32, len(runs))
	for i, r := range runs {
		bases[i] = uint32(len(all.packs))
		files := uint32(len(all.files))
		for _, p := range r.packs {
			all.packs = append(all.packs, packRow{p.id, p.file + files})
		}
		all.files = append(all.files, r.files...)
	}
	all.packs, all.files = slices.Clip(all.packs), slices.Clip(all.files)
	return all, bases
}

// maxRuns bounds what a lookup costs: each run is searched, three cache misses or a page on disk.
const maxRuns = 8

// compact merges the smallest runs until there are at most maxRuns, or more on a disk that takes no more. Runs that are merged are
// set to nil in the slice given, so that they can be freed one by one.
func (s *spiller) compact(m *masker, runs []*run) ([]*run, error) {
	if len(runs) <= maxRuns {
		return runs, nil
	}
	slices.SortFunc(runs, func(a, b *run) int { return b.len() - a.len() })
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
		weight[lightest] += r.len() + 1
		runs[i] = nil
	}
	out := make([]*run, 0, maxRuns)
	for g := range groups {
		merged, err := s.merge(m, groups[g])
		if err != nil {
			return nil, err
		}
		out = append(out, merged...)
		groups[g] = nil
	}
	return out, nil
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
		sorted: sortEntries([][]entry{b.entries}, []uint32{0}),
		packs:  slices.Clone(b.packs),
		files:  []fileRef{{ID: file, Entries: int64(len(b.entries))}},
	}
}
