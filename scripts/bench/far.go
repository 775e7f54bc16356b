package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"vitrine/scripts/internal/sample"
)

// The slow line of the section latency.
const (
	lineLatency = "50ms"
	lineBytes   = 100_000_000 // a second
)

// latency measures vitrine behind a slow line. restic's mount has no such line, and needs none to be
// compared with: it reads one blob per round trip.
func (b *bench) latency(ctx context.Context) (err error) {
	dir, repo := b.work+"/far", b.work+"/repo-far"
	defer func() { err = errors.Join(err, os.RemoveAll(dir), os.RemoveAll(repo)) }()
	if err := os.MkdirAll(dir+"/small", 0o755); err != nil {
		return err
	}
	if err := writeNoise(dir+"/file", b.scale.farBytes); err != nil {
		return err
	}
	smallBytes, err := writeSmallFiles(dir+"/small", b.scale.farFiles)
	if err != nil {
		return err
	}
	if err := b.fill(ctx, repo, dir); err != nil {
		return err
	}
	if err := b.warmIndex(ctx, repo, b.ours()); err != nil {
		return err
	}
	for range b.runs {
		if err := b.farFile(ctx, repo, dir+"/file"); err != nil {
			return err
		}
		if err := b.farFiles(ctx, repo, dir+"/small", smallBytes); err != nil {
			return err
		}
	}
	return nil
}

// farRead mounts over the slow line and measures a script; the requests are those of the script.
// Without a status that counts them, requests is negative. done, which may be nil, looks at what is in
// $2 before it is removed.
func (b *bench) farRead(ctx context.Context, repo, script, path string, done func(out string) error) (u usage, requests, sizeBytes int64, err error) {
	m, err := b.mount(ctx, b.ours(), repo, "-o", "slow.latency="+lineLatency, "-o", fmt.Sprintf("slow.bandwidth=%d", lineBytes))
	if err != nil {
		return u, 0, 0, err
	}
	before, err := m.status()
	var after status
	if err == nil {
		u, err = m.while(func() (usage, error) { return b.shell(ctx, script, m.latest(path), b.work+"/out") })
	}
	if err == nil {
		after, err = m.status()
	}
	if err == nil && done != nil {
		err = done(b.work + "/out")
	}
	_, err2 := m.done()
	if err = errors.Join(err, err2, os.RemoveAll(b.work+"/out")); err != nil {
		return u, 0, 0, err
	}
	if before.Backend == nil || after.Backend == nil {
		b.report.note("The status of the mount counts no requests.")
		return u, -1, 0, nil
	}
	return u, after.Backend.Requests - before.Backend.Requests, after.Backend.BytesRead - before.Backend.BytesRead, nil
}

func (b *bench) farFile(ctx context.Context, repo, path string) error {
	size := b.scale.farBytes
	u, requests, got, err := b.farRead(ctx, repo, `cat "$1" | cat >/dev/null`, path, nil)
	if err != nil {
		return err
	}
	title := fmt.Sprintf("file of %d MiB behind 50 ms and 100 MB/s", size>>20)
	b.report.add(spec{section: "latency", title: title + ": share of the bandwidth", unit: "%", more: true, targets: []target{atLeast(80)}},
		"vitrine", value{u.rate(size).v / (lineBytes / 1e6) * 100, u.cpu, u.rssBytes})
	if requests < 0 {
		return nil
	}
	gib := float64(size) / (1 << 30)
	b.report.add(spec{section: "latency", title: title + ": requests per GiB", unit: "requests"}, "vitrine", value{v: float64(requests) / gib})
	b.report.add(spec{section: "latency", title: title + ": fetched for each byte read", unit: "bytes"}, "vitrine", value{v: float64(got) / float64(size)})
	return nil
}

// farLimit is how many seconds the copy of the small files may take. At one round trip for each
// it would take ten minutes, and nobody learns more from that than from the first.
const farLimit = 60

func (b *bench) farFiles(ctx context.Context, repo, path string, sizeBytes int64) error {
	copied := sizeBytes
	script := fmt.Sprintf(`timeout %d cp -a "$1" "$2" || test $? = 124`, farLimit)
	u, requests, got, err := b.farRead(ctx, repo, script, path, func(out string) (err error) {
		_, copied, err = sample.Measure(out)
		return err
	})
	if err != nil {
		return err
	}
	if copied < sizeBytes {
		b.report.note("The copy of the small files behind the slow line was stopped after %d s, when %d of %d MB were there; its figures are those of this part.",
			farLimit, copied/1e6, sizeBytes/1e6)
	}
	bound := time.Duration(float64(max(copied, 1)) / lineBytes * float64(time.Second))
	title := fmt.Sprintf("cp -a of %d files, %d MB, behind 50 ms and 100 MB/s", b.scale.farFiles, sizeBytes/1e6)
	b.report.add(spec{section: "latency", title: title + ": against the time that the bandwidth needs", unit: "×", targets: []target{atMost(3)}},
		"vitrine", value{u.wall.Seconds() / bound.Seconds(), u.cpu, u.rssBytes})
	if requests < 0 {
		return nil
	}
	b.report.add(spec{section: "latency", title: title + ": requests", unit: "requests"}, "vitrine", value{v: float64(requests)})
	b.report.add(spec{section: "latency", title: title + ": fetched for each byte read", unit: "bytes"}, "vitrine", value{v: float64(got) / float64(max(copied, 1))})
	return nil
}
