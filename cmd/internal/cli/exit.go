package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"vitrine/cmd/internal/progress"
	"vitrine/repo"
	"vitrine/repo/lock"
)

// Exit codes. They are restic's, and this is the only file that knows the numbers.
const (
	exitOK            = 0
	exitError         = 1   // it did not work; the message says why
	exitIncomplete    = 3   // a snapshot was made without some source files, or some snapshots could not be removed
	exitNoRepository  = 10  // there is no repository at the location
	exitLocked        = 11  // somebody else's lock is in the way
	exitWrongPassword = 12  // no key of the repository opens with the password
	exitInterrupted   = 130 // SIGINT or SIGTERM
	exitPipe          = 141 // who reads standard output has left; the process ends by SIGPIPE
)

// errIncomplete is the end of a backup that left something out; the details have been told.
var errIncomplete = errors.New("at least one source file could not be read")

// classify maps an error to the exit code and the sentence for the person who waits. A
// cancelled context means that a signal came, whatever the error says.
func classify(ctx context.Context, err error) (code int, message string) {
	switch {
	case err == nil:
		return exitOK, ""
	case ctx.Err() != nil:
		return exitInterrupted, "interrupted by a signal"
	case errors.Is(err, errIncomplete):
		return exitIncomplete, "Warning: " + err.Error()
	case errors.Is(err, errNotRemoved):
		code = exitIncomplete
	case errors.Is(err, repo.ErrNoRepository):
		code = exitNoRepository
	case errors.Is(err, repo.ErrWrongPassword):
		code = exitWrongPassword
	case errors.Is(err, lock.ErrLocked):
		return exitLocked, "Fatal: unable to create lock in backend: " + err.Error()
	default:
		code = exitError
	}
	message = "Fatal: " + err.Error()
	switch {
	case errors.Is(err, repo.ErrAdvised):
	case errors.Is(err, repo.ErrBlobMissing):
		message += missingAdvice
	case errors.Is(err, repo.ErrCorrupt):
		message += damagedAdvice
	}
	return code, message
}

// damagedAdvice ends the last line when something stored is damaged: what helps depends on what it is.
const damagedAdvice = "; `vitrine check` finds all that is damaged and says what to do about it"

// missingAdvice ends the last line when something was in no index.
const missingAdvice = "; `vitrine repair index` finds what packs still have, and `vitrine repair snapshots` then takes what stays lost out of the snapshots"

// exitMessage is the last line of a failed command under --json, on standard error.
type exitMessage struct {
	MessageType string `json:"message_type"` // exit_error
	Code        int    `json:"code"`
	Message     string `json:"message"`
}

// finish tells how the command ended and returns the exit code.
func (a *app) finish(ctx context.Context, args []string, err error) int {
	code, message := classify(ctx, err)
	switch code {
	case exitOK:
		return code
	case exitInterrupted:
		message += a.lockEnd
	}
	a.lastLine(a.global.json || slices.Contains(args, "--json"), code, progress.OneLine(message))
	return code
}

// leave is finish for who does not wait for the end of the command.
func (a *app) leave(args []string) int {
	message := "interrupted by two signals"
	if a.locked.Load() {
		message += lockStays
	}
	a.lastLine(slices.Contains(args, "--json"), exitInterrupted, message)
	return exitInterrupted
}

func (a *app) lastLine(json bool, code int, message string) {
	// A printer of its own: the command line may be one that could not be read.
	p := progress.New(progress.Options{Stdout: a.stdout, Stderr: a.stderr})
	if json {
		p.ErrorMessage(exitMessage{"exit_error", code, message})
	} else {
		p.Warn("%s", message)
	}
}

// usagef makes an error of a command line that cannot be right.
func usagef(command, format string, args ...any) error {
	return fmt.Errorf(format+"; see `%s --help`", append(args, command)...)
}
