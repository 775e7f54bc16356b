package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/internal/indexfile"
	"vitrine/repo/internal/packfile"
)

// Index answers where a blob is stored. It reflects the index files that were in the
// repository at the last Refresh; entries of index files that are gone since may still be
// answered, so that a reader treats a vanished pack as a reason to Refresh.
type Index interface {
	// Lookup returns one place of the blob. It may be called in parallel, also during
	// Refresh. False means that no index file known lists it.
	Lookup(h blob.Handle) (blob.Location, bool, error)
	// Locations returns all places of the blob, in no particular order, so that one damaged
	// pack does not lose a blob that another one holds, too. It may be called as Lookup may.
	Locations(h blob.Handle) ([]blob.Location, error)
	// Packs calls fn with each pack that an index file known lists, some of them several times. It may
	// be called as Lookup may. When it fails, fn may have been called with some of them.
	Packs(fn func(blob.ID)) error
	// Refresh loads index files that are new and forgets those that are gone. Parallel
	// calls share the work.
	Refresh(ctx context.Context) error
	// Close releases files and memory; no call may follow it.
	Close() error
}

// IndexFiles lists the index files in the repository.
func (r *Repository) IndexFiles(ctx context.Context) ([]backend.Info, error) {
	infos, err := r.ListFiles(ctx, backend.Index)
	if err == nil {
		listed := slices.Clone(infos) // those are the caller's
		r.indexFiles.Store(&listed)
	}
	return infos, err
}

// LoadIndexFile calls fn for each entry of an index file, from one goroutine. An error of
// fn ends it. It may be called in parallel, as often as the way to the store is long; only as many files as there are processors
// are decoded at a time, for their plain text takes 8 MB or more. So fn must not load another one.
func (r *Repository) LoadIndexFile(ctx context.Context, id blob.ID, fn func(blob.Entry) error) error {
	f := backend.File{Kind: backend.Index, Name: id.String()}
	marked, err := r.readMarked(ctx, f, id)
	if err != nil {
		return err
	}
	select {
	case r.decoding <- struct{}{}:
	case <-ctx.Done():
		return fmt.Errorf("%v: %w", f, ctx.Err())
	}
	defer func() { <-r.decoding }()
	plain, err := plainOf(f, marked)
	if err != nil {
		return err
	}
	if err := indexfile.Decode(plain, fn); err != nil {
		if errors.Is(err, indexfile.ErrCorrupt) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return fmt.Errorf("index/%s: %w", id.Short(), err)
	}
	return nil
}

// RefreshIndex makes lookups reflect the index files that are in the repository now.
func (r *Repository) RefreshIndex(ctx context.Context) error { return r.index.Refresh(ctx) }

// LookupBlob returns one place of the blob, as far as the index knows.
func (r *Repository) LookupBlob(h blob.Handle) (blob.Location, bool, error) {
	loc, ok, err := r.index.Lookup(h)
	if err != nil {
		return blob.Location{}, false, fmt.Errorf("look up %v: %w", h, err)
	}
	return loc, ok, nil
}

// ListPack reads the header of a pack of the given size.
func (r *Repository) ListPack(ctx context.Context, id blob.ID, sizeBytes int64) ([]blob.Entry, error) {
	f := backend.File{Kind: backend.Pack, Name: id.String()}
	return r.listPack(ctx, f, id, sizeBytes, func(ctx context.Context, p []byte, offsetBytes int64) error {
		return r.be.ReadAt(ctx, f, p, offsetBytes)
	})
}

// ListPackBytes is ListPack for a pack that the caller has read whole.
func (r *Repository) ListPackBytes(ctx context.Context, id blob.ID, pack []byte) ([]blob.Entry, error) {
	f := backend.File{Kind: backend.Pack, Name: id.String()}
	return r.listPack(ctx, f, id, int64(len(pack)), func(_ context.Context, p []byte, offsetBytes int64) error {
		copy(p, pack[offsetBytes:])
		return nil
	})
}

func (r *Repository) listPack(ctx context.Context, f backend.File, id blob.ID, sizeBytes int64,
	readAt func(ctx context.Context, p []byte, offsetBytes int64) error) ([]blob.Entry, error) {
	entries, err := packfile.List(ctx, readAt, sizeBytes, r.key)
	if err != nil {
		if errors.Is(err, packfile.ErrCorrupt) || errors.Is(err, backend.ErrShort) {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return nil, fmt.Errorf("%v: header: %w", f, err)
	}
	for i := range entries {
		entries[i].Pack = id
	}
	return entries, nil
}
