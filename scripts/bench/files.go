package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// content is something that is backed up for itself.
type content struct {
	name  string // of its section
	fill  func(ctx context.Context) (dir, what string, err error)
	stays bool // others use the directory afterwards

	first     float64 // how many times as fast as restic the first backup is to be
	unchanged float64 // and that of what has not changed, which is not measured when this is 0
	memoryMiB float64
}

// clear removes the directory, unless it stays.
func (c content) clear(dir string) error {
	if dir == "" || c.stays {
		return nil
	}
	return os.RemoveAll(dir)
}

func (b *bench) noiseContent() content { return b.noiseOf(b.scale.fileBytes) }

// noiseOf is one file of so many bytes.
func (b *bench) noiseOf(sizeBytes int64) content {
	return content{name: "noise", first: 2.5, memoryMiB: residentMiB, fill: func(context.Context) (dir, what string, err error) {
		dir = b.work + "/noise"
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", "", err
		}
		return dir, fmt.Sprintf("one file of %d MiB that cannot be compressed", sizeBytes>>20), writeNoise(dir+"/file", sizeBytes)
	}}
}

// tarContent is the tar of sources, which other sections use, too.
func (b *bench) tarContent() content {
	return content{name: "tar", first: 2.2, memoryMiB: residentMiB, stays: true, fill: b.needSources}
}

// smallMiB is what a backup of a million small files may have in memory.
const smallMiB = 250

func (b *bench) smallContent() content { return b.smallOf(0, b.scale.small) }

// smallOf is so many files. When there were some already, the others are added to them.
func (b *bench) smallOf(before, count int) content {
	memoryMiB := float64(smallMiB)
	if before > 0 {
		memoryMiB = residentMiB // it is more than the million that the target is for
	}
	return content{name: "small", first: 2.5, unchanged: 4, memoryMiB: memoryMiB, fill: func(context.Context) (dir, what string, err error) {
		dir = b.work + "/small"
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return "", "", err
		}
		return dir, fmt.Sprintf("%d files of 1 KiB", count), writeKiB(dir, before, count, 1000)
	}}
}

// trial is how a content is backed up.
type trial struct {
	content
	section  string
	suffix   string    // of the titles
	programs []program // vitrine is the last
	rounds   int
	speed    bool // has targets
}

// trialOf is that of the section which has the content's name: one after the other by both programs.
func (b *bench) trialOf(c content) trial {
	return trial{content: c, section: c.name, programs: b.apart(c.name), rounds: b.runs, speed: true}
}

func (b *bench) noise(ctx context.Context) error { return b.try(ctx, b.trialOf(b.noiseContent())) }
func (b *bench) tar(ctx context.Context) error   { return b.try(ctx, b.trialOf(b.tarContent())) }
func (b *bench) small(ctx context.Context) error { return b.try(ctx, b.trialOf(b.smallContent())) }

// rows are what a trial measures; again has no title when nothing is backed up twice.
func (t *trial) rows(what string) (first, size, again spec) {
	row := func(title, unit string, faster float64) spec {
		s := spec{section: t.section, title: title + t.suffix, unit: unit}
		if t.speed && faster > 0 {
			s.targets = append(s.targets, fasterThanRestic(faster))
		}
		return s
	}
	first = row("first backup of "+what, "s", t.first)
	first.targets = append(first.targets, residentAtMost(t.memoryMiB))
	size = row("size of the repository of "+what, "MiB", 0)
	size.targets = append(size.targets, atMostRestic(1.01))
	if t.unchanged > 0 {
		again = row("backup of "+what+", nothing changed", "s", t.unchanged)
		again.targets = append(again.targets, residentAtMost(t.memoryMiB))
	}
	return first, size, again
}

// try measures the first backup of a content and, if asked for, that of what has not changed, and looks at vitrine's repository.
func (b *bench) try(ctx context.Context, t trial) (err error) {
	dir, what, err := t.fill(ctx)
	defer func() {
		err = errors.Join(err, t.clear(dir))
		for _, p := range t.programs {
			err = errors.Join(err, os.RemoveAll(p.repo))
		}
	}()
	if err != nil {
		return err
	}
	first, size, again := t.rows(what)
	err = t.each(func(p program) error { return b.firstBackup(ctx, p, dir, first) })
	if err != nil {
		return err
	}
	for _, p := range t.programs {
		if err := b.sizeOf(p, size); err != nil {
			return err
		}
	}
	if again.title != "" {
		if err := t.each(func(p program) error { return b.backup(ctx, p, dir, again) }); err != nil {
			return err
		}
	}
	return b.verify(ctx, t.programs[len(t.programs)-1], dir)
}

// each lets the programs take turns.
func (t *trial) each(fn func(program) error) error {
	for range t.rounds {
		for _, p := range t.programs {
			if err := fn(p); err != nil {
				return err
			}
		}
	}
	return nil
}
