package cli

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
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
	left, err := a.locksLeft(ctx, r)
	if err != nil {
		return err
	}
	if a.print.JSONMode() {
		a.print.Message(unlockSummary{"summary", removed, left.atWork + left.unreadable + left.empty, left.unreadable})
		return nil
	}
	if removed == 0 {
		a.print.Line("no locks to remove")
	} else {
		a.print.Line("successfully removed %s", progress.Count(removed, "lock"))
	}
	if left.unreadable > 0 {
		a.print.Line("%s that cannot be read, named above", stays(left.unreadable, "lock"))
	}
	switch left.atWork {
	case 0:
	case 1:
		a.print.Line("1 lock stays, for its owner seems to be at work; `vitrine list locks` and `vitrine cat lock ID` tell who that is")
	default:
		a.print.Line("%d locks stay, for their owners seem to be at work; `vitrine list locks` and `vitrine cat lock ID` tell who they are", left.atWork)
	}
	switch left.empty {
	case 0:
	case 1:
		a.print.Line("1 empty lock file stays; it is in nobody's way, and `vitrine unlock --remove-all` removes it")
	default:
		a.print.Line("%d empty lock files stay; they are in nobody's way, and `vitrine unlock --remove-all` removes them", left.empty)
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

// locksLeft counts the lock files that an unlock has left.
type locksLeft struct{ atWork, unreadable, empty int }

func (a *app) locksLeft(ctx context.Context, r *repo.Repository) (n locksLeft, err error) {
	infos, err := r.ListFiles(ctx, backend.Lock)
	if err != nil {
		return n, err
	}
	for _, info := range infos {
		if info.SizeBytes == 0 {
			n.empty++
			continue
		}
		id, err := blob.ParseID(info.Name)
		if err != nil {
			return n, err // a backend lists proper names only
		}
		var who lock.Info
		plain, err := r.ReadFile(ctx, backend.Lock, id)
		if err == nil {
			err = json.Unmarshal(plain, &who)
		}
		switch {
		case ctx.Err() != nil:
			return n, ctx.Err()
		case errors.Is(err, backend.ErrNotExist): // its owner has just ended
		case err != nil || who.Time.IsZero():
			n.unreadable++
		default:
			n.atWork++
		}
	}
	return n, nil
}

// stays is a number of things, with the verb.
func stays(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " stays"
	}
	return progress.Count(n, noun) + " stay"
}
