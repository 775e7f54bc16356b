package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/wiring"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// tagOptions are the flags of tag.
type tagOptions struct {
	filterFlags
	set, add, remove []string
}

func newTag(a *app) *cobra.Command {
	var o tagOptions
	cmd := &cobra.Command{
		Use:   "tag [flags] [snapshotID ...]",
		Short: "Change the tags of snapshots",
		Long: `Adds tags to snapshots, removes some of theirs, or sets new ones in place of all: of the
snapshots whose IDs (or "latest") are given, or without IDs of all that the filters let through. A
snapshot with other tags has another ID.`,
		Example: `  vitrine tag --add release,v2 latest
  vitrine tag --tag v1 --remove v1
  vitrine tag --set '' 79766175`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runTag(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.set, "set", nil, "set `tag[,tag,...]` in place of the tags a snapshot has, '' for none (repeatable)")
	f.StringArrayVar(&o.add, "add", nil, "add `tag[,tag,...]` (repeatable)")
	f.StringArrayVar(&o.remove, "remove", nil, "remove `tag[,tag,...]` (repeatable)")
	o.filterFlags.register(f, ", when no ID is given")
	return cmd
}

// changedMessage tells of one snapshot in the output of tag --json.
type changedMessage struct {
	MessageType string  `json:"message_type"` // changed
	Old         blob.ID `json:"old_snapshot_id"`
	New         blob.ID `json:"new_snapshot_id"`
}

// changedSummary is the last message of tag --json.
type changedSummary struct {
	MessageType string `json:"message_type"` // summary
	Changed     int    `json:"changed_snapshots"`
}

func (a *app) runTag(ctx context.Context, o tagOptions, ids []string) error {
	change := snapshot.TagChange{
		Replace: len(o.set) > 0,
		Set:     slices.Concat(snapshot.ParseTagList(o.set)...),
		Add:     slices.Concat(snapshot.ParseTagList(o.add)...),
		Remove:  slices.Concat(snapshot.ParseTagList(o.remove)...),
	}
	switch {
	case !change.Replace && len(o.add)+len(o.remove) == 0:
		return usagef("vitrine tag", "nothing to do: give --add, --remove or --set")
	case change.Replace && len(o.add)+len(o.remove) > 0:
		return usagef("vitrine tag", "--set and --add/--remove cannot be given at the same time")
	}
	a.ownFiles = true
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	a.print.Line("create exclusive lock for repository")
	return a.withLock(ctx, r, true, func(ctx context.Context) error {
		found, damaged := a.selectSnapshots(ctx, r, ids, o.filter())
		if len(found) == 0 && damaged != nil {
			return damaged
		}
		changed, failed := 0, 0
		for _, sn := range found {
			with, differs := change.Apply(sn)
			if !differs {
				continue
			}
			if err := r.ReplaceSnapshot(ctx, sn.ID, with); err != nil {
				if ctx.Err() != nil {
					return ctx.Err()
				}
				failed++
				a.print.Warn("unable to modify the tags for snapshot ID %q, ignoring: %v", sn.ID, err)
				continue
			}
			changed++
			if a.print.JSONMode() {
				a.print.Message(changedMessage{"changed", sn.ID, with.ID})
			}
			a.print.Detail(1, "old snapshot ID: %v -> new snapshot ID: %v", sn.ID, with.ID)
		}
		switch {
		case a.print.JSONMode():
			a.print.Message(changedSummary{"summary", changed})
		case changed == 0:
			a.print.Line("no snapshots were modified")
		default:
			a.print.Line("modified %d snapshots", changed)
		}
		if failed > 0 {
			return errors.Join(fmt.Errorf("the tags of %d snapshots, named above, could not be changed", failed), damaged)
		}
		return damaged
	})
}
