package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ballast holds the memory that nobody uses, and lets go of it as fast as somebody needs it.
//
// A virtual machine may give free memory back to its host (free page reporting, see virtio-balloon), and
// gets it again page by page when it is touched: measured 12 µs for each 4 KiB, a hundred times what
// a page costs otherwise. Whoever fills memory in a benchmark, and cp from a mount fills twice as much as
// plain cp, would be measured on the host's swiftness. What the ballast has touched stays ours.
//
// A process of its own holds it: a child of the bench is said to have used as much memory as the bench
// did when it was started.
type ballast struct {
	holder *exec.Cmd
	pipe   io.Closer // the holder lets go of all when it is closed
}

const (
	ballastChunk = 128 << 20
	ballastEvery = 5 * time.Millisecond // how often it looks; a program fills some 15 MiB meanwhile
	// With less free memory than ballastLow it lets go of a chunk, with more than ballastHigh it takes one.
	ballastLow  = 600 << 20
	ballastHigh = 900 << 20
	// ballastSettle is how long it is waited for, after a lot of memory came free.
	ballastSettle = 2 * time.Minute
)

// ballastArgument makes this program the holder.
const ballastArgument = "hold-free-memory"

// newBallast returns when all free memory is held.
func newBallast(ctx context.Context) (*ballast, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	b := &ballast{holder: exec.Command(self, ballastArgument)}
	if b.pipe, err = b.holder.StdinPipe(); err != nil {
		return nil, err
	}
	if err := b.holder.Start(); err != nil {
		return nil, err
	}
	began := time.Now()
	b.settle(ctx)
	fmt.Printf("bench: holding the free memory took %.1f s\n", time.Since(began).Seconds())
	return b, nil
}

// settle returns when the free memory is held again, as after files were removed; at once when nobody holds it.
func (b *ballast) settle(ctx context.Context) {
	if b == nil {
		return
	}
	for began := time.Now(); time.Since(began) < ballastSettle && ctx.Err() == nil; time.Sleep(ballastEvery) {
		if freeBytes() <= ballastHigh+2*ballastChunk {
			return
		}
	}
}

func (b *ballast) close() error {
	return errors.Join(b.pipe.Close(), b.holder.Wait())
}

// holder is the process that holds it.
type holder struct {
	chunks [][]byte
}

// holdMemory is the holder's main: it holds free memory until standard input ends.
func holdMemory() {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, os.Stdin)
	}()
	signal.Ignore(os.Interrupt, syscall.SIGTERM) // the bench ends it
	var h holder
	tick := time.NewTicker(ballastEvery)
	defer tick.Stop()
	for {
		switch free := freeBytes(); {
		case free < ballastLow && len(h.chunks) > 0:
			h.drop()
		case free > ballastHigh+ballastChunk && h.take():
		default:
			select {
			case <-tick.C:
			case <-ended:
				return
			}
		}
	}
}

// take holds one more chunk; false when the kernel has none to give.
func (h *holder) take() bool {
	chunk, err := unix.Mmap(-1, 0, ballastChunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return false
	}
	_ = unix.Madvise(chunk, unix.MADV_HUGEPAGE) // cheaper to take and to drop, where there are any
	for i := 0; i < len(chunk); i += 4096 {
		chunk[i] = 1
	}
	h.chunks = append(h.chunks, chunk)
	return true
}

func (h *holder) drop() {
	last := len(h.chunks) - 1
	_ = unix.Munmap(h.chunks[last]) // it is ours: this cannot fail
	h.chunks = h.chunks[:last]
}

// freeBytes is the memory that nobody uses for anything; 0 when it cannot be told.
func freeBytes() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Freeram) * int64(info.Unit)
}
