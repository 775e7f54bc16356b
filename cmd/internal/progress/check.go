package progress

import (
	"fmt"
	"strings"

	"vitrine/repo/blob"
	"vitrine/repo/check"
)

// checkSteps are the parts of a check.
var checkSteps = map[check.Phase]Step{
	check.Snapshots: {"load snapshots", "snapshots"},
	check.Index:     {"load indexes", "index files"},
	check.Packs:     {"check all packs", "packs"},
	check.Trees:     {"check snapshots, trees and blobs", "trees"},
	check.Data:      {"read data", ""},
}

// Check shows a check; it is a check.Reporter and a View.
type Check struct{ *Steps }

// NewCheck returns the display of a check.
func NewCheck(p *Printer) *Check { return &Check{NewSteps(p)} }

// checkError is an error or hint under --json.
type checkError struct {
	MessageType string `json:"message_type"` // error
	Message     string `json:"message"`
}

// Error implements check.Reporter.
func (c *Check) Error(err error) {
	if c.p.o.JSON {
		c.p.ErrorMessage(checkError{"error", err.Error()})
		return
	}
	c.p.Warn("error: %v", err)
}

// Hint implements check.Reporter.
func (c *Check) Hint(message string) { c.p.Line("%s", message) }

// Progress implements check.Reporter.
func (c *Check) Progress(phase check.Phase, done, total int64) {
	c.Show(checkSteps[phase], done, total)
}

// checkSummary is the last message of check --json.
type checkSummary struct {
	MessageType  string   `json:"message_type"` // summary
	NumErrors    int      `json:"num_errors"`
	BrokenPacks  []string `json:"broken_packs"` // null when there are none
	RepairIndex  bool     `json:"suggest_repair_index"`
	SuggestPrune bool     `json:"suggest_prune"`
}

// Finish tells the result of the check. What to do about errors the quiet are told too.
func (c *Check) Finish(res check.Result) {
	if c.p.o.JSON {
		var broken []string
		for _, id := range res.BrokenPacks {
			broken = append(broken, id.String())
		}
		c.p.Message(checkSummary{
			MessageType: "summary", NumErrors: res.Errors, BrokenPacks: broken, RepairIndex: res.IndexDamaged,
			SuggestPrune: !res.IndexDamaged && (res.OrphanPacks > 0 || res.DuplicateBlobs > 0),
		})
		return
	}
	c.p.Detail(1, "%d snapshots, %d trees with %d files, %d data blobs and %d tree blobs in %d packs (%s)",
		res.Snapshots, res.Trees, res.Files, res.DataBlobs, res.TreeBlobs, res.Packs, Bytes(uint64(res.PackBytes)))
	if res.PacksRead > 0 {
		c.p.Line("read %d of %d packs (%s)", res.PacksRead, res.Packs, Bytes(uint64(res.BytesRead)))
	}
	if res.IndexDamaged {
		c.p.Result("`vitrine repair index` makes a new index of the packs that are there")
	}
	if len(res.BrokenPacks) > 0 {
		c.p.Result("where there is no copy of it, this saves what can be read of %s:\n  vitrine repair packs%s",
			Count(len(res.BrokenPacks), "damaged pack"), arguments(res.BrokenPacks))
	}
	c.tellLost(res)
	if res.UnusedCounted {
		advice := ""
		if res.UnusedBlobs > 0 {
			advice = "; `vitrine prune` frees their space"
		}
		c.p.Line("%d blobs (%s) are in no snapshot%s", res.UnusedBlobs, Bytes(uint64(res.UnusedBytes)), advice)
	}
	if res.Errors == 0 {
		c.p.Line("\nno errors were found")
	}
}

// tellLost tells what to do about what is lost, once nothing else can bring it back.
func (c *Check) tellLost(res check.Result) {
	if !res.LostFiles && !res.LostTrees {
		return
	}
	first := ""
	if res.IndexDamaged || len(res.BrokenPacks) > 0 {
		first = "then check again; "
	}
	before := ""
	if res.LostTrees { // in this order: afterwards the directories as they were would be found too
		before = "  vitrine recover\n"
		first += "directories below lost ones are looked for by the first of these; "
	}
	c.p.Result("%swhat is lost and has no copy elsewhere can be backed up again, or this takes it out of the snapshots:\n%s  vitrine repair snapshots --forget", first, before)
}

// arguments are IDs in full for a command line, the first ones of many.
func arguments(ids []blob.ID) string {
	const most = 20
	var b strings.Builder
	for _, id := range ids[:min(most, len(ids))] {
		b.WriteString(" " + id.String())
	}
	if more := len(ids) - most; more > 0 {
		fmt.Fprintf(&b, " (and %d more, which --json lists)", more)
	}
	return b.String()
}
