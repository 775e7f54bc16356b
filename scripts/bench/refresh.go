package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// The readers of the section refresh read a little, so that the machine is not busy and a wait is
// the mount's doing: 64 KiB every 40 ms each, 160 MB/s all together.
const (
	calmReaders   = 100
	calmBytes     = 64 << 10
	calmEvery     = 40 * time.Millisecond
	appearEvery   = 400 * time.Millisecond // between two backups
	appearPatient = 15 * time.Second       // how long the last new snapshot is waited for
)

// refresh lets new snapshots appear while a hundred readers run. The plain column has the same
// readers on the source while the same backups run: what the machine itself makes them wait.
func (b *bench) refresh(ctx context.Context) error {
	return b.overStreams(ctx, func(round int, p program, repo string, paths []string) error {
		if p.name == "vitrine" {
			worst, _, err := b.readWhileAppearing(ctx, repo, paths, "")
			if err != nil {
				return err
			}
			b.report.add(stallRow(b), "plain", value{v: worst.Seconds() * 1000})
		}
		m, err := b.mount(ctx, p, repo)
		if err != nil {
			return err
		}
		found, err := m.inSnapshots(paths)
		var worst time.Duration
		var seen []time.Duration
		if err == nil {
			worst, seen, err = b.readWhileAppearing(ctx, repo, found, m.dir+"/ids")
		}
		served, err2 := m.done()
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		b.report.add(stallRow(b), p.name, value{worst.Seconds() * 1000, served.cpu, served.rssBytes})
		if missing := b.scale.snapshots - len(seen); missing > 0 {
			b.report.note("%s showed %d of %d new snapshots within %v of the last.", p.name, len(seen), b.scale.snapshots, appearPatient)
			return nil
		}
		slices.Sort(seen)
		appear := spec{section: "refresh", unit: "s"}
		appear.title = "until a new snapshot is seen, median"
		b.report.add(appear, p.name, value{v: seen[len(seen)/2].Seconds()})
		appear.title, appear.targets = "until a new snapshot is seen, worst", []target{atMost(5)}
		b.report.add(appear, p.name, value{v: seen[len(seen)-1].Seconds()})
		return nil
	})
}

func stallRow(b *bench) spec {
	return spec{section: "refresh", title: fmt.Sprintf("%d readers while %d snapshots appear: worst read", calmReaders, b.scale.snapshots),
		unit: "ms", targets: []target{atMost(100)}}
}

// readWhileAppearing backs up again and again while readers read the files, and returns the
// longest that one of them waited, and how long each new snapshot took from its file's being there until it
// was seen in listing ("" for no listing).
func (b *bench) readWhileAppearing(ctx context.Context, repo string, paths []string, listing string) (worst time.Duration, seen []time.Duration, err error) {
	before, err := snapshotIDs(repo)
	if err != nil {
		return 0, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	var readers errgroup.Group
	var mu sync.Mutex // guards worst
	for i := range calmReaders {
		readers.Go(func() error {
			longest, err := readCalmly(stop, paths[i%len(paths)], int64(i/len(paths))*b.scale.stream/8)
			mu.Lock()
			defer mu.Unlock()
			worst = max(worst, longest)
			return err
		})
	}
	w := &watcher{dir: listing, first: map[string]time.Time{}}
	var watching errgroup.Group
	if listing != "" {
		watching.Go(func() error { return w.run(stop) })
	}
	err = b.appear(ctx, repo)
	if err == nil && listing != "" {
		seen, err = w.delays(ctx, repo, before)
	}
	close(stop)
	return worst, seen, errors.Join(err, readers.Wait(), watching.Wait())
}

// readCalmly reads a file from a place on, over and over, and returns the longest that one read took.
func readCalmly(stop <-chan struct{}, path string, offsetBytes int64) (longest time.Duration, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	buf := make([]byte, calmBytes)
	tick := time.NewTicker(calmEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return longest, nil
		case <-tick.C:
		}
		if offsetBytes+calmBytes > info.Size() {
			offsetBytes = 0
		}
		start := time.Now()
		if _, err := f.ReadAt(buf, offsetBytes); err != nil {
			return longest, err
		}
		longest = max(longest, time.Since(start))
		offsetBytes += calmBytes
	}
}

// appear makes the new snapshots, each with new content. In life another machine writes them, so the
// writer has a low priority here.
func (b *bench) appear(ctx context.Context, repo string) (err error) {
	dir := b.work + "/new"
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	writer := b.ours()
	writer.name = "writer" // it has a cache of its own
	for i := range b.scale.snapshots {
		next := time.Now().Add(appearEvery)
		if err := os.WriteFile(dir+"/file", fmt.Appendf(nil, "%d %v", i, next), 0o644); err != nil {
			return err
		}
		if _, err := b.output(ctx, append([]string{"nice", "-n", "10"}, b.command(writer, repo, "backup", dir)...)); err != nil {
			return err
		}
		time.Sleep(time.Until(next))
	}
	return nil
}

// watcher lists a directory of snapshots all the time.
type watcher struct {
	dir string

	mu    sync.Mutex
	first map[string]time.Time // when a name was first seen; guarded by mu
}

func (w *watcher) run(stop <-chan struct{}) error {
	for {
		entries, err := os.ReadDir(w.dir)
		if err != nil {
			return err
		}
		now := time.Now()
		w.mu.Lock()
		for _, e := range entries {
			if _, known := w.first[e.Name()]; !known {
				w.first[e.Name()] = now
			}
		}
		w.mu.Unlock()
		select {
		case <-stop:
			return nil
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// delays waits until all snapshots that are new are seen, or for appearPatient.
func (w *watcher) delays(ctx context.Context, repo string, before map[string]time.Time) ([]time.Duration, error) {
	now, err := snapshotIDs(repo)
	if err != nil {
		return nil, err
	}
	patient, cancel := context.WithTimeout(ctx, appearPatient)
	defer cancel()
	for {
		var delays []time.Duration
		missing := 0
		for id, written := range now {
			if _, old := before[id]; old {
				continue
			}
			if at, ok := w.seen(id); ok {
				delays = append(delays, at.Sub(written))
			} else {
				missing++
			}
		}
		select {
		case <-patient.Done():
			return delays, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if missing == 0 {
			return delays, nil
		}
	}
}

// seen returns when the snapshot was first listed; mounts may shorten its name.
func (w *watcher) seen(id string) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, at := range w.first {
		if len(name) >= 8 && strings.HasPrefix(id, name) {
			return at, true
		}
	}
	return time.Time{}, false
}
