package main

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// wide measures one directory with very many entries.
func (b *bench) wide(ctx context.Context) (err error) {
	dir, repo := b.work+"/wide", b.work+"/repo-wide"
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(repo)) }()
	if err := writeEmptyFiles(dir, b.scale.wide, b.scale.wide); err != nil {
		return err
	}
	if err := b.fill(ctx, repo, dir); err != nil {
		return err
	}
	if err := b.warmIndex(ctx, repo, b.programs()...); err != nil {
		return err
	}
	entries := fmt.Sprintf("directory of %d entries", b.scale.wide)
	head := spec{section: "wide", title: entries + ": ls -U | head -1, cold", unit: "s", targets: []target{atMost(1)}}
	list := spec{section: "wide", title: entries + ": ls -U | wc -l, on the same mount", unit: "s"}
	const headScript, listScript = `(ls -U "$1"/* || true) | head -1 >/dev/null`, `test "$(ls -U "$1"/* | wc -l)" = "$2"`
	count := fmt.Sprint(b.scale.wide)
	return b.rounds(func(_ int, p program) error {
		if p.name == "vitrine" {
			u, err := b.shell(ctx, headScript, dir)
			if err != nil {
				return err
			}
			b.report.add(head, "plain", u.seconds())
			if u, err = b.shell(ctx, listScript, dir, count); err != nil {
				return err
			}
			b.report.add(list, "plain", u.seconds())
		}
		m, err := b.mount(ctx, p, repo)
		if err != nil {
			return err
		}
		u, err := m.while(func() (usage, error) { return b.shell(ctx, headScript, m.latest(dir)) })
		if err == nil {
			b.report.add(head, p.name, u.seconds())
			u, err = m.while(func() (usage, error) { return b.shell(ctx, listScript, m.latest(dir), count) })
		}
		if err == nil {
			b.report.add(list, p.name, u.seconds())
		}
		_, err2 := m.unmount() // its memory is reported, but has no target
		return errors.Join(err, err2)
	})
}

// treeEntries is how many entries the tree has that the section many repeats.
const treeEntries = 100_000

// many walks over as many entries as there are in a repository of a hundred snapshots. All show the same
// tree; the mount and the kernel cannot know. restic is measured on a fiftieth, once.
func (b *bench) many(ctx context.Context) (err error) {
	dir, repo := b.work+"/many", b.work+"/repo-many"
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(repo)) }()
	inTree := min(treeEntries, b.scale.many/10)
	copies := b.scale.many / inTree
	if err := writeEmptyFiles(dir, inTree-inTree/100, 99); err != nil { // with the directories it is inTree
		return err
	}
	if err := b.fill(ctx, repo, dir); err != nil {
		return err
	}
	key, err := b.masterKey(ctx, repo)
	if err != nil {
		return err
	}
	ids, err := snapshotIDs(repo)
	if err != nil {
		return err
	}
	for id := range ids {
		plain, err := b.output(ctx, b.command(b.ours(), repo, "cat", "snapshot", id))
		if err != nil {
			return err
		}
		if err := repeatSnapshot(repo, key, plain, copies-1); err != nil {
			return err
		}
	}
	few := max(copies/50, 2)
	u, err := b.shell(ctx, `find "$1" >/dev/null; find "$1" >/dev/null`, dir)
	if err != nil {
		return err
	}
	each := spec{section: "many", title: fmt.Sprintf("find over %d entries in %d snapshots (restic: in %d): each", inTree*copies, copies, few), unit: "µs"}
	b.report.add(each, "plain", value{v: u.wall.Seconds() * 1e6 / float64(2*inTree)})
	if err := b.findIn(ctx, b.restic(), repo, few, inTree, each); err != nil {
		return err
	}
	return b.findIn(ctx, b.ours(), repo, copies, inTree, each)
}

// findIn walks over the first snapshots of a mount, and counts what find prints.
func (b *bench) findIn(ctx context.Context, p program, repo string, snapshots, inTree int, each spec) error {
	m, err := b.mount(ctx, p, repo)
	if err != nil {
		return err
	}
	u, err := m.while(func() (usage, error) {
		return b.shell(ctx, `cd "$1" && test "$(ls | head -n "$2" | xargs -I{} find {} | wc -l)" -ge "$3"`,
			m.dir+"/ids", fmt.Sprint(snapshots), fmt.Sprint(snapshots*inTree))
	})
	if err == nil {
		b.report.add(each, p.name, value{u.wall.Seconds() * 1e6 / float64(snapshots*inTree), u.cpu, u.rssBytes})
		peak := spec{section: "many", title: "peak memory of the mount after that", unit: "MiB"}
		if b.budget > 0 {
			peak.targets = []target{atMost(float64(b.budget)/(1<<20) + 100)}
		}
		b.report.add(peak, p.name, value{v: float64(u.rssBytes) / (1 << 20)})
	}
	_, err2 := m.done()
	return errors.Join(err, err2)
}
