package accept

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strings"
	"testing"

	"vitrine/scripts/internal/sample"
)

var (
	// binary is the vitrine under test, built once from the tree this test stands in: under the race
	// detector when the tests are. plain is the same program without it; doc.go says who runs which.
	binary, plain string
	// long is the full size of every test; the short form asserts the same on less.
	long = os.Getenv("VITRINE_ACCEPT") == "long"
	// base is where everything is written: memory, when there is some.
	base string
)

// heapBytes is about what the tests that work inside this process need at a time. Without a limit they take three times
// that before garbage is collected, and twice as much again for the race detector, and it is missing elsewhere.
const heapBytes = 400 << 20

// readersBytes is the same for a process of readers: there are some at a time.
const readersBytes = 64 << 20

func TestMain(m *testing.M) {
	if os.Getenv(beReaders) != "" {
		debug.SetMemoryLimit(readersBytes)
		readAll()
		return
	}
	debug.SetMemoryLimit(min(heapBytes, debug.SetMemoryLimit(-1)))
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "accept:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	parent := os.TempDir()
	if os.Getenv("TMPDIR") == "" {
		if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
			parent = "/dev/shm"
		}
	}
	dir, err := os.MkdirTemp(parent, "vitrine-accept.")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	if base, err = filepath.EvalSymlinks(dir); err != nil {
		return 0, err
	}
	goCache := sample.GoEnv("GOCACHE") // before the environment changes
	// The settings of whoever runs this must not reach the programs under test.
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "RESTIC_") || strings.HasPrefix(name, "VITRINE_") && name != "VITRINE_TEST_RUN" {
			os.Unsetenv(name)
		}
	}
	os.Setenv("XDG_CACHE_HOME", filepath.Join(base, "xdg-cache"))

	// A program under the race detector sleeps a second before it ends well, and a test runs hundreds.
	os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))

	plain = filepath.Join(base, "plain", "vitrine")
	if err := build(goCache, plain); err != nil {
		return 0, err
	}
	binary = plain
	if raceDetector {
		binary = filepath.Join(base, "vitrine")
		// The key derivation is third-party arithmetic without a goroutine; instrumented it
		// would take five seconds for every command.
		if err := build(goCache, binary, "-race", "-gcflags=golang.org/x/crypto/...=-race=false"); err != nil {
			return 0, err
		}
	}
	return m.Run(), nil
}

// build builds the program. The tests' own environment has no cache of the go command.
func build(goCache, program string, flags ...string) error {
	if err := os.MkdirAll(filepath.Dir(program), 0o755); err != nil {
		return err
	}
	cmd := exec.Command("go", append(append([]string{"build", "-o", program}, flags...), "vitrine/cmd/vitrine")...)
	cmd.Env = append(os.Environ(), "GOCACHE="+goCache)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build vitrine %q: %w\n%s", flags, err, out)
	}
	return nil
}
