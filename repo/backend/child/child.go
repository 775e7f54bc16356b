// Package child runs the programs through which some stores are reached, such as ssh and rclone: each in a process
// group of its own, which can be killed as a whole, and with its standard error read line by line.
package child

import (
	"bytes"
	"os/exec"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Group is a running process and the children it may have.
type Group struct {
	cmd *exec.Cmd

	mu     sync.Mutex // guards all below; held while a signal is sent
	reaped bool       // from now on another process may get the number
}

// Start starts a command whose SysProcAttr make it the leader of a group (Setsid, Setpgid). Wait must be called.
func Start(cmd *exec.Cmd) (*Group, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &Group{cmd: cmd}, nil
}

// Pid is the number of the process and of its group.
func (g *Group) Pid() int { return g.cmd.Process.Pid }

// Wait is exec.Cmd.Wait. That may return up to WaitDelay after the process is gone, and with it its number.
func (g *Group) Wait() error {
	for { // until it has ended, and its number is still its own
		if err := unix.Waitid(unix.P_PID, g.Pid(), nil, unix.WEXITED|unix.WNOWAIT, nil); err != unix.EINTR {
			break // an error leaves it to Wait
		}
	}
	g.mu.Lock()
	g.reaped = true
	g.mu.Unlock()
	return g.cmd.Wait()
}

// Kill kills the process and all in its group. Once the process has ended it does nothing.
func (g *Group) Kill() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.reaped {
		_ = unix.Kill(-g.Pid(), unix.SIGKILL) // it fails only when the group is gone
	}
}

// maxLine is where a line is cut.
const maxLine = 4 << 10

// Lines cuts what a program writes into lines. The zero value is ready; it is not for use in parallel.
type Lines struct{ part []byte }

// Add calls each with every line that is complete, without the white space around it. Empty lines are left out, and
// what is longer than 4 KiB is cut.
func (l *Lines) Add(p []byte, each func(line string)) {
	l.part = append(l.part, p...)
	for {
		end, next := bytes.IndexByte(l.part, '\n'), 1
		if end < 0 && len(l.part) < maxLine {
			return
		} else if end < 0 || end > maxLine {
			end, next = maxLine, 0
		}
		if line := strings.TrimSpace(string(l.part[:end])); line != "" {
			each(line)
		}
		l.part = l.part[end+next:]
	}
}

// Rest is the line that has not ended, without the white space around it.
func (l *Lines) Rest() string { return strings.TrimSpace(string(l.part)) }
