// Command bench measures vitrine against Debian's restic and against the plain tools, all in
// one run on one machine, and writes the figures with their ratios and targets to RESULTS.md
// beside it.
//
// Everything happens below one directory in memory (/dev/shm), which takes 16 GiB at most. It is made of
// sections, each of which can be run alone (-only); a section that fails is reported, and the
// others go on.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one run: where it works and what it found so far.
type bench struct {
	vitrine string // binary
	work    string // everything below is ours and goes away
	data    string // what the user wants backed up; "" for a sample of this machine
	runs    int    // how often each figure is measured; the median counts
	scale   scale
	report  report

	source  string     // of the tree sections, once somebody needs it
	sources *sourceTar // once somebody needs it
	memory  *ballast
	peaks   map[string]int64 // largest resident memory of any mount, by program
	farSent map[string]int64 // bytes that a whole backup sends, by program
	budget  int64            // bytes that vitrine's mount says it may keep; 0 while unknown

	verified verified
}

// scale is how large the data are.
type scale struct {
	files     int // of the sample
	sizeBytes int64
	fileBytes int64 // of the one huge file
	farBytes  int64 // of the file at the end of a line
	farFiles  int   // small files there
	farWalk   int   // entries to walk over there
	farTree   int   // files of the sample that is backed up over the line
	farSample int64 // its bytes
	wide      int   // entries of the one huge directory
	many      int   // entries to walk over
	entries   int   // of the index
	stream    int64 // bytes that each of 16 readers reads
	snapshots int   // that appear while others read
	small     int   // files of 1 KiB
}

func fullScale() scale {
	return scale{
		files: 80_000, sizeBytes: 2_800 << 20, fileBytes: 4 << 30, farBytes: 1 << 30, farFiles: 10_000,
		farWalk: 100_000, farTree: 57_000, farSample: 2 << 30,
		wide: 1_000_000, many: 10_000_000, entries: 4_000_000, stream: 64 << 20, snapshots: 20, small: 1_000_000,
	}
}

// divide makes everything smaller, to try the bench itself.
func (s scale) divide(by int) scale {
	n := int64(by)
	return scale{
		files: s.files / by, sizeBytes: s.sizeBytes / n, fileBytes: s.fileBytes / n, farBytes: s.farBytes / n, farFiles: s.farFiles / by,
		farWalk: s.farWalk / by, farTree: s.farTree / by, farSample: s.farSample / n,
		wide: s.wide / by, many: s.many / by, entries: s.entries / by, stream: s.stream / n, snapshots: s.snapshots, small: s.small / by,
	}
}

// section is a part of the bench that can run alone.
type section struct {
	name  string
	needs needs
	run   func(*bench, context.Context) error
}

// needs is what a section uses of what others leave for it.
type needs int

const (
	nothing    needs = iota
	theTree          // the sample of real files and its repositories
	theSources       // the tar of sources
)

// sections in the order in which they run. Those that need the sample come first, and then those that need the tar, so
// that these can make room for the others.
var sections = []section{
	{"backup", theTree, (*bench).backups},
	{"mount", theTree, (*bench).views},
	{"restore", theTree, (*bench).restores},
	{"pure", theTree, (*bench).pure},
	{"noise", nothing, (*bench).noise},
	{"small", nothing, (*bench).small},
	{"tar", theSources, (*bench).tar},
	{"stages", theSources, (*bench).stages},
	{"pure-files", theSources, (*bench).pureFiles},
	{"growth", theSources, (*bench).growth},
	{"large", nothing, (*bench).large},
	{"far", nothing, (*bench).far},
	{"readers", nothing, (*bench).readers},
	{"refresh", nothing, (*bench).refresh},
	{"wide", nothing, (*bench).wide},
	{"many", nothing, (*bench).many},
	{"index", nothing, (*bench).index},
	{"prune", nothing, (*bench).prune},
	{"search", nothing, (*bench).search},
}

