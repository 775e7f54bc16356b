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

// Change is what a Refresh did to one list.
type Change struct {
	List NodeID
	// Links are the symlinks in it that are gone, or point elsewhere and are another node now.
	Links []string
}

// Refresh makes the lists show the snapshots that are in the repository now and returns what
// changed. It reads only snapshot files it has not seen, and has the index read before it shows a
// new snapshot, so that nobody who looks into one waits for index files. Readers go on with
// the old lists until the new ones are complete.
//
// A snapshot that cannot be read is told to the log, once, left out, and tried again by the next
// Refresh. The error is that of the listing, and then nothing changed; or that of the index, and
// then the changes hold all the same: who misses a blob looks for index files himself.
func (t *Tree) Refresh(ctx context.Context) ([]Change, error) {
	t.refreshMu.Lock()
	defer t.refreshMu.Unlock()
	t.huge.expire(time.Now())
	infos, err := t.src.ListFiles(ctx, backend.Snapshot)
	if err != nil {
		return nil, err
	}
	fresh, gone := t.compare(infos)
	loaded, err := t.loadSnapshots(ctx, fresh)
	if err != nil {
		return nil, err
	}
	if len(loaded) == 0 && len(gone) == 0 {
		return nil, nil
	}
	var indexErr error
	if old := t.view.Load(); old.shows && anyShown(loaded) { // before the first view the index is as new as can be
		indexErr = t.src.RefreshIndex(ctx)
	}
	for _, id := range gone {
		delete(t.known, id)
	}
	for id, sn := range loaded {
		t.known[id] = sn
	}
	return t.show(), indexErr
}

// compare returns the snapshots listed that are not known, and those known that are not listed.
func (t *Tree) compare(infos []backend.Info) (fresh, gone []blob.ID) {
	present := make(map[blob.ID]bool, len(infos))
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
	for id := range t.known {
		if !present[id] {
			gone = append(gone, id)
		}
	}
	return fresh, gone
}

func anyShown(loaded map[blob.ID]*snapshot.Snapshot) bool {
	for _, sn := range loaded {
		if sn != nil {
			return true
		}
	}
	return false
}

// show replaces the view by one of all known snapshots.
func (t *Tree) show() []Change {
	shown := make([]*snapshot.Snapshot, 0, len(t.known))
	for _, sn := range t.known {
		if sn != nil {
			shown = append(shown, sn)
		}
	}
	sortSnapshots(shown)
	old := t.view.Load()
	v := buildView(shown, t.templates, t.timeForm, old, time.Now())
	v.shows = true
	t.view.Store(v)
	return v.changes(old)
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
