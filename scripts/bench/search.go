package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// searchSnapshots is how many snapshots the section search looks through.
const searchSnapshots = 200

// search looks for names in many snapshots of one tree that changes a little from each to the next, and compares the first of them
// with the last. What both programs find must be the same.
func (b *bench) search(ctx context.Context) (err error) {
	dir, repo := b.work+"/search", b.work+"/repo-search"
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(repo)) }()
	entries := b.scale.farWalk
	const inDir = 99
	if err := writeEmptyFiles(dir, entries-entries/(inDir+1), inDir); err != nil { // with the directories it is that many
		return err
	}
	if err := b.fill(ctx, repo, dir); err != nil {
		return err
	}
	first, err := latestSnapshot(repo)
	if err != nil {
		return err
	}
	dirs := entries / (inDir + 1)
	for i := 1; i < searchSnapshots; i++ {
		for k := range 10 { // in ten directories something changes
			at := (i*10 + k*97) % dirs
			if err := os.WriteFile(fmt.Sprintf("%s/d%06d/file-%07d", dir, at, at*inDir), fmt.Appendf(nil, "%d", i), 0o644); err != nil {
				return err
			}
		}
		if _, err := b.output(ctx, b.command(b.ours(), repo, "backup", dir)); err != nil {
			return err
		}
	}
	last, err := latestSnapshot(repo)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("file-%07d", inDir*(dirs/2))
	for _, step := range []struct {
		title string
		args  []string
	}{
		{"find of a name that each snapshot has", []string{"find", name}},
		{"find of a name that is not there", []string{"find", "nowhere"}},
		{"find of a pattern that fits to all", []string{"find", "--newest", "2000-01-01", "file-*"}},
		{"diff of the first and the last", []string{"diff", first, last}},
	} {
		if err := b.searchStep(ctx, repo, fmt.Sprintf("%d snapshots of %d entries: %s", searchSnapshots, entries, step.title), step.args); err != nil {
			return err
		}
	}
	return nil
}

// latestSnapshot returns the ID of the snapshot that was stored last; restic 0.14's diff knows no "latest".
func latestSnapshot(repo string) (latest string, err error) {
	ids, err := snapshotIDs(repo)
	for id, at := range ids {
		if latest == "" || at.After(ids[latest]) {
			latest = id
		}
	}
	return latest, err
}

// searchStep measures a command with the caches of each program warm, after a run that compares what they print.
func (b *bench) searchStep(ctx context.Context, repo, title string, args []string) error {
	found := map[string]string{}
	for _, p := range b.programs() {
		out, err := b.output(ctx, b.command(p, repo, args...))
		if err != nil {
			return err
		}
		var lines []string
		for line := range bytes.Lines(out) {
			if bytes.HasPrefix(line, []byte("/")) || bytes.HasPrefix(line, []byte("M ")) {
				lines = append(lines, string(line))
			}
		}
		found[p.name] = strings.Join(lines, "")
	}
	if found["restic"] != found["vitrine"] {
		return fmt.Errorf("%s: restic prints %d bytes of paths, vitrine %d others", title, len(found["restic"]), len(found["vitrine"]))
	}
	return b.rounds(func(_ int, p program) error {
		u, err := b.run(ctx, b.command(p, repo, args...))
		if err == nil {
			b.report.add(spec{section: "search", title: title, unit: "s", targets: []target{fasterThanRestic(3)}}, p.name, u.seconds())
		}
		return err
	})
}
