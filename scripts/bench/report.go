package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report gathers figures and prints them as Markdown.
type report struct {
	files     int
	sizeBytes int64
	rows      []*row // in the order in which they were first measured
	notes     []string
	machine   []string
}

// row is one test with what each peer needed, run by run.
type row struct {
	section, title string
	by             map[string][]usage // "plain", "restic", "vitrine"
}

func (r *report) add(section, title, who string, u usage) {
	for _, known := range r.rows {
		if known.section == section && known.title == title {
			known.by[who] = append(known.by[who], u)
			return
		}
	}
	r.rows = append(r.rows, &row{section, title, map[string][]usage{who: {u}}})
}

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// median returns the run in the middle by time, with the largest memory of all runs.
func median(runs []usage) (usage, bool) {
	if len(runs) == 0 {
		return usage{}, false
	}
	sorted := slices.Clone(runs)
	slices.SortFunc(sorted, func(a, b usage) int { return int(a.wall - b.wall) })
	m := sorted[len(sorted)/2]
	for _, u := range runs {
		m.rssBytes = max(m.rssBytes, u.rssBytes)
	}
	return m, true
}

// String prints the tables.
func (r *report) String() string {
	var out strings.Builder
	out.WriteString("# Results of scripts/bench\n\nWritten by `make bench`; do not edit. Medians of the runs; times in seconds. *ratio* is restic's time\n" +
		"divided by vitrine's: above 1 vitrine is faster. CPU is that of the program or, for a mount, of the mount\n" +
		"and the tool that reads it; memory is the peak resident set of restic or vitrine.\n\n")
	for _, line := range r.machine {
		fmt.Fprintf(&out, "- %s\n", line)
	}
	section := ""
	for _, row := range r.rows {
		if row.section != section {
			section = row.section
			fmt.Fprintf(&out, "\n## %s\n\n| test | runs | plain tool | restic | vitrine | ratio | vitrine : plain | restic CPU | vitrine CPU | restic MiB | vitrine MiB |\n"+
				"|---|---|---|---|---|---|---|---|---|---|---|\n", section)
		}
		row.print(&out)
	}
	if len(r.notes) > 0 {
		out.WriteString("\n## Notes\n\n")
		for _, n := range r.notes {
			fmt.Fprintf(&out, "- %s\n", n)
		}
	}
	return out.String()
}

func (r *row) print(out *strings.Builder) {
	plain, hasPlain := median(r.by["plain"])
	restic, hasRestic := median(r.by["restic"])
	ours, hasOurs := median(r.by["vitrine"])
	when := func(ok bool, format string, v float64) string {
		if !ok || v == 0 {
			return "–"
		}
		return fmt.Sprintf(format, v)
	}
	ratio := func(ok bool, a, b time.Duration) string {
		return when(ok && b > 0, "%.2f", float64(a)/max(float64(b), 1))
	}
	mib := func(ok bool, u usage) string { return when(ok, "%.0f", float64(u.rssBytes)/(1<<20)) }
	fmt.Fprintf(out, "| %s | %d | %s | %s | %s | **%s** | %s | %s | %s | %s | %s |\n",
		r.title, len(r.by["vitrine"]),
		when(hasPlain, "%.2f", plain.wall.Seconds()), when(hasRestic, "%.2f", restic.wall.Seconds()), when(hasOurs, "%.2f", ours.wall.Seconds()),
		ratio(hasRestic && hasOurs, restic.wall, ours.wall), ratio(hasPlain && hasOurs, ours.wall, plain.wall),
		when(hasRestic, "%.2f", restic.cpu.Seconds()), when(hasOurs, "%.2f", ours.cpu.Seconds()),
		mib(hasRestic, restic), mib(hasOurs, ours))
}

// describeMachine notes what the figures depend on.
func (r *report) describeMachine(ctx context.Context, b *bench) {
	first := func(argv ...string) string {
		out, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
		if err != nil {
			return "unknown"
		}
		line, _, _ := strings.Cut(string(out), "\n")
		return strings.TrimSpace(line)
	}
	model := "unknown processor"
	if info, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(info)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	r.machine = []string{
		"date: " + time.Now().UTC().Format("2006-01-02 15:04") + " UTC, commit " + first("git", "describe", "--always", "--dirty", "--tags"),
		fmt.Sprintf("machine: %s, %d processors, Linux %s, everything on %s", model, runtime.NumCPU(), first("uname", "-r"), first("stat", "-f", "-c", "%T", b.work)),
		"versions: " + first("restic", "version") + "; " + first(b.vitrine, "version") + "; " + first("rsync", "--version") + "; " + first("cp", "--version"),
		fmt.Sprintf("data: %d files, %.2f GiB", r.files, float64(r.sizeBytes)/(1<<30)),
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		r.machine = append(r.machine, "load averages at the end: "+strings.Join(strings.Fields(string(load))[:3], " "))
	}
}
