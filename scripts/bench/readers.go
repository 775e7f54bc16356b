package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// The streams: files of noise, so many in each of so many snapshots.
const (
	streamSnapshots = 4
	streamFiles     = 4 // in each
)

// overStreams makes the streams and a repository with one snapshot for each directory of them, calls fn for
// each program of each round once the program's index cache is filled, and removes them again. The paths that fn
// gets are those of the source.
func (b *bench) overStreams(ctx context.Context, fn func(round int, p program, repo string, paths []string) error) (err error) {
	dir, repo := b.work+"/streams", b.work+"/repo-streams"
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(repo)) }()
	var dirs, paths []string
	for i := range streamSnapshots {
		d := fmt.Sprintf("%s/%d", dir, i)
		dirs = append(dirs, d)
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
		for j := range streamFiles {
			path := fmt.Sprintf("%s/file-%d", d, j)
			paths = append(paths, path)
			if err := writeNoise(path, b.scale.stream); err != nil {
				return err
			}
		}
	}
	if err := b.fill(ctx, repo, dirs...); err != nil {
		return err
	}
	if err := b.warmIndex(ctx, repo, b.programs()...); err != nil {
		return err
	}
	return b.rounds(func(round int, p program) error { return fn(round, p, repo, paths) })
}

// inSnapshots finds the files of the source in a mount, each below the snapshot that has it.
func (m *mounted) inSnapshots(paths []string) ([]string, error) {
	found := make([]string, len(paths))
	for i, path := range paths {
		matches, err := filepath.Glob(m.dir + "/ids/*" + path)
		if err != nil || len(matches) == 0 {
			return nil, fmt.Errorf("no snapshot in %s shows %s (%v)", m.dir, path, err)
		}
		found[i] = matches[0]
	}
	return found, nil
}

// readers measures 16 readers at once against one that reads the same files one after the
// other, and how long a stat of a known file takes meanwhile.
func (b *bench) readers(ctx context.Context) error {
	return b.overStreams(ctx, func(_ int, p program, repo string, paths []string) error {
		if p.name == "vitrine" {
			if err := b.readOnceAndAtOnce(ctx, "plain", func() ([]string, func() error, error) {
				return paths, func() error { return nil }, nil
			}); err != nil {
				return err
			}
		}
		return b.readOnceAndAtOnce(ctx, p.name, func() ([]string, func() error, error) {
			m, err := b.mount(ctx, p, repo)
			if err != nil {
				return nil, nil, err
			}
			end := func() error { _, err := m.done(); return err }
			found, err := m.inSnapshots(paths)
			if err != nil {
				err = errors.Join(err, end())
			}
			return found, end, err
		})
	})
}

// readOnceAndAtOnce measures one peer. open gives the files, unread, and what to do when they are
// no longer needed.
func (b *bench) readOnceAndAtOnce(ctx context.Context, who string, open func() (paths []string, end func() error, err error)) error {
	rates := map[bool]float64{}
	for _, atOnce := range []bool{false, true} {
		paths, end, err := open()
		if err != nil {
			return err
		}
		title := fmt.Sprintf("one reader, %d files of %d MiB in %d snapshots", len(paths), b.scale.stream>>20, streamSnapshots)
		if atOnce {
			title = fmt.Sprintf("%d readers at once, total", len(paths))
		}
		u, p99, err := b.readAll(ctx, paths, atOnce)
		if err := errors.Join(err, end()); err != nil {
			return err
		}
		v := value{v: u.rate(b.scale.stream * int64(len(paths))).v}
		rates[atOnce] = v.v
		b.report.add(spec{section: "readers", title: title, unit: "MB/s", more: true}, who, v)
		if atOnce {
			b.report.add(spec{section: "readers", title: "p99 of a cached stat meanwhile", unit: "ms", targets: []target{atMost(1)}},
				who, value{v: p99.Seconds() * 1000})
		}
	}
	b.report.add(spec{section: "readers", title: "readers at once against one reader", unit: "×", more: true, targets: []target{atLeast(1)}},
		who, value{v: rates[true] / rates[false]})
	return nil
}

// readAll reads files to their ends with cat, and looks at the first one again and again.
func (b *bench) readAll(ctx context.Context, paths []string, atOnce bool) (u usage, p99 time.Duration, err error) {
	stop := make(chan struct{})
	var stats errgroup.Group
	var times []time.Duration
	stats.Go(func() (err error) {
		times, err = statUntil(stop, paths[0])
		return err
	})
	script := `for f in "$@"; do cat "$f" >/dev/null; done`
	if atOnce {
		script = `for f in "$@"; do cat "$f" >/dev/null & pids+=($!); done; wait "${pids[@]}"`
	}
	u, err = b.shell(ctx, script, paths...)
	close(stop)
	err = errors.Join(err, stats.Wait())
	slices.Sort(times)
	if len(times) > 0 {
		p99 = times[len(times)*99/100]
	}
	return u, p99, err
}

// statUntil measures stat of a path that the kernel knows, about a thousand times a second.
func statUntil(stop <-chan struct{}, path string) ([]time.Duration, error) {
	runtime.LockOSThread() // nobody else's waiting is measured
	defer runtime.UnlockOSThread()
	var times []time.Duration
	for first := true; ; first = false {
		select {
		case <-stop:
			return times, nil
		case <-time.After(time.Millisecond):
		}
		start := time.Now()
		if _, err := os.Lstat(path); err != nil {
			return nil, err
		}
		if !first {
			times = append(times, time.Since(start))
		}
	}
}
