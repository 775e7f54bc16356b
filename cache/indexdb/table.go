package indexdb

import (
	"fmt"
	"sync/atomic"
)

// table answers the lookups of a generation from RAM once there have been many of them: that takes a tenth of
// what Badger needs for each. It is read from the generation, in order, for as much as looking up every
// twentieth entry costs, and that many lookups are waited for: whoever asks for less pays nothing, whoever
// asks for more at most twice what would have been best.
type table struct {
	mostEntries int64 // a generation with more has none
	asked       atomic.Int64
	loading     atomic.Bool // somebody loads it, or tried to
	loaded      atomic.Pointer[sorted]
}

// tableAfter is for how many entries one lookup is waited for.
const tableAfter = 20

// fromTable returns the table, nil when there is none. The call that makes it due loads it; others go on without it meanwhile.
func (g *generation) fromTable(m *masker) (*sorted, error) {
	t := &g.table
	if s := t.loaded.Load(); s != nil || g.meta.Entries > t.mostEntries {
		return s, nil
	}
	if t.asked.Add(1) < g.meta.Entries/tableAfter || !t.loading.CompareAndSwap(false, true) {
		return nil, nil
	}
	s, err := g.loadTable(m)
	if err != nil {
		return nil, err
	}
	t.loaded.Store(s)
	return s, nil
}

// loadTable reads all buckets.
func (g *generation) loadTable(m *masker) (*sorted, error) {
	buckets, err := g.scan()
	if err != nil {
		return nil, err
	}
	defer buckets.close()
	s := newSorted(int(g.meta.Entries))
	n := 0
	for range uint64(1) << g.meta.Bits {
		err := buckets.read(func(p []byte) error {
			for ; len(p) > 0; p = p[entryBytes:] {
				if n == len(s.entries) || n > 0 && storedKey(p).less(s.entries[n-1].key) {
					return fmt.Errorf("%w: entry %d of %d is one too many, or out of order", errCorrupt, n, len(s.entries))
				}
				s.entries[n] = m.parse(p)
				n++
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if n < len(s.entries) {
		return nil, fmt.Errorf("%w: %d entries instead of %d", errCorrupt, n, len(s.entries))
	}
	s.mark()
	return &s, nil
}
