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

// passOver tells once of an index file that is not what its name promises.
func (a *app) passOver(id blob.ID, err error) {
	if !a.unfinished.note(id) {
		return
	}
	say := a.print.Logger().Warn
	if a.unfinished.mends {
		say = a.print.Logger().Info
	}
	say("an index file is passed over, which is being stored just now, was not stored whole or is damaged; if it stays so, "+
		"`vitrine repair index` makes a new index from the packs", "error", err)
}

// mend makes known what a backup of this host stored that was killed, and replaces index files that were passed over and are
// still not what their names promise: a store that writes in place keeps the half of one when a client is killed. That it fails
// costs time or space, so only the end of ctx is an error.
func (a *app) mend(ctx context.Context, r *repo.Repository, l *lock.Lock) error {
	passed := a.unfinished.list()
	if !l.Dead() && len(passed) == 0 {
		return nil
	}
	if err := l.Settled(ctx); err != nil {
		return err
	}
	var err error
	if l.Dead() {
		if err = a.adopt(ctx, r, "an earlier run was cut off; %d packs (%s) that it stored are used"); err == nil {
			err = l.RemoveDead(ctx)
		}
	}
	if err != nil && ctx.Err() == nil {
		a.print.Logger().Warn("what an earlier run stored may be stored again", "error", err)
	}
	if err == nil && len(passed) > 0 {
		if err := a.replaceIndexFiles(ctx, r, l, passed); err != nil && ctx.Err() == nil {
			a.print.Logger().Warn("an index file that is damaged or was not stored whole stays; `vitrine repair index` makes a new index from the packs", "error", err)
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return nil
}

// adopt makes packs known that are in no index.
func (a *app) adopt(ctx context.Context, r *repo.Repository, found string) error {
	adopted, err := r.Adopt(ctx)
	if adopted.Packs > 0 {
		a.print.Line(found, adopted.Packs, progress.Bytes(uint64(adopted.Bytes)))
	}
	return err
}

// replaceIndexFiles lists in new index files what was in those that were passed over, and removes them. While another client is at
// work, one of them may be on its way.
func (a *app) replaceIndexFiles(ctx context.Context, r *repo.Repository, l *lock.Lock, passed []blob.ID) error {
	files, err := r.Unfinished(ctx, passed)
	if err != nil || len(files) == 0 {
		return err
	}
	alone, err := l.Alone(ctx)
	if err != nil {
		return err
	}
	if !alone {
		a.print.Logger().Warn("an index file is passed over: another client is storing it, or it was not stored whole or is damaged. If it stays so when "+
			"no other is at work (`vitrine unlock` removes the locks of those that have ended), the next backup replaces it", "index", files[0].Short())
		return nil
	}
	if err := a.adopt(ctx, r, "%d packs (%s) that no index file describes are in a new one"); err != nil {
		return err
	}
	removed, err := r.RemoveUnfinished(ctx, files)
	if l.Dead() && len(removed) > 0 {
		a.print.Line("removed %s that was not stored whole", progress.Count(len(removed), "index file"))
		return err
	}
	for _, id := range removed {
		a.print.Logger().Warn("an index file is removed that was not stored whole or is damaged; what it described is in another one", "index", id.Short())
	}
	return err
}
