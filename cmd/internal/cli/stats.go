package cli

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
	"vitrine/cmd/internal/wiring"
	"vitrine/repo/stats"
)

// statsOptions are the flags of stats.
type statsOptions struct {
	filterFlags
	mode string
}

func newStats(a *app) *cobra.Command {
	var o statsOptions
	cmd := &cobra.Command{
		Use:   "stats [flags] [snapshotID ...]",
		Short: "Count files, blobs and bytes",
		Long: `Counts what is in all snapshots together, in those that the filters let through, or in those whose
IDs (or "latest") are given. The mode says what is counted:

  restore-size       entries, and the bytes that a restore of each snapshot would write
  files-by-contents  files with different contents, and their bytes
  blobs-per-file     files with different contents, and the different blobs in each
  raw-data           blobs, as they are stored, and what compression makes of them
  debug              all files and blobs of the repository by their sizes, whatever snapshots need of them`,
		Example: `  vitrine stats latest
  vitrine stats --mode raw-data
  vitrine stats --mode debug
  vitrine stats --mode files-by-contents --host db1 --json`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runStats(cmd.Context(), o, args) },
	}
	f := cmd.Flags()
	o.register(f, "")
	f.StringVar(&o.mode, "mode", "restore-size", "what is counted, the `mode`: restore-size, files-by-contents, blobs-per-file, raw-data or debug")
	return cmd
}

// statsMessage is the output of stats --json. What is omitted is as in restic.
type statsMessage struct {
	TotalSize              uint64  `json:"total_size"`
	TotalUncompressedSize  uint64  `json:"total_uncompressed_size,omitempty"`
	CompressionRatio       float64 `json:"compression_ratio,omitempty"`
	CompressionProgress    float64 `json:"compression_progress,omitempty"`     // percent
	CompressionSpaceSaving float64 `json:"compression_space_saving,omitempty"` // percent
	TotalFileCount         uint64  `json:"total_file_count"`
	TotalBlobCount         uint64  `json:"total_blob_count,omitempty"`
	SnapshotsCount         int     `json:"snapshots_count"`
}

