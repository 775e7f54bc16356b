package prune

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"slices"

	"golang.org/x/sync/errgroup"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/blobtable"
)

const (
	// indexEntries is how many entries an index file gets.
	indexEntries = 50_000
	// groupEntries bounds the entries that are sorted by pack at a time: some 30 MB.
	groupEntries = 250_000
	// removes is how many files are removed at a time.
	removes = 8
)

// Execute does what the plan says, under the exclusive lock under which the plan was made. See the package comment
// for the order. An error of class ErrChanged says that somebody has written meanwhile: plan again.
func (p *Plan) Execute(ctx context.Context, rep Reporter) error {
	if len(p.o.Ignore) > 0 {
		return errors.New("prune: snapshots that are still there were ignored in this plan")
	}
	progress := &report{to: rep}
	if err := p.lookForOthers(ctx, true); err != nil {
		return err
	}
	if err := p.mayRemove(ctx); err != nil {
		return err
	}
	if err := p.remove(ctx, progress, RemoveUnlisted, backend.Pack, p.unlisted); err != nil {
		return err
	}
	if p.Stats.RewriteIndexFiles == 0 {
		return nil
	}
	if err := p.repack(ctx, progress); err != nil {
		return err
	}
	if !p.o.NoFreeSpace {
		if err := p.writeIndex(ctx, progress); err != nil {
			return err
		}
	}
	if err := p.lookForOthers(ctx, false); err != nil {
		return err
	}
	var oldIndex, oldPacks []blob.ID
	for i := range p.indexFiles {
		if p.indexFiles[i].rewrite {
			oldIndex = append(oldIndex, p.indexFiles[i].id)
		}
	}
	for no, act := range p.actions {
		if act == repack || act == remove {
			oldPacks = append(oldPacks, p.table.Packs()[no].ID)
		}
	}
	if err := p.remove(ctx, progress, RemoveIndex, backend.Index, oldIndex); err != nil {
		return err
	}
	if err := p.remove(ctx, progress, RemovePacks, backend.Pack, oldPacks); err != nil {
		return err
	}
	if p.o.NoFreeSpace {
		return p.writeIndex(ctx, progress)
	}
	return nil
}

// mayRemove returns an error when the store lets nobody remove: then each try would only add to it. It asks for the
// removal of an index file that is not there, since append-only servers look at the kind before they look for the
// file (of locks they take it), and restic's and rclone's do.
func (p *Plan) mayRemove(ctx context.Context) error {
	var nowhere blob.ID
	rand.Read(nowhere[:]) // never fails
	err := p.r.RemoveFile(ctx, backend.Index, nowhere)
	switch {
	case err == nil, errors.Is(err, backend.ErrNotExist):
		return nil
	case errors.Is(err, backend.ErrDenied), errors.Is(err, backend.ErrReadOnly):
		return fmt.Errorf("nothing is changed, since what is not needed cannot be removed: %w", err)
	}
	return err
}

// lookForOthers returns an error when there are snapshots, or index files, that the plan does not know.
func (p *Plan) lookForOthers(ctx context.Context, index bool) error {
	const advice = "nothing more is removed; see that no client works without a lock, and prune again"
	infos, err := p.r.ListFiles(ctx, backend.Snapshot)
	if err != nil {
		return err
	}
	for _, info := range infos {
		if id, err := blob.ParseID(info.Name); err != nil || !p.snapshots[id] {
			return fmt.Errorf("%w: snapshot %.8s is new; %s", ErrChanged, info.Name, advice)
		}
	}
	if !index {
		return nil
	}
	if infos, err = p.r.IndexFiles(ctx); err != nil {
		return err
	}
	known := make(map[string]bool, len(p.indexFiles))
	for i := range p.indexFiles {
		known[p.indexFiles[i].id.String()] = true
	}
	for _, info := range infos {
		if !known[info.Name] {
			return fmt.Errorf("%w: index file %.8s is new; %s", ErrChanged, info.Name, advice)
		}
	}
	return nil
}

