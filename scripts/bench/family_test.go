package main

import (
	"os/exec"
	"testing"
)

func TestRunWatched(t *testing.T) {
	alone, err := runWatched(exec.Command("sleep", "0.2"))
	if err != nil || alone != 0 {
		t.Errorf("a program without children: %d, %v", alone, err)
	}
	// The child holds 32 MiB for a moment.
	together, err := runWatched(exec.Command("bash", "-c", `bash -c 'x=$(head -c 33554432 /dev/zero | tr "\0" x); sleep 0.5'; true`))
	if err != nil || together < 32<<20 || together > 400<<20 {
		t.Errorf("a child of 32 MiB: %d, %v", together, err)
	}
	if _, err := runWatched(exec.Command("false")); err == nil {
		t.Error("no error of a program that fails")
	}
}
