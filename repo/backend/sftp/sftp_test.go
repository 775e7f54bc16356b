package sftp_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pkgsftp "github.com/pkg/sftp"

	"vitrine/repo/backend"
	"vitrine/repo/backend/backendtest"
	"vitrine/repo/backend/linetest"
	"vitrine/repo/backend/retry"
	"vitrine/repo/backend/sftp"
	"vitrine/repo/backend/sftp/sshdtest"
)

// plainServer, in the environment, makes the test binary an SFTP server without extensions.
const plainServer = "VITRINE_TEST_PLAIN_SFTP"

// gateOfServer, in its environment, names a file. Once it is there the server that gets the next request renames it and
// reads that when the file is gone; others go on.
const (
	gateOfServer = "VITRINE_TEST_PLAIN_SFTP_GATE"
	stopped      = "-stopped" // the end of its name then
)

func TestMain(m *testing.M) {
	if os.Getenv(plainServer) != "" {
		servePlain()
		return
	}
	if os.Getenv(hostileServer) != "" {
		serveHostile()
		return
	}
	code := m.Run()
	if left := children(); len(left) > 0 {
		fmt.Println("processes are left behind:", left)
		code = 1
	}
	os.Exit(code)
}

func servePlain() {
	err := pkgsftp.SetSFTPExtensions()
	if err == nil {
		var s *pkgsftp.Server
		if s, err = pkgsftp.NewServer(stdio{gated{}, os.Stdout}); err == nil {
			err = s.Serve()
		}
	}
	if err != nil && err != io.EOF {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// gated is standard input with the gate of a server.
type gated struct{}

// Read implements io.Reader.
func (gated) Read(p []byte) (int, error) {
	n, err := os.Stdin.Read(p)
	if gate := os.Getenv(gateOfServer); gate != "" && os.Rename(gate, gate+stopped) == nil {
		for _, err := os.Stat(gate + stopped); err == nil; _, err = os.Stat(gate + stopped) {
			time.Sleep(5 * time.Millisecond)
		}
	}
	return n, err
}

type stdio struct {
	io.Reader
	io.WriteCloser
}

// children returns the processes whose parent this one is, zombies too.
func children() []string {
	var found []string
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range stats {
		content, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		pid, rest, _ := strings.Cut(string(content), " (")
		fields := strings.Fields(rest[strings.LastIndex(rest, ")")+1:])
		if fields[1] == strconv.Itoa(os.Getpid()) {
			found = append(found, pid+" ("+rest[:strings.LastIndex(rest, ")")+1])
		}
	}
	return found
}

// config is that of a directory on the server, which is reached on the given port.
func config(t testing.TB, s *sshdtest.Server, port, dir string) sftp.Config {
	t.Helper()
	cfg, err := sftp.Parse("sftp://root@127.0.0.1:" + port + "/" + dir) // dir absolute or relative
	if err != nil {
		t.Fatal(err)
	}
	cfg.Args = s.Args()
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	return cfg
}

func create(t testing.TB, cfg sftp.Config) backend.Backend {
	t.Helper()
	be, err := sftp.Create(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return be
}

func TestConformance(t *testing.T) {
	t.Parallel() // like the other two: they mostly wait
	s := sshdtest.Start(t)
	backendtest.Run(t, func(t *testing.T) backend.Backend { return create(t, config(t, s, s.Port, t.TempDir())) })
}

// plain is the configuration for a server that knows nothing but the protocol.
func plain(t testing.TB, dir string) sftp.Config {
	t.Helper()
	cfg, err := sftp.Parse("sftp:nowhere:" + dir)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg.Command = []string{"env", plainServer + "=1", self}
	cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	return cfg
}

func TestUnmounted(t *testing.T) {
	create := func(t *testing.T, dir string) backend.Backend { return create(t, plain(t, dir)) }
	open := func(t *testing.T, dir string) backend.Backend {
		t.Helper()
		be, err := sftp.Open(t.Context(), plain(t, dir))
		if err != nil {
			t.Fatal(err)
		}
		return be
	}
	backendtest.RunUnmounted(t, true, create, open)
}

func TestConformanceWithoutExtensions(t *testing.T) {
	t.Parallel()
	backendtest.Run(t, func(t *testing.T) backend.Backend { return create(t, plain(t, t.TempDir())) })
}

// Across a line of 3 ms with one connection, which all calls share; a relative directory begins
// where the server puts a login.
func TestConformanceFar(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	s := sshdtest.Start(t, "Subsystem sftp internal-sftp -d "+home)
	relay := sshdtest.NewRelay(t, s.Addr(), 3*time.Millisecond)
	var n atomic.Int32
	backendtest.Run(t, func(t *testing.T) backend.Backend {
		cfg := config(t, s, relay.Port, fmt.Sprintf("a/b/repo%d", n.Add(1)))
		cfg.Connections = 1
		be := create(t, cfg)
		if _, err := os.Stat(filepath.Join(home, cfg.Path, "data/ff")); err != nil {
			t.Error(err)
		}
		return be
	})
}

// brokenFor is how long a call may meet nothing but broken connections: some tries, on a busy machine too.
const brokenFor = 5 * time.Minute

// Nothing of the contract changes on a line that breaks, when calls are made again as the program does.
func TestConformanceOnBrokenLine(t *testing.T) {
	t.Parallel()
	s := sshdtest.Start(t)
	line := linetest.New(t, s.Addr())
	began := time.Now()
	create(t, config(t, s, s.Port, t.TempDir())).Close()
	line.CutEvery(max(900*time.Millisecond, 4*time.Since(began))) // so that a connection of ssh comes through, on a busy machine too
	_, port, err := net.SplitHostPort(line.Addr)
	if err != nil {
		t.Fatal(err)
	}
	backendtest.RunRepeating(t, 8, func() bool { return line.Cuts() >= 5 }, func(t *testing.T) backend.Backend {
		cfg := config(t, s, port, t.TempDir())
		cfg.Connections = 1
		var be backend.Backend
		err := retry.Do(t.Context(), retry.Options{Total: brokenFor}, func() (err error) {
			be, err = sftp.Create(t.Context(), cfg)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return retry.New(be, retry.Options{Total: brokenFor})
	})
}
