package cli

import (
	"context"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo/backend"
	"vitrine/repo/lock"
)

func newUnlock(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "unlock",
		Short: "Remove locks that others left behind",
		Long: `Removes stale locks: those not renewed for half an hour, and those of this machine whose
process is gone. --remove-all removes every lock; use it only when you know that
nobody is working with the repository.`,
		Example: "  vitrine unlock",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.runUnlock(cmd.Context(), all) },
	}
	cmd.Flags().BoolVar(&all, "remove-all", false, "remove all locks, also those that are not stale")
	return cmd
}

func (a *app) runUnlock(ctx context.Context, all bool) error {
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	removed, err := lock.Unlock(ctx, r, all, a.print.Logger())
	if err != nil {
		return err
	}
	left, err := r.ListFiles(ctx, backend.Lock)
	if err != nil {
		return err
	}
	if removed == 0 {
		a.print.Line("no locks to remove")
	} else {
		a.print.Line("successfully removed %s", progress.Count(removed, "lock"))
	}
	switch len(left) {
	case 0:
	case 1:
		a.print.Line("1 lock stays, for its owner seems to be at work; `vitrine list locks` and `vitrine cat lock ID` tell who that is")
	default:
		a.print.Line("%d locks stay, for their owners seem to be at work; `vitrine list locks` and `vitrine cat lock ID` tell who they are", len(left))
	}
	return nil
}
