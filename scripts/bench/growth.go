package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// growthMost is how many times as much memory a backup may take of more or larger files.
const growthMost = 1.1

// growing is a content of two sizes, the smaller one first. Restic backs up the first ones only, where it takes long.
type growing struct {
	what    string
	sizes   [2]content
	restics int
}

// growth measures what backups have in memory, of few and of many files, of small and of large ones.
func (b *bench) growth(ctx context.Context) error {
	quarter, whole := b.scale.fileBytes/4, b.scale.fileBytes
	for _, g := range []growing{
		{"a tar", [2]content{b.smallerTar(quarter), b.tarContent()}, 1},
		{"a file that cannot be compressed", [2]content{b.noiseOf(quarter), b.noiseOf(whole)}, 2},
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

// smallerTar is one that nobody else uses.
func (b *bench) smallerTar(sizeBytes int64) content {
	c := b.tarContent()
	c.stays = false
	c.fill = func(ctx context.Context) (dir, what string, err error) {
		dir = b.work + "/tar"
		s, err := b.makeSources(ctx, dir, sizeBytes)
		if err != nil {
			return dir, "", err
		}
		return dir, s.String(), nil
	}
	return c
}

// grow measures the backups of both sizes, and how many times as much memory the larger one took.
func (b *bench) grow(ctx context.Context, g growing) (err error) {
	peaks := map[string][]float64{} // by title and program
	for i, c := range g.sizes {
		dir, what, err2 := c.fill(ctx)
		defer func() { err = errors.Join(err, c.clear(dir)) }()
		if err2 != nil {
			return err2
		}
		ps := b.apart("growth")
		if i >= g.restics {
			ps = ps[1:]
		}
		for _, p := range ps {
			if err := errors.Join(b.peaksOf(ctx, c, p, dir, what, peaks), os.RemoveAll(p.repo)); err != nil {
				return err
			}
		}
	}
	for _, title := range []string{firstTitle, againTitle} {
		row := spec{section: "growth", title: fmt.Sprintf("%s%s: memory for the larger against the smaller", title, g.what), unit: "×", targets: []target{atMost(growthMost)}}
		for _, who := range []string{"restic", "vitrine"} {
			if both := peaks[title+who]; len(both) == len(g.sizes) {
				b.report.add(row, who, value{v: both[1] / both[0]})
			}
		}
	}
	return nil
}

const (
	firstTitle = "first backup of "
	againTitle = "unchanged backup of "
)

// peaksOf adds what one program has in memory.
func (b *bench) peaksOf(ctx context.Context, c content, p program, dir, what string, peaks map[string][]float64) error {
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
		peak := float64(u.rssBytes) / (1 << 20)
		peaks[title+p.name] = append(peaks[title+p.name], peak)
		row := spec{section: "growth", title: title + what + ": peak memory", unit: "MiB", targets: []target{atMost(c.memoryMiB)}}
		b.report.add(row, p.name, value{v: peak, cpu: u.cpu})
	}
	return nil
}
