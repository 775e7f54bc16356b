package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"vitrine/scripts/internal/forge"
)

// scale measures how long a mount of a small snapshot takes in a repository with a huge
// index: the first time, without a cache, and afterwards. The key of the repository opens at once,
// so nothing has to be subtracted for its derivation.
func (b *bench) scale(ctx context.Context) error {
	if b.entries == 0 {
		return nil
	}
	ps := b.programs()
	repo := b.work + "/repo-scale"
	small := b.work + "/small"
	if err := errors.Join(os.RemoveAll(ps[0].repo), os.RemoveAll(ps[1].repo), os.Mkdir(small, 0o755),
		os.WriteFile(small+"/file", []byte("content"), 0o644)); err != nil {
		return err
	}
	restic := ps[0]
	for _, args := range [][]string{{"init"}, {"backup", small}} {
		if _, err := b.run(ctx, b.command(restic, repo, args...)); err != nil {
			return err
		}
	}
	argv := b.command(restic, repo, "cat", "masterkey")
	plain, err := exec.CommandContext(ctx, argv[0], argv[1:]...).Output()
	if err != nil {
		return fmt.Errorf("cat masterkey: %w", err)
	}
	var master forge.Key
	if err := json.Unmarshal(plain, &master); err != nil {
		return err
	}
	if err := forge.QuickKey(repo, master, []byte("bench")); err != nil {
		return err
	}
	if err := b.generate(ctx, repo); err != nil {
		return err
	}
	section := "index of " + strconv.Itoa(b.entries) + " entries"
	for range b.runs {
		for _, p := range ps {
			if err := os.RemoveAll(b.work + "/cache-" + p.name); err != nil {
				return err
			}
			if err := b.mountTwice(ctx, p, repo, section); err != nil {
				return err
			}
		}
	}
	for _, p := range ps {
		u, err := b.run(ctx, b.command(p, repo, "cat", "config"))
		if err != nil {
			return err
		}
		b.report.note("Opening the key and the config of the scale repository takes %s %v; it is contained in the figures of the index section.",
			p.name, u.wall.Round(time.Millisecond))
	}
	return nil
}

func (b *bench) mountTwice(ctx context.Context, p program, repo, section string) error {
	for _, title := range []string{"first mount, no cache", "second mount", "third mount"} {
		m, err := b.mount(ctx, p, repo)
		if err != nil {
			return err
		}
		served, err := m.unmount()
		if err != nil {
			return err
		}
		u := m.ready
		u.cpu = served.cpu
		u.rssBytes = served.rssBytes
		b.report.add(section, title+", until snapshots/latest answers", p.name, u)
	}
	return nil
}

// generate adds the fabricated index entries.
func (b *bench) generate(ctx context.Context, repo string) error {
	cmd := exec.CommandContext(ctx, "go", "run", "./scripts/indexgen", "-repo", repo, "-entries", strconv.Itoa(b.entries))
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD=bench")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("indexgen: %w\n%s", err, out)
	}
	return nil
}
