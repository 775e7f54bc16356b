package repo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

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
	return r.SnapshotsBut(ctx, nil)
}

// SnapshotsBut is Snapshots without those of skip, which are not read.
func (r *Repository) SnapshotsBut(ctx context.Context, skip map[blob.ID]bool) ([]*snapshot.Snapshot, error) {
	all, err := r.ListFiles(ctx, backend.Snapshot)
	if err != nil {
		return nil, err
	}
	infos := slices.DeleteFunc(slices.Clone(all), func(info backend.Info) bool {
		id, err := blob.ParseID(info.Name)
		return err == nil && skip[id]
	})
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
			return nil
		})
	}
	group.Wait()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if slices.ContainsFunc(errs, isMissing) {
		if err := r.loadMissing(ctx, infos, sns, errs); err != nil {
			return nil, err
		}
	}
	sns = slices.DeleteFunc(sns, func(sn *snapshot.Snapshot) bool { return sn == nil })
	r.forgetSnapshots(all)
	SortSnapshots(sns)
	return sns, errors.Join(errs...)
}

func isMissing(err error) bool { return errors.Is(err, backend.ErrNotExist) }

// loadMissing finds out about snapshots that were listed and then not there. One that a new listing does not name was
// removed meanwhile, and its error is cleared. Any other is read again, and its error stays if it is still not there:
// whoever prunes must not take it for removed.
func (r *Repository) loadMissing(ctx context.Context, infos []backend.Info, sns []*snapshot.Snapshot, errs []error) error {
	again, err := r.ListFiles(ctx, backend.Snapshot)
	if err != nil {
		return err
	}
	here := namesOf(again)
	for i, err := range errs {
		if !isMissing(err) {
			continue
		}
		errs[i] = nil
		if !here[infos[i].Name] {
			continue
		}
		id, err := blob.ParseID(infos[i].Name)
		if err != nil {
			return err
		}
		if sns[i], err = r.LoadSnapshot(ctx, id); err != nil {
			errs[i] = fmt.Errorf("it is listed, but cannot be read: %w", err)
		}
	}
	return ctx.Err()
}

func namesOf(infos []backend.Info) map[string]bool {
	names := make(map[string]bool, len(infos))
	for _, info := range infos {
		names[info.Name] = true
	}
	return names
}

// forgetSnapshots drops decoded snapshots whose files are gone.
func (r *Repository) forgetSnapshots(infos []backend.Info) {
	r.snapshotMu.Lock()
	defer r.snapshotMu.Unlock()
	if len(r.snapshots) <= len(infos) {
		return
	}
	here := namesOf(infos)
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
// one that the filter lets through, anything else is an ID or a prefix of one, which the filter does not touch. While a
// snapshot cannot be read, nobody knows which one is the latest, and none is.
func (r *Repository) FindSnapshot(ctx context.Context, spec string, f snapshot.Filter) (*snapshot.Snapshot, error) {
	if spec != "latest" {
		id, err := r.Resolve(ctx, backend.Snapshot, spec)
		if err != nil {
			return nil, err
		}
		return r.LoadSnapshot(ctx, id)
	}
	sns, err := r.Snapshots(ctx)
	if err != nil {
		advice := "name one by its ID (`vitrine snapshots`)"
		if errors.Is(err, ErrCorrupt) { // others may be sound, and only out of reach
			advice += ", or remove what is damaged with `vitrine forget ID`"
		}
		return nil, Advised(fmt.Errorf("which snapshot is the latest is not known: %w; %s", err, advice))
	}
	for _, sn := range slices.Backward(sns) {
		if f.Match(sn) {
			return sn, nil
		}
	}
	return nil, fmt.Errorf("snapshot %q: %w: no snapshot passes the filter", spec, ErrNoMatch)
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

// undoTime is how long it may take to take back what was half done, also when the context has ended.
const undoTime = 10 * time.Second

// ReplaceSnapshot stores a snapshot, sets its ID, and then removes the one it replaces. When it fails
// at least one of the two is there: the old one alone when the new one could not be stored, and
// possibly both when the old one could not be removed. The caller holds an exclusive lock.
func (r *Repository) ReplaceSnapshot(ctx context.Context, old blob.ID, sn *snapshot.Snapshot) error {
	plain, err := sn.Encode()
	if err != nil {
		return err
	}
	id, err := r.SaveFile(ctx, backend.Snapshot, plain)
	if err != nil {
		// It may be there all the same.
		return errors.Join(err, r.undoSave(ctx, backend.Snapshot, id))
	}
	sn.ID = id
	if err := r.RemoveFile(ctx, backend.Snapshot, old); err != nil && !errors.Is(err, backend.ErrNotExist) {
		return fmt.Errorf("snapshot %s is stored, but %s, which it replaces, is still there: %w", id.Short(), old.Short(), err)
	}
	return nil
}

// undoSave removes a file whose Save failed, in case it is there; the zero ID is that of one that was not begun. It does not
// need the lock, which may be what failed: nobody relies on the file yet.
func (r *Repository) undoSave(ctx context.Context, kind backend.Kind, id blob.ID) error {
	if id == (blob.ID{}) {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	err := r.be.Remove(ctx, backend.File{Kind: kind, Name: id.String()})
	if err != nil && !errors.Is(err, backend.ErrNotExist) {
		return fmt.Errorf("a new file may be there, and cannot be removed: %w", err)
	}
	return nil
}
