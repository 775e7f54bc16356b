package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ballast holds the memory that nobody uses, and lets go of it as fast as somebody needs it.
//
// A virtual machine may give free memory back to its host (free page reporting, see virtio-balloon), and
// gets it again page by page when it is touched: measured 12 µs for each 4 KiB, a hundred times what
// a page costs otherwise. Whoever fills memory in a benchmark, and cp from a mount fills twice as much as
// plain cp, would be measured on the host's swiftness. What the ballast has touched stays ours.
type ballast struct {
	chunks [][]byte
	stop   context.CancelFunc
	done   chan struct{}
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

// newBallast returns when all free memory is held.
func newBallast(ctx context.Context) *ballast {
	ctx, stop := context.WithCancel(ctx)
	b := &ballast{stop: stop, done: make(chan struct{})}
	began := time.Now()
	go b.run(ctx)
	b.settle(ctx)
	fmt.Printf("bench: holding the free memory took %.1f s\n", time.Since(began).Seconds())
	return b
}

func (b *ballast) run(ctx context.Context) {
	defer close(b.done)
	defer func() {
		for len(b.chunks) > 0 {
			b.drop()
		}
	}()
	tick := time.NewTicker(ballastEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		switch free := freeBytes(); {
		case free < ballastLow && len(b.chunks) > 0:
			b.drop()
		case free > ballastHigh+ballastChunk && b.take():
		default:
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	}
}

// take holds one more chunk; false when the kernel has none to give.
func (b *ballast) take() bool {
	chunk, err := unix.Mmap(-1, 0, ballastChunk, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return false
	}
	_ = unix.Madvise(chunk, unix.MADV_HUGEPAGE) // cheaper to take and to drop, where there are any
	for i := 0; i < len(chunk); i += 4096 {
		chunk[i] = 1
	}
	b.chunks = append(b.chunks, chunk)
	return true
}

func (b *ballast) drop() {
	last := len(b.chunks) - 1
	_ = unix.Munmap(b.chunks[last]) // it is ours: this cannot fail
	b.chunks = b.chunks[:last]
}

// settle returns when the free memory is held again, as after files were removed.
func (b *ballast) settle(ctx context.Context) {
	for began := time.Now(); time.Since(began) < ballastSettle && ctx.Err() == nil; time.Sleep(ballastEvery) {
		if freeBytes() <= ballastHigh+2*ballastChunk {
			return
		}
	}
}

func (b *ballast) close() {
	b.stop()
	<-b.done
}

// freeBytes is the memory that nobody uses for anything; 0 when it cannot be told.
func freeBytes() int64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return int64(info.Freeram) * int64(info.Unit)
}
