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
	calmStart     = time.Second            // after which all readers are under way
)

// refresh lets new snapshots appear while a hundred readers run. The plain column has the same
// readers on the source while the same backups run: what the machine itself makes them wait.
//
// All readers begin at once and cold, so that at first they wait for each other: a hundred chunks have to be decoded
// before the last one has his 64 KiB. To tell that from what the new snapshots do, the same is measured without
// any, and with them once the readers are under way.
func (b *bench) refresh(ctx context.Context) error {
	return b.overStreams(ctx, func(round int, p program, repo string, paths []string) error {
		if p.name == "vitrine" {
			waits, _, err := b.readWhile(ctx, repo, paths, "", b.appear)
			if err != nil {
				return err
			}
			b.addWaits("plain", waits, usage{})
		}
		nothing := func(ctx context.Context, _ string) error {
			return pause(ctx, time.Duration(b.scale.snapshots)*appearEvery)
		}
		waits, _, served, err := b.readMounted(ctx, p, repo, paths, nothing)
		if err != nil {
			return err
		}
		b.report.add(spec{section: "refresh", title: fmt.Sprintf("%d readers and no new snapshot: worst read", calmReaders), unit: "ms"},
			p.name, value{waits.worst.Seconds() * 1000, served.cpu, served.rssBytes})
		waits, seen, served, err := b.readMounted(ctx, p, repo, paths, b.appear)
		if err != nil {
			return err
		}
		b.addWaits(p.name, waits, served)
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

// calmWaits are the longest that one of the readers waited.
type calmWaits struct {
	worst    time.Duration
	underWay time.Duration // after calmStart
}

func (w *calmWaits) add(o calmWaits) {
	w.worst, w.underWay = max(w.worst, o.worst), max(w.underWay, o.underWay)
}

func (b *bench) addWaits(who string, w calmWaits, served usage) {
	row := spec{section: "refresh", title: fmt.Sprintf("%d readers while %d snapshots appear: worst read", calmReaders, b.scale.snapshots),
		unit: "ms", targets: []target{atMost(100)}}
	b.report.add(row, who, value{w.worst.Seconds() * 1000, served.cpu, served.rssBytes})
	row.title, row.targets = row.title+fmt.Sprintf(" after the first %v", calmStart), nil
	b.report.add(row, who, value{v: w.underWay.Seconds() * 1000})
}

func pause(ctx context.Context, length time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(length):
		return nil
	}
}

// readMounted is readWhile on a mount of its own.
func (b *bench) readMounted(ctx context.Context, p program, repo string, paths []string, meanwhile func(ctx context.Context, repo string) error) (waits calmWaits, seen []time.Duration, served usage, err error) {
	m, err := b.mount(ctx, p, repo)
	if err != nil {
		return waits, nil, served, err
	}
	found, err := m.inSnapshots(paths)
	if err == nil {
		waits, seen, err = b.readWhile(ctx, repo, found, m.dir+"/ids", meanwhile)
	}
	served, err2 := m.done()
	return waits, seen, served, errors.Join(err, err2)
}

// readWhile has readers read the files while something else is done to the repository, and returns how long
// they waited, and how long each snapshot that was new took from its file's being there until it was seen in
// listing ("" for no listing).
func (b *bench) readWhile(ctx context.Context, repo string, paths []string, listing string, meanwhile func(ctx context.Context, repo string) error) (waits calmWaits, seen []time.Duration, err error) {
	before, err := snapshotIDs(repo)
	if err != nil {
		return waits, nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	var readers errgroup.Group
	var mu sync.Mutex // guards waits
	for i := range calmReaders {
		readers.Go(func() error {
			mine, err := readCalmly(stop, paths[i%len(paths)], int64(i/len(paths))*b.scale.stream/8)
			mu.Lock()
			defer mu.Unlock()
			waits.add(mine)
			return err
		})
	}
	w := &watcher{dir: listing, first: map[string]time.Time{}}
	var watching errgroup.Group
	if listing != "" {
		watching.Go(func() error { return w.run(stop) })
	}
	err = meanwhile(ctx, repo)
	if err == nil && listing != "" {
		seen, err = w.delays(ctx, repo, before)
	}
	close(stop)
	return waits, seen, errors.Join(err, readers.Wait(), watching.Wait())
}

// readCalmly reads a file from a place on, over and over, and returns the longest that one read took.
func readCalmly(stop <-chan struct{}, path string, offsetBytes int64) (waits calmWaits, err error) {
	f, err := os.Open(path)
	if err != nil {
		return waits, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return waits, err
	}
	began := time.Now()
	buf := make([]byte, calmBytes)
	tick := time.NewTicker(calmEvery)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return waits, nil
		case <-tick.C:
		}
		if offsetBytes+calmBytes > info.Size() {
			offsetBytes = 0
		}
		start := time.Now()
		if _, err := f.ReadAt(buf, offsetBytes); err != nil {
			return waits, err
		}
		one := calmWaits{worst: time.Since(start)}
		if start.Sub(began) > calmStart {
			one.underWay = one.worst
		}
		waits.add(one)
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
