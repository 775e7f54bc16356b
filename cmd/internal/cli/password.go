package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"vitrine/repo/shellwords"
)

// maxPasswordBytes bounds what is read from a password file or command.
const maxPasswordBytes = 1 << 20

// errEmptyPassword is what an empty password gets, wherever it comes from.
var errEmptyPassword = errors.New("the password is empty; if that is meant, say so with --insecure-no-password")

// password obtains the password of a repository: from a file, a command, the environment,
// the terminal (twice when it is a new one) or, without a terminal, the first line of
// standard input. It never comes from an argument, and it is in no message.
func (a *app) password(ctx context.Context, s *access, what string, isNew, none bool) ([]byte, error) {
	given := s.passwordFile != "" || s.passwordCommand != "" || s.password != ""
	switch {
	case none && given:
		return nil, errors.New("--insecure-no-password is given together with a password: leave one of them out")
	case none:
		return nil, nil
	case s.passwordFile != "" && s.passwordCommand != "":
		return nil, errors.New("a password file and a password command are given: leave one of them out")
	}
	var p []byte
	var err error
	switch {
	case s.passwordCommand != "":
		p, err = a.passwordFromCommand(ctx, s.passwordCommand)
	case s.passwordFile != "":
		p, err = passwordFromFile(s.passwordFile)
	case s.password != "":
		p = []byte(s.password)
	case isTerminal(a.stdin):
		p, err = a.promptPassword(ctx, s, what, isNew)
	default:
		p, err = a.passwordFromStdin(s)
	}
	if err != nil {
		return nil, err
	}
	if len(p) == 0 {
		return nil, errEmptyPassword
	}
	return p, nil
}

// mayAskAgain tells whether a wrong password was typed by somebody who can be asked again.
func (a *app) mayAskAgain(s *access, none bool) bool {
	return !none && s.passwordFile == "" && s.passwordCommand == "" && s.password == "" && isTerminal(a.stdin) && !a.stdinIsData
}

// passwordSource says where password has found the password, without anything that is secret.
func (a *app) passwordSource(s *access) string {
	switch {
	case s.passwordCommand != "":
		words, err := shellwords.Split(s.passwordCommand)
		if err != nil || len(words) == 0 {
			return "the password command"
		}
		return "the password command " + words[0] // the arguments may hold a secret
	case s.passwordFile != "":
		return "the file " + s.passwordFile
	case s.password != "":
		name := "PASSWORD"
		if s == &a.from {
			name = "FROM_PASSWORD"
		}
		for _, prefix := range prefixes {
			if value, _ := a.env(prefix + name); value != "" {
				return "$" + prefix + name
			}
		}
	case isTerminal(a.stdin):
		return "the terminal"
	}
	return "standard input"
}

func passwordFromFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the password file: %w", err)
	}
	defer f.Close()
	p, err := io.ReadAll(io.LimitReader(f, maxPasswordBytes))
	if err != nil {
		return nil, fmt.Errorf("read the password file: %w", err)
	}
	return trimPassword(p), nil
}

// trimPassword drops what editors add: a byte order mark, and white space at both ends.
func trimPassword(p []byte) []byte {
	return bytes.TrimSpace(bytes.TrimPrefix(p, []byte("\xef\xbb\xbf")))
}

func (a *app) passwordFromCommand(ctx context.Context, command string) ([]byte, error) {
	words, err := shellwords.Split(command)
	if err != nil {
		return nil, fmt.Errorf("password command: %w", err)
	}
	if len(words) == 0 {
		return nil, errors.New("the password command is empty")
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	cmd.Stderr = a.stderr
	out, err := cmd.Output()
	if err != nil {
		// Only the program is named: its arguments may hold a secret.
		return nil, fmt.Errorf("password command %s: %w", words[0], err)
	}
	return trimPassword(out), nil
}

func (a *app) passwordFromStdin(s *access) ([]byte, error) {
	if a.stdinIsData {
		return nil, errors.New("standard input is the data to back up, so the password cannot come from it: use --password-file or --password-command")
	}
	line, err := a.lines.ReadBytes('\n')
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read the password from standard input: %w", err)
	}
	if len(line) == 0 {
		if s == &a.from {
			return nil, errors.New("no password of the --from-repo repository: standard input is no terminal and is empty; " +
				"use --from-password-file, --from-password-command or $VITRINE_FROM_PASSWORD")
		}
		if s == &a.renewed {
			return nil, errors.New("standard input is no terminal and is empty; use --new-password-file")
		}
		return nil, errors.New("no password: standard input is no terminal and is empty; use --password-file, --password-command or $VITRINE_PASSWORD")
	}
	return bytes.TrimRight(line, "\r\n"), nil
}

func (a *app) promptPassword(ctx context.Context, s *access, what string, isNew bool) ([]byte, error) {
	if a.stdinIsData {
		return a.passwordFromStdin(s)
	}
	p, err := a.readHidden(ctx, "enter password for "+what+": ")
	if err != nil || !isNew {
		return p, err
	}
	again, err := a.readHidden(ctx, "enter password again: ")
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(p, again) {
		return nil, errors.New("the two passwords are not the same: start again")
	}
	return p, nil
}

// readHidden reads a line from the terminal without echo, which is off before the prompt is there: who sees it may type.
// When the context ends first, the terminal is put right again; the read goes on until the process ends, which is soon.
func (a *app) readHidden(ctx context.Context, prompt string) ([]byte, error) {
	fd := int(a.stdin.(*os.File).Fd())
	show, err := hideTyping(fd)
	if err != nil {
		return nil, fmt.Errorf("prompt for the password: %w", err)
	}
	type answer struct {
		line []byte
		err  error
	}
	answers := make(chan answer, 1)
	fmt.Fprint(a.stderr, prompt)
	go func() {
		line, err := term.ReadPassword(fd)
		answers <- answer{line, err}
	}()
	select {
	case got := <-answers:
		fmt.Fprintln(a.stderr)
		if err := errors.Join(got.err, show()); err != nil {
			return nil, fmt.Errorf("prompt for the password: %w", err)
		}
		return got.line, nil
	case <-ctx.Done():
		fmt.Fprintln(a.stderr)
		return nil, errors.Join(ctx.Err(), show())
	}
}

// hideTyping turns the echo of a terminal off and returns what puts it as it was. What has been typed already stays.
func hideTyping(fd int) (show func() error, err error) {
	before, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, err
	}
	hidden := *before
	hidden.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, &hidden); err != nil {
		return nil, err
	}
	return func() error { return unix.IoctlSetTermios(fd, unix.TCSETS, before) }, nil
}
