package main

import (
	"context"
	"errors"
	"os"
	"time"
)

// view is one way to read a whole directory: on the source with the plain file system
// below it, and on a mount.
type view struct {
	first spec
	// script gets the directory as $1, a scratch directory as $2 and the source as $3.
	script string
	again  spec // a second run on the same mount; no title for none
}

var viewTests = []view{{
	first:  spec{section: "mount", title: "find -ls, cold", unit: "s", targets: []target{atMostPlain(2.5)}},
	script: `find "$1" -ls >/dev/null`,
	again:  spec{section: "mount", title: "find -ls, warm", unit: "s", targets: []target{atMostPlain(1.2)}},
}, {
	first:  spec{section: "mount", title: "cp -a, cold", unit: "s", targets: []target{atMostPlain(2)}},
	script: `cp -a "$1" "$2"`,
}, {
	// Into a pipe: GNU tar reads no file when it sees that it writes to /dev/null.
	first:  spec{section: "mount", title: "tar to a pipe, cold", unit: "s", targets: []target{atMostPlain(2.5)}},
	script: `tar -C "$1" -cf - . | cat >/dev/null`,
}, {
	first:  spec{section: "mount", title: "rsync -anc against the source, cold", unit: "s", targets: []target{atMostPlain(3)}},
	script: `rsync -anc "$1/" "$3/"`,
}}

// views measures reading the mounts of both programs, and the source itself. The mounts show the
// repository that vitrine wrote, and their index caches are warm; each test has a fresh mount.
func (b *bench) views(ctx context.Context) error {
	if err := b.needTree(ctx); err != nil {
		return err
	}
	repo := b.ours().repo
	if err := b.warmIndex(ctx, repo, b.programs()...); err != nil {
		return err
	}
	for _, v := range viewTests {
		err := b.rounds(func(_ int, p program) error {
			if p.name == "vitrine" { // the plain tool runs as often as vitrine
				if err := b.plainView(ctx, v); err != nil {
					return err
				}
			}
			return b.mountedView(ctx, v, p, repo)
		})
		if err != nil {
			return err
		}
	}
	if _, err := os.Stat(b.restic().repo); err != nil {
		return nil // without the section backup restic has written nothing
	}
	other := view{first: spec{section: "mount", title: "cp -a, cold, from the repository that restic wrote", unit: "s"}, script: viewTests[1].script}
	if err := b.warmIndex(ctx, b.restic().repo, b.ours()); err != nil {
		return err
	}
	return b.mountedView(ctx, other, b.ours(), b.restic().repo)
}

// warmIndex mounts once, so that nobody fetches an index while the clock runs.
func (b *bench) warmIndex(ctx context.Context, repo string, ps ...program) error {
	for _, p := range ps {
		m, err := b.mount(ctx, p, repo)
		if err != nil {
			return err
		}
		if _, err := m.unmount(); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) view(ctx context.Context, v view, dir string) (usage, error) {
	scratch := b.work + "/out"
	u, err := b.shell(ctx, v.script, dir, scratch, b.source)
	return u, errors.Join(err, os.RemoveAll(scratch))
}

func (b *bench) plainView(ctx context.Context, v view) error {
	for _, s := range []spec{v.first, v.again} {
		if s.title == "" {
			continue
		}
		u, err := b.view(ctx, v, b.source)
		if err != nil {
			return err
		}
		b.report.add(s, "plain", u.seconds())
	}
	return nil
}

func (b *bench) mountedView(ctx context.Context, v view, p program, repo string) error {
	m, err := b.mount(ctx, p, repo)
	if err != nil {
		return err
	}
	b.report.add(spec{section: "mount", title: "mount until snapshots/latest answers", unit: "s"}, p.name, m.ready.seconds())
	for _, s := range []spec{v.first, v.again} {
		if s.title == "" || err != nil {
			continue
		}
		var u usage
		if u, err = m.while(func() (usage, error) { return b.view(ctx, v, m.latest(b.source)) }); err == nil {
			b.report.add(s, p.name, u.seconds())
		}
	}
	_, err2 := m.done()
	return errors.Join(err, err2)
}

// restores measures how a whole snapshot comes back: by the restore commands, by cp from a fresh mount, whose
// start counts too, and what cp alone takes to copy the source. All open the same repository.
func (b *bench) restores(ctx context.Context) error {
	if err := b.needTree(ctx); err != nil {
		return err
	}
	restored := spec{section: "restore", title: "restore; plain: cp -a of the source", unit: "s", targets: []target{atMostPlain(1.5), fasterThanRestic(1.8)}}
	copied := spec{section: "restore", title: "restic restore; mount and cp -a", unit: "s", targets: []target{atMostRestic(1)}}
	repo, target := b.ours().repo, b.work+"/out"
	if err := b.warmIndex(ctx, repo, b.programs()...); err != nil {
		return err
	}
	for range b.runs {
		u, err := b.shell(ctx, `cp -a "$1" "$2"`, b.source, target)
		if err := errors.Join(err, os.RemoveAll(target)); err != nil {
			return err
		}
		b.report.add(restored, "plain", u.seconds())
		for _, p := range b.programs() {
			u, err := b.run(ctx, b.command(p, repo, "restore", "latest", "--target", target))
			if err := errors.Join(err, os.RemoveAll(target)); err != nil {
				return err
			}
			b.report.add(restored, p.name, u.seconds())
			if p.name == "restic" {
				b.report.add(copied, p.name, u.seconds())
			}
		}
		if u, err = b.copyMount(ctx, repo, target); err != nil {
			return err
		}
		b.report.add(copied, "vitrine", u.seconds())
	}
	return nil
}

// copyMount mounts and copies all of the source's snapshot out.
func (b *bench) copyMount(ctx context.Context, repo, target string) (usage, error) {
	b.memory.settle(ctx)
	start := time.Now()
	m, err := b.mount(ctx, b.ours(), repo)
	if err != nil {
		return usage{}, err
	}
	u, err := b.shell(ctx, `cp -a "$1" "$2"`, m.latest(b.source), target)
	u.wall = time.Since(start)
	served, err2 := m.done()
	u.cpu += served.cpu
	u.rssBytes = served.rssBytes
	return u, errors.Join(err, err2, os.RemoveAll(target))
}