func main() {
	var err error
	switch {
	case len(os.Args) == 2 && os.Args[1] == ballastArgument:
		holdMemory()
	case len(os.Args) == 2 && os.Args[1] == agerArgument:
		err = serve((*ager).age)
	case len(os.Args) == 2 && os.Args[1] == profiledArgument:
		err = serve((*profiled).measure)
	case len(os.Args) == 2 && os.Args[1] == sampleArgument:
		err = serve((*sampled).gather)
	case len(os.Args) == 2 && os.Args[1] == tarArgument:
		err = serve((*sourceTar).write)
	default:
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
		err = run(ctx)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	b := &bench{peaks: map[string]int64{}, farSent: map[string]int64{}}
	var workBase, out, only string
	var smaller int
	names := make([]string, len(sections))
	for i, s := range sections {
		names[i] = s.name
	}
	flag.StringVar(&b.vitrine, "vitrine", "bin/vitrine", "the `binary` to measure")
	flag.StringVar(&b.data, "data", "", "the `directory` to back up (default: a sample of the Go module cache, Go and /usr, 80 000 files and 2.8 GiB)")
	flag.StringVar(&workBase, "work", "/dev/shm", "work below this `directory`")
	flag.StringVar(&out, "out", "scripts/bench/RESULTS.md", "write the table to this `file`")
	flag.StringVar(&only, "only", strings.Join(names, ","), "run only these `sections`")
	flag.IntVar(&b.runs, "runs", 3, "measure each figure so many times; of restic's mount, once")
	flag.IntVar(&smaller, "smaller", 1, "divide all sizes by this `number`, to try the bench itself")
	flag.Parse()
	chosen, err := choose(only)
	if err != nil {
		return err
	}
	b.scale = fullScale().divide(max(smaller, 1))
	if err := b.prepare(workBase); err != nil {
		return err
	}
	if b.memory, err = newBallast(ctx); err != nil {
		return fmt.Errorf("hold the free memory: %w", errors.Join(err, b.cleanUp()))
	}
	began := time.Now()
	err = b.runSections(ctx, chosen)
	err = errors.Join(err, b.memory.close())
	b.summary()
	b.tellMisses()
	if smaller > 1 {
		b.report.note("All sizes were divided by %d: this was a try.", smaller)
	}
	b.report.note("Free memory is held by the bench and given to whoever needs it, so that no figure contains what a host takes to give it back.")
	b.report.note("The run took %v.", time.Since(began).Round(time.Second))
	b.report.describeMachine(context.WithoutCancel(ctx), b)
	return errors.Join(err, b.cleanUp(), os.WriteFile(out, []byte(b.report.String()), 0o644))
}

func choose(only string) ([]section, error) {
	wanted := map[string]bool{}
	for name := range strings.SplitSeq(only, ",") {
		wanted[name] = true
	}
	var chosen []section
	for _, s := range sections {
		if wanted[s.name] {
			chosen = append(chosen, s)
			delete(wanted, s.name)
		}
	}
	for name := range wanted {
		return nil, fmt.Errorf("-only: there is no section %q", name)
	}
	return chosen, nil
}

// prepare makes the work directory and looks for the tools. Settings of the caller stay out.
func (b *bench) prepare(base string) (err error) {
	if b.vitrine, err = filepath.Abs(b.vitrine); err != nil {
		return err
	}
	for _, tool := range []string{b.vitrine, "restic", "ssh", "ssh-keygen", "rsync", "tar", "find", "cp", "sha256sum", "fusermount3"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w; run make setup build", err)
		}
	}
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "RESTIC_") || strings.HasPrefix(name, "VITRINE_") {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	if b.work, err = os.MkdirTemp(base, "vitrine-bench."); err != nil {
		return err
	}
	return os.WriteFile(b.work+"/password", []byte("bench\n"), 0o600)
}

// runSections goes on after a section that failed, and returns what failed.
func (b *bench) runSections(ctx context.Context, chosen []section) error {
	var failed []error
	for _, s := range chosen {
		if ctx.Err() != nil {
			return errors.Join(append(failed, ctx.Err())...)
		}
		if err := b.makeRoom(s.needs); err != nil {
			return errors.Join(append(failed, err)...)
		}
		fmt.Printf("bench: section %s\n", s.name)
		began := time.Now()
		if err := s.run(b, ctx); err != nil {
			err = fmt.Errorf("section %s: %w", s.name, err)
			fmt.Fprintln(os.Stderr, "bench:", err)
			b.report.note("FAILED: %s", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", " / "))
			failed = append(failed, err)
		}
		fmt.Printf("bench: section %s took %v\n", s.name, time.Since(began).Round(time.Second))
	}
	return errors.Join(failed...)
}

// makeRoom drops what a section does not use.
func (b *bench) makeRoom(used needs) (err error) {
	if used != theTree {
		err = b.dropTree()
	}
	if used != theSources {
		err = errors.Join(err, b.dropSources())
	}
	return err
}

// summary adds what holds for all sections together.
func (b *bench) summary() {
	row := spec{section: "all", title: "largest resident memory of any mount above but that of the huge directory", unit: "MiB"}
	if b.budget > 0 {
		row.targets = []target{atMost(float64(b.budget)/(1<<20) + 100)}
	}
	for _, who := range []string{"restic", "vitrine"} {
		if peak := b.peaks[who]; peak > 0 {
			b.report.add(row, who, value{v: float64(peak) / (1 << 20)})
		}
	}
	if b.verified.checked > 0 {
		b.report.note("%s", b.verified.note())
	}
	var own unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &own) == nil {
		b.report.note("No peak memory can be less than that of the bench when it starts a program, which was %d MiB at most.", own.Maxrss>>10)
	}
}

// tellMisses says which targets were missed, on standard output and in the report.
func (b *bench) tellMisses() {
	lines, judged := b.report.misses()
	summary := fmt.Sprintf("Targets missed: %d of %d.", len(lines), judged)
	b.report.note("%s", summary)
	for _, line := range append(lines, summary) {
		fmt.Println("bench:", strings.Replace(line, "Targets missed", "targets missed", 1))
	}
}

// cleanUp unmounts what is left, says so, and removes the work directory, never through a mount.
func (b *bench) cleanUp() error {
	mounts, err := filepath.Glob(b.work + "/mnt-*")
	if err != nil {
		return err
	}
	for _, dir := range mounts {
		switch err := syscall.Unmount(dir, syscall.MNT_DETACH); {
		case err == nil:
			fmt.Fprintf(os.Stderr, "bench: %s was still mounted and is detached\n", dir)
		case !errors.Is(err, syscall.EINVAL): // EINVAL: nothing is mounted there
			return fmt.Errorf("detach %s: %w", dir, err)
		}
		if err := os.Remove(dir); err != nil {
			return fmt.Errorf("left in place because something is mounted: %w", err)
		}
	}
	return os.RemoveAll(b.work)
}
