package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// spec is what a row of the table is about.
type spec struct {
	section, title string
	unit           string
	more           bool     // more is better
	targets        []target // of the issue; none for figures that are only reported
}

// value is one measurement of one peer.
type value struct {
	v        float64 // in the row's unit
	cpu      time.Duration
	rssBytes int64 // peak resident memory; 0 when not looked at
}

// row is one test with what each peer needed, run by run.
type row struct {
	spec
	by map[string][]value // "plain", "restic", "vitrine"
}

// report gathers figures and prints them as Markdown.
type report struct {
	rows    []*row // in the order in which they were first measured
	notes   []string
	tables  []string // with their titles; what fits no row
	machine []string
}

// add puts a measurement into its row.
func (r *report) add(s spec, who string, v value) {
	for _, known := range r.rows {
		if known.section == s.section && known.title == s.title {
			known.by[who] = append(known.by[who], v)
			if known.targets == nil { // of a target that was not known before vitrine ran
				known.targets = s.targets
			}
			return
		}
	}
	r.rows = append(r.rows, &row{s, map[string][]value{who: {v}}})
}

func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// median returns the run in the middle, with the largest memory of all runs.
func median(runs []value) (value, bool) {
	if len(runs) == 0 {
		return value{}, false
	}
	sorted := slices.Clone(runs)
	slices.SortFunc(sorted, func(a, b value) int {
		switch {
		case a.v < b.v:
			return -1
		case a.v > b.v:
			return 1
		}
		return 0
	})
	m := sorted[len(sorted)/2]
	for _, v := range runs {
		m.rssBytes = max(m.rssBytes, v.rssBytes)
	}
	return m, true
}

// table adds a table of its own; lines are Markdown.
func (r *report) table(title string, lines []string) {
	r.tables = append(r.tables, fmt.Sprintf("## %s\n\n%s\n", title, strings.Join(lines, "\n")))
	fmt.Println(strings.Join(lines, "\n"))
}

const preface = `# Results of scripts/bench

Written by ` + "`make bench`" + `; do not edit. Medians of the runs, in the unit of the row. *of plain* is vitrine's
figure divided by the plain tool's on the source tree; *better than restic* is how many times
vitrine is faster or smaller. *CPU* is that of the program and, for a mount, of the tool that reads it; *MiB* is
the peak resident memory of restic or vitrine in the largest of the runs, with the children that they have at that time, or so far
in that mount; a target in MiB in a row of another unit is about it. Targets are those of the plan; – means that there is
nothing to compare, or nobody asked.

`

// String prints the machine, the table and the notes.
func (r *report) String() string {
	var out strings.Builder
	out.WriteString(preface)
	for _, line := range r.machine {
		fmt.Fprintf(&out, "- %s\n", line)
	}
	out.WriteString("\n| section | test | unit | runs | plain | restic | vitrine | of plain | better than restic | target | met | restic CPU s | vitrine CPU s | restic MiB | vitrine MiB |\n" +
		"|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, row := range r.rows {
		row.print(&out)
	}
	for _, table := range r.tables {
		out.WriteString("\n" + table)
	}
	if len(r.notes) > 0 {
		out.WriteString("\n## Notes\n\n")
		for _, n := range r.notes {
			fmt.Fprintf(&out, "- %s\n", n)
		}
	}
	return out.String()
}

// figures are what a row comes to, by peer; who was not measured is in neither.
type figures struct{ medians, peaksMiB map[string]float64 }

func (r *row) figures() figures {
	f := figures{map[string]float64{}, map[string]float64{}}
	for who, runs := range r.by {
		m, ok := median(runs)
		if ok {
			f.medians[who] = m.v
		}
		if m.rssBytes > 0 {
			f.peaksMiB[who] = float64(m.rssBytes) / (1 << 20)
		}
	}
	return f
}

