package progress

import (
	"errors"
	"fmt"
	"path"
	"sync/atomic"
	"time"

	"vitrine/repo"
	"vitrine/repo/restore"
	"vitrine/repo/snapshot"
)

// Restore shows a restore; it is a restore.Reporter and a View.
type Restore struct {
	p     *Printer
	begin time.Time

	totalEntries, totalBytes             atomic.Uint64 // as far as they are known
	counted                              atomic.Bool   // they are final
	missing                              atomic.Bool   // something was in no index
	restored, unchanged, deleted, errors atomic.Uint64 // entries
	bytes, unchangedBytes                atomic.Uint64
}

// NewRestore returns the display of a restore that begins now.
func NewRestore(p *Printer) *Restore { return &Restore{p: p, begin: time.Now()} }

// Begin returns when the restore began.
func (r *Restore) Begin() time.Time { return r.begin }

// Total implements restore.Reporter.
func (r *Restore) Total(entries, sizeBytes uint64, final bool) {
	r.totalEntries.Store(entries)
	r.totalBytes.Store(sizeBytes)
	r.counted.Store(final)
}

// Wrote implements restore.Reporter.
func (r *Restore) Wrote(n int) { r.bytes.Add(uint64(n)) }

// restoreActions are the words for an action, in JSON and in the lines of -vv.
var restoreActions = map[restore.Action]string{
	restore.Restored: "restored", restore.Updated: "updated", restore.Unchanged: "unchanged", restore.Deleted: "deleted",
}

// restoreItem tells of one entry.
type restoreItem struct {
	MessageType string `json:"message_type"` // verbose_status
	Action      string `json:"action"`       // restored, updated, unchanged, deleted
	Item        string `json:"item"`
	Size        uint64 `json:"size"`
}

// Done implements restore.Reporter.
func (r *Restore) Done(it restore.Item) {
	switch it.Action {
	case restore.Deleted:
		r.deleted.Add(1)
	case restore.Unchanged:
		r.unchanged.Add(1)
		r.unchangedBytes.Add(it.SizeBytes)
	default:
		r.restored.Add(1)
	}
	if r.p.o.Verbose < 2 {
		return
	}
	name := path.Clean(it.Path)
	if it.Type == snapshot.Dir {
		name += "/"
	}
	action := restoreActions[it.Action]
	if r.p.o.JSON {
		r.p.Message(restoreItem{"verbose_status", action, name, it.SizeBytes})
		return
	}
	name = Printable(name)
	if it.Type == snapshot.File {
		name += " with size " + Bytes(it.SizeBytes)
	}
	r.p.Detail(2, "%-9s %s", action, name)
}

// Error implements restore.Reporter.
func (r *Restore) Error(item string, err error) {
	r.errors.Add(1)
	if errors.Is(err, repo.ErrBlobMissing) {
		r.missing.Store(true)
	}
	if r.p.o.JSON {
		r.p.ErrorMessage(ErrorMessage{MessageType: "error", Error: ErrorText{err.Error()}, During: "restore", Item: item})
		return
	}
	r.p.Warn("error: %s: %s", Printable(item), OneLine(err.Error()))
}

// Missing tells whether something that is in no index was among the errors.
func (r *Restore) Missing() bool { return r.missing.Load() }

// Share implements View.
func (r *Restore) Share() (done, total uint64) {
	return r.bytes.Load() + r.unchangedBytes.Load(), r.totalBytes.Load()
}

// Rate implements View.
func (r *Restore) Rate() string {
	done, total := r.Share()
	return rateAndLeft(r.begin, done, total, r.counted.Load())
}

// Status implements View.
func (r *Restore) Status() string {
	done, total := r.Share()
	s := fmt.Sprintf("%d files/dirs, %s", r.restored.Load()+r.unchanged.Load(), Bytes(done))
	if n := r.totalEntries.Load(); n > 0 {
		s += fmt.Sprintf(" of %d files/dirs, %s", n, Bytes(total))
		if !r.counted.Load() {
			s += " found so far"
		}
	}
	if n := r.errors.Load(); n > 0 {
		s += fmt.Sprintf(", %d errors", n)
	}
	return s
}

// Current implements View.
func (r *Restore) Current() []string { return nil }

// restoreMessage says how far a restore is, or how it ended.
type restoreMessage struct {
	MessageType    string   `json:"message_type"` // status, summary
	SecondsElapsed uint64   `json:"seconds_elapsed,omitempty"`
	PercentDone    *float64 `json:"percent_done,omitempty"` // 0 to 1; status only
	TotalFiles     uint64   `json:"total_files"`
	FilesRestored  uint64   `json:"files_restored"`
	FilesSkipped   uint64   `json:"files_skipped"`
	FilesDeleted   uint64   `json:"files_deleted"`
	TotalBytes     uint64   `json:"total_bytes"`
	BytesRestored  uint64   `json:"bytes_restored"`
	BytesSkipped   uint64   `json:"bytes_skipped"`
}

func (r *Restore) message(kind string) restoreMessage {
	return restoreMessage{
		MessageType: kind, SecondsElapsed: uint64(time.Since(r.begin).Seconds()),
		TotalFiles: r.totalEntries.Load(), FilesRestored: r.restored.Load(), FilesSkipped: r.unchanged.Load(), FilesDeleted: r.deleted.Load(),
		TotalBytes: r.totalBytes.Load(), BytesRestored: r.bytes.Load(), BytesSkipped: r.unchangedBytes.Load(),
	}
}

// Message implements View.
func (r *Restore) Message() any {
	m := r.message("status")
	share := Share(r.Share())
	m.PercentDone = &share
	return m
}

// Finish tells how the restore ended.
func (r *Restore) Finish(res restore.Result, dryRun, verified bool) {
	if r.p.o.JSON {
		m := r.message("summary")
		m.BytesRestored = res.RestoredBytes
		r.p.Message(m)
		return
	}
	verb := "Restored"
	if dryRun {
		verb = "Would restore"
	}
	line := fmt.Sprintf("Summary: %s %d", verb, res.Restored)
	if total := r.totalEntries.Load(); total != res.Restored {
		line += fmt.Sprintf(" / %d", total)
	}
	line += fmt.Sprintf(" files/dirs (%s", Bytes(res.RestoredBytes))
	if total := r.totalBytes.Load(); total != res.RestoredBytes {
		line += " / " + Bytes(total)
	}
	line += ") in " + Clock(time.Since(r.begin))
	if res.Unchanged > 0 {
		line += fmt.Sprintf(", skipped %d files/dirs (%s)", res.Unchanged, Bytes(res.UnchangedBytes))
	}
	if res.Deleted > 0 {
		verb = "deleted"
		if dryRun {
			verb = "would delete"
		}
		line += fmt.Sprintf(", %s %d files/dirs", verb, res.Deleted)
	}
	r.p.Line("%s", line)
	if verified {
		r.p.Line("verified %d files", res.Verified)
	}
}
