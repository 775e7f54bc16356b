package accept

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"vitrine/scripts/internal/sample"
)

var (
	// binary is the vitrine under test, built once from the tree this test stands in.
	binary string
	// long is the full size of every test; the short form asserts the same on less.
	long = os.Getenv("VITRINE_ACCEPT") == "long"
	// base is where everything is written: memory, when there is some.
	base string
)

func TestMain(m *testing.M) {
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

	binary = filepath.Join(base, "vitrine")
	args := []string{"build", "-o", binary}
	if raceDetector {
		// The key derivation is third-party arithmetic without a goroutine; instrumented it
		// would take five seconds for every command.
		args = append(args, "-race", "-gcflags=golang.org/x/crypto/...=-race=false")
	}
	build := exec.Command("go", append(args, "vitrine/cmd/vitrine")...)
	build.Env = append(os.Environ(), "GOCACHE="+goCache)
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build vitrine: %w\n%s", err, out)
	}
	return m.Run(), nil
}
