package indexdb

import (
	"context"

	"vitrine/repo/blob"
)

// Memory is an index that is kept in RAM only, 33 bytes per entry and 36 per pack. Its methods
// may be called in parallel.
type Memory struct{ core *core }

// OpenMemory reads all index files.
func OpenMemory(ctx context.Context, src Source, o Options) (*Memory, error) {
	k, err := randomKeys()
	if err != nil {
		return nil, err
	}
	m := &Memory{core: newCore(src, k, "", o)}
	if err := m.Refresh(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// Lookup implements repo.Index.
func (m *Memory) Lookup(h blob.Handle) (blob.Location, bool, error) {
	return m.core.lookup(h)
}

// Locations returns all places of the blob, in no particular order.
func (m *Memory) Locations(h blob.Handle) ([]blob.Location, error) { return m.core.locations(h) }

// Packs implements repo.Index.
func (m *Memory) Packs(fn func(blob.ID)) error { return m.core.packs(fn) }

// Refresh implements repo.Index: it lists the index files and reads those that are new.
func (m *Memory) Refresh(ctx context.Context) error {
	return m.core.refresh(ctx, func(*state) *generation { return nil })
}

// Stats tells the state.
func (m *Memory) Stats() Stats { return m.core.stats() }

// Close frees the memory.
func (m *Memory) Close() error {
	m.core.closeState()
	return nil
}
