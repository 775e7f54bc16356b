package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"vitrine/scripts/internal/line"
	"vitrine/scripts/internal/sample"
)

// farLimit is how many seconds a program may read. restic's mount reads a blob at a time, a round trip
// for each; nobody learns more from minutes of that than from the first.
const farLimit = 40

// farBackupLimit is how many seconds a backup may take. restic sends 32 KiB for each round trip over SFTP.
const farBackupLimit = 60

// far measures both programs with repositories on real servers at the end of a line. Each
// begins without a cache, and has its own defaults.
func (b *bench) far(ctx context.Context) (err error) {
	dir := b.work + "/servers"
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for _, name := range []string{"/s3", "/sftp"} {
		if err := os.MkdirAll(dir+name, 0o755); err != nil {
			return err
		}
	}
	s3, err := startS3(ctx, dir+"/s3")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s3.stop()) }()
	sftp, err := startSFTP(ctx, dir+"/sftp")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, sftp.stop()) }()
	b.report.note("The line of the section far: a round trip of %v, %d MB/s in each direction for all connections together (scripts/internal/line).", lineLatency, lineBytes/1_000_000)
	cpu, began := ownCPU(), time.Now()
	if err := errors.Join(b.farBackups(ctx, s3, sftp), b.farViews(ctx, s3, sftp)); err != nil {
		return err
	}
	b.report.note("The bench itself, with the line in it, took %.0f %% of a processor in the section far.", 100*(ownCPU()-cpu).Seconds()/time.Since(began).Seconds())
	return nil
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// commandAt is command for a repository on a server.
func (b *bench) commandAt(r *remote, p program, repo string, args ...string) []string {
	return b.command(p, r.location(repo), append(append([]string(nil), r.options[p.name]...), args...)...)
}

// dropCache lets a program begin without any cache.
func (b *bench) dropCache(p program) error { return os.RemoveAll(b.work + "/cache-" + p.name) }

// farBackups measures first backups of files of all kinds into empty repositories, which have the same
// key and cut files the same way.
func (b *bench) farBackups(ctx context.Context, remotes ...*remote) error {
	source := b.work + "/source"
	if err := sample.CopySome(source, b.scale.farTree, b.scale.farSample); err != nil {
		return err
	}
	files, size, err := sample.Measure(source)
	if err != nil {
		return err
	}
	empty := b.work + "/repo-empty"
	err = b.fill(ctx, empty)
	for _, r := range remotes {
		title := fmt.Sprintf("%s: first backup of %d files, %.2f GiB", r.name, files, float64(size)/(1<<30))
		if err == nil {
			err = b.rounds(func(_ int, p program) error { return b.farBackup(ctx, r, p, title, empty, source, size) })
		}
	}
	return errors.Join(err, os.RemoveAll(source), os.RemoveAll(empty))
}

// farBackup measures a first backup. Of one that is stopped early, its speed is taken from how much it has
// sent of what the same program sent to the server before.
func (b *bench) farBackup(ctx context.Context, r *remote, p program, title, empty, source string, sizeBytes int64) error {
	err := errors.Join(b.dropCache(p), r.upload(ctx, empty, "backup"))
	if err != nil {
		return err
	}
	before := r.line.Counts()
	script := fmt.Sprintf(`timeout -s INT %d "$@" || test $? = 124`, farBackupLimit)
	u, err := b.shell(ctx, script, b.commandAt(r, p, "backup", "backup", source)...)
	sentBytes := r.line.Counts().Since(before).UpBytes
	if err := errors.Join(err, r.remove(ctx, "backup")); err != nil {
		return err
	}
	part := 1.0
	if u.wall < farBackupLimit*time.Second {
		b.farSent[p.name] = sentBytes
	} else if part = float64(sentBytes) / float64(b.farSent[p.name]); part > 1 {
		return fmt.Errorf("%s: %s was stopped after %d s, and it is not known when it would have ended", title, p.name, farBackupLimit)
	} else {
		b.report.note("%s, %s: stopped after %d s and %.1f %%; the figure goes on from there.", title, p.name, farBackupLimit, 100*part)
	}
	figure := u.rate(sizeBytes)
	figure.v *= part
	b.report.add(spec{section: "far", title: title, unit: "MB/s", more: true, targets: []target{atLeastRestic(1.5)}}, p.name, figure)
	if part == 1 {
		b.report.add(spec{section: "far", title: title + ": sent", unit: "MB"}, p.name, value{v: float64(sentBytes) / 1e6})
	}
	return nil
}

// farView is something that is read from a mount, in steps of which so many make a unit.
type farView struct {
	title, path string
	script      string // gets the path as $1, a place for what it makes as $2, farLimit as $3; it writes to $2.n how many steps it did
	steps       int    // in all
	bytes       int64  // of content in all steps
	unit        string
	inUnit      float64             // steps; 0 when the figure is the time of all steps
	targets     map[string][]target // by server
	twice       bool                // again on the same mount
}

