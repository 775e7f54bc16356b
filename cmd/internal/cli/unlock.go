package cli

import (
	"context"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
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
	u, err := lock.Unlock(ctx, r, all, a.print.Logger())
	if err != nil {
		return err
	}
	if a.print.JSONMode() {
		a.print.Message(unlockSummary{"summary", u.Removed, u.AtWork + u.Unreadable + u.Empty, u.Unreadable})
		return nil
	}
	if u.Removed == 0 {
		a.print.Line("no locks to remove")
	} else {
		a.print.Line("successfully removed %s", progress.Count(u.Removed, "lock"))
	}
	if u.Unreadable > 0 {
		a.print.Line("%s that cannot be read, named above", stays(u.Unreadable, "lock"))
	}
	switch u.AtWork {
	case 0:
	case 1:
		a.print.Line("1 lock stays, for its owner seems to be at work; `vitrine list locks` and `vitrine cat lock ID` tell who that is")
	default:
		a.print.Line("%d locks stay, for their owners seem to be at work; `vitrine list locks` and `vitrine cat lock ID` tell who they are", u.AtWork)
	}
	switch u.Empty {
	case 0:
	case 1:
		a.print.Line("1 empty lock file stays; it is in nobody's way, and `vitrine unlock --remove-all` removes it")
	default:
		a.print.Line("%d empty lock files stay; they are in nobody's way, and `vitrine unlock --remove-all` removes them", u.Empty)
	}
	return nil
}

// unlockSummary is the message of unlock under --json; restic has none.
type unlockSummary struct {
	MessageType string `json:"message_type"` // summary
	Removed     int    `json:"removed_locks"`
	Remaining   int    `json:"remaining_locks"`
	Unreadable  int    `json:"unreadable_locks"` // of those that remain
}

// stays is a number of things, with the verb.
func stays(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " stays"
	}
	return progress.Count(n, noun) + " stay"
}
