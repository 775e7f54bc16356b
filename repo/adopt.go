package repo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/internal/indexfile"
)

const (
	// adoptReads is how many headers are read at a time.
	adoptReads = 8
	// adoptPacks is after how many headers index files are written if they are due; it bounds the entries in
	// memory: some 5 MB each time of source trees, 20 MB of files of 4 KiB.
	adoptPacks = 64
)

// Adopted is what Adopt found.
type Adopted struct {
	Packs, Blobs int   // now listed
	Bytes        int64 // of these packs
	Unreadable   int   // packs left as they are
}

// Adopt lists packs that no index file lists in new index files, so that their blobs are known: what
// a client stored that was killed. Their headers are authentic and agree with the sizes of the files, or they
// are left alone and counted; a warning tells of them. Packs that another client is about to list
// are listed twice then, which does no harm. The caller holds a lock that keeps others
// from removing packs.
//
// It costs a listing of all packs and one or two requests for each that is adopted. It may be interrupted
// at any point.
func (r *Repository) Adopt(ctx context.Context) (Adopted, error) {
	var a Adopted
	unlisted, err := r.unlistedPacks(ctx)
	if err != nil {
		return a, fmt.Errorf("look for packs without an index: %w", err)
	}
	var due []indexfile.Pack
	blobs := 0
	flush := func() error {
		if len(due) == 0 {
			return nil
		}
		if _, err := r.SaveFile(ctx, backend.Index, indexfile.Append(nil, due)); err != nil {
			return fmt.Errorf("write index: %w", err)
		}
		a.Packs += len(due)
		a.Blobs += blobs
		due, blobs = nil, 0
		return nil
	}
	for part := range slices.Chunk(unlisted, adoptPacks) {
		packs, err := r.readHeaders(ctx, part, &a)
		if err != nil {
			return a, err
		}
		for i := range packs {
			blobs += len(packs[i].Blobs)
		}
		if due = append(due, packs...); blobs >= indexBlobs {
			if err := flush(); err != nil {
				return a, err
			}
		}
	}
	return a, flush()
}

// Unfinished returns those of the index files that are not what their names promise.
func (r *Repository) Unfinished(ctx context.Context, files []blob.ID) (unfinished []blob.ID, err error) {
	for _, id := range files {
		switch _, err := r.ReadFile(ctx, backend.Index, id); {
		case errors.Is(err, ErrNotAsNamed):
			unfinished = append(unfinished, id)
		case err != nil && !errors.Is(err, backend.ErrNotExist):
			return unfinished, err
		}
	}
	return unfinished, nil
}

// RemoveUnfinished removes those of the index files that are not what their names promise, and returns them. Adopt comes first, so
// that nothing is lost by it. The caller knows that these files were there before a moment in which no other client was at work:
// else one might be storing them just now.
func (r *Repository) RemoveUnfinished(ctx context.Context, files []blob.ID) (removed []blob.ID, err error) {
	unfinished, err := r.Unfinished(ctx, files) // again: one may have been finished before that moment
	if err != nil {
		return nil, err
	}
	for _, id := range unfinished {
		if err := r.RemoveFile(ctx, backend.Index, id); err != nil && !errors.Is(err, backend.ErrNotExist) {
			return removed, fmt.Errorf("remove index/%s, which was not stored whole or is damaged: %w", id.Short(), err)
		}
		removed = append(removed, id)
	}
	return removed, nil
}

// unlistedPacks returns the packs that are in the repository and in no index file.
func (r *Repository) unlistedPacks(ctx context.Context) ([]backend.Info, error) {
	// Whoever lists a pack between the two steps has it listed twice.
	if err := r.index.Refresh(ctx); err != nil {
		return nil, err
	}
	listed := make(map[blob.ID]struct{})
	if err := r.index.Packs(func(id blob.ID) { listed[id] = struct{}{} }); err != nil {
		return nil, err
	}
	infos, err := r.ListFiles(ctx, backend.Pack)
	return slices.DeleteFunc(infos, func(info backend.Info) bool {
		id, err := blob.ParseID(info.Name)
		_, known := listed[id]
		return err != nil || known
	}), err
}

// readHeaders reads the headers of packs, counts their bytes and those that cannot be read.
func (r *Repository) readHeaders(ctx context.Context, infos []backend.Info, a *Adopted) ([]indexfile.Pack, error) {
	var mu sync.Mutex // guards packs and a
	var packs []indexfile.Pack
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(adoptReads)
	for _, info := range infos {
		group.Go(func() error {
			id, err := blob.ParseID(info.Name)
			if err != nil {
				return err
			}
			entries, err := r.ListPack(ctx, id, info.SizeBytes)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case errors.Is(err, ErrCorrupt):
				if a.Unreadable++; a.Unreadable == 1 {
					r.log.Warn("a pack that was not stored whole (an interrupted upload) is left as it is; prune removes it", "pack", id.Short())
				}
				r.log.Info("a pack that no index lists cannot be read", "error", err)
				return nil
			case err != nil:
				return err
			}
			packs = append(packs, indexfile.Pack{ID: id, Blobs: entries})
			a.Bytes += info.SizeBytes
			return nil
		})
	}
	err := group.Wait()
	return packs, err
}
