package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// prune measures the prune of a repository with millions of index entries, in which a quarter of the blobs is needed
// by nobody. Each program gets copies of the same repository, and what it has made of them is checked.
func (b *bench) prune(ctx context.Context) (err error) {
	aged := b.work + "/repo-aged"
	defer func() { err = errors.Join(err, os.RemoveAll(aged)) }()
	if _, err := b.run(ctx, b.command(b.ours(), aged, "init")); err != nil {
		return err
	}
	if err := b.quicken(ctx, aged); err != nil {
		return err
	}
	key, err := b.masterKey(ctx, aged)
	if err != nil {
		return err
	}
	a, err := newAged(ctx, aged, key, b.scale.entries)
	if err != nil {
		return err
	}
	return b.rounds(func(_ int, p program) error { return b.pruneAged(ctx, p, a) })
}

// pruneAged prunes two copies of the aged repository: one without a cache, one after a dry run and a check.
func (b *bench) pruneAged(ctx context.Context, p program, a *ager) (err error) {
	p.repo = b.work + "/repo-prune"
	cache := b.work + "/cache-" + p.name
	may := fmt.Sprint(a.Unused + 1) // restic stops below the limit, vitrine at it
	defer func() { err = errors.Join(err, os.RemoveAll(p.repo), os.RemoveAll(cache)) }()
	steps := []struct {
		title  string
		renew  bool     // another copy of the repository, and no cache
		target bool     // those of the issue
		check  *program // what looks at the repository afterwards; nil when nothing was changed
		args   []string
	}{
		{"prune, no cache", true, true, new(b.restic()), []string{"prune", "--max-unused", may}},
		{"prune --dry-run, no cache", true, true, nil, []string{"prune", "--dry-run", "--max-unused", may}},
		{"check", false, false, nil, []string{"check"}},
		{"prune, after the dry run", false, true, new(b.ours()), []string{"prune", "--max-unused", may}},
	}
	for _, step := range steps {
		if step.renew {
			if err := errors.Join(os.RemoveAll(p.repo), os.RemoveAll(cache)); err != nil {
				return err
			}
			if _, err := b.run(ctx, []string{"cp", "-a", a.Repo, p.repo}); err != nil {
				return err
			}
		}
		u, err := b.run(ctx, b.command(p, p.repo, step.args...))
		if err != nil {
			return err
		}
		wall := spec{section: "prune", title: fmt.Sprintf("%d entries, %s", a.Entries, step.title), unit: "s"}
		peak := spec{section: "prune", title: wall.title + ": peak memory", unit: "MiB"}
		if step.target {
			wall.targets, peak.targets = []target{atMostRestic(1)}, []target{atMostRestic(0.5)}
		}
		b.report.add(wall, p.name, u.seconds())
		b.report.add(peak, p.name, value{v: float64(u.rssBytes) / (1 << 20)})
		if step.check == nil {
			continue
		}
		if err := b.sizeOf(p, spec{section: "prune", title: wall.title + ": size of the repository", unit: "MiB", targets: []target{atMostRestic(1.01)}}); err != nil {
			return err
		}
		if _, err := b.run(ctx, b.command(*step.check, p.repo, "--no-cache", "check")); err != nil {
			return fmt.Errorf("after %s: %w", p.name, err)
		}
	}
	return nil
}
