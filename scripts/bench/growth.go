package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// growthMost is how many times as much memory a backup may take of more or larger files.
const growthMost = 1.1

// growing is a content of two sizes, the smaller one first. Restic backs up each once, and only the first ones where it takes long.
type growing struct {
	what    string
	sizes   [2]content
	restics int
}

// growth measures what backups have in memory, of few and of many files, of small and of large ones.
func (b *bench) growth(ctx context.Context) error {
	half, whole := b.scale.fileBytes/2, b.scale.fileBytes // less is stored before all buffers were in use at a time
	for _, g := range []growing{
		{"a tar", [2]content{b.halfTar(), b.tarContent()}, 1},
		{"a file that cannot be compressed", [2]content{b.noiseOf(half), b.noiseOf(whole)}, 2},
		{"small files", [2]content{b.smallOf(0, b.scale.small), b.smallOf(b.scale.small, 2*b.scale.small)}, 1},
	} {
		if err := b.grow(ctx, g); err != nil {
			return fmt.Errorf("%s: %w", g.what, err)
		}
		if err := b.dropSources(); err != nil { // two million files need the room
			return err
		}
	}
	return nil
}

// halfTar is a tar of half the size and the same mixture, of every other file: how many packs are in work at a time depends
// on how much smaller the content becomes.
func (b *bench) halfTar() content {
	c := b.tarContent()
	c.stays = false
	c.fill = func(ctx context.Context) (dir, what string, err error) {
		dir = b.work + "/tar"
		s, err := b.makeSources(ctx, dir, b.scale.fileBytes/2, 2)
		if err != nil {
			return dir, "", err
		}
		return dir, s.String(), nil
	}
	return c
}

// grown is the largest peak of all runs for each of the two sizes; 0 where a size was not measured.
type grown [2]int64

// grow measures the backups of both sizes, and how many times as much memory the larger one took.
func (b *bench) grow(ctx context.Context, g growing) (err error) {
	peaks := map[string]*grown{} // by title and program
	for i, c := range g.sizes {
		dir, what, err2 := c.fill(ctx)
		defer func() { err = errors.Join(err, c.clear(dir)) }()
		if err2 != nil {
			return err2
		}
		for round := range b.runs {
			for _, p := range b.apart("growth") {
				if p.name == "restic" && (round > 0 || i >= g.restics) {
					continue
				}
				err := b.peaksOf(ctx, c, p, dir, what, func(title string, peakBytes int64) {
					if peaks[title+p.name] == nil {
						peaks[title+p.name] = &grown{}
					}
					peaks[title+p.name][i] = max(peaks[title+p.name][i], peakBytes)
				})
				if err := errors.Join(err, os.RemoveAll(p.repo)); err != nil {
					return err
				}
			}
		}
	}
	for _, title := range []string{firstTitle, againTitle} {
		row := spec{section: "growth", title: title + g.what + ": memory for the larger against the smaller", unit: "×", targets: []target{atMost(growthMost)}}
		for _, who := range []string{"restic", "vitrine"} {
			if both := peaks[title+who]; both != nil && both[0] > 0 && both[1] > 0 {
				b.report.add(row, who, value{v: float64(both[1]) / float64(both[0])})
			}
		}
	}
	return nil
}

const (
	firstTitle = "first backup of "
	againTitle = "unchanged backup of "
)

// peaksOf measures what one program has in memory.
func (b *bench) peaksOf(ctx context.Context, c content, p program, dir, what string, tell func(title string, peakBytes int64)) error {
	if err := b.renew(ctx, p); err != nil {
		return err
	}
	for _, title := range []string{firstTitle, againTitle} {
		if title == againTitle && c.unchanged == 0 {
			break // one file: there is nothing to it
		}
		u, err := b.run(ctx, b.command(p, p.repo, "backup", dir))
		if err != nil {
			return err
		}
		tell(title, u.rssBytes)
		row := spec{section: "growth", title: title + what + ": peak memory", unit: "MiB", targets: []target{residentAtMost(c.memoryMiB)}}
		b.report.add(row, p.name, value{float64(u.rssBytes) / (1 << 20), u.cpu, u.rssBytes})
	}
	return nil
}
