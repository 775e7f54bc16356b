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

// usage is what one measured step took.
type usage struct {
	wall     time.Duration
	cpu      time.Duration // user and system, of all that took part
	rssBytes int64         // peak resident memory of the program; 0 when not looked at
}

// run measures one command, which must succeed. The time limit is generous: it is there so that
// a run ends at all.
func (b *bench) run(ctx context.Context, argv []string) (usage, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Dir = b.work
	start := time.Now()
	err := cmd.Run()
	u := usage{wall: time.Since(start)}
	if err != nil {
		return u, fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, stderr.String())
	}
	if ru, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.rssBytes = ru.Maxrss << 10
	}
	u.cpu = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	fmt.Printf("bench: %8.2f s  %s\n", u.wall.Seconds(), short(argv))
	return u, nil
}

func short(argv []string) string {
	line := strings.Join(argv, " ")
	if len(line) > 150 {
		line = line[:40] + " … " + line[len(line)-100:]
	}
	return line
}

// mounted is a running mount.
type mounted struct {
	dir   string
	cmd   *exec.Cmd
	ready usage // from the start until snapshots/latest answered
	err   *bytes.Buffer
}

// mount starts a mount and returns when `ls snapshots/latest/` answers.
func (b *bench) mount(ctx context.Context, p program, repo string) (*mounted, error) {
	dir, err := os.MkdirTemp(b.work, "mnt-")
	if err != nil {
		return nil, err
	}
	argv := b.command(p, repo, "mount", dir)
	m := &mounted{dir: dir, cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), err: &bytes.Buffer{}}
	m.cmd.Stderr = m.err
	m.cmd.Cancel = func() error { return m.cmd.Process.Signal(syscall.SIGINT) }
	start := time.Now()
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	for time.Since(start) < 10*time.Minute && ctx.Err() == nil {
		if entries, err := os.ReadDir(dir + "/snapshots/latest/"); err == nil && len(entries) > 0 {
			m.ready.wall = time.Since(start)
			m.ready.rssBytes = peakBytes(m.cmd.Process.Pid)
			fmt.Printf("bench: %8.2f s  %s mount\n", m.ready.wall.Seconds(), p.name)
			return m, nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	_, err = m.unmount()
	return nil, errors.Join(fmt.Errorf("%s mount: snapshots/latest never answered: %s", p.name, m.err), err, ctx.Err())
}

// unmountTries is how often a busy mount is unmounted again, a tenth of a second apart.
const unmountTries = 50

// unmount ends the mount and returns the processor time and peak memory of its life.
func (m *mounted) unmount() (usage, error) {
	out, err := exec.Command("fusermount3", "-u", m.dir).CombinedOutput()
	for try := 0; err != nil && try < unmountTries; try++ { // busy: somebody on this machine looks at it
		time.Sleep(100 * time.Millisecond)
		out, err = exec.Command("fusermount3", "-u", m.dir).CombinedOutput()
	}
	if err != nil {
		m.cmd.Process.Kill()
		m.cmd.Wait()
		return usage{}, fmt.Errorf("unmount: %w: %s", err, out)
	}
	// How it ends when somebody unmounts it is the program's own affair.
	if err := m.cmd.Wait(); err != nil && m.cmd.ProcessState == nil {
		return usage{}, err
	}
	u := usage{cpu: m.cmd.ProcessState.UserTime() + m.cmd.ProcessState.SystemTime()}
	if ru, ok := m.cmd.ProcessState.SysUsage().(*syscall.Rusage); ok {
		u.rssBytes = ru.Maxrss << 10
	}
	return u, os.Remove(m.dir)
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
