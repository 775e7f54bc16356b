package tree

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// loadParallel is how many snapshot files are read at once.
const loadParallel = 8

// Refresh makes the lists show the snapshots that are in the repository now and returns the
// lists that changed. It reads only snapshot files it has not seen. Readers go on with the old lists
// until the new ones are complete. A snapshot that cannot be read is told to the log, once, left
// out, and tried again by the next Refresh; the error is that of the listing.
func (t *Tree) Refresh(ctx context.Context) (changed []NodeID, err error) {
	t.refreshMu.Lock()
	defer t.refreshMu.Unlock()
	t.huge.expire(time.Now())
	infos, err := t.src.ListFiles(ctx, backend.Snapshot)
	if err != nil {
		return nil, err
	}
	present := make(map[blob.ID]bool, len(infos))
	var fresh []blob.ID
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			continue // no snapshot's name
		}
		present[id] = true
		if _, ok := t.known[id]; !ok {
			fresh = append(fresh, id)
		}
	}
	gone := 0
	for id := range t.known {
		if !present[id] {
			gone++
		}
	}
	if len(fresh) == 0 && gone == 0 {
		return nil, nil
	}
	loaded, err := t.loadSnapshots(ctx, fresh)
	if err != nil {
		return nil, err
	}
	if len(loaded) == 0 && gone == 0 {
		return nil, nil
	}
	for id := range t.known {
		if !present[id] {
			delete(t.known, id)
		}
	}
	for id, sn := range loaded {
		t.known[id] = sn
	}
	shown := make([]*snapshot.Snapshot, 0, len(t.known))
	for _, sn := range t.known {
		if sn != nil {
			shown = append(shown, sn)
		}
	}
	sortSnapshots(shown)
	old := t.view.Load()
	v := buildView(shown, t.templates, t.timeForm, old, time.Now())
	t.view.Store(v)
	return v.changed(old), nil
}

// loadSnapshots reads snapshot files. The result has nil for those that are not to be shown, and
// leaves out those that could not be read or vanished since they were listed.
func (t *Tree) loadSnapshots(ctx context.Context, ids []blob.ID) (map[blob.ID]*snapshot.Snapshot, error) {
	var mu sync.Mutex // guards loaded
	loaded := make(map[blob.ID]*snapshot.Snapshot, len(ids))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(loadParallel)
	for _, id := range ids {
		g.Go(func() error {
			sn, err := t.src.LoadSnapshot(ctx, id)
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.Is(err, backend.ErrNotExist):
				return nil
			case err != nil:
				t.complain(id, err)
				return nil
			case sn.Tree == nil:
				t.complain(id, errors.New("it names no tree"))
				sn = nil
			case !t.filter.Match(sn):
				sn = nil
			}
			mu.Lock()
			defer mu.Unlock()
			loaded[id] = sn
			return nil
		})
	}
	return loaded, g.Wait()
}

// complain tells of a snapshot that cannot be shown, the first time.
func (t *Tree) complain(id blob.ID, err error) {
	if _, told := t.bad.LoadOrStore(id, true); !told {
		t.log.Error("snapshot cannot be shown", "snapshot", id.Short(), "err", err)
	}
}

// sortSnapshots orders by time, then by ID.
func sortSnapshots(sns []*snapshot.Snapshot) {
	slices.SortFunc(sns, func(a, b *snapshot.Snapshot) int {
		if c := a.Time.Compare(b.Time); c != 0 {
			return c
		}
		return a.ID.Compare(b.ID)
	})
}
