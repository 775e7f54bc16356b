package progress

import (
	"time"

	"vitrine/repo/rewrite"
	"vitrine/repo/snapshot"
)

// Rewrite shows how snapshots are rewritten; it is a rewrite.Reporter, a repair.SnapshotsReporter and a View.
type Rewrite struct {
	*Steps
	o            rewrite.Options
	looked, told *snapshot.Snapshot // the one that is looked at, the one that was named last
}

// NewRewrite returns the display of a rewriting.
func NewRewrite(p *Printer, o rewrite.Options) *Rewrite { return &Rewrite{Steps: NewSteps(p), o: o} }

// rewriteTrees is the step that takes time.
var rewriteTrees = Step{"look at the trees", "trees"}

// Trees implements rewrite.Reporter.
func (s *Rewrite) Trees(done int) { s.Show(rewriteTrees, int64(done), 0) }

// Snapshot implements rewrite.Reporter.
func (s *Rewrite) Snapshot(sn *snapshot.Snapshot) { s.looked = sn }

// head names the snapshot that the next lines are about, unless it is the same as before. One of which there is nothing to
// tell is not named.
func (s *Rewrite) head(sn *snapshot.Snapshot) {
	if sn == s.told {
		return
	}
	s.told = sn
	s.p.Line("\nsnapshot %s of %v at %s by %s@%s", sn.ID.Short(), sn.Paths, sn.Time.Local().Format(time.DateTime), sn.Username, sn.Hostname)
}

// Damage implements repair.SnapshotsReporter.
func (s *Rewrite) Damage(path, what string) {
	s.head(s.looked)
	s.p.Line("  %s: %s", Printable(path), what)
}

// Dropped tells of an entry that is left out.
func (s *Rewrite) Dropped(path string) { s.detail("excluding", path) }

// Kept tells of an entry that stays where not all do.
func (s *Rewrite) Kept(path string) { s.detail("including", path) }

func (s *Rewrite) detail(what, path string) {
	if s.p.Verbose() >= 2 {
		s.head(s.looked)
		s.p.Line("%s %s", what, Printable(path))
	}
}

// rewrittenMessage tells of a snapshot under --json; restic has none.
type rewrittenMessage struct {
	MessageType string `json:"message_type"` // rewritten
	SnapshotID  string `json:"snapshot_id"`
	NewID       string `json:"new_snapshot_id,omitempty"` // none in a dry run, and when nothing is left
	Tree        string `json:"tree,omitempty"`            // none when nothing is left
	Removed     bool   `json:"removed"`                   // the old one
	DryRun      bool   `json:"dry_run"`
}

// Changed implements rewrite.Reporter.
func (s *Rewrite) Changed(c rewrite.Change, removed bool) {
	s.End()
	old := c.Old.ID.Short()
	if s.p.JSONMode() {
		m := rewrittenMessage{MessageType: "rewritten", SnapshotID: c.Old.ID.String(), Removed: removed, DryRun: s.o.DryRun}
		if c.New != nil {
			m.Tree = c.New.Tree.String()
			if !s.o.DryRun {
				m.NewID = c.New.ID.String()
			}
		}
		s.p.Message(m)
		return
	}
	s.head(c.Old)
	say := func(done, would string, args ...any) {
		if s.o.DryRun {
			done = would
		}
		s.p.Line(done, args...)
	}
	switch {
	case c.New == nil && !removed:
		s.p.Line("nothing is left of snapshot %s; it stays as it is", old)
		return
	case c.New == nil:
		say("removed empty snapshot %s", "would remove empty snapshot %s", old)
		return
	}
	if !s.o.Time.IsZero() {
		say("setting time to %s", "would set time to %s", s.o.Time.Local().Format(time.DateTime))
	}
	if s.o.Host != "" {
		say("setting host to %s", "would set host to %s", Printable(s.o.Host))
	}
	if s.o.DryRun {
		s.p.Line("would save new snapshot for %s", old)
	} else {
		s.p.Line("saved new snapshot %s for %s", c.New.ID.Short(), old)
	}
	if removed {
		say("removed old snapshot %s", "would remove old snapshot %s", old)
	}
}

// rewriteSummary is the last message under --json; restic has none.
type rewriteSummary struct {
	MessageType string `json:"message_type"` // summary
	DryRun      bool   `json:"dry_run"`
	Changed     int    `json:"changed_snapshots"`
	Unchanged   int    `json:"unchanged_snapshots"`
}

// Finish tells the result.
func (s *Rewrite) Finish(res rewrite.Result) {
	s.End()
	if s.p.JSONMode() {
		s.p.Message(rewriteSummary{"summary", s.o.DryRun, res.Changed, res.Unchanged + res.Empty})
		return
	}
	s.p.Line("")
	switch {
	case res.Changed == 0 && s.o.DryRun:
		s.p.Line("no snapshots would be modified")
	case res.Changed == 0:
		s.p.Line("no snapshots were modified")
	case s.o.DryRun:
		s.p.Line("would modify %s", Count(res.Changed, "snapshot"))
	default:
		s.p.Line("modified %s", Count(res.Changed, "snapshot"))
	}
}
