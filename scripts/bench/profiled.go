package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"golang.org/x/sys/unix"

	"vitrine/cache/indexdb"
	"vitrine/repo"
	"vitrine/repo/archive"
	"vitrine/repo/backend/local"
)

// profiled is a backup whose processor time is looked at. It runs in a process of its own, as the program does: so the
// process's processor time is its, and its memory is as new.
type profiled struct {
	Repo, Dir, Profile string // the repository is there and its password is the bench's

	Wall, CPU  time.Duration
	PlainBytes int64
}

// sampleRate is in samples for each second of a thread. Linux looks at its timers of processor time 250 times in a second,
// and sees a thread that works for moments only now and then; what expired twice meanwhile is one sample. At the 100 of Go
// 5 to 9 % of a backup got lost in that way, at 50 it is nearly nothing.
const sampleRate = 50

// profiledArgument makes this program one that backs up: it reads a profiled and writes what became of it.
const profiledArgument = "profiled-backup"

// measure does the work. Memory and processors are as the command backup has them.
func (p *profiled) measure() (err error) {
	ctx := context.Background()
	debug.SetGCPercent(10)
	untouched := make([]byte, 128<<20)
	defer runtime.KeepAlive(untouched)
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	out, err := os.Create(p.Profile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	cpuBefore, err := cpuUsed(unix.RUSAGE_SELF)
	if err != nil {
		return err
	}
	began := time.Now()
	runtime.SetCPUProfileRate(sampleRate) // pprof says on standard error that it would have taken another one
	if err := pprof.StartCPUProfile(out); err != nil {
		return err
	}
	err = p.backup(ctx)
	pprof.StopCPUProfile()
	p.Wall = time.Since(began)
	cpuAfter, cpuErr := cpuUsed(unix.RUSAGE_SELF)
	p.CPU = cpuAfter - cpuBefore
	return errors.Join(err, cpuErr)
}

func (p *profiled) backup(ctx context.Context) (err error) {
	be, err := local.Open(p.Repo)
	if err != nil {
		return err
	}
	r, err := repo.Open(ctx, be, repo.Options{Password: []byte("bench"), OpenIndex: func(ctx context.Context, r *repo.Repository) (repo.Index, error) {
		return indexdb.OpenMemory(ctx, r, indexdb.Options{})
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	done, err := archive.Run(ctx, r, archive.Options{Targets: []string{p.Dir}, ProgramVersion: "vitrine bench"})
	if err == nil && done.Errors > 0 {
		err = fmt.Errorf("%d files of %s could not be backed up", done.Errors, p.Dir)
	}
	p.PlainBytes = int64(done.Summary.TotalBytesProcessed)
	return err
}

// cpuUsed is the processor time of the process (unix.RUSAGE_SELF) or of this thread (unix.RUSAGE_THREAD) so far.
func cpuUsed(who int) (time.Duration, error) {
	var ru unix.Rusage
	if err := unix.Getrusage(who, &ru); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano()), nil
}
