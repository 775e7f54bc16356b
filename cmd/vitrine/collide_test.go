package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// beforeSecondLook is how long after a lock another one is surely seen by its second look, which comes 200 ms after it.
const beforeSecondLook = 150 * time.Millisecond

// collide is the program of that name in the scripts: collide locks target command…
//
// When it comes too late, as it may on a busy machine, it removes the target and begins again.
func collide(args []string) int {
	if len(args) < 3 {
		return complain(errors.New("usage: collide locks target command…"))
	}
	locks, target := args[0], args[1]
	held, err := filepath.Glob(locks + "/*")
	if err != nil || len(held) != 1 {
		return complain(fmt.Errorf("%d locks are there, want that of holdlock (%v)", len(held), err))
	}
	aside := locks + ".aside"
	for range 20 {
		if err := os.Rename(held[0], aside); err != nil {
			return complain(err)
		}
		cmd := exec.Command(args[2], args[3:]...)
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			return complain(err)
		}
		made, err := firstLock(locks)
		back := os.Rename(aside, held[0])
		inTime := time.Since(made) < beforeSecondLook
		cmd.Wait() // its error is the exit code
		switch {
		case err != nil || back != nil:
			return complain(errors.Join(err, back))
		case inTime:
			return cmd.ProcessState.ExitCode()
		}
		if err := os.RemoveAll(target); err != nil {
			return complain(err)
		}
	}
	return complain(errors.New("it always came too late"))
}

// firstLock waits for a lock and returns when it was made.
func firstLock(locks string) (time.Time, error) {
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(time.Millisecond) {
		found, err := filepath.Glob(locks + "/[0-9a-f]*")
		if err != nil {
			return time.Time{}, err
		}
		for _, path := range found {
			if info, err := os.Stat(path); err == nil && len(filepath.Base(path)) == 64 {
				return info.ModTime(), nil
			}
		}
	}
	return time.Time{}, errors.New("no lock appears")
}
