package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// withoutCgo ends the titles of what that build has done.
const withoutCgo = ", built without cgo"

// buildPure builds the program without cgo.
func (b *bench) buildPure(ctx context.Context) (path string, err error) {
	path = b.work + "/vitrine-pure"
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", path, "./cmd/vitrine")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build without cgo: %w: %s", err, clip(string(out)))
	}
	return path, nil
}

// pure measures the backup and the restore of the tree by the program as it is built without cgo.
func (b *bench) pure(ctx context.Context) (err error) {
	if err := b.needTree(ctx); err != nil {
		return err
	}
	ps := b.apart("pure")
	if ps[1].path, err = b.buildPure(ctx); err != nil {
		return err
	}
	defer func() {
		for _, p := range ps {
			err = errors.Join(err, os.RemoveAll(p.repo))
		}
		err = errors.Join(err, os.Remove(ps[1].path), os.RemoveAll(b.work+"/out"))
	}()
	rows := []spec{{title: "first backup" + withoutCgo}, {title: "backup, nothing changed" + withoutCgo}, {title: "restore" + withoutCgo}}
	for i := range rows {
		rows[i].section, rows[i].unit = "pure", "s"
	}
	size := spec{section: "pure", title: "size of the repository" + withoutCgo, unit: "MiB", targets: []target{atMostRestic(1.01)}}
	for range b.runs {
		for _, p := range ps {
			if err := errors.Join(b.firstBackup(ctx, p, b.source, rows[0]), b.backup(ctx, p, b.source, rows[1])); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(b.sizeOf(ps[0], size), b.sizeOf(ps[1], size), b.verify(ctx, ps[1], b.source)); err != nil {
		return err
	}
	for range b.runs {
		for _, p := range ps {
			u, err := b.run(ctx, b.command(p, p.repo, "restore", "latest", "--target", b.work+"/out"))
			if err := errors.Join(err, os.RemoveAll(b.work+"/out")); err != nil {
				return err
			}
			b.report.add(rows[2], p.name, u.seconds())
		}
	}
	return nil
}

// pureFiles measures that build on what the sections noise, tar and small back up, once each. The figures of restic are
// those of these sections, when they have run.
func (b *bench) pureFiles(ctx context.Context) (err error) {
	p := b.apart("pure")[1]
	if p.path, err = b.buildPure(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(p.path)) }()
	for _, c := range []content{b.tarContent(), b.noiseContent(), b.smallContent()} {
		t := trial{section: "pure-files", content: c, suffix: withoutCgo, programs: []program{p}, rounds: 1}
		if err := b.try(ctx, t); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		b.report.borrow("restic", c.name, t.section, t.suffix)
	}
	return nil
}
