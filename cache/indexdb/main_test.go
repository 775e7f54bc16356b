package indexdb

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/cache/indexdb/indextest"
)

// victimArg makes the test binary a process that uses an index until it is killed, see
// process_test.go.
const victimArg = "indexdb-victim"

// quickBuilder runs the test binary as a builder. It is Self, but for the second that the race
// detector sleeps at the end of each process.
var quickBuilder string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case BuilderArg:
			os.Exit(BuildMain())
		case fullDiskArg:
			os.Exit(fullDiskMain(os.Args[2]))
		case victimArg:
			os.Exit(victim(os.Args[2], os.Args[3]))
		}
	}
	dir := must(os.MkdirTemp("", "indexdb-test-"))
	quickBuilder = filepath.Join(dir, "builder")
	text := fmt.Sprintf("#!/bin/sh\nGORACE=atexit_sleep_ms=0 exec %q %s\n", must(os.Executable()), BuilderArg)
	if err := os.WriteFile(quickBuilder, []byte(text), 0o700); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

var testSecret = [32]byte{1, 2, 3}

// always builds a generation as soon as anything is in RAM or dead.
func always(s Stats) bool { return s.DeltaFiles > 0 || s.DeadEntries > 0 }

func alwaysBuild(d *DB) { d.worthBuilding = always }

// openTest opens an index that builds with the test binary; it is closed at the end of the test.
func openTest(t testing.TB, dir string, src Source, tune func(*DB)) *DB {
	t.Helper()
	return openLogged(t, dir, src, tune, slog.New(slog.DiscardHandler))
}

func openLogged(t testing.TB, dir string, src Source, tune func(*DB), log *slog.Logger) *DB {
	t.Helper()
	d, err := open(t.Context(), dir, testSecret, src, Options{Log: log, Builder: quickBuilder}, tune)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// waitFor polls: what is waited for happens in another process.
func waitFor(t testing.TB, what string, fn func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !fn(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited a minute for: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func waitBuilt(t testing.TB, d *DB) Stats {
	t.Helper()
	waitFor(t, "all entries in a generation", func() bool {
		s := d.Stats()
		return s.Generation != "" && !always(s) && !s.Building
	})
	return d.Stats()
}

// built returns a directory with a generation of the source, and its name.
func built(t testing.TB, src Source) (dir, name string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "index")
	d := openTest(t, dir, src, alwaysBuild)
	name = waitBuilt(t, d).Generation
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, name
}

// logTo returns a logger and what was logged at warning level and above.
func logTo() (*slog.Logger, func() string) {
	var mu sync.Mutex
	var buf bytes.Buffer
	w := writerFunc(func(p []byte) (int, error) {
		mu.Lock()
		defer mu.Unlock()
		return buf.Write(p)
	})
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn})), func() string {
		mu.Lock()
		defer mu.Unlock()
		return buf.String()
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// checkNothingLeft fails the test when, at its end, more goroutines run or more files are open
// than now.
func checkNothingLeft(t *testing.T) {
	t.Helper()
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	t.Cleanup(func() {
		for range 4000 {
			if runtime.NumGoroutine() <= goroutines && openFiles(t) <= files {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		stacks := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before; %d files, %d before\n%s",
			runtime.NumGoroutine(), goroutines, openFiles(t), files, stacks[:runtime.Stack(stacks, true)])
	})
}

func openFiles(t *testing.T) int {
	t.Helper()
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// script writes a program that runs the lines of shell, in which $builder is a builder that works.
func script(t *testing.T, lines string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "builder")
	text := fmt.Sprintf("#!/bin/sh\nexport PATH=%q\nbuilder=%q\n%s\n", os.Getenv("PATH"), quickBuilder, lines)
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// settled makes a DB look synchronous: a refresh returns when everything is in a generation.
type settled struct {
	*DB
	t *testing.T
}

func (s settled) Refresh(ctx context.Context) error {
	err := s.DB.Refresh(ctx)
	if err == nil && s.Stats().IndexFiles > 0 {
		waitBuilt(s.t, s.DB)
	}
	return err
}

func TestConformance(t *testing.T) {
	t.Run("memory", func(t *testing.T) {
		indextest.Run(t, func(t *testing.T, src *indextest.Source) (indextest.Index, error) {
			checkNothingLeft(t)
			return OpenMemory(t.Context(), src, Options{})
		})
	})
	openDB := func(t *testing.T, src *indextest.Source, tune func(*DB)) (*DB, error) {
		checkNothingLeft(t)
		d, err := open(t.Context(), filepath.Join(t.TempDir(), "index"), testSecret, src, Options{Builder: quickBuilder}, tune)
		if err == nil {
			t.Cleanup(func() { d.Close() })
		}
		return d, err
	}
	// The delta alone, generations in the background, and all in a generation each time, also one that is read into RAM.
	t.Run("delta", func(t *testing.T) {
		indextest.Run(t, func(t *testing.T, src *indextest.Source) (indextest.Index, error) {
			return openDB(t, src, func(*DB) {})
		})
	})
	// What is new on disk, merged again and again, and the same with generations in the background.
	for name, tune := range map[string]func(*DB){"spilled": func(*DB) {}, "spilled, background": alwaysBuild} {
		t.Run(name, func(t *testing.T) {
			indextest.Run(t, func(t *testing.T, src *indextest.Source) (indextest.Index, error) {
				return openDB(t, src, func(d *DB) {
					tune(d)
					d.core.spill.most = 3
				})
			})
		})
	}
	t.Run("background", func(t *testing.T) {
		indextest.Run(t, func(t *testing.T, src *indextest.Source) (indextest.Index, error) {
			return openDB(t, src, alwaysBuild)
		})
	})
	for name, entries := range map[string]int64{"generation": 0, "table": 1 << 20} {
		t.Run(name, func(t *testing.T) {
			indextest.Run(t, func(t *testing.T, src *indextest.Source) (indextest.Index, error) {
				d, err := openDB(t, src, func(d *DB) {
					alwaysBuild(d)
					d.table = entries
				})
				if err != nil {
					return nil, err
				}
				if d.Stats().IndexFiles > 0 {
					waitBuilt(t, d)
				}
				return settled{d, t}, nil
			})
		})
	}
}

// runSelf returns a command that runs the test binary in another mode.
func runSelf(args ...string) *exec.Cmd {
	cmd := exec.Command(Self, args...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	return cmd
}

func lines(s string) int { return strings.Count(s, "\n") }
