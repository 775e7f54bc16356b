package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// commandLimit is there so that a run ends at all.
const commandLimit = 15 * time.Minute

// usage is what one measured step took.
type usage struct {
	wall     time.Duration
	cpu      time.Duration // user and system, of all that took part
	rssBytes int64         // peak resident memory of the program; 0 when not looked at
}

// seconds is the step as a value of a row in seconds.
func (u usage) seconds() value { return value{u.wall.Seconds(), u.cpu, u.rssBytes} }

// rate is the step as a value of a row in MB/s.
func (u usage) rate(sizeBytes int64) value {
	return value{float64(sizeBytes) / 1e6 / u.wall.Seconds(), u.cpu, u.rssBytes}
}

// run measures one command, which must succeed.
func (b *bench) run(ctx context.Context, argv []string) (usage, error) {
	ctx, cancel := context.WithTimeout(ctx, commandLimit)
	defer cancel()
	b.memory.settle(ctx)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Dir = b.work
	start := time.Now()
	together, err := runWatched(cmd)
	u := usage{wall: time.Since(start)}
	if err != nil {
		return u, fmt.Errorf("%s: %w\n%s", short(argv), err, clip(stderr.String()))
	}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.rssBytes = max(int64(ru.Maxrss)<<10, together)
	}
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	children := ""
	if together > 0 {
		children = fmt.Sprintf(" (%d with children)", together>>20)
	}
	fmt.Printf("bench: %8.2f s %5d MiB%s  %s\n", u.wall.Seconds(), u.rssBytes>>20, children, short(argv))
	return u, nil
}

// shell measures a script, which gets the arguments as $1, $2 … . The memory of plain tools is of no interest.
func (b *bench) shell(ctx context.Context, script string, args ...string) (usage, error) {
	u, err := b.run(ctx, append([]string{"bash", "-euo", "pipefail", "-c", script, "bench"}, args...))
	u.rssBytes = 0
	return u, err
}

func short(argv []string) string {
	line := strings.Join(argv, " ")
	if len(line) > 150 {
		line = line[:40] + " … " + line[len(line)-100:]
	}
	return line
}

// clip keeps the beginning of what a program complains of.
func clip(s string) string {
	if len(s) > 1000 {
		s = s[:1000] + " …"
	}
	return s
}

// mounted is a running mount.
type mounted struct {
	bench   *bench
	program program
	dir     string
	cmd     *exec.Cmd
	ready   usage // from the start until snapshots/latest answered
	stderr  *bytes.Buffer
}

// mount starts a mount and returns when `ls snapshots/latest/` answers. More arguments go to the
// command.
func (b *bench) mount(ctx context.Context, p program, repo string, args ...string) (*mounted, error) {
	dir, err := os.MkdirTemp(b.work, "mnt-")
	if err != nil {
		return nil, err
	}
	argv := b.command(p, repo, append(args, "mount", dir)...)
	m := &mounted{bench: b, program: p, dir: dir, cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), stderr: &bytes.Buffer{}}
	m.cmd.Stderr = m.stderr
	m.cmd.Cancel = func() error { return m.cmd.Process.Signal(syscall.SIGINT) }
	start := time.Now()
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	for time.Since(start) < 5*time.Minute && ctx.Err() == nil {
		if entries, err := os.ReadDir(dir + "/snapshots/latest/"); err == nil && len(entries) > 0 {
			m.ready.wall = time.Since(start)
			fmt.Printf("bench: %8.2f s  %s mount\n", m.ready.wall.Seconds(), p.name)
			b.learnBudget(m)
			return m, nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	_, err = m.unmount()
	return nil, errors.Join(fmt.Errorf("%s mount: snapshots/latest never answered: %s", p.name, clip(m.stderr.String())), err, ctx.Err())
}

// latest is where the mount shows a directory that was backed up.
func (m *mounted) latest(dir string) string { return m.dir + "/snapshots/latest" + dir }

// while measures fn; the processor time of the mount counts, too.
func (m *mounted) while(fn func() (usage, error)) (usage, error) {
	before := cpuOf(m.cmd.Process.Pid)
	u, err := fn()
	u.cpu += cpuOf(m.cmd.Process.Pid) - before
	u.rssBytes = peakBytes(m.cmd.Process.Pid)
	return u, err
}

// unmountLimit is how long a busy mount is unmounted again.
const unmountLimit = 5 * time.Second

// unmount ends the mount and returns the processor time and peak memory of its life. That it was
// busy goes into the report, whether it helped to wait or not.
func (m *mounted) unmount() (usage, error) {
	start := time.Now()
	out, err := exec.Command("fusermount3", "-u", m.dir).CombinedOutput()
	first := strings.TrimSpace(string(out))
	for tries := 1; err != nil && time.Since(start) < unmountLimit; tries++ {
		time.Sleep(100 * time.Millisecond)
		if out, err = exec.Command("fusermount3", "-u", m.dir).CombinedOutput(); err == nil {
			m.bench.report.note("Unmounting %s took %d tries and %.1f s: %s.", m.program.name, tries+1, time.Since(start).Seconds(), first)
		}
	}
	if err != nil {
		killErr := m.cmd.Process.Kill()
		m.cmd.Wait() // it was killed: how it ends is known
		return usage{}, errors.Join(fmt.Errorf("unmount %s for %v: %w: %s", m.program.name, unmountLimit, err, strings.TrimSpace(string(out))), killErr)
	}
	// How it ends when somebody unmounts it is the program's own affair.
	if err := m.cmd.Wait(); err != nil && m.cmd.ProcessState == nil {
		return usage{}, err
	}
	u := usage{cpu: m.cmd.ProcessState.UserTime() + m.cmd.ProcessState.SystemTime()}
	if ru, ok := m.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.rssBytes = int64(ru.Maxrss) << 10
	}
	return u, os.Remove(m.dir)
}

// done unmounts, and keeps the peak memory for the summary.
func (m *mounted) done() (usage, error) {
	u, err := m.unmount()
	m.bench.peaks[m.program.name] = max(m.bench.peaks[m.program.name], u.rssBytes)
	return u, err
}

// peakBytes is the peak resident memory of a live process; 0 if it is gone.
func peakBytes(pid int) int64 {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return kib << 10
		}
	}
	return 0
}

// cpuOf is the user and system time that a live process has used; 0 if it is gone.
func cpuOf(pid int) time.Duration {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	// After the name, which is in parentheses and may hold anything, utime and stime are the
	// 12th and 13th fields, in ticks of 10 ms.
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}
