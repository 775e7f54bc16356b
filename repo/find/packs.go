package find

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// InPacks returns the data blobs and trees in packs, which are named by their IDs or beginnings of IDs. The header of a pack says what
// is in it, or else, where that is lost, the index files. A pack that neither knows is an error of class repo.ErrNoMatch.
func InPacks(ctx context.Context, r *repo.Repository, args []string) (blobs, trees IDs, err error) {
	wanted, err := ParseIDs(args)
	if err != nil {
		return blobs, trees, err
	}
	add := func(h blob.Handle) {
		if h.Type == blob.Tree {
			trees.Add(h.ID)
		} else {
			blobs.Add(h.ID)
		}
	}
	infos, err := r.ListFiles(ctx, backend.Pack)
	if err != nil {
		return blobs, trees, err
	}
	read := make(map[blob.ID]bool) // packs whose content is known
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil || !wanted.Has(id) {
			continue
		}
		entries, err := r.ListPack(ctx, id, info.SizeBytes)
		if err != nil && !repo.IsLost(err) {
			return blobs, trees, err
		}
		for i := range entries {
			add(entries[i].Handle)
		}
		if err == nil {
			read[id] = true
		}
	}
	missing := slices.DeleteFunc(slices.Clone(args), func(arg string) bool { return begins(read, arg) })
	if len(missing) == 0 {
		return blobs, trees, nil
	}
	listed, err := inIndex(ctx, r, wanted, add)
	if err != nil {
		return blobs, trees, err
	}
	missing = slices.DeleteFunc(missing, func(arg string) bool { return begins(listed, arg) })
	if len(missing) > 0 {
		return blobs, trees, fmt.Errorf("find pack %s: %w", strings.Join(missing, ", "), repo.ErrNoMatch)
	}
	return blobs, trees, nil
}

// inIndex calls add for what the index files list in the packs that are wanted, and returns these packs.
func inIndex(ctx context.Context, r *repo.Repository, wanted IDs, add func(blob.Handle)) (map[blob.ID]bool, error) {
	listed := make(map[blob.ID]bool)
	infos, err := r.IndexFiles(ctx)
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return nil, err
		}
		err = r.LoadIndexFile(ctx, id, func(e blob.Entry) error {
			if wanted.Has(e.Pack) {
				listed[e.Pack] = true
				add(e.Handle)
			}
			return nil
		})
		if err != nil && !errors.Is(err, backend.ErrNotExist) { // gone since it was listed
			return nil, err
		}
	}
	return listed, nil
}

// begins reports whether one of the IDs begins as arg says.
func begins(ids map[blob.ID]bool, arg string) bool {
	for id := range ids {
		if strings.HasPrefix(id.String(), strings.ToLower(arg)) {
			return true
		}
	}
	return false
}
