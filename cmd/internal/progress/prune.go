package progress

import (
	"fmt"
	"strings"

	"vitrine/repo/prune"
)

// pruneSteps are the parts of a prune.
var pruneSteps = map[prune.Phase]Step{
	prune.Snapshots:      {"load snapshots", "snapshots"},
	prune.Index:          {"load indexes", "index files"},
	prune.Trees:          {"find data that is still in use", "trees"},
	prune.RemoveUnlisted: {"remove packs that no index lists", "packs"},
	prune.Repack:         {"repack packs", ""},
	prune.WriteIndex:     {"write new index", "packs"},
	prune.RemoveIndex:    {"remove old index files", "files"},
	prune.RemovePacks:    {"remove old packs", "packs"},
}

// Prune shows a prune; it is a prune.Reporter and a View.
type Prune struct{ *Steps }

// NewPrune returns the display of a prune.
func NewPrune(p *Printer) *Prune { return &Prune{NewSteps(p)} }

// Progress implements prune.Reporter.
func (s *Prune) Progress(phase prune.Phase, done, total int64) {
	s.Show(pruneSteps[phase], done, total)
}

// Plan tells what is to be done, in restic's words.
func (s *Prune) Plan(st *prune.Stats) {
	all := st.Used
	all.Blobs += st.Duplicates.Blobs + st.Unused.Blobs
	all.Bytes += st.Duplicates.Bytes + st.Unused.Bytes
	s.p.Line("")
	for _, line := range tallies([]tally{
		{"used:", st.Used}, {"duplicates:", st.Duplicates}, {"unused:", st.Unused}, {"unreferenced:", prune.Tally{Bytes: st.Unlisted}}, {"total:", all},
	}) {
		s.p.Detail(1, "%s", line)
	}
	s.p.Detail(1, "unused size: %s of total size\n", Percent(uint64(all.Bytes-st.Used.Bytes), uint64(all.Bytes)))
	gone := st.Remove
	gone.Bytes += st.Unlisted
	for _, line := range tallies([]tally{
		{"to repack:", st.Repack}, {"this removes:", st.RepackGone}, {"to delete:", gone}, {"total prune:", st.Freed()}, {"remaining:", st.Left()},
	}) {
		s.p.Line("%s", line)
	}
	if why := reasons(&st.Why); why != "" {
		s.p.Detail(1, "%s", why)
	}
	left := st.LeftUnused()
	s.p.Line("unused size after prune: %s (%s of remaining size)\n", Bytes(uint64(left.Bytes)), Percent(uint64(left.Bytes), uint64(st.Left().Bytes)))
	s.p.Detail(1, "packs: %d to keep, %d to repack, %d to delete, %d that no index lists; index files: %d to keep, %d to replace\n",
		st.KeepPacks, st.RepackPacks, st.RemovePacks, st.UnlistedPacks, st.IndexFiles-st.RewriteIndexFiles, st.RewriteIndexFiles)
}

// reasons says why packs are written again, "" when none are.
func reasons(w *prune.Reasons) string {
	var parts []string
	for _, r := range []struct {
		packs int
		why   string
	}{
		{w.Unused, "blobs that nobody needs"}, {w.Twice, "blobs that other packs have too"}, {w.Mixed, "data and trees together"},
		{w.Uncompressed, "blobs that are not compressed"}, {w.Small, "less than a pack should"},
	} {
		if r.packs > 0 {
			parts = append(parts, Count(r.packs, "pack")+" with "+r.why)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "repacked are: " + strings.Join(parts, ", ")
}

type tally struct {
	title string
	n     prune.Tally
}

// tallies lays out rows of blobs and bytes.
func tallies(rows []tally) []string {
	title, blobs := 0, 0
	for _, r := range rows {
		title, blobs = max(title, len(r.title)), max(blobs, len(fmt.Sprint(r.n.Blobs)))
	}
	var lines []string
	for _, r := range rows {
		size := strings.TrimSpace(Bytes(uint64(r.n.Bytes)))
		lines = append(lines, fmt.Sprintf("%-*s %*d blobs / %s", title, r.title, blobs, r.n.Blobs, size))
	}
	return lines
}

// pruneSummary is the last message of prune --json; restic has none.
type pruneSummary struct {
	MessageType    string `json:"message_type"` // summary
	DryRun         bool   `json:"dry_run"`
	UsedBlobs      int    `json:"used_blobs"`
	UsedBytes      int64  `json:"used_bytes"`
	RemovedBlobs   int    `json:"removed_blobs"`
	RemovedBytes   int64  `json:"removed_bytes"`
	RepackedBytes  int64  `json:"repacked_bytes"`
	UnusedBytes    int64  `json:"unused_bytes"` // that stay
	RemovedPacks   int    `json:"removed_packs"`
	RepackedPacks  int    `json:"repacked_packs"`
	RemainingPacks int    `json:"remaining_packs"` // of the old ones
}

// Finish tells the result.
func (s *Prune) Finish(st *prune.Stats, dryRun bool) {
	if s.p.JSONMode() {
		freed := st.Freed()
		s.p.Message(pruneSummary{
			MessageType: "summary", DryRun: dryRun, UsedBlobs: st.Used.Blobs, UsedBytes: st.Used.Bytes,
			RemovedBlobs: freed.Blobs, RemovedBytes: freed.Bytes, RepackedBytes: st.Repack.Bytes - st.RepackGone.Bytes,
			UnusedBytes: st.LeftUnused().Bytes, RemovedPacks: st.RemovePacks + st.UnlistedPacks, RepackedPacks: st.RepackPacks,
			RemainingPacks: st.KeepPacks,
		})
		return
	}
	if dryRun {
		s.p.Line("dry run: nothing was changed")
		return
	}
	s.p.Line("done")
}
