package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
)

// index measures how long a mount of a small snapshot takes in a repository with a huge
// index: the first time, without a cache, and afterwards.
func (b *bench) index(ctx context.Context) (err error) {
	dir, repo := b.work+"/small", b.work+"/repo-index"
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(repo)) }()
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(dir+"/file", []byte("content"), 0o644)); err != nil {
		return err
	}
	if err := b.fill(ctx, repo, dir); err != nil {
		return err
	}
	if err := b.generate(ctx, repo); err != nil {
		return err
	}
	return b.rounds(func(_ int, p program) error {
		if err := os.RemoveAll(b.work + "/cache-" + p.name); err != nil {
			return err
		}
		for _, title := range []string{"first mount, no cache", "second mount", "third mount"} {
			m, err := b.mount(ctx, p, repo)
			if err != nil {
				return err
			}
			served, err := m.done()
			if err != nil {
				return err
			}
			s := spec{section: "index", title: fmt.Sprintf("%d entries, %s, until snapshots/latest answers", b.scale.entries, title), unit: "s"}
			b.report.add(s, p.name, value{m.ready.wall.Seconds(), served.cpu, served.rssBytes})
		}
		return nil
	})
}

// generate adds the fabricated index entries.
func (b *bench) generate(ctx context.Context, repo string) error {
	cmd := exec.CommandContext(ctx, "go", "run", "./scripts/indexgen", "-repo", repo, "-entries", strconv.Itoa(b.scale.entries))
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=bench")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("indexgen: %w\n%s", err, out)
	}
	return nil
}
