package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo/repair"
)

func newRecover(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "recover",
		Short: "Make a snapshot of what no snapshot reaches",
		Long: `Looks for directories that no snapshot reaches, because it was removed by mistake or is damaged, and
makes one snapshot of them, in which each stands under its ID. It cannot find what prune has
removed. The index is made complete first, as by repair index.`,
		Example: `  vitrine recover
  vitrine ls --tag recovered latest`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runRecover(cmd.Context()) },
	}
}

// recoverSummary is the last message of recover --json; restic has none.
type recoverSummary struct {
	MessageType string `json:"message_type"` // summary
	Roots       int    `json:"unreferenced_roots"`
	LostTrees   int    `json:"lost_trees"`
	SnapshotID  string `json:"snapshot_id,omitempty"`
}

func (a *app) runRecover(ctx context.Context) error {
	a.ownFiles = true
	r, err := a.openRepository(ctx, wiring.MemoryIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	return a.withLock(ctx, r, true, func(ctx context.Context) error {
		show := progress.NewRepair(a.print)
		defer show.End()
		res, err := repair.Recover(ctx, r, repair.RecoverOptions{Host: hostname(), Time: time.Now(), ProgramVersion: "vitrine " + Version}, show)
		show.End()
		if err != nil {
			return fmt.Errorf("recover: %w", err)
		}
		if a.print.JSONMode() {
			m := recoverSummary{MessageType: "summary", Roots: res.Roots, LostTrees: res.Lost}
			if res.Snapshot != nil {
				m.SnapshotID = res.Snapshot.ID.String()
			}
			a.print.Message(m)
			return nil
		}
		a.print.Line("\nfound %d unreferenced roots", res.Roots)
		if res.Snapshot == nil {
			a.print.Line("no snapshot to write.")
			return nil
		}
		a.print.Line("saved new snapshot %s", res.Snapshot.ID.Short())
		if res.Lost > 0 {
			a.print.Line("something may be missing in it: `vitrine repair snapshots --forget %s` takes that out", res.Snapshot.ID.Short())
		}
		return nil
	})
}
