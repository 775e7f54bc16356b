package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"syscall"
	"time"
)

// interruptible returns a reader that ends with the context: a read from a pipe that nobody writes to blocks for ever. The
// read below it goes on until the process ends, which is soon.
func interruptible(ctx context.Context, from io.Reader) io.Reader {
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	go func() {
		_, err := io.CopyBuffer(w, struct{ io.Reader }{from}, make([]byte, 1<<20))
		w.CloseWithError(err)
	}()
	return r
}

// errNoInput is the end of a backup of nothing: most likely the program in front of the pipe has failed.
var errNoInput = errors.New("no data read")

// notEmpty refuses to end without a byte.
type notEmpty struct {
	io.Reader
	some bool
}

func (r *notEmpty) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.some = r.some || n > 0
	if err == io.EOF && !r.some {
		err = errNoInput
	}
	return n, err
}

// patience is how long a command may go on after it was asked to end.
const patience = 5 * time.Second

// runCommand starts a command and returns a reader of what it prints. The reader ends with an error when the command fails, or
// ctx ends. Lines on its standard error go to say. stop, which is called when nobody reads any more, ends the command and
// waits for that.
func runCommand(ctx context.Context, args []string, say func(line string)) (out io.Reader, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = patience
	lines := &lineWriter{say: say}
	cmd.Stdout, cmd.Stderr = w, lines
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := cmd.Run()
		lines.end()
		if killed(err) { // a terminal signals us and the command at once: see whether it was meant for us, too
			select {
			case <-ctx.Done():
			case <-time.After(sameSignal):
			}
		}
		if err != nil { // only the program is named: its arguments may hold a secret
			err = fmt.Errorf("command %s failed: %w", args[0], err)
		}
		w.CloseWithError(err)
	}()
	return r, func() {
		cancel()
		<-done
	}
}

// sameSignal is within what time a signal to a command and one to us are thought to be the same.
const sameSignal = 200 * time.Millisecond

// killed reports whether a command ended by a signal.
func killed(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() < 0
}

// maxLineBytes is where a line that does not end is cut.
const maxLineBytes = 64 << 10

// lineWriter says what is written to it, line by line.
type lineWriter struct {
	say  func(line string)
	rest []byte
}

func (l *lineWriter) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		i := bytes.IndexByte(l.rest, '\n')
		if i < 0 && len(l.rest) < maxLineBytes {
			return len(p), nil
		}
		next := i + 1
		if i < 0 {
			i, next = len(l.rest), len(l.rest)
		}
		l.say(string(l.rest[:i]))
		l.rest = append(l.rest[:0], l.rest[next:]...)
	}
}

// end says the line that has no end.
func (l *lineWriter) end() {
	if len(l.rest) > 0 {
		l.say(string(l.rest))
		l.rest = nil
	}
}