func (a *app) runStats(ctx context.Context, o statsOptions, ids []string) error {
	if o.mode == "debug" {
		return a.runSizes(ctx, o, ids)
	}
	mode, err := stats.ParseMode(o.mode)
	if err != nil {
		return usagef("vitrine stats", "--%w", err)
	}
	r, err := a.openRepository(ctx, wiring.CachedIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	list, damaged := a.selectSnapshots(ctx, r, ids, o.filter())
	if ctx.Err() != nil || len(list) == 0 && damaged != nil {
		return errors.Join(ctx.Err(), damaged)
	}
	show := progress.NewSteps(a.print)
	defer show.End()
	tell := func(trees int64) { show.Show(progress.Step{Title: "scanning...", Unit: "trees"}, trees, 0) }
	tell(0)
	res, err := stats.Count(ctx, r, mode, list, tell)
	show.End()
	if err != nil {
		return errors.Join(fmt.Errorf("stats: %w", err), damaged)
	}
	a.printStats(mode, &res, r.Config().Version >= 2)
	return damaged
}

// printStats prints the result; what compression does is told where there can be any.
func (a *app) printStats(mode stats.Mode, res *stats.Result, compresses bool) {
	m := statsMessage{TotalSize: res.Bytes, TotalFileCount: res.Files, TotalBlobCount: res.Blobs, SnapshotsCount: res.Snapshots}
	if compresses {
		m.TotalUncompressedSize, m.CompressionRatio = res.PlainBytes, res.Ratio()
		m.CompressionProgress, m.CompressionSpaceSaving = res.Progress(), res.SpaceSaving()
	}
	if a.print.JSONMode() {
		a.print.Message(m)
		return
	}
	line := func(title, format string, value any) { a.print.Result("%24s:  "+format, title, value) }
	a.print.Result("Stats in %v mode:", mode)
	line("Snapshots processed", "%d", m.SnapshotsCount)
	if m.TotalBlobCount > 0 {
		line("Total Blob Count", "%d", m.TotalBlobCount)
	}
	if m.TotalFileCount > 0 {
		line("Total File Count", "%d", m.TotalFileCount)
	}
	if m.TotalUncompressedSize > 0 {
		line("Total Uncompressed Size", "%s", progress.Bytes(m.TotalUncompressedSize))
	}
	line("Total Size", "%s", progress.Bytes(m.TotalSize))
	if m.CompressionProgress > 0 {
		line("Compression Progress", "%.2f%%", m.CompressionProgress)
	}
	if m.CompressionRatio > 0 {
		line("Compression Ratio", "%.2fx", m.CompressionRatio)
	}
	if m.CompressionSpaceSaving > 0 {
		line("Compression Space Saving", "%.2f%%", m.CompressionSpaceSaving)
	}
}

// sizesMessage is one element of the array of stats --mode debug --json.
type sizesMessage struct {
	What     string      `json:"what"`
	Count    uint64      `json:"count"`
	Size     uint64      `json:"total_size"`
	Smallest uint64      `json:"smallest"`
	Largest  uint64      `json:"largest"`
	Classes  []sizeClass `json:"sizes"` // without empty ones
}

// sizeClass is how many have a size within bounds, in bytes.
type sizeClass struct {
	Least uint64 `json:"from"`
	Most  uint64 `json:"to"`
	Count uint64 `json:"count"`
}

// runSizes is stats --mode debug. It asks the repository itself, no cache.
func (a *app) runSizes(ctx context.Context, o statsOptions, ids []string) error {
	if f := o.filter(); len(ids)+len(f.Hosts)+len(f.Tags)+len(f.Paths) > 0 {
		return usagef("vitrine stats", "--mode debug looks at the repository as a whole, and takes no snapshots or filters")
	}
	a.ownFiles = true
	r, err := a.openRepository(ctx, wiring.NoIndex)
	if err != nil {
		return err
	}
	defer r.Close()
	show := progress.NewSteps(a.print)
	defer show.End()
	list, err := stats.Sizes(ctx, r, func(done, total int64) {
		show.Show(progress.Step{Title: "scanning...", Unit: "index files"}, done, total)
	})
	show.End()
	if err != nil {
		return fmt.Errorf("stats: %w", err)
	}
	var messages []sizesMessage
	for i := range list {
		messages = append(messages, sizesOf(&list[i]))
	}
	if a.print.JSONMode() {
		a.print.Message(messages)
		return nil
	}
	for i := range messages {
		if err := a.printSizes(&messages[i]); err != nil {
			return err
		}
	}
	return nil
}

func sizesOf(s *stats.Sized) sizesMessage {
	m := sizesMessage{What: s.What, Count: s.Count, Size: s.Bytes, Smallest: s.Smallest, Largest: s.Largest, Classes: []sizeClass{}}
	for class, n := range s.Classes {
		if n > 0 {
			least, most := stats.Bounds(class)
			m.Classes = append(m.Classes, sizeClass{least, most, n})
		}
	}
	return m
}

func (a *app) printSizes(m *sizesMessage) error {
	if m.Count == 0 {
		a.print.Result("%s: none\n", m.What)
		return nil
	}
	a.print.Result("%s: %d, %s; from %s to %s", m.What, m.Count, progress.Bytes(m.Size), progress.Bytes(m.Smallest), progress.Bytes(m.Largest))
	t := progress.NewTable("From", "Below", "Count")
	for _, c := range m.Classes {
		t.Row(progress.Bytes(c.Least), progress.Bytes(c.Most+1), strconv.FormatUint(c.Count, 10))
	}
	if err := t.Write(a.stdout); err != nil {
		return err
	}
	a.print.Result("")
	return nil
}
