package cli

import (
	"errors"
	"io"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
)

// output is a standard output that may be a pipe whose reader leaves (`vitrine … | head -1`). The command then ends as after
// a signal, and cleans up, before the process ends as others do that write to such a pipe.
type output struct {
	io.Writer
	closed atomic.Bool // the reader has left
	left   func()      // is called for that, perhaps several times
}

// watchOutput makes an output of stdout, and keeps Go's runtime from ending the process when the reader has left.
func watchOutput(stdout io.Writer, left func()) *output {
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // nobody receives: the write fails with EPIPE now
	return &output{Writer: stdout, left: left}
}

// Write writes to standard output.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if errors.Is(err, syscall.EPIPE) {
		o.closed.Store(true)
		o.left()
	}
	return n, err
}

// end ends the process by SIGPIPE, as Go's runtime does when it writes to standard output and nobody asks for the signal: one that
// is sent it passes over. Should that be blocked, end returns the code that a shell gives for it.
func (o *output) end() int {
	signal.Reset(syscall.SIGPIPE)
	_, _ = o.Writer.Write([]byte{'\n'})
	return exitPipe
}
