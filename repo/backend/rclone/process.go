package rclone

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/backend/child"
)

// process is a running rclone.
type process struct {
	group  *child.Group
	pipes  net.Conn
	dialed atomic.Bool
	said   *lines
	name   string        // of the program
	exited chan struct{} // closed when it has ended
	ended  string        // with which error; set before exited is closed, and not to be read before
}

// run starts rclone in a process group of its own: Ctrl-C on the terminal must not end it before the
// locks are removed through it.
func run(c Config) (*process, error) {
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
	argv, env := c.command()
	cmd := exec.Command(argv[0], argv[1:]...)
	p := &process{name: argv[0], said: &lines{log: log, hide: hider(c.Remote)}, exited: make(chan struct{})}
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = childIn, childOut, p.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second // a grandchild may keep standard error open
	p.group, err = child.Start(cmd)
	closed := errors.Join(childIn.Close(), childOut.Close())
	if err := errors.Join(err, closed); err != nil {
		toChild.Close()
		fromChild.Close()
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			return nil, backend.Classed(backend.ErrDenied, fmt.Errorf("there is no program %s: install rclone, or say with -o rclone.program=… where it is", argv[0]))
		}
		return nil, fmt.Errorf("run %s: %w", argv[0], err)
	}
	p.pipes = &pipes{toChild, fromChild}
	if c.WrapConn != nil {
		p.pipes = c.WrapConn(p.pipes)
	}
	go func() {
		if err := p.group.Wait(); err != nil {
			p.ended = err.Error()
		}
		close(p.exited)
	}()
	return p, nil
}

// dial returns the connection to the child, of which there is one.
func (p *process) dial(context.Context, string, string) (net.Conn, error) {
	if p.dialed.Swap(true) {
		return nil, errors.New("the connection to rclone is over")
	}
	return p.pipes, nil
}

// end closes the pipes, which ends rclone, and waits for that; after patience, or when stop is closed, it is killed.
func (p *process) end(stop <-chan struct{}, patience time.Duration) {
	p.pipes.Close() // a second Close is an error of no interest
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-p.exited:
		return
	case <-timer.C:
	case <-stop:
	}
	p.group.Kill()
	<-p.exited
}

// endsItself waits a moment for the end of a process whose connection has broken, and tells whether it came.
func (p *process) endsItself(ctx context.Context) bool {
	timer := time.NewTimer(selfTime)
	defer timer.Stop()
	select {
	case <-p.exited:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

// selfTime is how much later than its pipes a process may end by itself, on a machine that is busy too. Who waits for nothing
// loses it once, before an error.
const selfTime = time.Second

// lastWords says why a process that has ended did: with the last line that it wrote to standard error, or else how it
// ended. It is "" when both tell nothing: one that was asked to end does so without an error. Of one that ended by
// itself (unasked) that is worth telling, too.
func (p *process) lastWords(unasked bool) string {
	line, ended := p.said.lastLine(), p.ended
	if unasked {
		ended = cmp.Or(ended, "exit status 0")
	}
	switch {
	case strings.HasSuffix(line, "didn't find section in config file"):
		return "rclone says: " + line + " (`rclone config` makes a remote, `rclone listremotes` shows those of this user)"
	case line != "":
		return "rclone says: " + line
	case ended == "":
		return ""
	}
	when := ""
	if !p.said.hasAnswered() {
		when = " before it answered"
	}
	return fmt.Sprintf("the program %s ended%s and said nothing (%s): is it rclone? See -o rclone.program and -o rclone.args", p.name, when, ended)
}

// how is lastWords in short.
func (p *process) how() string { return cmp.Or(p.said.lastLine(), p.ended) }

// lines passes what rclone says to the log, and keeps the end of it for the errors of what it was said about. Until
// it has answered, the last line is kept back, since an error will have it when it ends. None is a warning: what
// does harm makes a request fail, and then the error has the words.
type lines struct {
	log  *slog.Logger
	hide func(line string) string // takes out what is secret

	mu       sync.Mutex // guards all below
	parts    child.Lines
	last     string
	held     bool // last is kept back
	answered bool
	recent   []string // of errors, the oldest first
	count    int      // of errors in all
	usage    bool     // it explains its command line, which helps nobody here
}

// maxRecent is how many lines of errors are kept.
const maxRecent = 64

// live says that rclone has answered: from now on all that it says goes to the log at once.
func (l *lines) live() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered = true
	l.flush()
}

func (l *lines) hasAnswered() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.answered
}

// flush logs the line that is kept back; mu is held.
func (l *lines) flush() {
	if l.held {
		l.log.Info("rclone: " + l.last)
		l.held = false
	}
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parts.Add(p, l.say)
	return len(p), nil
}

// stamp is how rclone begins its lines.
const stamp = "2006/01/02 15:04:05 "

// say logs a line or keeps it back; mu is held.
func (l *lines) say(line string) {
	stamped := false
	if len(line) > len(stamp) {
		if _, err := time.Parse(stamp, line[:len(stamp)]); err == nil {
			line, stamped = strings.TrimSpace(line[len(stamp):]), true
		}
	}
	l.usage = (l.usage || line == "Usage:") && !stamped && !strings.HasPrefix(line, "Fatal error:")
	if line == "" || l.usage {
		return
	}
	line = l.hide(line)
	if strings.HasPrefix(line, "NOTICE:") || strings.HasPrefix(line, "INFO") || strings.HasPrefix(line, "DEBUG") {
		l.log.Info("rclone: " + line)
		return
	}
	l.flush()
	l.last, l.held = line, true
	if l.answered {
		l.flush()
	}
	l.recent = append(l.recent, line)
	l.recent = l.recent[max(0, len(l.recent)-maxRecent):]
	l.count++
}

// errors returns how many were told of so far.
func (l *lines) errors() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// about returns what was last said about a file after so many errors, or "". The answer that a request has
// failed may be here before the reason is, so it waits a little.
func (l *lines) about(name string, after int) string {
	for began := time.Now(); ; time.Sleep(wordsPause) {
		if words := l.find(name+": ", after); words != "" || time.Since(began) > wordsTime {
			return words
		}
	}
}

// wordsPause is between two looks for the reason of an error.
const wordsPause = 10 * time.Millisecond

// wordsTime is how long the reason of an error may take longer than the error. Only tests change it.
var wordsTime = 200 * time.Millisecond

func (l *lines) find(prefix string, after int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range slices.Backward(l.recent[len(l.recent)-min(len(l.recent), l.count-after):]) {
		if _, words, ok := strings.Cut(line, prefix); ok {
			return words
		}
	}
	return ""
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
