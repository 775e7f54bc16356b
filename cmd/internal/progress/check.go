package progress

import (
	"fmt"
	"sync"
	"time"

	"vitrine/repo/check"
)

// phases are what is said when a part of the check begins, and what it counts.
var phases = map[check.Phase]struct{ title, unit string }{
	check.Snapshots: {"load snapshots", "snapshots"},
	check.Index:     {"load indexes", "index files"},
	check.Packs:     {"check all packs", "packs"},
	check.Trees:     {"check snapshots, trees and blobs", "trees"},
	check.Data:      {"read data", ""}, // bytes
}

// Check shows a check; it is a check.Reporter and a View. Each phase has a line, and a bar of its own.
type Check struct {
	p *Printer

	mu          sync.Mutex // guards the fields below
	phase       check.Phase
	begun       bool // phase has begun
	since       time.Time
	done, total int64
	stop        func() // ends the display of the phase
}

// NewCheck returns the display of a check.
func NewCheck(p *Printer) *Check { return &Check{p: p, stop: func() {}} }

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
	c.mu.Lock()
	if c.begun && phase == c.phase {
		c.done, c.total = done, total
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	c.End()
	c.mu.Lock()
	c.phase, c.begun, c.since, c.done, c.total = phase, true, time.Now(), done, total
	c.mu.Unlock()
	c.p.Line("%s", phases[phase].title)
	stop := c.p.Live(time.Now(), c)
	c.mu.Lock()
	c.stop = stop
	c.mu.Unlock()
}

// End closes the display of the phase that is shown. The check and the caller of End
// must not report at the same time.
func (c *Check) End() {
	c.mu.Lock()
	stop := c.stop
	c.stop = func() {}
	c.mu.Unlock()
	stop() // not under the lock: the last drawing asks for the state
}

func (c *Check) state() (phase check.Phase, done, total uint64, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase, uint64(max(0, c.done)), uint64(max(0, c.total)), c.since
}

// Share implements View.
func (c *Check) Share() (done, total uint64) {
	_, done, total, _ = c.state()
	return done, total
}

// Rate implements View.
func (c *Check) Rate() string {
	phase, done, total, since := c.state()
	elapsed := time.Since(since)
	rate := ""
	if phase == check.Data {
		rate = Rate(done, elapsed)
	}
	if left := Remaining(done, total, elapsed); left > 0 {
		if rate != "" {
			rate += ", "
		}
		rate += Clock(left) + " left"
	}
	return rate
}

// Status implements View.
func (c *Check) Status() string {
	phase, done, total, _ := c.state()
	unit := phases[phase].unit
	switch {
	case phase == check.Data:
		return fmt.Sprintf("%s of %s", Bytes(done), Bytes(total))
	case total > 0:
		return fmt.Sprintf("%d / %d %s", done, total, unit)
	}
	return fmt.Sprintf("%d %s", done, unit)
}

// Current implements View.
func (c *Check) Current() []string { return nil }

// Message implements View: restic's check has no status messages.
func (c *Check) Message() any { return nil }

// checkSummary is the last message of check --json.
type checkSummary struct {
	MessageType  string   `json:"message_type"` // summary
	NumErrors    int      `json:"num_errors"`
	BrokenPacks  []string `json:"broken_packs"` // always null: the error messages name the packs
	RepairIndex  bool     `json:"suggest_repair_index"`
	SuggestPrune bool     `json:"suggest_prune"`
}

// Finish tells the result of the check.
func (c *Check) Finish(res check.Result, unused bool) {
	if c.p.o.JSON {
		c.p.Message(checkSummary{MessageType: "summary", NumErrors: res.Errors, SuggestPrune: res.OrphanPacks > 0 || res.DuplicateBlobs > 0})
		return
	}
	c.p.Detail(1, "%d snapshots, %d trees with %d files, %d data blobs and %d tree blobs in %d packs (%s)",
		res.Snapshots, res.Trees, res.Files, res.DataBlobs, res.TreeBlobs, res.Packs, Bytes(uint64(res.PackBytes)))
	if res.PacksRead > 0 {
		c.p.Line("read %d of %d packs (%s)", res.PacksRead, res.Packs, Bytes(uint64(res.BytesRead)))
	}
	if unused {
		c.p.Line("%d blobs (%s) are in no snapshot", res.UnusedBlobs, Bytes(uint64(res.UnusedBytes)))
	}
	if res.Errors == 0 {
		c.p.Line("\nno errors were found")
	}
}
