// Command bench measures vitrine against Debian's restic and against the plain tools, all in
// one run on one machine, and writes the figures with their ratios to RESULTS.md beside it.
//
// Everything happens below one directory in memory (/dev/shm). Each program has its own
// repository for backups and its own caches; mounts and restores of both read the same
// repository, the one that restic wrote.
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

	"vitrine/scripts/internal/sample"
)

// bench is one run: where it works and what it found so far.
type bench struct {
	vitrine string // binary
	work    string // everything below is ours and goes away
	source  string // the directory that is backed up
	runs    int    // how often each figure is measured; the median counts
	entries int    // of the index in the scale test; 0 leaves it out
	report  report
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) (err error) {
	b := &bench{}
	var data, workBase, out string
	flag.StringVar(&b.vitrine, "vitrine", "bin/vitrine", "the `binary` to measure")
	flag.StringVar(&data, "data", "", "the `directory` to back up (default: a copy of the Go module cache, Go and parts of /usr, 50 000 files and 2 GiB)")
	flag.StringVar(&workBase, "work", "/dev/shm", "work below this `directory`")
	flag.StringVar(&out, "out", "scripts/bench/RESULTS.md", "write the table to this `file`")
	flag.IntVar(&b.runs, "runs", 3, "measure each figure so many times")
	flag.IntVar(&b.entries, "entries", 4_000_000, "entries of the index in the scale test; 0 for none")
	flag.Parse()
	if b.vitrine, err = filepath.Abs(b.vitrine); err != nil {
		return err
	}
	for _, tool := range []string{b.vitrine, "restic", "rsync", "tar", "find", "cp"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%w; run make setup build", err)
		}
	}
	if b.work, err = os.MkdirTemp(workBase, "vitrine-bench."); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.cleanUp()) }()
	for _, entry := range os.Environ() { // settings of the caller stay out of it
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "RESTIC_") || strings.HasPrefix(name, "VITRINE_") {
			if err := os.Unsetenv(name); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(b.work+"/password", []byte("bench\n"), 0o600); err != nil {
		return err
	}
	if b.source = data; data == "" {
		b.source = b.work + "/source"
		fmt.Println("bench: gathering 50 000 files and 2 GiB")
		if err := sample.CopyUntil(b.source, 50_000, 2<<30); err != nil {
			return err
		}
	}
	if b.source, err = filepath.EvalSymlinks(b.source); err != nil {
		return err
	}
	if b.report.files, b.report.sizeBytes, err = sample.Measure(b.source); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{b.backups, b.views, b.restores, b.scale} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	b.report.describeMachine(ctx, b)
	return os.WriteFile(out, []byte(b.report.String()), 0o644)
}

// cleanUp unmounts what is left and removes the work directory, never through a mount.
func (b *bench) cleanUp() error {
	mounts, err := filepath.Glob(b.work + "/mnt-*")
	if err != nil {
		return err
	}
	for _, dir := range mounts {
		_ = syscall.Unmount(dir, syscall.MNT_DETACH) // EINVAL when nothing is mounted
		if err := os.Remove(dir); err != nil {
			return fmt.Errorf("left in place because something is mounted: %w", err)
		}
	}
	return os.RemoveAll(b.work)
}

// program is one of the two peers.
type program struct {
	name string
	path string
	repo string // for backups
}

func (b *bench) programs() []program {
	return []program{
		{"restic", "restic", b.work + "/repo-restic"},
		{"vitrine", b.vitrine, b.work + "/repo-vitrine"},
	}
}

// command makes a command line of the program on a repository.
func (b *bench) command(p program, repo string, args ...string) []string {
	return append([]string{p.path, "--repo", repo, "--password-file", b.work + "/password", "--cache-dir", b.work + "/cache-" + p.name}, args...)
}

// backups measures the first backup, into a new repository each time, and the unchanged one.
// The programs take turns, so that a busy minute of the machine hits both.
func (b *bench) backups(ctx context.Context) error {
	for range b.runs {
		for _, p := range b.programs() {
			if err := errors.Join(os.RemoveAll(p.repo), os.RemoveAll(b.work+"/cache-"+p.name)); err != nil {
				return err
			}
			if _, err := b.run(ctx, b.command(p, p.repo, "init")); err != nil {
				return err
			}
			if err := b.backup(ctx, "first backup", p); err != nil {
				return err
			}
		}
	}
	for _, p := range b.programs() {
		_, size, err := sample.Measure(p.repo)
		if err != nil {
			return err
		}
		b.report.note("The repository after the first backup by %s has %.1f MiB.", p.name, float64(size)/(1<<20))
	}
	for range b.runs {
		for _, p := range b.programs() {
			if err := b.backup(ctx, "backup, nothing changed", p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) backup(ctx context.Context, title string, p program) error {
	u, err := b.run(ctx, b.command(p, p.repo, "backup", b.source))
	if err == nil {
		b.report.add("backup", title, p.name, u)
	}
	return err
}

// restores measures how a whole snapshot comes back: by cp from a fresh mount, the mount's
// start included, or by restic restore.
func (b *bench) restores(ctx context.Context) error {
	ps := b.programs()
	target := b.work + "/restored"
	for range b.runs {
		u, err := b.run(ctx, b.command(ps[0], ps[0].repo, "restore", "latest", "--target", target))
		if err != nil {
			return err
		}
		b.report.add("restore", "restic restore / mount + cp -a", "restic", u)
		if err := os.RemoveAll(target); err != nil {
			return err
		}

		start := time.Now()
		m, err := b.mount(ctx, ps[1], ps[0].repo)
		if err != nil {
			return err
		}
		u, err = b.run(ctx, []string{"cp", "-a", m.dir + "/snapshots/latest" + b.source, target})
		u.wall = time.Since(start)
		served, err2 := m.unmount()
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		u.cpu += served.cpu
		u.rssBytes = served.rssBytes
		b.report.add("restore", "restic restore / mount + cp -a", "vitrine", u)
		if err := os.RemoveAll(target); err != nil {
			return err
		}
	}
	return nil
}
