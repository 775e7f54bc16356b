package cli

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/backend"
	"vitrine/repo/blob"
	"vitrine/repo/repair"
)

func newRepair(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Make a damaged repository sound again",
		Long: `Repairs what check has found: "repair index" makes a new index from the packs, "repair packs" saves
what can be read of damaged ones, "repair snapshots" takes what is lost out of snapshots. Look at what check says first, and keep a copy of the
repository if you can.`,
		Example: `  vitrine repair index
  vitrine repair packs 3f1c6b52
  vitrine repair snapshots --dry-run`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return usagef("vitrine repair", "unknown command %q%s", args[0], didYouMean("", args[0], []string{"index", "packs", "snapshots"}))
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newRepairIndex(a, "index", "repair index"), newRepairPacks(a), newRepairSnapshots(a))
	return cmd
}

// newRebuildIndex is the name that restic had before "repair index".
func newRebuildIndex(a *app) *cobra.Command {
	cmd := newRepairIndex(a, "rebuild-index", "rebuild-index")
	cmd.Hidden = true
	return cmd
}

func newRepairIndex(a *app, use, path string) *cobra.Command {
	var readAll bool
	cmd := &cobra.Command{
		Use:   use,
		Short: "Make a new index from the packs",
		Long: `Looks which packs are there, reads the headers of those that no index file describes rightly,
forgets those that are gone, and writes a new index if the present one is wrong.`,
		Example: "  vitrine " + path + "\n  vitrine " + path + " --read-all-packs",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.repair(cmd.Context(), func(ctx context.Context, r *repo.Repository, show *progress.Repair) error {
				return a.repairIndex(ctx, r, show, readAll)
			})
		},
	}
	cmd.Flags().BoolVar(&readAll, "read-all-packs", false, "believe no index file: read the headers of all packs")
	return cmd
}

func newRepairPacks(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "packs packID...",
		Short: "Save what can be read of damaged packs",
		Long: `Writes the blobs that can still be read in these packs to new ones, takes the packs out of the index
and removes them. A copy of each pack is left in the current directory, as pack-ID. Files whose
blobs are lost stay damaged: back them up again.`,
		Example: "  vitrine repair packs 3f1c6b52",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("vitrine repair packs", "name the packs; `vitrine check --read-data` tells which are damaged")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.repair(cmd.Context(), func(ctx context.Context, r *repo.Repository, show *progress.Repair) error {
				return a.repairPacks(ctx, r, show, args)
			})
		},
	}
}

// repair runs fn under an exclusive lock.
func (a *app) repair(ctx context.Context, fn func(context.Context, *repo.Repository, *progress.Repair) error) error {
	a.ownFiles = true
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	return a.withLock(ctx, r, true, func(ctx context.Context) error {
		show := progress.NewRepair(a.print)
		defer show.End()
		return fn(ctx, r, show)
	})
}

// indexSummary is the last message of repair index under --json; restic has none.
type indexSummary struct {
	MessageType string `json:"message_type"` // summary
	Changed     bool   `json:"changed"`
	HeadersRead int    `json:"headers_read"`
	GonePacks   int    `json:"gone_packs"`
	Replaced    int    `json:"replaced_index_files"` // that were damaged
}

func (a *app) repairIndex(ctx context.Context, r *repo.Repository, show *progress.Repair, readAll bool) error {
	res, err := repair.Index(ctx, r, readAll, show)
	show.End()
	if err != nil {
		return fmt.Errorf("repair index: %w", err)
	}
	if a.print.JSONMode() {
		a.print.Message(indexSummary{"summary", res.Changed, res.ReadPacks, res.GonePacks, res.BadIndexFiles})
		return nil
	}
	if !res.Changed {
		a.print.Line("the index is right, nothing was changed")
	} else {
		a.print.Line("the index is new: %d headers read, %s gone, %s replaced for damage",
			res.ReadPacks, progress.Count(res.GonePacks, "pack"), progress.Count(res.BadIndexFiles, "index file"))
	}
	a.print.Line("done")
	return nil
}

// packsSummary is the last message of repair packs under --json; restic has none.
type packsSummary struct {
	MessageType string `json:"message_type"` // summary
	Saved       int    `json:"saved_blobs"`
	Lost        int    `json:"lost_blobs"`
}

// keptMessage tells under --json where the copy of a damaged pack is; restic has none.
type keptMessage struct {
	MessageType string `json:"message_type"` // kept
	Pack        string `json:"pack_id"`
	Path        string `json:"path"` // in the current directory
}

func (a *app) repairPacks(ctx context.Context, r *repo.Repository, show *progress.Repair, args []string) error {
	var ids []blob.ID
	for _, arg := range args {
		id, err := blob.ParseID(arg) // one that is only in the index can be named, too
		if err != nil {
			if id, err = r.Resolve(ctx, backend.Pack, arg); err != nil {
				return err
			}
		}
		ids = append(ids, id)
	}
	res, err := repair.Packs(ctx, r, ids, a.keepPack, show)
	show.End()
	if err != nil {
		return fmt.Errorf("repair packs: %w", err)
	}
	if a.print.JSONMode() {
		a.print.Message(packsSummary{"summary", res.SavedBlobs, res.LostBlobs})
		return nil
	}
	a.print.Line("%s saved, %d lost", progress.Count(res.SavedBlobs, "blob"), res.LostBlobs)
	if res.LostBlobs > 0 {
		a.print.Line("`vitrine check` tells which files are damaged; back them up again")
	}
	a.print.Line("done")
	return nil
}

// keepPack writes a pack to the current directory; one that is there is not overwritten.
func (a *app) keepPack(id blob.ID, content []byte) error {
	name := "pack-" + id.String()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("keep a copy of the pack: %w", err)
	}
	_, err = f.Write(content)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return fmt.Errorf("keep a copy of the pack: %w", err)
	}
	if a.print.JSONMode() {
		a.print.Message(keptMessage{"kept", id.String(), name})
	}
	a.print.Line("a copy of the pack is in %s", name)
	return nil
}
