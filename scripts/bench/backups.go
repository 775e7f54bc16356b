package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"

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
	if err := b.needSource(); err != nil {
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
	}
	return nil
}

// firstBackup makes a new repository and backs the directory up.
func (b *bench) firstBackup(ctx context.Context, p program, dir string, row spec) error {
	if err := errors.Join(os.RemoveAll(p.repo), os.RemoveAll(b.work+"/cache-"+p.name)); err != nil {
		return err
	}
	if _, err := b.run(ctx, b.command(p, p.repo, "init")); err != nil {
		return err
	}
	if err := b.quicken(ctx, p.repo); err != nil {
		return err
	}
	return b.backup(ctx, p, dir, row)
}

func (b *bench) backup(ctx context.Context, p program, dir string, row spec) error {
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

// files measures backups of one large file, with and without anything to compress, and of very many small ones.
func (b *bench) files(ctx context.Context) error {
	return errors.Join(b.noiseFile(ctx), b.tarFile(ctx), b.smallFiles(ctx))
}

// one measures the first backup of a directory that make fills, and what else is asked for.
func (b *bench) one(ctx context.Context, name string, row, size spec, fill func(dir string) (title string, err error), more func(ps []program, dir string) error) (err error) {
	dir, ps := b.work+"/"+name, b.apart(name)
	defer func() {
		err = errors.Join(err, os.RemoveAll(dir))
		for _, p := range ps {
			err = errors.Join(err, os.RemoveAll(p.repo))
		}
	}()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	if row.title, err = fill(dir); err != nil {
		return err
	}
	row.section, row.unit = "files", "s"
	for range b.runs {
		for _, p := range ps {
			if err := b.firstBackup(ctx, p, dir, row); err != nil {
				return err
			}
		}
	}
	size.section, size.title, size.unit = "files", row.title+": size of the repository", "MiB"
	for _, p := range ps {
		if err := b.sizeOf(p, size); err != nil {
			return err
		}
	}
	if more == nil {
		return nil
	}
	return more(ps, dir)
}

var sameSize = spec{targets: []target{atMostRestic(1.01)}}

func (b *bench) noiseFile(ctx context.Context) error {
	return b.one(ctx, "noise", spec{targets: []target{fasterThanRestic(2.5)}}, sameSize, func(dir string) (string, error) {
		return fmt.Sprintf("first backup of one file of %d MiB that cannot be compressed", b.scale.fileBytes>>20), writeNoise(dir+"/file", b.scale.fileBytes)
	}, nil)
}

func (b *bench) tarFile(ctx context.Context) error {
	if err := b.needSource(); err != nil {
		return err
	}
	return b.one(ctx, "tar", spec{targets: []target{fasterThanRestic(2.2)}}, sameSize, func(dir string) (string, error) {
		out, err := exec.CommandContext(ctx, "tar", "-C", b.source, "-cf", dir+"/file", ".").CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("tar: %w: %s", err, clip(string(out)))
		}
		info, err := os.Stat(dir + "/file")
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("first backup of one tar file of the tree, %d MiB", info.Size()>>20), nil
	}, nil)
}

func (b *bench) smallFiles(ctx context.Context) error {
	return b.one(ctx, "small", spec{targets: []target{fasterThanRestic(2.5)}}, sameSize, func(dir string) (string, error) {
		return fmt.Sprintf("first backup of %d files of 1 KiB", b.scale.small), writeKiB(dir, b.scale.small, 1000)
	}, func(ps []program, dir string) error {
		row := spec{section: "files", title: fmt.Sprintf("backup of %d files of 1 KiB, nothing changed", b.scale.small), unit: "s", targets: []target{fasterThanRestic(4)}}
		for range b.runs {
			for _, p := range ps {
				if err := b.backup(ctx, p, dir, row); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// pure measures the program as it is built without cgo.
func (b *bench) pure(ctx context.Context) (err error) {
	if err := b.needTree(ctx); err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", b.work+"/vitrine-pure", "./cmd/vitrine")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build without cgo: %w: %s", err, clip(string(out)))
	}
	ps := b.apart("pure")
	ps[1].path = b.work + "/vitrine-pure"
	defer func() {
		for _, p := range ps {
			err = errors.Join(err, os.RemoveAll(p.repo))
		}
		err = errors.Join(err, os.Remove(ps[1].path), os.RemoveAll(b.work+"/out"))
	}()
	rows := []spec{{title: "first backup, built without cgo"}, {title: "backup, nothing changed, built without cgo"}, {title: "restore, built without cgo"}}
	for i := range rows {
		rows[i].section, rows[i].unit = "pure", "s"
	}
	size := spec{section: "pure", title: "size of the repository, built without cgo", unit: "MiB", targets: []target{atMostRestic(1.01)}}
	for range b.runs {
		for _, p := range ps {
			err := b.firstBackup(ctx, p, b.source, rows[0])
			if err == nil {
				err = b.backup(ctx, p, b.source, rows[1])
			}
			if err != nil {
				return err
			}
			u, err := b.run(ctx, b.command(p, p.repo, "restore", "latest", "--target", b.work+"/out"))
			if err := errors.Join(err, os.RemoveAll(b.work+"/out")); err != nil {
				return err
			}
			b.report.add(rows[2], p.name, u.seconds())
		}
	}
	return errors.Join(b.sizeOf(ps[0], size), b.sizeOf(ps[1], size))
}
