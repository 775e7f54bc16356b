package main

import (
	"context"
	"errors"
	"os"
)

// view is one way to read a whole directory: on the source with the plain file system
// below it, and on a mount.
type view struct {
	title string
	// script gets the directory as $1, a scratch directory as $2 and the source as $3.
	script string
	again  string // title of a second run on the same mount; "" for none
}

var viewTests = []view{
	{"find -ls, fresh mount", `find "$1" -ls >/dev/null`, "find -ls again"},
	{"cp -a, fresh mount", `cp -a "$1" "$2"`, ""},
	// Into a pipe: GNU tar reads no file when it sees that it writes to /dev/null.
	{"tar to a pipe, fresh mount", `tar -C "$1" -cf - . | cat >/dev/null`, "tar to a pipe again"},
	{"rsync -anc against the source, fresh mount", `rsync -anc "$1/" "$3/"`, ""},
}

// views measures reading the mounts of both programs, and the source itself. The mounts show the same
// repository, and their index caches are warm.
func (b *bench) views(ctx context.Context) error {
	ps := b.programs()
	repo := ps[0].repo
	// One mount each beforehand, so that nobody fetches an index while the clock runs.
	for _, p := range ps {
		m, err := b.mount(ctx, p, repo)
		if err != nil {
			return err
		}
		if _, err := m.unmount(); err != nil {
			return err
		}
	}
	for _, v := range viewTests {
		for range b.runs {
			if err := b.plainView(ctx, v); err != nil {
				return err
			}
			for _, p := range ps {
				if err := b.mountedView(ctx, v, p, repo); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *bench) read(ctx context.Context, script, dir string) (usage, error) {
	scratch := b.work + "/out"
	u, err := b.run(ctx, []string{"bash", "-euo", "pipefail", "-c", script, "bench", dir, scratch, b.source})
	u.rssBytes = 0 // of the tool: nobody asks
	return u, errors.Join(err, os.RemoveAll(scratch))
}

func (b *bench) plainView(ctx context.Context, v view) error {
	u, err := b.read(ctx, v.script, b.source)
	if err != nil {
		return err
	}
	b.report.add("mount", v.title, "plain", u)
	if v.again == "" {
		return nil
	}
	if u, err = b.read(ctx, v.script, b.source); err == nil {
		b.report.add("mount", v.again, "plain", u)
	}
	return err
}

func (b *bench) mountedView(ctx context.Context, v view, p program, repo string) error {
	m, err := b.mount(ctx, p, repo)
	if err != nil {
		return err
	}
	b.report.add("mount", "mount until snapshots/latest answers", p.name, m.ready)
	dir := m.dir + "/snapshots/latest" + b.source
	read := func() (usage, error) {
		before := cpuOf(m.cmd.Process.Pid)
		u, err := b.read(ctx, v.script, dir)
		u.cpu += cpuOf(m.cmd.Process.Pid) - before
		return u, err
	}
	first, err := read()
	var second usage
	if err == nil && v.again != "" {
		second, err = read()
	}
	served, err2 := m.unmount()
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	first.rssBytes = served.rssBytes
	b.report.add("mount", v.title, p.name, first)
	if v.again != "" {
		b.report.add("mount", v.again, p.name, second)
	}
	return nil
}
