package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// limits are what the stages take at least: one processor that does nothing else, in seconds for each byte of the file.
type limits map[stage]float64

// sum is what a backup would take that did nothing but these.
func (l limits) sum() (all float64) {
	for _, v := range l {
		all += v
	}
	return all
}

// limitsOf measures them for a file of which so many bytes are stored.
func (b *bench) limitsOf(ctx context.Context, file string, plainBytes, storedBytes int64) (limits, error) {
	b.memory.settle(ctx)
	cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkLimit$", "-benchtime", "2x", "-count", strconv.Itoa(1+b.runs), "-cpu", "1", "./repo")
	cmd.Env = append(os.Environ(), "VITRINE_BENCH_FILE="+file)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", short(cmd.Args), err, clip(string(out)))
	}
	l, err := codecLimits(string(out))
	if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", short(cmd.Args), err, clip(string(out)))
	}
	stored := float64(storedBytes) / float64(plainBytes)
	l[hashingPacks] = l[hashing] * stored
	for range 1 + b.runs {
		for at, measure := range map[stage]func() (time.Duration, error){
			reading: func() (time.Duration, error) { return readAll(file) },
			writing: func() (time.Duration, error) { return b.writePacks(ctx, storedBytes) },
		} {
			took, err := measure()
			if err != nil {
				return nil, err
			}
			if each := took.Seconds() / float64(plainBytes); l[at] == 0 || each < l[at] {
				l[at] = each
			}
		}
	}
	return l, nil
}

var benchmarkLine = regexp.MustCompile(`(?m)^BenchmarkLimit/(\w+)\S*\s.*\s([0-9.]+) MB/s`)

// codecLimits reads what the Go benchmark prints; the best of its rounds counts.
func codecLimits(output string) (limits, error) {
	l := limits{}
	names := map[string]stage{"cut": cutting, "hash": hashing, "compress": compressing, "seal": sealing, "verify": verifying}
	for _, found := range benchmarkLine.FindAllStringSubmatch(output, -1) {
		at, ok := names[found[1]]
		rate, err := strconv.ParseFloat(found[2], 64)
		if err != nil || !ok || rate == 0 {
			return nil, fmt.Errorf("%q is not understood", strings.TrimSpace(found[0]))
		}
		if each := 1 / (rate * 1e6); l[at] == 0 || each < l[at] {
			l[at] = each
		}
	}
	if len(l) != len(names) {
		return nil, errors.New("not all benchmarks ran")
	}
	return l, nil
}

const (
	limitRead  = 1 << 20
	limitWrite = 16 << 20 // a pack
)

// readAll is the processor time of reading a file, to memory that is always the same.
func readAll(name string) (time.Duration, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return onThread(func() error {
		buf := make([]byte, limitRead)
		for {
			if _, err := f.Read(buf); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
	})
}

// writePacks is the processor time of writing so many bytes to files of the size of packs.
func (b *bench) writePacks(ctx context.Context, sizeBytes int64) (took time.Duration, err error) {
	dir := b.work + "/packs"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b.memory.settle(ctx)
	content := make([]byte, limitWrite)
	return onThread(func() error {
		for i := 0; sizeBytes > 0; i++ {
			n := min(sizeBytes, limitWrite)
			if err := os.WriteFile(dir+"/"+strconv.Itoa(i), content[:n], 0o600); err != nil {
				return err
			}
			sizeBytes -= n
		}
		return nil
	})
}

// onThread is the processor time of fn.
func onThread(fn func() error) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before, err := cpuUsed(unix.RUSAGE_THREAD)
	if err != nil {
		return 0, err
	}
	if err := fn(); err != nil {
		return 0, err
	}
	after, err := cpuUsed(unix.RUSAGE_THREAD)
	return after - before, err
}
