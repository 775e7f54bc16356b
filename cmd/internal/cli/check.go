package cli

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/check"
	"vitrine/repo/snapshot"
)

// checkOptions are the flags of check.
type checkOptions struct {
	filterFlags
	readData  bool
	subset    string
	withCache bool
	unused    bool
}

func newCheck(a *app) *cobra.Command {
	var o checkOptions
	cmd := &cobra.Command{
		Use:   "check [flags] [snapshotID ...]",
		Short: "Look for damage in the repository",
		Long: `Checks that every snapshot can be read: index and packs fit together, every tree is
sound, and every blob it needs is there. --read-data also reads all data and verifies it.
A check runs beside backups and mounts; it always reads the repository itself, never a cache.
Of the files that need something of one damaged pack the first are named, and all with -v or --json.
What cannot be read because the store does not answer or denies it is named as such, and is no damage.

With filters or the IDs of snapshots (or "latest"), only their trees are checked, and only their data is read.`,
		Example: `  vitrine check
  vitrine check --read-data-subset=2/10
  vitrine check --read-data-subset=5%
  vitrine check --read-data latest`,
		RunE: func(cmd *cobra.Command, ids []string) error { return a.runCheck(cmd.Context(), o, ids) },
	}
	f := cmd.Flags()
	o.register(f, "")
	f.BoolVar(&o.readData, "read-data", false, "read and verify all data")
	f.StringVar(&o.subset, "read-data-subset", "", "read and verify a `subset` of the packs: part n/t, or x%, or a size with suffix k, m, g or t of packs chosen at random")
	f.BoolVar(&o.unused, "check-unused", false, "count the blobs that no snapshot needs")
	f.BoolVar(&o.withCache, "with-cache", false, "accepted for compatibility: caches are never trusted here")
	return cmd
}

func (a *app) runCheck(ctx context.Context, o checkOptions, ids []string) error {
	if o.readData && o.subset != "" {
		return usagef("vitrine check", "--read-data and --read-data-subset exclude each other")
	}
	a.ownFiles = true
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	lock := a.withLock
	if a.global.noLock {
		lock = withoutLock
	}
	err = lock(ctx, r, false, func(ctx context.Context) error {
		co := check.Options{ReadData: o.readData, Subset: o.subset, Unused: o.unused, Each: a.print.JSONMode() || a.print.Verbose() > 0}
		if co.Only, err = a.chosen(ctx, r, o.filter(), ids); err != nil {
			return err
		}
		show := progress.NewCheck(a.print)
		defer boundHeap()()
		res, err := check.Run(ctx, r, co, show)
		show.End()
		if err != nil {
			return fmt.Errorf("check: %w", err)
		}
		show.Finish(res)
		return checkFailed(res)
	})
	return whenFull(err, "`vitrine check --no-lock` needs no room for a lock")
}

// checkFailed returns what a check found as an error.
func checkFailed(res check.Result) error {
	damage := res.Errors - res.Unread
	unread := fmt.Sprintf("%s of it could not be read, named above, and may be sound: check again", progress.Count(res.Unread, "part"))
	named := "named above"
	if res.Untold > 0 {
		named = "the first of them named above (all with -v)"
	}
	contains := fmt.Sprintf("the repository contains %s, %s", progress.Count(damage, "error"), named)
	switch {
	case res.Errors == 0:
		return nil
	case damage == 0:
		return fmt.Errorf("the repository was not checked as a whole: %s", unread)
	case res.Unread == 0:
		return errors.New(contains)
	}
	return fmt.Errorf("%s; %s", contains, unread)
}

// chosen returns which snapshots the filters and IDs choose; nil are all of them.
func (a *app) chosen(ctx context.Context, r *repo.Repository, f snapshot.Filter, ids []string) (func(*snapshot.Snapshot) bool, error) {
	if len(ids) == 0 {
		if len(f.Hosts)+len(f.Tags)+len(f.Paths) == 0 {
			return nil, nil
		}
		return f.Match, nil
	}
	chosen := make(map[blob.ID]bool)
	for _, id := range ids {
		sn, err := findSnapshot(ctx, r, id, f)
		if err != nil {
			return nil, err
		}
		chosen[sn.ID] = true
	}
	return func(sn *snapshot.Snapshot) bool { return chosen[sn.ID] }, nil
}
