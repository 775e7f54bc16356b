package progress

import (
	"errors"
	"fmt"

	"vitrine/repo"
	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
	"vitrine/repo/transfer"
)

// The parts of a copy.
var (
	copyTrees = Step{"find out what is not there yet", "trees"}
	copyBlobs = Step{"copy data", ""}
)

// Copy shows the copying of snapshots; it is a transfer.Reporter and a View.
type Copy struct {
	*Steps
	missing bool // something was in no index
}

// NewCopy returns the display of a copy.
func NewCopy(p *Printer) *Copy { return &Copy{Steps: NewSteps(p)} }

// copyMessage tells of one snapshot under --json; restic has none.
type copyMessage struct {
	MessageType string `json:"message_type"` // copied or skipped
	Source      string `json:"source_snapshot"`
	Snapshot    string `json:"snapshot_id"` // in the destination
}

// copySummary is the last message of copy --json.
type copySummary struct {
	MessageType  string `json:"message_type"` // summary
	Copied       int    `json:"snapshots_copied"`
	Skipped      int    `json:"snapshots_skipped"`
	Failed       int    `json:"snapshots_failed"`
	Blobs        int    `json:"blobs_copied"`
	ReadBytes    int64  `json:"bytes_read"`    // as stored in the source
	WrittenBytes int64  `json:"bytes_written"` // as stored in the destination
}

// describe is the line that names a snapshot.
func describe(sn *snapshot.Snapshot) string {
	who := sn.Username
	if sn.Hostname != "" {
		who += "@" + sn.Hostname
	}
	return fmt.Sprintf("snapshot %s of %v at %s by %s", sn.ID.Short(), sn.Paths, sn.Time.Local(), who)
}

// Skipped implements transfer.Reporter.
func (c *Copy) Skipped(sn, there *snapshot.Snapshot) {
	if c.p.JSONMode() {
		c.p.Message(copyMessage{"skipped", sn.ID.String(), there.ID.String()})
		return
	}
	c.p.Detail(1, "%s", describe(sn))
	c.p.Detail(1, "skipping source snapshot %s, was already copied to snapshot %s", sn.ID.Short(), there.ID.Short())
}

// Begin implements transfer.Reporter.
func (c *Copy) Begin(sn *snapshot.Snapshot) {
	c.p.Line("%s", describe(sn))
}

// Trees implements transfer.Reporter.
func (c *Copy) Trees(done int64) { c.Show(copyTrees, done, 0) }

// Copying implements transfer.Reporter.
func (c *Copy) Copying(done, total int64) { c.Show(copyBlobs, done, total) }

// Saved implements transfer.Reporter.
func (c *Copy) Saved(sn *snapshot.Snapshot, id blob.ID) {
	c.End()
	if c.p.JSONMode() {
		c.p.Message(copyMessage{"copied", sn.ID.String(), id.String()})
		return
	}
	c.p.Line("snapshot %s saved, a copy of %s", id.Short(), sn.ID.Short())
}

// Failed implements transfer.Reporter.
func (c *Copy) Failed(sn *snapshot.Snapshot, err error) {
	c.End()
	c.missing = c.missing || errors.Is(err, repo.ErrBlobMissing)
	c.p.Warn("snapshot %s is not copied: %v", sn.ID.Short(), err)
}

// Missing tells whether something that is in no index kept a snapshot from being copied.
func (c *Copy) Missing() bool { return c.missing }

// Finish tells the result.
func (c *Copy) Finish(st transfer.Stats) {
	if c.p.JSONMode() {
		c.p.Message(copySummary{"summary", st.Saved, st.Skipped, st.Failed, st.Blobs, st.ReadBytes, st.WrittenBytes})
		return
	}
	c.p.Line("copied %s with %s (%s), skipped %d that were copied already",
		Count(st.Saved, "snapshot"), Count(st.Blobs, "new blob"), Bytes(uint64(st.WrittenBytes)), st.Skipped)
}
