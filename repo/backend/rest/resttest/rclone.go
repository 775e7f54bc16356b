// Package resttest starts a REST server for tests: Debian's rclone.
package resttest

import (
	"bufio"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"
)

var serving = regexp.MustCompile(`Serving restic REST API on \[?(http\S+/)`)

// Server is an rclone that runs until its test ends, but for the time between Stop and Restart.
type Server struct {
	URL string // http://127.0.0.1:port/

	t    testing.TB
	args []string // but for the address
	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// Serve runs `rclone serve restic` on a free port of the loopback interface until the test ends, and
// returns the URL, which ends in a slash. What it serves is a directory or a remote; args are more of
// its arguments, such as --append-only.
func Serve(t testing.TB, remote string, args ...string) string {
	t.Helper()
	return Start(t, remote, args...).URL
}

// Start is Serve for tests that stop the server in between.
func Start(t testing.TB, remote string, args ...string) *Server {
	t.Helper()
	s := &Server{t: t, args: append([]string{"serve", "restic", remote}, args...)}
	s.URL = s.run("127.0.0.1:0")
	t.Cleanup(s.Stop)
	return s
}

// Addr is host and port of the server.
func (s *Server) Addr() string {
	u, err := url.Parse(s.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Host
}

// Stop ends the server at once, as a crash does.
func (s *Server) Stop() {
	s.cmd.Process.Kill()
	<-s.done
}

// Restart starts a stopped server again, at the same address.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.run(s.Addr())
}

// run starts the process and returns its URL.
func (s *Server) run(addr string) string {
	s.t.Helper()
	cmd := exec.Command("rclone", append(s.args[:len(s.args):len(s.args)], "--addr", addr)...)
	cmd.Env = append(os.Environ(), "RCLONE_CONFIG=/dev/null")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatalf("rclone (scripts/setup installs it): %v", err)
	}
	address := make(chan string, 1)
	done := make(chan struct{})
	s.cmd, s.done = cmd, done
	go func() {
		defer close(done)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := serving.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case address <- m[1]:
				default:
				}
			}
		}
		cmd.Wait() // that it was killed is no news
		close(address)
	}()
	select {
	case url, ok := <-address:
		if !ok {
			s.t.Fatal("rclone ended before it served")
		}
		return url
	case <-time.After(30 * time.Second):
		s.Stop()
		s.t.Fatal("rclone does not serve after 30 s")
	}
	return ""
}