func (b *bench) farViewsOf(dir string, smallBytes int64, entries int) []farView {
	size := b.scale.farBytes
	return []farView{{
		title: fmt.Sprintf("cat of a file of %d MiB", size>>20), path: dir + "/file",
		script: `{ timeout "$3" cat "$1" || test $? = 124; } | wc -c >"$2.n"`,
		steps:  int(size), bytes: size, unit: "MB/s", inUnit: 1e6,
		targets: map[string][]target{"S3": {atLeast(80)}, "SFTP": {atLeast(60)}},
	}, {
		title: fmt.Sprintf("cp -a of %d files, %d MB", b.scale.farFiles, smallBytes/1e6), path: dir + "/small",
		script: `timeout "$3" cp -a "$1" "$2" || test $? = 124; find "$2" -type f | wc -l >"$2.n"`,
		steps:  b.scale.farFiles, bytes: smallBytes, unit: "files/s", inUnit: 1,
		targets: map[string][]target{"S3": {atLeastRestic(10)}, "SFTP": {atLeastRestic(10)}},
	}, {
		title: fmt.Sprintf("find -ls of %d entries", entries), path: dir + "/walk",
		script: `{ timeout "$3" find "$1" -ls || test $? = 124; } | wc -l >"$2.n"`,
		steps:  entries, unit: "s", twice: true,
	}}
}

// farViews measures what both mounts show of one repository, which vitrine has written.
func (b *bench) farViews(ctx context.Context, remotes ...*remote) error {
	dir, repo := b.work+"/far", b.work+"/repo-far"
	if err := os.MkdirAll(dir+"/small", 0o755); err != nil {
		return err
	}
	smallBytes, err := writeSmallFiles(dir+"/small", b.scale.farFiles)
	const perDir = 99
	dirs := max(b.scale.farWalk/(perDir+1), 1)
	err = errors.Join(err, writeNoise(dir+"/file", b.scale.farBytes), writeEmptyFiles(dir+"/walk", dirs*perDir, perDir))
	if err == nil {
		err = b.fill(ctx, repo, dir)
	}
	for _, r := range remotes {
		if err == nil {
			err = r.upload(ctx, repo, "read")
		}
	}
	if err := errors.Join(err, os.RemoveAll(dir), os.RemoveAll(repo)); err != nil {
		return err
	}
	for _, v := range b.farViewsOf(dir, smallBytes, dirs*(perDir+1)+1) {
		for _, r := range remotes {
			if err := b.rounds(func(_ int, p program) error { return b.farMounted(ctx, r, p, v) }); err != nil {
				return err
			}
		}
	}
	return nil
}

// farMounted measures a view on a fresh mount.
func (b *bench) farMounted(ctx context.Context, r *remote, p program, v farView) error {
	if err := b.dropCache(p); err != nil {
		return err
	}
	before := r.line.Counts()
	m, err := b.mount(ctx, p, r.location("read"), r.options[p.name]...)
	if err != nil {
		return err
	}
	title := r.name + ": mount without a cache until snapshots/latest answers"
	b.report.add(spec{section: "far", title: title, unit: "s"}, p.name, m.ready.seconds())
	b.farTraffic(r, title, p.name, r.line.Counts().Since(before), 1, nil)
	title = r.name + ": " + v.title
	if v.twice {
		err = b.farRead(ctx, r, m, v, title+", cold", nil)
		title += ", again on the same mount"
	}
	if err == nil {
		var requests []target
		if v.twice {
			requests = []target{atMost(0)}
		}
		err = b.farRead(ctx, r, m, v, title, requests)
	}
	_, err2 := m.done()
	return errors.Join(err, err2)
}

// farRead measures a view once. What was stopped early counts as if it had gone on like that.
func (b *bench) farRead(ctx context.Context, r *remote, m *mounted, v farView, title string, requests []target) error {
	out := b.work + "/out"
	before := r.line.Counts()
	u, err := m.while(func() (usage, error) { return b.shell(ctx, v.script, m.latest(v.path), out, fmt.Sprint(farLimit)) })
	passed := r.line.Counts().Since(before)
	if err != nil {
		return errors.Join(err, os.RemoveAll(out))
	}
	text, err := os.ReadFile(out + ".n")
	if err := errors.Join(err, os.RemoveAll(out), os.Remove(out+".n")); err != nil {
		return err
	}
	steps, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || steps == 0 {
		return fmt.Errorf("%s: nothing was read: %q", title, text)
	}
	who, part := m.program.name, float64(steps)/float64(v.steps)
	if part < 1 {
		b.report.note("%s, %s: stopped after %d s and %.1f %%; the figures go on from there.", title, who, farLimit, 100*part)
	}
	row := spec{section: "far", title: title, unit: v.unit, more: v.inUnit > 0, targets: v.targets[r.name]}
	figure := u.wall.Seconds() / part
	if v.inUnit > 0 {
		figure = float64(steps) / v.inUnit / u.wall.Seconds()
	}
	b.report.add(row, who, value{figure, u.cpu, u.rssBytes})

	if v.bytes > 0 {
		part *= float64(v.bytes) / (1 << 30)
		title += ", for each GiB"
	}
	b.farTraffic(r, title, who, passed, part, requests)
	return nil
}

// farTraffic reports what has passed the line, divided by the part that it was of the whole.
func (b *bench) farTraffic(r *remote, title, who string, passed line.Counts, part float64, requests []target) {
	if r.name == "S3" { // SFTP sends many requests at a time, inside of SSH
		b.report.add(spec{section: "far", title: title + ": requests", unit: "requests", targets: requests}, who, value{v: float64(passed.Requests) / part})
	}
	b.report.add(spec{section: "far", title: title + ": on the line", unit: "MB"}, who, value{v: float64(passed.UpBytes+passed.DownBytes) / 1e6 / part})
}
