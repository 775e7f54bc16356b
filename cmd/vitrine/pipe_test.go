package main

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// A program whose reader has left ends by SIGPIPE, which a shell shows as 141 and others as a signal.
func TestEndsBySIGPIPE(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "--help")
	cmd.Args[0], cmd.Stdout = "vitrine", w
	err = cmd.Run()
	w.Close()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGPIPE {
		t.Errorf("%v, %+v; want SIGPIPE", err, cmd.ProcessState)
	}
}
