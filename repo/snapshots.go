package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// snapshotLoads is how many snapshot files are read at a time.
const snapshotLoads = 8

// LoadSnapshot reads one snapshot. The result is shared: do not change it.
func (r *Repository) LoadSnapshot(ctx context.Context, id blob.ID) (*snapshot.Snapshot, error) {
	r.snapshotMu.Lock()
	sn := r.snapshots[id]
	r.snapshotMu.Unlock()
	if sn != nil {
		return sn, nil
	}
	plain, err := r.ReadFile(ctx, backend.Snapshot, id)
	if err != nil {
		return nil, err
	}
	sn, err = snapshot.Decode(plain)
	if err != nil {
		return nil, fmt.Errorf("snapshot/%s: %w: %w", id.Short(), ErrCorrupt, err)
	}
	sn.ID = id
	r.snapshotMu.Lock()
	r.snapshots[id] = sn
	r.snapshotMu.Unlock()
	return sn, nil
}

// Snapshots returns all snapshots, oldest first; they are shared, do not change them. A
// file already read is not read again. When some cannot be read the others are returned
// together with an error that names each of the bad ones.
func (r *Repository) Snapshots(ctx context.Context) ([]*snapshot.Snapshot, error) {
	infos, err := r.ListFiles(ctx, backend.Snapshot)
	if err != nil {
		return nil, err
	}
	sns := make([]*snapshot.Snapshot, len(infos))
	errs := make([]error, len(infos))
	var group errgroup.Group
	group.SetLimit(snapshotLoads)
	for i, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			errs[i] = err
			continue
		}
		group.Go(func() error {
			sns[i], errs[i] = r.LoadSnapshot(ctx, id)
			if errors.Is(errs[i], backend.ErrNotExist) {
				errs[i] = nil // removed since it was listed
			}
			return nil
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sns = slices.DeleteFunc(sns, func(sn *snapshot.Snapshot) bool { return sn == nil })
	r.forgetSnapshots(infos)
	SortSnapshots(sns)
	return sns, errors.Join(errs...)
}

// forgetSnapshots drops decoded snapshots whose files are gone.
func (r *Repository) forgetSnapshots(infos []backend.Info) {
	r.snapshotMu.Lock()
	defer r.snapshotMu.Unlock()
	if len(r.snapshots) <= len(infos) {
		return
	}
	here := make(map[string]bool, len(infos))
	for _, info := range infos {
		here[info.Name] = true
	}
	for id := range r.snapshots {
		if !here[id.String()] {
			delete(r.snapshots, id)
		}
	}
}

// SortSnapshots orders by time, oldest first, then by ID.
func SortSnapshots(sns []*snapshot.Snapshot) {
	slices.SortFunc(sns, func(a, b *snapshot.Snapshot) int {
		return cmp.Or(a.Time.Compare(b.Time), a.ID.Compare(b.ID))
	})
}

// FindSnapshot returns the snapshot that the specification names: "latest" is the newest
// one that the filter lets through (those that cannot be read are logged), anything else is an
// ID or a prefix of one, which the filter does not touch.
func (r *Repository) FindSnapshot(ctx context.Context, spec string, f snapshot.Filter) (*snapshot.Snapshot, error) {
	if spec != "latest" {
		id, err := r.Resolve(ctx, backend.Snapshot, spec)
		if err != nil {
			return nil, err
		}
		return r.LoadSnapshot(ctx, id)
	}
	sns, err := r.Snapshots(ctx)
	for _, sn := range slices.Backward(sns) {
		if f.Match(sn) {
			if err != nil {
				r.log.Warn("the latest snapshot is taken from those that can be read", "error", err)
			}
			return sn, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("snapshot %q: %w: no snapshot passes the filter", spec, ErrNoMatch), err)
}

// SaveSnapshot stores a snapshot and sets its ID. Everything that it reaches must be
// durable: call it after Write has returned nil.
func (r *Repository) SaveSnapshot(ctx context.Context, sn *snapshot.Snapshot) (blob.ID, error) {
	plain, err := sn.Encode()
	if err != nil {
		return blob.ID{}, fmt.Errorf("encode snapshot: %w", err)
	}
	id, err := r.SaveFile(ctx, backend.Snapshot, plain)
	if err != nil {
		return blob.ID{}, err
	}
	sn.ID = id
	return id, nil
}
