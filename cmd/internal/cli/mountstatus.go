package cli

import (
	"fmt"
	"strings"
	"time"

	"vitrine/cmd/internal/progress"
	"vitrine/fs"
)

// statusMessage is the status of a mount under --json.
type statusMessage struct {
	MessageType string `json:"message_type"` // mount_status
	fs.Status
}

// showStatus writes the status of a mount to standard error.
func (a *app) showStatus(s fs.Status) {
	if a.print.JSONMode() {
		a.print.ErrorMessage(statusMessage{"mount_status", s})
		return
	}
	a.print.Warn("%s", strings.Join(statusLines(&s), "\n"))
}

// statusLines tells people what .vitrine/status tells programs.
func statusLines(s *fs.Status) []string {
	m, r := &s.Memory, &s.Reads
	lines := []string{
		fmt.Sprintf("%s: repository %.8s, %s, on %s for %s, process %d", s.Time.Format(time.DateTime), s.Repository.ID,
			progress.Printable(s.Repository.Location), progress.Printable(s.Mountpoint), progress.Clock(seconds(s.UptimeSeconds)), s.PID),
		fmt.Sprintf("  memory     %s of %s: content %s, directories %s, layouts of files %s, in flight %s",
			size(m.UsedBytes), size(m.BudgetBytes), size(m.BlobsBytes), size(m.TreesBytes+m.HugeTrees), size(m.LayoutsBytes), size(m.InFlightBytes)),
		fmt.Sprintf("             the process has %s; the kernel remembers %d directories", size(m.ResidentBytes), m.Directories),
		cacheLine("content", s.Caches.Blobs),
		cacheLine("directories", s.Caches.Trees),
		cacheLine("layouts", s.Caches.Layouts),
		fmt.Sprintf("  fetched    for readers %s, ahead in files %s, ahead in directories %s",
			amount(s.Prefetch.Demand), amount(s.Prefetch.Readahead), amount(s.Prefetch.Push)),
		fmt.Sprintf("             of what was fetched ahead: read %s, dropped unread %s, not read yet %s",
			amount(s.Prefetch.Used), amount(s.Prefetch.Wasted), size(s.Prefetch.WaitingBytes)),
		fmt.Sprintf("             given to the kernel unasked: %d files, %s", s.Prefetch.Pushed.Count, size(s.Prefetch.Pushed.Bytes)),
	}
	if b := s.Backend; b != nil {
		lines = append(lines, fmt.Sprintf("  store      %d requests, %s, %d failed, %d under way, %s each",
			b.Requests, size(b.BytesRead), b.Errors, b.InFlight, mean(b.Seconds, b.Requests)))
	}
	lines = append(lines,
		fmt.Sprintf("  reads      %d, %s, %d failed, %d under way; %s each, half in %s, 99 %% in %s, longest %s",
			r.Count, size(r.Bytes), r.Errors, r.InFlight, mean(r.TotalSeconds, r.Count),
			short(r.P50Seconds), short(r.P99Seconds), short(r.MaxSeconds)),
		fmt.Sprintf("  snapshots  %d, of which the kernel remembers %d", s.Snapshots.Known, s.Snapshots.Open),
		refreshLine(&s.Refresh, s.Time),
	)
	lines = append(lines, outageLine(&s.Outages, s.Time))
	return append(lines, damageLines(&s.Damage)...)
}

func cacheLine(name string, c fs.CacheStatus) string {
	return fmt.Sprintf("  cache      %s: %d asked, %.1f %% there, %d shared a load, %d dropped, %s of %s",
		name, c.Hits+c.Misses+c.Shared, 100*c.HitRate, c.Shared, c.Evictions, size(c.Bytes), size(c.BudgetBytes))
}

func refreshLine(r *fs.RefreshStatus, now time.Time) string {
	line := fmt.Sprintf("  refreshed  %s ago in %s, %d new index files", short(now.Sub(r.Time).Seconds()), short(r.Seconds), r.NewIndexFiles)
	if r.Error != "" {
		line += "; it failed: " + progress.Printable(r.Error)
	}
	return line
}

func outageLine(o *fs.OutageStatus, now time.Time) string {
	var parts []string
	if o.Since != nil {
		parts = append(parts, fmt.Sprintf("the store has not answered for %s, %s tried again",
			short(now.Sub(*o.Since).Seconds()), areOrIs(o.Waiting, "request")))
	}
	if o.Last != nil {
		parts = append(parts, fmt.Sprintf("%s failed while the store did not answer, the last %s ago: %s: %s", progress.Count(int(o.Count), "request"),
			short(now.Sub(o.Last.Time).Seconds()), progress.Printable(o.Last.Path), progress.Printable(progress.OneLine(o.Last.Error))))
	}
	if len(parts) == 0 {
		return "  outages    none met"
	}
	return "  outages    " + strings.Join(parts, "; ")
}

// areOrIs is a number with its noun and verb.
func areOrIs(n int, noun string) string {
	if n == 1 {
		return "1 " + noun + " is"
	}
	return progress.Count(n, noun) + " are"
}

func damageLines(d *fs.DamageStatus) []string {
	if d.Total == 0 {
		return []string{"  damage     none met"}
	}
	lines := []string{fmt.Sprintf("  damage     %s damaged or missing:", progress.Count(d.Total, "part"))}
	for _, one := range d.Listed {
		line := "    " + progress.Printable(one.Path) + ", " + one.What
		if one.Blob != "" {
			line += fmt.Sprintf(", blob %.8s, pack %.8s", one.Blob, one.Pack)
		}
		lines = append(lines, line+": "+progress.Printable(progress.OneLine(one.Error)))
	}
	if more := d.Total - len(d.Listed); more > 0 {
		lines = append(lines, fmt.Sprintf("    and %d more", more))
	}
	return lines
}

func size(bytes int64) string { return progress.Bytes(uint64(max(0, bytes))) }

func amount(a fs.Amount) string { return fmt.Sprintf("%s in %d", size(a.Bytes), a.Count) }

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// short writes a duration with three digits that count.
func short(s float64) string {
	d := seconds(s)
	for unit := time.Duration(1); unit < time.Hour; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit).String()
		}
	}
	return d.Round(time.Second).String()
}

func mean(total float64, count int64) string {
	if count == 0 {
		return "0s"
	}
	return short(total / float64(count))
}
