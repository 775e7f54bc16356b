package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/repair"
	"vitrine/repo/rewrite"
	"vitrine/repo/snapshot"
)

// rewriteOptions are the flags of rewrite.
type rewriteOptions struct {
	filterFlags
	patternFlags
	forget  bool
	dryRun  bool
	newHost string
	newTime string
	summary bool
}

func newRewrite(a *app) *cobra.Command {
	var o rewriteOptions
	cmd := &cobra.Command{
		Use:   "rewrite [flags] [snapshotID ...]",
		Short: "Leave files out of snapshots, or change their host or time",
		Long: `Makes new snapshots of those that are chosen: without the files that --exclude matches, or with nothing
but what --include matches, of another host or time. These are all snapshots, those that the
filters let through, or those whose IDs (or "latest") are given. A snapshot that would be the same stays.

New snapshots get the tag "rewrite"; with --forget the old ones are removed instead. The space of
what is not needed any more comes back with prune.`,
		Example: `  vitrine rewrite --exclude secret.txt --dry-run -vv
  vitrine rewrite --exclude /home/anna/Videos --forget --host anna
  vitrine rewrite --new-host db1 --new-time '2012-11-01 22:08:41' 40dc1520`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runRewrite(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	o.filterFlags.register(f, "")
	o.patternFlags.register(f)
	f.BoolVar(&o.forget, "forget", false, "remove the old snapshots when the new ones are saved")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "change nothing, only tell what would be done; with -vv each file")
	f.StringVar(&o.newHost, "new-host", "", "the `hostname` of the new snapshots")
	f.StringVar(&o.newTime, "new-time", "", "the `time` of the new snapshots, as in '2012-11-01 22:08:41'")
	f.BoolVarP(&o.summary, "snapshot-summary", "s", false, "note the number of files and their size in snapshots where that is missing or wrong")
	return cmd
}

func (a *app) runRewrite(ctx context.Context, o rewriteOptions, ids []string) error {
	const command = "vitrine rewrite"
	selection, err := o.selection(func(name string) string { value, _ := a.env(name); return value })
	if err != nil {
		return usagef(command, "%w", err)
	}
	ro := rewrite.Options{Forget: o.forget, Tag: "rewrite", Host: o.newHost, Summary: o.summary, DryRun: o.dryRun}
	if o.newTime != "" {
		if ro.Time, err = time.ParseInLocation(timeFormat, o.newTime, time.Local); err != nil {
			return usagef(command, "--new-time %q: write it as '2012-11-01 22:08:41'", o.newTime)
		}
	}
	show := progress.NewRewrite(a.print, ro)
	var rules *rewrite.Rules[rewrite.Place]
	switch {
	case len(selection.Include) > 0:
		rules = rewrite.Including(selection.Include, show.Kept)
	case len(selection.Exclude) > 0:
		rules = rewrite.Excluding(selection.Exclude, show.Dropped)
	case o.summary:
		rules = rewrite.Counting()
	case o.newHost == "" && o.newTime == "":
		return usagef(command, "nothing to do: say what to exclude or include, or a new host or time")
	}
	return a.changeSnapshots(ctx, wiring.CachedIndex, snapshotsChange{
		ids: ids, filter: o.filter(), dryRun: o.dryRun, exclusive: o.forget, show: show,
		run: func(ctx context.Context, r *repo.Repository, list []*snapshot.Snapshot) (rewrite.Result, error) {
			res, err := rewrite.Snapshots(ctx, r, list, rules, ro, show)
			if err != nil {
				err = fmt.Errorf("rewrite: %w", err)
			}
			return res, err
		},
	})
}

func newRepairSnapshots(a *app) *cobra.Command {
	var o struct {
		filterFlags
		forget, dryRun bool
	}
	cmd := &cobra.Command{
		Use:   "snapshots [flags] [snapshotID ...]",
		Short: "Take what is lost out of snapshots",
		Long: `Makes new snapshots of those that are damaged, without what is lost: the parts of files that no index
knows, and what was in directories that cannot be read. Run repair index first: the index is believed. If
what is lost is still on the disk of its host, make a new backup instead; it brings back what old
snapshots lack, too.

New snapshots get the tag "repaired"; with --forget the damaged ones are removed instead.`,
		Example: `  vitrine repair snapshots --dry-run
  vitrine repair snapshots --forget
  vitrine repair snapshots 40dc1520`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			ro := rewrite.Options{Forget: o.forget, DryRun: o.dryRun}
			show := progress.NewRewrite(a.print, ro)
			a.ownFiles = true
			return a.changeSnapshots(cmd.Context(), wiring.MemoryIndex, snapshotsChange{
				ids: ids, filter: o.filter(), dryRun: o.dryRun, exclusive: true, show: show,
				run: func(ctx context.Context, r *repo.Repository, list []*snapshot.Snapshot) (rewrite.Result, error) {
					res, err := repair.Snapshots(ctx, r, list, o.forget, o.dryRun, show)
					if err != nil {
						err = fmt.Errorf("repair snapshots: %w", err)
					}
					if res.Empty > 0 {
						a.print.Warn(progress.Warning+"nothing is left of %s; --forget removes such", progress.Count(res.Empty, "snapshot"))
					}
					return res, err
				},
			})
		},
	}
	f := cmd.Flags()
	o.register(f, "")
	f.BoolVar(&o.forget, "forget", false, "remove the damaged snapshots when the new ones are saved")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "change nothing, only tell what would be done")
	return cmd
}

// snapshotsChange is a command that replaces snapshots.
type snapshotsChange struct {
	ids       []string
	filter    snapshot.Filter
	dryRun    bool
	exclusive bool
	show      *progress.Rewrite
	run       func(ctx context.Context, r *repo.Repository, list []*snapshot.Snapshot) (rewrite.Result, error)
}

// changeSnapshots runs c on the snapshots that it is about. Those that cannot be read are an error at the end.
func (a *app) changeSnapshots(ctx context.Context, index wiring.IndexUse, c snapshotsChange) error {
	r, err := a.openRepository(ctx, index)
	if err != nil {
		return err
	}
	defer r.Close()
	lock := a.withLock
	if c.dryRun {
		lock = withoutLock
	}
	return lock(ctx, r, c.exclusive, func(ctx context.Context) error {
		list, damaged := a.selectSnapshots(ctx, r, c.ids, c.filter)
		if len(list) == 0 && damaged != nil {
			return damaged
		}
		defer c.show.End()
		res, err := c.run(ctx, r, list)
		if err != nil {
			return errors.Join(err, damaged)
		}
		c.show.Finish(res)
		return damaged
	})
}
