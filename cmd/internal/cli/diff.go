package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo/diff"
	"vitrine/repo/snapshot"
)

func newDiff(a *app) *cobra.Command {
	var metadata bool
	cmd := &cobra.Command{
		Use:   "diff [flags] snapshotID[:path] snapshotID[:path]",
		Short: "Show what differs between two snapshots",
		Long: `Shows what differs from the first to the second snapshot, or directory in one. In front of each
path stands what happened to it:

  +  it was added
  -  it was removed
  M  the content of the file was changed
  T  the type was changed, for example from a file to a symbolic link
  U  metadata were changed, such as mode or times (with --metadata)

At the end stands what the difference costs: blobs that only one of the two needs.`,
		Example: `  vitrine diff 5845b002 2ab627a6
  vitrine diff --metadata 5845b002:/etc latest:/etc`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runDiff(cmd.Context(), metadata, args) },
	}
	cmd.Flags().BoolVar(&metadata, "metadata", false, "show changes of metadata too")
	return cmd
}

// diffChange is one difference in --json.
type diffChange struct {
	MessageType string `json:"message_type"` // change
	Path        string `json:"path"`
	Modifier    string `json:"modifier"` // as in the lines for people
}

// diffSide is what one of the snapshots has alone.
type diffSide struct {
	Files     int    `json:"files"`
	Dirs      int    `json:"dirs"`
	Others    int    `json:"others"`
	DataBlobs int    `json:"data_blobs"`
	TreeBlobs int    `json:"tree_blobs"`
	Bytes     uint64 `json:"bytes"`
}

// diffStatistics is the last message.
type diffStatistics struct {
	MessageType    string   `json:"message_type"`    // statistics
	SourceSnapshot string   `json:"source_snapshot"` // as it was named
	TargetSnapshot string   `json:"target_snapshot"`
	ChangedFiles   int      `json:"changed_files"`
	Added          diffSide `json:"added"`
	Removed        diffSide `json:"removed"`
}

func (a *app) runDiff(ctx context.Context, metadata bool, args []string) error {
	if len(args) != 2 {
		return usagef("vitrine diff", "name two snapshots")
	}
	r, err := a.openRepository(ctx, wiring.CachedIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	from, fromTree, err := findTree(ctx, r, args[0], snapshot.Filter{})
	if err != nil {
		return err
	}
	to, toTree, err := findTree(ctx, r, args[1], snapshot.Filter{})
	if err != nil {
		return err
	}
	a.print.Line("comparing snapshot %s to %s:\n", from.ID.Short(), to.ID.Short())
	out := bufio.NewWriterSize(a.stdout, 64<<10)
	show := func(c diff.Change) error {
		_, err := fmt.Fprintf(out, "%-5s%s\n", c.Modifier, c.Path)
		return err
	}
	if a.print.JSONMode() {
		enc := json.NewEncoder(out)
		show = func(c diff.Change) error { return enc.Encode(diffChange{"change", c.Path, c.Modifier}) }
	}
	stats, err := diff.Trees(ctx, r, fromTree, toTree, metadata, show)
	if flushErr := out.Flush(); err == nil {
		err = flushErr
	}
	if err != nil {
		return fmt.Errorf("diff: %w", err)
	}
	if a.print.JSONMode() {
		a.print.Message(diffStatistics{"statistics", args[0], args[1], stats.ChangedFiles, diffSide(stats.Added), diffSide(stats.Removed)})
		return nil
	}
	added, removed := stats.Added, stats.Removed
	a.print.Line("")
	a.print.Line("Files:       %5d new, %5d removed, %5d changed", added.Files, removed.Files, stats.ChangedFiles)
	a.print.Line("Dirs:        %5d new, %5d removed", added.Dirs, removed.Dirs)
	a.print.Line("Others:      %5d new, %5d removed", added.Others, removed.Others)
	a.print.Line("Data Blobs:  %5d new, %5d removed", added.DataBlobs, removed.DataBlobs)
	a.print.Line("Tree Blobs:  %5d new, %5d removed", added.TreeBlobs, removed.TreeBlobs)
	a.print.Line("  Added:   %-5s", progress.Bytes(added.Bytes))
	a.print.Line("  Removed: %-5s", progress.Bytes(removed.Bytes))
	return nil
}
