package cli

import (
	"context"
	"slices"
	"sync"

	"vitrine/cmd/internal/progress"
	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/lock"
)

// unfinished are the index files that a command has passed over.
type unfinished struct {
	mends bool // the command tries to make good what is wrong with them

	mu  sync.Mutex // guards ids
	ids []blob.ID
}

// note adds a file and reports whether it is new.
func (u *unfinished) note(id blob.ID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if slices.Contains(u.ids, id) {
		return false
	}
	u.ids = append(u.ids, id)
	return true
}

func (u *unfinished) list() []blob.ID {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.ids)
}

// unfinishedAdvice is said of index files that stay as they are.
const unfinishedAdvice = "an index file is passed over, which is being stored just now, was not stored whole or is damaged; " +
	"if it stays so, `vitrine repair index` makes a new index from the packs"

// passOver tells once of an index file that is not what its name promises.
func (a *app) passOver(id blob.ID, err error) {
	if !a.unfinished.note(id) {
		return
	}
	say := a.print.Logger().Warn
	if a.unfinished.mends {
		say = a.print.Logger().Info
	}
	say(unfinishedAdvice, "error", err)
}

// adopt makes known what a backup of this host stored that was killed, and removes the halves of index files that it left in
// a store that writes in place. That it fails costs time, so only the end of ctx is an error.
func (a *app) adopt(ctx context.Context, r *repo.Repository, l *lock.Lock) error {
	files := a.unfinished.list()
	if !l.Dead() && len(files) == 0 {
		return nil
	}
	if err := l.Settled(ctx); err != nil {
		return err
	}
	found, err := r.Adopt(ctx)
	if found.Packs > 0 {
		a.print.Line("an earlier run was cut off; %d packs (%s) that it stored are used", found.Packs, progress.Bytes(uint64(found.Bytes)))
	}
	if err == nil {
		err = l.RemoveDead(ctx)
	}
	if err != nil && ctx.Err() == nil {
		a.print.Logger().Warn("what an earlier run stored may be stored again", "error", err)
	}
	if err == nil && len(files) > 0 {
		a.removeUnfinished(ctx, r, l, files)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// removeUnfinished removes index files that were passed over, once their packs are in others. While another client is at
// work, one of them may be on its way.
func (a *app) removeUnfinished(ctx context.Context, r *repo.Repository, l *lock.Lock, files []blob.ID) {
	alone, err := l.Alone(ctx)
	removed := 0
	if alone {
		removed, err = r.RemoveUnfinished(ctx, files)
	}
	if removed > 0 {
		a.print.Line("removed %s that was not stored whole", progress.Count(removed, "index file"))
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		a.print.Logger().Warn(unfinishedAdvice, "error", err)
	case !alone:
		a.print.Logger().Warn(unfinishedAdvice, "index", files[0].Short())
	}
}
