package rclone

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// child is a running rclone.
type child struct {
	cmd    *exec.Cmd
	pipes  net.Conn
	dialed atomic.Bool
	said   *lines
	exited chan struct{} // closed when it has ended
}

// run starts rclone in a process group of its own: Ctrl-C on the terminal must not end it before the
// locks are removed through it.
func run(c Config) (*child, error) {
	childIn, toChild, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	fromChild, childOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, childIn.Close(), toChild.Close())
	}
	log := c.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	argv := append(append(append([]string{}, c.Program...), c.Args...), c.Remote)
	ch := &child{cmd: exec.Command(argv[0], argv[1:]...), said: &lines{log: log, secrets: secrets(c.Remote)}, exited: make(chan struct{})}
	ch.cmd.Stdin, ch.cmd.Stdout, ch.cmd.Stderr = childIn, childOut, ch.said
	ch.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	ch.cmd.WaitDelay = time.Second // a grandchild may keep standard error open
	err = ch.cmd.Start()
	closed := errors.Join(childIn.Close(), childOut.Close())
	if err := errors.Join(err, closed); err != nil {
		toChild.Close()
		fromChild.Close()
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("there is no program %s: install rclone, or say with -o rclone.program=… where it is", argv[0])
		}
		return nil, fmt.Errorf("run %s: %w", argv[0], err)
	}
	ch.pipes = &pipes{toChild, fromChild}
	if c.WrapConn != nil {
		ch.pipes = c.WrapConn(ch.pipes)
	}
	go func() {
		if err := ch.cmd.Wait(); err != nil {
			ch.said.fallback(err.Error())
		}
		close(ch.exited)
	}()
	return ch, nil
}

// dial returns the connection to the child, of which there is one.
func (ch *child) dial(context.Context, string, string) (net.Conn, error) {
	if ch.dialed.Swap(true) {
		return nil, errors.New("the connection to rclone is over")
	}
	return ch.pipes, nil
}

// end closes the pipes, which ends rclone, and waits for that; after patience it is killed.
func (ch *child) end(patience time.Duration) {
	ch.pipes.Close() // a second Close is an error of no interest
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ch.exited:
	case <-timer.C:
		// It fails only when the group is gone.
		_ = syscall.Kill(-ch.cmd.Process.Pid, syscall.SIGKILL)
		<-ch.exited
	}
}

// lastWords is the last line that rclone wrote to standard error, or else how it ended.
func (ch *child) lastWords() string { return ch.said.lastLine() }

// lines passes what rclone says to the log.
type lines struct {
	log     *slog.Logger
	secrets []string // are not passed on

	mu   sync.Mutex
	part []byte // of a line; guarded by mu
	last string // guarded by mu
}

// maxLine is where a line is cut.
const maxLine = 4 << 10

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, p...)
	for {
		end := bytes.IndexByte(l.part, '\n')
		if end < 0 && len(l.part) < maxLine {
			return len(p), nil
		} else if end < 0 {
			end = maxLine - 1
		}
		l.say(string(l.part[:end]))
		l.part = l.part[end+1:]
	}
}

// stamp is how rclone begins its lines.
const stamp = "2006/01/02 15:04:05 "

func (l *lines) say(line string) {
	line = strings.TrimSpace(line)
	if len(line) > len(stamp) {
		if _, err := time.Parse(stamp, line[:len(stamp)]); err == nil {
			line = strings.TrimSpace(line[len(stamp):])
		}
	}
	if line == "" {
		return
	}
	for _, secret := range l.secrets {
		line = strings.ReplaceAll(line, secret, "***")
	}
	if strings.HasPrefix(line, "NOTICE:") || strings.HasPrefix(line, "INFO") || strings.HasPrefix(line, "DEBUG") {
		l.log.Info("rclone: " + line)
		return
	}
	l.last = line
	l.log.Warn("rclone: " + line)
}

func (l *lines) fallback(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last == "" {
		l.last = line
	}
}

func (l *lines) lastLine() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last
}

// pipes are the child's standard input and output as a connection.
type pipes struct{ to, from *os.File }

// Read implements net.Conn.
func (p *pipes) Read(b []byte) (int, error) { return p.from.Read(b) }

// Write implements net.Conn.
func (p *pipes) Write(b []byte) (int, error) { return p.to.Write(b) }

// Close implements net.Conn.
func (p *pipes) Close() error { return errors.Join(p.to.Close(), p.from.Close()) }

// LocalAddr implements net.Conn.
func (p *pipes) LocalAddr() net.Addr { return address{} }

// RemoteAddr implements net.Conn.
func (p *pipes) RemoteAddr() net.Addr { return address{} }

// SetDeadline implements net.Conn.
func (p *pipes) SetDeadline(t time.Time) error {
	return errors.Join(p.SetReadDeadline(t), p.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn.
func (p *pipes) SetReadDeadline(t time.Time) error { return p.from.SetReadDeadline(t) }

// SetWriteDeadline implements net.Conn.
func (p *pipes) SetWriteDeadline(t time.Time) error { return p.to.SetWriteDeadline(t) }

// address is that of a child process.
type address struct{}

// Network implements net.Addr.
func (address) Network() string { return "pipe" }

// String implements net.Addr.
func (address) String() string { return "rclone" }
