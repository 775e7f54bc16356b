// Package miniotest runs a MinIO server for tests, on a port of the loopback interface and with
// data that vanish with the test. scripts/setup installs the server.
package miniotest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Key and Secret are what the server accepts.
const (
	Key    = "vitrine-test-key"
	Secret = "very-secret-key-of-the-test"
)

// startTimeout is for a machine that does other things at the same time.
const startTimeout = 60 * time.Second

// Server is a MinIO that runs until its test ends, but for the time between Stop and Restart.
type Server struct {
	Addr string // 127.0.0.1:port

	cmd  func() *exec.Cmd
	stop func() // ends the process; may be called twice
}

// Start runs a server until the test ends. Settings are further variables of its environment.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return StartOn(t, filepath.Join(t.TempDir(), "drive"), settings...)
}

// StartOn is Start with a directory for the objects.
func StartOn(t testing.TB, drive string, settings ...string) *Server {
	t.Helper()
	program := Program(t)
	for attempt := 1; ; attempt++ {
		home, addr := t.TempDir(), freeAddr(t)
		s := &Server{Addr: addr, cmd: func() *exec.Cmd { return command(program, addr, home, settings, drive) }}
		err := s.run("/minio/health/cluster")
		if err == nil {
			t.Cleanup(func() { s.stop() })
			return s
		}
		if attempt == 3 { // somebody may take the port between our look and its bind
			t.Fatal(err)
		}
	}
}

// Host is where a server of a cluster runs.
type Host struct {
	Addr    string                        // host:port
	Command func(argv ...string) []string // returns the command line that runs another one there; nil: as it is
}

// StartCluster runs servers that keep their objects together, one on each host, with one drive each below dir, which
// must be on no root file system or tolerate MINIO_CI_CD. Of four one may be away for writes and two for reads.
func StartCluster(t testing.TB, dir string, hosts ...Host) []*Server {
	t.Helper()
	program := Program(t)
	var all []*Server
	var drives []string
	for i, h := range hosts {
		all = append(all, &Server{Addr: h.Addr})
		drives = append(drives, fmt.Sprintf("http://%s%s/drive%d", h.Addr, dir, i))
	}
	results := make(chan error, len(hosts))
	for i, s := range all {
		settings := []string{
			"MINIO_CI_CD=1", // drives may be on one device
			// Inside a container, which a CI is, a server takes no loopback address for its own unless it is told.
			"_MINIO_SERVER_LOCAL=" + s.Addr,
		}
		home := t.TempDir()
		s.cmd = func() *exec.Cmd {
			cmd := command(program, s.Addr, home, settings, drives...)
			if there := hosts[i].Command; there != nil {
				cmd.Args = there(cmd.Args...)
				cmd.Path, cmd.Err = exec.LookPath(cmd.Args[0])
			}
			return cmd
		}
		go func() { results <- s.run("/minio/health/cluster") }() // none is ready alone
	}
	var errs []error
	for range all {
		errs = append(errs, <-results)
	}
	for _, s := range all {
		t.Cleanup(func() { s.stop() })
	}
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return all
}

// Stop ends the server at once, as a crash does. What it has stored stays.
func (s *Server) Stop() { s.stop() }

// Restart starts a stopped server again, with the same address and objects.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.run("/minio/health/cluster"); err != nil { // "live" comes before it knows the other ones
		t.Fatal(err)
	}
}

func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Program returns the path of the server that scripts/setup installed, and ends the test if it is
// not there.
func Program(t testing.TB) string {
	t.Helper()
	gopath, err := exec.Command("go", "env", "GOPATH").Output()
	if err != nil {
		t.Fatalf("go env GOPATH: %v", err)
	}
	first := filepath.SplitList(strings.TrimSpace(string(gopath)))[0]
	program := filepath.Join(first, "vitrine-tools", "minio")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("there is no MinIO server: %v; run scripts/setup", err)
	}
	return program
}

// command makes the process of a server, whose own files are in home.
func command(program, addr, home string, settings []string, drives ...string) *exec.Cmd {
	args := []string{"server", "--quiet", "--address", addr, "--certs-dir", filepath.Join(home, "certs")}
	cmd := exec.Command(program, append(args, drives...)...)
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + home, "TMPDIR=" + home, "VITRINE_TEST_RUN=" + os.Getenv("VITRINE_TEST_RUN"),
		"MINIO_ROOT_USER=" + Key, "MINIO_ROOT_PASSWORD=" + Secret, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
	}, settings...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when the test is killed
	return cmd
}

// run starts the process and waits until it says to be healthy.
func (s *Server) run(health string) error {
	s.stop = func() {}
	var log bytes.Buffer
	cmd := s.cmd()
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait() // its end is all we wait for; what went wrong is in the log
		close(ended)
	}()
	s.stop = sync.OnceFunc(func() {
		cmd.Process.Kill()
		<-ended
	})
	if err := ready("http://"+s.Addr+health, ended); err != nil {
		s.stop()
		return fmt.Errorf("minio: %w\n%s", err, log.String())
	}
	return nil
}

// ready waits until the server answers.
func ready(url string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ended:
			return fmt.Errorf("it ended instead of serving %s", url)
		case <-ctx.Done():
			return fmt.Errorf("it does not answer %s within %v (last: %v)", url, startTimeout, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Location returns the location of a repository on the server, as on the command line.
func (s *Server) Location(bucketAndPrefix string) string {
	return "s3:http://" + s.Addr + "/" + bucketAndPrefix
}

// Setenv gives the test the server's keys, and takes away every other source of credentials.
func Setenv(t testing.TB) {
	t.Helper()
	empty := t.TempDir()
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": Key, "AWS_SECRET_ACCESS_KEY": Secret, "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_ACCESS_KEY": "", "AWS_SECRET_KEY": "",
		"AWS_SHARED_CREDENTIALS_FILE": filepath.Join(empty, "credentials"), "AWS_CONFIG_FILE": filepath.Join(empty, "config"),
		"AWS_DEFAULT_REGION": "", "AWS_REGION": "", "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
		"MINIO_ROOT_USER": "", "MINIO_ROOT_PASSWORD": "", "MINIO_ACCESS_KEY": "", "MINIO_SECRET_KEY": "",
		"RESTIC_AWS_ASSUME_ROLE_ARN": "", "AWS_CA_BUNDLE": "",
	} {
		t.Setenv(name, value)
	}
}
