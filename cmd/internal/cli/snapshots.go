package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// timeFormat is how times are shown to people, in their own zone.
const timeFormat = "2006-01-02 15:04:05"

// snapshotsOptions are the flags of snapshots.
type snapshotsOptions struct {
	filterFlags
	compact bool
	last    bool
	latest  int
	groupBy string
}

func newSnapshots(a *app) *cobra.Command {
	var o snapshotsOptions
	cmd := &cobra.Command{
		Use:   "snapshots [flags] [snapshotID ...]",
		Short: "List the snapshots",
		Long: `Lists the snapshots of the repository, oldest first: all of them, those that the filters
let through, or those whose IDs (or "latest") are given.`,
		Example: `  vitrine snapshots
  vitrine snapshots --host db1 --latest 1
  vitrine snapshots --group-by host,tags --compact`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runSnapshots(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	o.register(f, "")
	f.BoolVarP(&o.compact, "compact", "c", false, "one line for a snapshot, without its paths")
	f.IntVar(&o.latest, "latest", 0, "only the last `n` snapshots of each host and set of paths")
	f.BoolVar(&o.last, "last", false, "the same as --latest 1")
	f.StringVarP(&o.groupBy, "group-by", "g", "", "one table for each `group`: host, paths, tags, with commas between")
	f.Lookup("last").Hidden = true
	return cmd
}

func (a *app) runSnapshots(ctx context.Context, o snapshotsOptions, ids []string) error {
	by, err := snapshot.ParseGroupBy(o.groupBy)
	if err != nil {
		return fmt.Errorf("--group-by: %w", err)
	}
	if o.last {
		o.latest = 1
	}
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	found, damaged := a.selectSnapshots(ctx, r, ids, o.filter())
	if len(found) == 0 && damaged != nil {
		return damaged
	}
	if o.latest > 0 {
		found = latestOfEach(found, o.latest)
	}
	found = sorted(found, by.Tags)
	if err := a.printSnapshots(found, o, by); err != nil {
		return err
	}
	return damaged
}

// selectSnapshots returns the snapshots with these IDs, or without IDs those that the
// filter lets through. The filter also applies to "latest". An ID without a snapshot is
// warned about, as restic does; damaged snapshots are an error beside the others.
func (a *app) selectSnapshots(ctx context.Context, r *repo.Repository, ids []string, f snapshot.Filter) ([]*snapshot.Snapshot, error) {
	if len(ids) == 0 {
		all, err := r.Snapshots(ctx)
		return slices.DeleteFunc(all, func(sn *snapshot.Snapshot) bool { return !f.Match(sn) }), err
	}
	var found []*snapshot.Snapshot
	var damaged error
	seen := make(map[blob.ID]bool)
	for _, spec := range ids {
		sn, err := findSnapshot(ctx, r, spec, f)
		switch {
		case errors.Is(err, repo.ErrNoMatch), errors.Is(err, repo.ErrAmbiguous):
			a.print.Warn("Ignoring %q: %v", spec, err)
		case err != nil:
			damaged = errors.Join(damaged, err)
		case !seen[sn.ID]:
			seen[sn.ID] = true
			found = append(found, sn)
		}
	}
	repo.SortSnapshots(found)
	return found, damaged
}

// latestOfEach keeps the n newest snapshots of each host and set of paths. The list is, and
// stays, oldest first.
func latestOfEach(list []*snapshot.Snapshot, n int) []*snapshot.Snapshot {
	count := make(map[string]int)
	var kept []*snapshot.Snapshot
	for _, sn := range slices.Backward(list) {
		key := sn.Hostname + "\x00" + strings.Join(slices.Sorted(slices.Values(sn.Paths)), "\x00")
		if count[key]++; count[key] <= n {
			kept = append(kept, sn)
		}
	}
	slices.Reverse(kept)
	return kept
}

// sorted returns copies with sorted paths and, if wanted, sorted tags: this is how restic shows them.
func sorted(list []*snapshot.Snapshot, tags bool) []*snapshot.Snapshot {
	out := make([]*snapshot.Snapshot, len(list))
	for i, sn := range list {
		c := *sn
		c.Paths = slices.Sorted(slices.Values(sn.Paths))
		if tags {
			c.Tags = slices.Sorted(slices.Values(sn.Tags))
		}
		out[i] = &c
	}
	return out
}

// snapshotJSON is a snapshot as `snapshots --json` and `ls --json` print it.
type snapshotJSON struct {
	*snapshot.Snapshot
	ID      blob.ID `json:"id"`
	ShortID string  `json:"short_id"`
}

// groupJSON is one group of `snapshots --group-by --json`.
type groupJSON struct {
	Key       snapshot.GroupKey `json:"group_key"`
	Snapshots []snapshotJSON    `json:"snapshots"`
}

func jsonSnapshots(list []*snapshot.Snapshot) []snapshotJSON {
	out := make([]snapshotJSON, 0, len(list))
	for _, sn := range list {
		out = append(out, snapshotJSON{sn, sn.ID, sn.ID.Short()})
	}
	return out
}

func (a *app) printSnapshots(list []*snapshot.Snapshot, o snapshotsOptions, by snapshot.GroupBy) error {
	grouped := o.groupBy != ""
	if !grouped {
		if a.print.JSONMode() {
			a.print.Message(jsonSnapshots(list))
			return nil
		}
		return snapshotTable(list, o.compact, nil).Write(a.stdout)
	}
	groups := snapshot.Group(list, by)
	if a.print.JSONMode() {
		out := make([]groupJSON, 0, len(groups))
		for _, g := range groups {
			out = append(out, groupJSON{g.Key, jsonSnapshots(g.Snapshots)})
		}
		a.print.Message(out)
		return nil
	}
	for _, g := range groups {
		if head := groupHead(g.Key); head != "" {
			if _, err := fmt.Fprintln(a.stdout, head); err != nil {
				return err
			}
		}
		if err := snapshotTable(g.Snapshots, o.compact, nil).Write(a.stdout); err != nil {
			return err
		}
	}
	return nil
}

// groupHead says what the snapshots of a group have in common, "" for nothing.
func groupHead(k snapshot.GroupKey) string {
	var parts []string
	if k.Hostname != "" {
		parts = append(parts, "host ["+k.Hostname+"]")
	}
	if k.Tags != nil {
		parts = append(parts, "tags ["+strings.Join(k.Tags, ", ")+"]")
	}
	if k.Paths != nil {
		parts = append(parts, "paths ["+strings.Join(k.Paths, ", ")+"]")
	}
	if len(parts) == 0 {
		return ""
	}
	return "snapshots for (" + strings.Join(parts, ", ") + "):"
}

// snapshotTable lays the snapshots out for people. The column of sizes is there when any
// snapshot knows its size, that of reasons when there are some.
func snapshotTable(list []*snapshot.Snapshot, compact bool, reasons map[blob.ID][]string) *progress.Table {
	sized := slices.ContainsFunc(list, func(sn *snapshot.Snapshot) bool { return sn.Summary != nil })
	heads := []string{"ID", "Time", "Host", "Tags"}
	if !compact && reasons != nil {
		heads = append(heads, "Reasons")
	}
	if !compact {
		heads = append(heads, "Paths")
	}
	if sized {
		heads = append(heads, "Size")
	}
	t := progress.NewTable(heads...)
	if compact {
		t.MinWidth(3, 6)
	} else {
		t.MinWidth(2, 10)
		t.MinWidth(3, 10)
	}
	for _, sn := range list {
		row := []string{sn.ID.Short(), sn.Time.Local().Format(timeFormat), sn.Hostname}
		if compact {
			row = append(row, strings.Join(sn.Tags, "\n"))
		} else {
			row = append(row, strings.Join(sn.Tags, ","))
			if reasons != nil {
				row = append(row, strings.Join(reasons[sn.ID], "\n"))
			}
			row = append(row, strings.Join(sn.Paths, "\n"))
			t.Spaced = t.Spaced || len(sn.Paths) > 1
		}
		if sized {
			size := ""
			if sn.Summary != nil {
				size = progress.Bytes(sn.Summary.TotalBytesProcessed)
			}
			row = append(row, size)
		}
		t.Row(row...)
	}
	t.Footer(fmt.Sprintf("%d snapshots", len(list)))
	return t
}