// misses lists the targets that were missed, one line each, and counts all that could be judged.
func (r *report) misses() (lines []string, judged int) {
	for _, row := range r.rows {
		f := row.figures()
		for _, t := range row.targets {
			said := t.judge(f)
			if said == unknown {
				continue
			}
			judged++
			if said == missed {
				figure := number(f.medians["vitrine"]) + " " + row.unit
				if t.memory {
					figure = number(f.peaksMiB["vitrine"]) + " MiB"
				} else if peer, ok := f.medians[t.of]; ok {
					figure += fmt.Sprintf(", %s %s", t.of, number(peer))
				}
				lines = append(lines, fmt.Sprintf("%s: %s: %s: %s", row.section, row.title, t, figure))
			}
		}
	}
	return lines, judged
}

// borrow gives the rows of a section what a peer took for the same thing in another one. The titles of the rows have a suffix.
func (r *report) borrow(who, from, to, suffix string) {
	for _, lender := range r.rows {
		for _, row := range r.rows {
			if lender.section == from && row.section == to && row.title == lender.title+suffix && len(row.by[who]) == 0 {
				row.by[who] = lender.by[who]
			}
		}
	}
}

func (r *row) print(out *strings.Builder) {
	f := r.figures()
	cell := map[string]string{}
	for _, who := range []string{"plain", "restic", "vitrine"} {
		cell[who], cell[who+" CPU"], cell[who+" MiB"] = "–", "–", "–"
		if m, ok := median(r.by[who]); ok {
			cell[who] = number(m.v)
			if m.cpu > 0 {
				cell[who+" CPU"] = number(m.cpu.Seconds())
			}
		}
		if mib, ok := f.peaksMiB[who]; ok {
			cell[who+" MiB"] = number(mib)
		}
	}
	var targets, verdicts []string
	for _, t := range r.targets {
		targets = append(targets, t.String())
		verdicts = append(verdicts, string(t.judge(f)))
	}
	if len(targets) == 0 {
		targets, verdicts = []string{"–"}, []string{"–"}
	}
	better := ratio(f.medians, "restic", "vitrine")
	if r.more {
		better = ratio(f.medians, "vitrine", "restic")
	}
	fmt.Fprintf(out, "| %s |\n", strings.Join([]string{
		r.section, strings.ReplaceAll(r.title, "|", "\\|"), r.unit, fmt.Sprint(len(r.by["vitrine"])), cell["plain"], cell["restic"], "**" + cell["vitrine"] + "**",
		ratio(f.medians, "vitrine", "plain"), better, strings.Join(targets, ", "), strings.Join(verdicts, ", "),
		cell["restic CPU"], cell["vitrine CPU"], cell["restic MiB"], cell["vitrine MiB"],
	}, " | "))
}

func ratio(medians map[string]float64, a, b string) string {
	over, ok1 := medians[a]
	under, ok2 := medians[b]
	if !ok1 || !ok2 || under == 0 {
		return "–"
	}
	return number(over / under)
}

// number prints three digits that count, and large numbers whole.
func number(v float64) string {
	switch a := math.Abs(v); {
	case a >= 100 || a == math.Trunc(a):
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 0.1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.2g", v)
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
	r.machine = []string{
		"date: " + time.Now().UTC().Format("2006-01-02 15:04") + " UTC, commit " + first("git", "describe", "--always", "--dirty", "--tags"),
		fmt.Sprintf("machine: %s, %d processors, %s, Linux %s, everything on %s", infoLine("/proc/cpuinfo", "model name"), runtime.NumCPU(),
			infoLine("/proc/meminfo", "MemTotal"), first("uname", "-r"), first("stat", "-f", "-c", "%T", b.work)),
		"versions: " + first("restic", "version") + "; " + first(b.vitrine, "version") + "; " + first("rsync", "--version") + "; " + first("cp", "--version"),
	}
	if load, err := os.ReadFile("/proc/loadavg"); err == nil {
		r.machine = append(r.machine, "load averages at the end: "+strings.Join(strings.Fields(string(load))[:3], " "))
	}
}

// infoLine returns the value of the first line "name: value" of a file.
func infoLine(path, wanted string) string {
	info, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == wanted {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}
