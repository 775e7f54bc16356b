package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/transfer"
)

// copyOptions are the flags of copy.
type copyOptions struct {
	filterFlags
	fromNoPassword bool
}

func newCopy(a *app) *cobra.Command {
	var o copyOptions
	cmd := &cobra.Command{
		Use:   "copy [flags] [snapshotID ...]",
		Short: "Copy snapshots from another repository",
		Long: `Copies snapshots from the repository of --from-repo into that of --repo: those whose IDs (or
"latest") are given, or all that the filters let through. Snapshots that were copied before are skipped,
and only what the repository does not have yet is read. A snapshot appears when all of it is stored.

Files are not cut anew. So that copies share data with what is backed up into the repository directly,
it should be made by init --copy-chunker-params. Data that is compressed stays so; with
--compression better or max it is compressed again.`,
		Example: `  vitrine copy --repo /srv/second --from-repo /srv/backup
  vitrine copy --repo /srv/second --from-repo s3:https://host/bucket --from-password-file other latest
  vitrine copy --repo /srv/second --from-repo /srv/backup --host db1 --tag monthly`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runCopy(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	o.register(f, " of the --from-repo repository")
	a.from.registerFrom(f, &o.fromNoPassword, "to copy snapshots from")
	return cmd
}

func (a *app) runCopy(ctx context.Context, o copyOptions, ids []string) error {
	if _, err := a.where(&a.from, "from-repo"); err != nil {
		return usagef("vitrine copy", "%w", err)
	}
	src, err := a.open(ctx, &a.from, "from-repo", o.fromNoPassword, wiring.CachedIndex)
	if err != nil {
		return fmt.Errorf("open the repository to copy from: %w", err)
	}
	defer src.Close()
	dst, err := a.openRepository(ctx, wiring.CachedIndex)
	if err != nil {
		return err
	}
	defer dst.Close()
	lockSource := a.withLock
	if a.global.noLock {
		lockSource = withoutLock
	}
	return lockSource(ctx, src, false, func(ctx context.Context) error {
		return a.withLock(ctx, dst, false, func(ctx context.Context) error { return a.copySnapshots(ctx, src, dst, o, ids) })
	})
}

// copySnapshots copies under the locks of both.
func (a *app) copySnapshots(ctx context.Context, src, dst *repo.Repository, o copyOptions, ids []string) error {
	list, damaged := a.selectSnapshots(ctx, src, ids, o.filter())
	if ctx.Err() != nil || len(list) == 0 && damaged != nil {
		return errors.Join(ctx.Err(), damaged)
	}
	if len(list) > 0 && src.Config().Polynomial != dst.Config().Polynomial {
		a.print.Line("the two repositories cut files in different places, so that copies share no data with what is backed up directly;" +
			" `vitrine init --copy-chunker-params --from-repo …` makes one that cuts alike")
	}
	show := progress.NewCopy(a.print)
	defer show.End()
	stats, err := transfer.Run(ctx, src, dst, transfer.Options{Snapshots: list, Recompress: a.recompresses()}, show)
	show.End()
	if err != nil {
		return errors.Join(err, damaged)
	}
	show.Finish(stats)
	if stats.Failed > 0 {
		advice := "`vitrine check` of the repository to copy from tells what is damaged"
		if show.Missing() {
			advice = "in the repository to copy from, " + strings.TrimPrefix(missingAdvice, "; ")
		}
		err = fmt.Errorf("%s could not be copied whole, so they are left out; %s", progress.Count(stats.Failed, "snapshot"), advice)
	}
	return errors.Join(err, damaged)
}

// recompresses reports whether data is to be smaller than it may be in another repository.
func (a *app) recompresses() bool {
	return a.global.compression == "better" || a.global.compression == "max"
}
