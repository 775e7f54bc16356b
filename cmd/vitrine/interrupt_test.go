package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"
)

// interrupt is the program of that name in the scripts: interrupt signal path command…
//
// The signal is sent twice in a row, as timeout(1) does to a process and its group, which must
// not count as the second one that kills. What it waits for is a fact and no time, so that a slow
// machine interrupts at the same place as a fast one.
func interrupt(args []string) int {
	if len(args) < 3 {
		return complain(errors.New("usage: interrupt signal path|- command…"))
	}
	signal, path := unix.SignalNum("SIG"+args[0]), args[1]
	cmd := exec.Command(args[2], args[3:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		return complain(err)
	}
	if err := cmd.Start(); err != nil {
		return complain(err)
	}
	await := func() error { return exists(path) }
	if path == "-" {
		await = func() error { // a pipe holds 64 KiB: the rest of the MiB was read
			_, err := input.Write(make([]byte, 1<<20))
			return err
		}
	}
	if err := await(); err != nil {
		complain(errors.Join(err, cmd.Process.Kill()))
	}
	for range 2 {
		if err := cmd.Process.Signal(signal); err != nil {
			complain(err)
		}
	}
	cmd.Wait() // its error is the exit code
	return cmd.ProcessState.ExitCode()
}

// exists waits until a path does.
func exists(path string) error {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s does not appear", path)
}

func complain(err error) int {
	io.WriteString(os.Stderr, "interrupt: "+err.Error()+"\n")
	return 125
}