// repack writes the needed blobs of packs again.
func (p *Plan) repack(ctx context.Context, rep *report) error {
	if p.Stats.RepackPacks == 0 {
		return nil
	}
	rep.begin(Repack, p.Stats.Repack.Bytes-p.Stats.RepackGone.Bytes)
	packs := p.entries(p.packsFor(func(no uint32) bool { return p.actions[no] == repack }), func(copies []blobtable.Entry, i, first int) bool {
		// A copy in a pack that stays makes another one needless.
		return p.kept.Has(first+i) && !slices.ContainsFunc(copies, func(e blobtable.Entry) bool { return p.actions[e.Pack] == keep })
	})
	_, err := p.r.Repack(ctx, packs, repo.RepackOptions{
		Frame: p.o.Uncompressed,
		Copies: func(h blob.Handle) []blob.Location {
			copies, _ := p.table.Lookup(h)
			locs := make([]blob.Location, len(copies))
			for i := range copies {
				locs[i] = p.table.Location(&copies[i])
			}
			return locs
		},
		Done: func(_ int, sealedBytes int64) { rep.advance(sealedBytes) },
	})
	if err != nil && repo.IsLost(err) && ctx.Err() == nil {
		err = repo.Advised(fmt.Errorf("%w: no copy is left of what a snapshot needs; no old pack is removed: %w; see `vitrine check --read-data`", ErrDamaged, err))
	}
	return err
}

// packsFor returns the numbers of packs, in the order of their names.
func (p *Plan) packsFor(wanted func(no uint32) bool) []uint32 {
	var numbers []uint32
	all := p.table.Packs()
	for i := range all {
		if wanted(uint32(i)) {
			numbers = append(numbers, uint32(i))
		}
	}
	slices.SortFunc(numbers, func(a, b uint32) int { return all[a].ID.Compare(all[b].ID) })
	return numbers
}

// entries gives the wanted entries of each of the packs, by offset. The table is sorted by blob, so it is gone through
// once for each group of packs.
func (p *Plan) entries(packs []uint32, wanted func(copies []blobtable.Entry, i, first int) bool) iter.Seq[[]blob.Entry] {
	all := p.table.Packs()
	place := make([]int32, len(all)) // in the group, from 1
	return func(yield func([]blob.Entry) bool) {
		for len(packs) > 0 {
			n, sum := 0, 0
			for n < len(packs) && (n == 0 || sum+all[packs[n]].Blobs <= groupEntries) {
				sum += all[packs[n]].Blobs
				n++
				place[packs[n-1]] = int32(n)
			}
			lists := make([][]blob.Entry, n)
			p.table.Blobs(func(h blob.Handle, copies []blobtable.Entry, first int) {
				for i := range copies {
					e := &copies[i]
					if at := place[e.Pack]; at > 0 && wanted(copies, i, first) {
						lists[at-1] = append(lists[at-1], blob.Entry{Handle: h, Location: p.table.Location(e)})
					}
				}
			})
			for i, list := range lists {
				place[packs[i]] = 0
				if len(list) == 0 {
					continue
				}
				slices.SortFunc(list, func(a, b blob.Entry) int { return cmp.Compare(a.OffsetBytes, b.OffsetBytes) })
				if !yield(list) {
					return
				}
			}
			packs = packs[n:]
		}
	}
}

// writeIndex lists the packs that stay and are in index files which go.
func (p *Plan) writeIndex(ctx context.Context, rep *report) error {
	listed := make([]bool, len(p.actions))
	for i := range p.indexFiles {
		if f := &p.indexFiles[i]; f.rewrite {
			for _, no := range f.packs {
				listed[no] = p.actions[no] == keep
			}
		}
	}
	packs := p.packsFor(func(no uint32) bool { return listed[no] })
	rep.begin(WriteIndex, int64(len(packs)))
	var due []blob.Entry
	flush := func() error {
		if len(due) == 0 {
			return nil
		}
		_, err := p.r.SaveIndex(ctx, due)
		due = due[:0]
		return err
	}
	for entries := range p.entries(packs, func([]blobtable.Entry, int, int) bool { return true }) {
		due = append(due, entries...)
		rep.advance(1)
		if len(due) >= indexEntries {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}

// remove removes files; one that is gone already is no error.
func (p *Plan) remove(ctx context.Context, rep *report, phase Phase, kind backend.Kind, ids []blob.ID) error {
	if len(ids) == 0 {
		return nil
	}
	rep.begin(phase, int64(len(ids)))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(removes)
	for _, id := range ids {
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := p.r.RemoveFile(ctx, kind, id)
			if errors.Is(err, backend.ErrNotExist) {
				err = nil
			}
			rep.advance(1)
			return err
		})
	}
	return group.Wait()
}
