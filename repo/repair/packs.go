package repair

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// maxPackBytes is beyond what the offsets of a pack can address.
const maxPackBytes = 1 << 32

// PacksResult is what Packs has done.
type PacksResult struct {
	SavedBlobs, LostBlobs int
}

// packsRun takes packs out of a repository.
type packsRun struct {
	r        *repo.Repository
	progress *report
	res      PacksResult
	given    map[blob.ID]bool
	listed   map[blob.ID][]blob.Entry             // what index files say of the given packs
	others   map[blob.Handle][]blob.Location      // copies of blobs, in packs that were not given
	rewrite  map[blob.ID]map[blob.ID][]blob.Entry // what stays of each index file that lists given packs
}

// Packs takes packs that are damaged out of the repository: blobs that can be read are written to new packs, then no
// index file lists the old ones any more, then they are removed. Before that keepCopy gets the bytes of each that is
// there; an error of it ends the work, and nothing was changed. A blob that cannot be read in the pack is looked for in others; those of which
// nothing is left are told to rep and counted. The caller holds an exclusive lock.
func Packs(ctx context.Context, r *repo.Repository, ids []blob.ID, keepCopy func(id blob.ID, content []byte) error, rep Reporter) (PacksResult, error) {
	x := &packsRun{r: r, progress: &report{to: rep}, given: map[blob.ID]bool{}, listed: map[blob.ID][]blob.Entry{},
		others: map[blob.Handle][]blob.Location{}, rewrite: map[blob.ID]map[blob.ID][]blob.Entry{}}
	for _, id := range ids {
		x.given[id] = true
	}
	err := x.run(ctx, keepCopy)
	return x.res, err
}

func (x *packsRun) run(ctx context.Context, keepCopy func(id blob.ID, content []byte) error) error {
	if err := x.readIndex(ctx); err != nil {
		return err
	}
	packs, there, err := x.readPacks(ctx, keepCopy)
	if err != nil {
		return err
	}
	_, err = x.r.Repack(ctx, slices.Values(packs), repo.RepackOptions{
		Copies: func(h blob.Handle) []blob.Location { return x.others[h] },
		Lost: func(e blob.Entry, err error) error {
			x.res.LostBlobs++
			x.progress.problem("%v is lost: %w", e.Handle, err)
			return nil
		},
	})
	if err != nil {
		return err
	}
	for _, entries := range packs {
		x.res.SavedBlobs += len(entries)
	}
	x.res.SavedBlobs -= x.res.LostBlobs
	var old []blob.ID
	for id, left := range x.rewrite {
		if err := writeIndex(ctx, x.r, x.progress, left); err != nil {
			return err
		}
		old = append(old, id)
	}
	if err := removeFiles(ctx, x.r, x.progress, RemoveIndex, backend.Index, old); err != nil {
		return err
	}
	return removeFiles(ctx, x.r, x.progress, RemovePacks, backend.Pack, there)
}

// readIndex finds the given packs in the index, and other copies of their blobs.
func (x *packsRun) readIndex(ctx context.Context) error {
	infos, err := x.r.IndexFiles(ctx)
	if err != nil {
		return err
	}
	x.progress.begin(ReadIndex, len(infos))
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return err
		}
		left, lists := map[blob.ID][]blob.Entry{}, false
		err = x.r.LoadIndexFile(ctx, id, func(e blob.Entry) error {
			if x.given[e.Pack] {
				lists = true
				x.listed[e.Pack] = append(x.listed[e.Pack], e)
				return nil
			}
			left[e.Pack] = append(left[e.Pack], e)
			x.others[e.Handle] = append(x.others[e.Handle], e.Location)
			return nil
		})
		if err != nil {
			return repo.Advised(fmt.Errorf("%w; `vitrine repair index` has to come first", err))
		}
		if lists {
			x.rewrite[id] = left
		}
		x.progress.advance()
	}
	return nil
}

// readPacks keeps copies of the packs and returns the blobs to save, each once, and the packs that are there.
func (x *packsRun) readPacks(ctx context.Context, keepCopy func(id blob.ID, content []byte) error) (packs [][]blob.Entry, there []blob.ID, err error) {
	x.progress.begin(Salvage, len(x.given))
	seen := map[blob.Handle]bool{}
	for id := range x.given {
		entries := tidy(x.listed[id])
		content, err := x.r.Backend().ReadAll(ctx, backend.File{Kind: backend.Pack, Name: id.String()}, maxPackBytes)
		switch {
		case errors.Is(err, backend.ErrNotExist) && len(entries) > 0:
			x.progress.problem("pack %s is missing", id.Short())
		case err != nil:
			return nil, nil, err
		default:
			there = append(there, id)
			if err := keepCopy(id, content); err != nil {
				return nil, nil, err
			}
			// The header is sealed, so it is right when it can be read.
			if header, err := x.r.ListPackBytes(ctx, id, content); err == nil {
				entries = header
			} else {
				x.progress.problem("%w", err)
			}
		}
		entries = slices.DeleteFunc(entries, func(e blob.Entry) bool {
			double := seen[e.Handle]
			seen[e.Handle] = true
			return double
		})
		if len(entries) > 0 {
			packs = append(packs, entries)
		}
		x.progress.advance()
	}
	return packs, there, nil
}
