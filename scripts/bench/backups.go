package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"vitrine/scripts/internal/sample"
)

// The targets of the backups of the tree.
var (
	firstBackup     = spec{section: "backup", title: "first backup", unit: "s", targets: []target{fasterThanRestic(2.2)}}
	repositorySize  = spec{section: "backup", title: "size of the repository", unit: "MiB", targets: []target{atMostRestic(1.01)}}
	unchangedBackup = spec{section: "backup", title: "backup, nothing changed", unit: "s", targets: []target{fasterThanRestic(4)}}
	changedBackup   = spec{section: "backup", title: "backup, 1 % of the files changed", unit: "s", targets: []target{fasterThanRestic(3)}}
)

// backups measures the first backup of the tree, into a new repository each time, the unchanged one, and that of
// a tree of which a hundredth has changed.
func (b *bench) backups(ctx context.Context) error {
	if err := b.needSource(ctx); err != nil {
		return err
	}
	for range b.runs {
		for _, p := range b.programs() {
			if err := b.firstBackup(ctx, p, b.source, firstBackup); err != nil {
				return err
			}
		}
	}
	for _, p := range b.programs() {
		if err := b.sizeOf(p, repositorySize); err != nil {
			return err
		}
	}
	if err := b.verify(ctx, b.ours(), b.source); err != nil {
		return err
	}
	for _, again := range []struct {
		row    spec
		change bool
	}{{unchangedBackup, false}, {changedBackup, true}} {
		for round := range b.runs {
			if again.change {
				if err := changeSome(b.source, round); err != nil {
					return err
				}
			}
			for _, p := range b.programs() {
				if err := b.backup(ctx, p, b.source, again.row); err != nil {
					return err
				}
			}
		}
		if err := b.verify(ctx, b.ours(), b.source); err != nil {
			return err
		}
	}
	return nil
}

// firstBackup makes a new repository and backs the directory up.
func (b *bench) firstBackup(ctx context.Context, p program, dir string, row spec) error {
	if err := b.renew(ctx, p); err != nil {
		return err
	}
	return b.backup(ctx, p, dir, row)
}

// renew makes a new repository, and forgets what is cached of all others.
func (b *bench) renew(ctx context.Context, p program) error {
	if err := errors.Join(os.RemoveAll(p.repo), os.RemoveAll(b.work+"/cache-"+p.name)); err != nil {
		return err
	}
	if _, err := b.run(ctx, b.command(p, p.repo, "init")); err != nil {
		return err
	}
	return b.quicken(ctx, p.repo)
}

// residentMiB is what a backup may have in memory at any time, however much there is to back up.
const residentMiB = 300

// backup measures one and adds it to the row, which gets the target for memory when it has none of its own.
func (b *bench) backup(ctx context.Context, p program, dir string, row spec) error {
	if !slices.ContainsFunc(row.targets, func(t target) bool { return t.memory }) {
		row.targets = append(slices.Clip(row.targets), residentAtMost(residentMiB))
	}
	u, err := b.run(ctx, b.command(p, p.repo, "backup", dir))
	if err == nil {
		b.report.add(row, p.name, u.seconds())
	}
	return err
}

func (b *bench) sizeOf(p program, row spec) error {
	_, size, err := sample.Measure(p.repo)
	if err == nil {
		b.report.add(row, p.name, value{v: float64(size) / (1 << 20)})
	}
	return err
}

// changeSome appends a line to every hundredth regular file, to other ones each round.
func changeSome(dir string, round int) error {
	random := rand.New(rand.NewPCG(uint64(round), 1))
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || random.IntN(100) > 0 {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(f, "changed in round %d\n", round)
		return errors.Join(err, f.Close())
	})
}

// apart returns both programs with a pair of repositories beside those of the tree.
func (b *bench) apart(name string) []program {
	ps := b.programs()
	for i := range ps {
		ps[i].repo = b.work + "/repo-" + name + "-" + ps[i].name
	}
	return ps
}
