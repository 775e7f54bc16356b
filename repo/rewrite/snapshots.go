package rewrite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// Options say what becomes of snapshots, beside their trees.
type Options struct {
	// Forget removes each snapshot that has been replaced.
	Forget bool
	// RemoveEmpty removes each snapshot of which nothing is left; without it they stay.
	RemoveEmpty bool
	// Tag is given to new snapshots, unless Forget: it tells them from the old ones.
	Tag string
	// Host replaces the name of the host, and Time the time; "" and zero leave them.
	Host string
	Time time.Time
	// Summary notes the number of files and their size in each snapshot where that is missing or wrong. It is kept right in
	// snapshots whose tree changes anyway.
	Summary bool
	// DryRun changes nothing.
	DryRun bool
}

// Change is what becomes of a snapshot.
type Change struct {
	Old *snapshot.Snapshot
	New *snapshot.Snapshot // without an ID in a dry run; nil when nothing is left of the old one
}

// Result is what Snapshots has done. It is also valid, as far as it goes, beside an error.
type Result struct {
	Changed   int
	Unchanged int
	Empty     int // of which nothing is left, and which stay for lack of RemoveEmpty
}

// Reporter is told what happens, by one goroutine.
type Reporter interface {
	// Snapshot begins with a snapshot.
	Snapshot(sn *snapshot.Snapshot)
	// Trees tells how many trees have been looked at.
	Trees(done int)
	// Changed tells of a snapshot that has been replaced, or would be, or of which nothing is left; removed that the
	// old one is gone.
	Changed(c Change, removed bool)
}

// Snapshots replaces those of the snapshots that differ when they are rewritten. With rules nil their trees stay. When a tree
// cannot be read no snapshot is replaced. The caller holds a lock, an exclusive one when snapshots may be removed; a dry
// run needs none.
func Snapshots[S any](ctx context.Context, r *repo.Repository, list []*snapshot.Snapshot, rules *Rules[S], o Options, rep Reporter) (Result, error) {
	var res Result
	changes := make([]Change, 0, len(list))
	work := func(ctx context.Context, save Save) error {
		trees := 0
		var t *Trees[S]
		if rules != nil {
			t = NewTrees(r, rules, func() { trees++; rep.Trees(trees) })
		}
		for _, sn := range list {
			rep.Snapshot(sn)
			out := Outcome{Tree: sn.Tree}
			if t != nil {
				var err error
				if out, err = t.Rewrite(ctx, *sn.Tree, save); err != nil {
					return fmt.Errorf("snapshot %s: %w", sn.ID.Short(), err)
				}
			}
			changes = append(changes, Change{sn, o.rewritten(sn, out, rules != nil)})
		}
		return nil
	}
	if err := store(ctx, r, rules != nil, o.DryRun, work); err != nil {
		return res, err
	}
	for _, c := range changes {
		if c.New == c.Old {
			res.Unchanged++
			continue
		}
		remove := o.Forget
		if c.New == nil {
			if remove = o.RemoveEmpty; !remove {
				res.Empty++
				rep.Changed(c, false)
				continue
			}
		}
		if !o.DryRun {
			if err := replace(ctx, r, c, remove); err != nil {
				return res, err
			}
		}
		res.Changed++
		rep.Changed(c, remove)
	}
	return res, nil
}

// store runs work with what stores the trees.
func store(ctx context.Context, r *repo.Repository, trees, dryRun bool, work func(context.Context, Save) error) error {
	if trees && !dryRun {
		return r.Write(ctx, func(ctx context.Context, w *repo.Writer) error {
			return work(ctx, func(ctx context.Context, plain []byte) (blob.ID, error) {
				saved, err := w.SaveBlob(ctx, blob.Tree, plain)
				return saved.ID, err
			})
		})
	}
	if trees {
		if err := r.RefreshIndex(ctx); err != nil {
			return fmt.Errorf("refresh index: %w", err)
		}
	}
	return work(ctx, func(_ context.Context, plain []byte) (blob.ID, error) { return blob.Hash(plain), nil })
}

// rewritten returns what becomes of a snapshot: itself when nothing of it changes, nil when nothing is left. counted says
// that files were counted.
func (o *Options) rewritten(sn *snapshot.Snapshot, out Outcome, counted bool) *snapshot.Snapshot {
	if out.Tree == nil {
		return nil
	}
	c := *sn
	c.Tree = out.Tree
	changed := *out.Tree != *sn.Tree
	if counted && (o.Summary || changed && sn.Summary != nil) {
		sum := snapshot.Summary{}
		if sn.Summary != nil {
			sum = *sn.Summary
		}
		sum.TotalFilesProcessed, sum.TotalBytesProcessed = out.Files, out.Bytes
		changed = changed || sn.Summary == nil || sum != *sn.Summary
		c.Summary = &sum
	}
	if o.Host != "" {
		c.Hostname, changed = o.Host, true
	}
	if !o.Time.IsZero() {
		c.Time, changed = o.Time, true
	}
	if !changed {
		return sn
	}
	if !o.Forget && o.Tag != "" && !slices.Contains(c.Tags, o.Tag) {
		c.Tags = append(slices.Clone(c.Tags), o.Tag)
	}
	old := sn.ID
	c.Original, c.ID = &old, blob.ID{}
	return &c
}

// replace makes the change in the repository. At least one of the two snapshots is there whatever happens, unless nothing
// is left of the old one.
func replace(ctx context.Context, r *repo.Repository, c Change, remove bool) (err error) {
	switch {
	case c.New != nil && remove:
		err = r.ReplaceSnapshot(ctx, c.Old.ID, c.New)
	case c.New != nil:
		_, err = r.SaveSnapshot(ctx, c.New)
	case remove:
		if err = r.RemoveFile(ctx, backend.Snapshot, c.Old.ID); errors.Is(err, backend.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		return fmt.Errorf("rewrite snapshot %s: %w", c.Old.ID.Short(), err)
	}
	return nil
}
