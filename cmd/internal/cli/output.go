package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
)

// output is a standard output that may be a pipe whose reader leaves (`vitrine … | head -1`). The command then ends as after
// a signal, and cleans up, before the process ends as others do that write to such a pipe. What fails otherwise, as on a full
// disk, is remembered for the end.
type output struct {
	io.Writer
	closed atomic.Bool           // the reader has left
	left   func()                // is called for that, perhaps several times
	failed atomic.Pointer[error] // why something is not there, the first time
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
	} else if err != nil {
		o.failed.CompareAndSwap(nil, &err)
	}
	return n, err
}

// workers are the commands that have done something when they end well, whatever became of what they printed; of the others
// that is all there is.
var workers = []string{
	"backup", "check", "copy", "forget", "generate", "init", "key add", "key passwd", "key remove", "migrate", "mount", "prune",
	"rebuild-index", "recover", "repair index", "repair packs", "repair snapshots", "restore", "rewrite", "tag", "unlock",
}

// works reports whether the command is one of them, and was not asked for words only.
func works(cmd *cobra.Command) bool {
	for _, flag := range []string{"dry-run", "help"} {
		if f := cmd.Flags().Lookup(flag); f != nil && f.Value.String() == "true" {
			return false
		}
	}
	return slices.Contains(workers, strings.TrimPrefix(cmd.CommandPath(), "vitrine "))
}

// outputEnd is the end of a command, err, after what it printed was lost for the reason failed.
func (a *app) outputEnd(cmd *cobra.Command, failed, err error) error {
	if works(cmd) {
		p := progress.New(progress.Options{Stdout: a.stdout, Stderr: a.stderr, JSON: a.global.json})
		p.Warn("%swhat was printed is not complete: %v; the exit code tells of the work", progress.Warning, failed)
		return err
	}
	if err == nil {
		err = fmt.Errorf("%w; what was printed is not complete", failed)
	}
	return err
}

// end ends the process by SIGPIPE, as Go's runtime does when it writes to standard output and nobody asks for the signal: one that
// is sent it passes over. Should that be blocked, end returns the code that a shell gives for it.
func (o *output) end() int {
	signal.Reset(syscall.SIGPIPE)
	_, _ = o.Writer.Write([]byte{'\n'})
	return exitPipe
}
