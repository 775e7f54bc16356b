// Package cli is the command line of vitrine: one file per command. A command parses its
// arguments, calls one verb and prints. Flags, environment, JSON and exit codes are those of
// restic, so that scripts and wrappers need no change.
package cli

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/term"

	"vitrine/cmd/internal/progress"
)

// Version is what `vitrine version` tells and what snapshots note as their program; the
// Makefile sets it. The Makefile
// sets it by -ldflags -X.
var Version = "0.1.0-dev"

const (
	// repeatTime is how long further signals count as the first: timeout(1) signals the process
	// and then its group, and a terminal whose user is impatient does so too.
	repeatTime = time.Second

	// quietTime is how long the end after a signal may take before it says what it waits for.
	quietTime = 500 * time.Millisecond
)

// Main runs one command line and returns the exit code of the process (exit.go lists them).
// args are without the program's name, env is in the form of os.Environ.
//
// The first SIGINT or SIGTERM cancels the context of the command, which then cleans up. Another one, repeatTime
// later, ends at once: Main returns while the command may still be at work.
func Main(args []string, stdin io.Reader, stdout, stderr io.Writer, env []string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(signals)

	var pipe *output
	if !isTerminal(stdout) {
		pipe = watchOutput(stdout, cancel)
		stdout = pipe
	}
	a := &app{stdin: stdin, lines: bufio.NewReader(stdin), stdout: stdout, stderr: stderr, env: environment(env)}
	root := newRoot(a)
	root.SetArgs(args)
	end := make(chan int, 1)
	go func() {
		cmd, err := root.ExecuteContextC(ctx)
		if pipe != nil && pipe.closed.Load() {
			if a.locked.Load() {
				a.lastLine(slices.Contains(args, "--json"), exitPipe, "standard output was closed"+a.lockEnd)
			}
			end <- pipe.end()
			return
		}
		if pipe != nil && pipe.failed.Load() != nil {
			err = a.outputEnd(cmd, *pipe.failed.Load(), err)
		}
		end <- a.finish(ctx, args, err)
	}()
	var first time.Time
	for {
		select {
		case code := <-end:
			return code
		case <-signals:
			if first.IsZero() {
				first = time.Now()
				cancel()
			} else if time.Since(first) > repeatTime {
				return a.leave(args)
			}
		}
	}
}

// app is what the commands of one run share: the streams, the environment and the global
// flags. It is filled in by the flag parser and setup, before a command does its work.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            lookup
	lines          *bufio.Reader // stdin, for passwords one to a line
	global         globals
	variables      map[string]string // the variable of the environment that set a flag, by the flag's name
	from           access            // the second repository of init and copy
	renewed        access            // the new password of key add and key passwd
	print          *progress.Printer // nil until setup has read the flags
	ownFiles       bool              // what the repository itself has is asked, not what is cached of it
	features       string            // feature flags, from the environment only
	lockEnd        string            // what became of the lock of the command, for the last line; "" without one
	locked         atomic.Bool       // a lock of the command is in the repository
	unfinished     unfinished        // index files that this command passes over
	stdinIsData    bool              // a backup reads standard input, which so holds no password
}

// lookup returns the value of an environment variable, and false when it is not set.
type lookup func(name string) (string, bool)

// environment makes a lookup of a list of name=value pairs; as in a shell, the last of equal
// names counts.
func environment(pairs []string) lookup {
	values := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		values[name] = value
	}
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}

// isTerminal reports whether the stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// canDraw reports whether standard output is a terminal on which a bar can be drawn.
func (a *app) canDraw() bool {
	if !isTerminal(a.stdout) {
		return false
	}
	width, height, err := term.GetSize(int(a.stdout.(*os.File).Fd()))
	kind, _ := a.env("TERM")
	return err == nil && width > 0 && height > 0 && kind != "" && kind != "dumb"
}
