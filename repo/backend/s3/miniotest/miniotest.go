// Package miniotest runs a MinIO server for tests, on a port of the loopback interface and with
// data that vanish with the test. scripts/setup installs the server.
package miniotest

import (
	"bytes"
	"context"
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

// Server is a running MinIO.
type Server struct {
	Addr string // 127.0.0.1:port
}

// Start runs a server until the test ends. Settings are further variables of its environment.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	program := Program(t)
	for attempt := 1; ; attempt++ {
		s, err := start(t, program, settings)
		if err == nil {
			return s
		}
		if attempt == 3 { // somebody may take the port between our look and its bind
			t.Fatal(err)
		}
	}
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

func start(t testing.TB, program string, settings []string) (*Server, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return nil, err
	}
	dir := t.TempDir()
	var log bytes.Buffer
	cmd := exec.Command(program, "server", "--quiet", "--address", addr, "--certs-dir", filepath.Join(dir, "certs"), filepath.Join(dir, "drive"))
	cmd.Env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir, "VITRINE_TEST_RUN=" + os.Getenv("VITRINE_TEST_RUN"),
		"MINIO_ROOT_USER=" + Key, "MINIO_ROOT_PASSWORD=" + Secret, "MINIO_BROWSER=off", "MINIO_UPDATE=off",
	}, settings...)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also when the test is killed
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait() // its end is all we wait for; what went wrong is in the log
		close(ended)
	}()
	stop := sync.OnceFunc(func() {
		cmd.Process.Kill()
		<-ended
	})
	t.Cleanup(stop)
	if err := ready(addr, ended); err != nil {
		stop()
		return nil, fmt.Errorf("minio: %w\n%s", err, log.String())
	}
	return &Server{Addr: addr}, nil
}

// ready waits until the server answers.
func ready(addr string, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/minio/health/cluster", nil)
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
			return fmt.Errorf("it ended instead of serving on %s", addr)
		case <-ctx.Done():
			return fmt.Errorf("it does not answer on %s within %v (last: %v)", addr, startTimeout, err)
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
		"RESTIC_AWS_ASSUME_ROLE_ARN": "",
	} {
		t.Setenv(name, value)
	}
}
