// Package sshdtest runs OpenSSH's sshd on a loopback port for tests, with keys of its own, and a
// relay in front of it that is slow or breaks.
package sshdtest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// runDir is where sshd wants an empty directory, which Debian makes when the service starts.
const runDir = "/run/sshd"

// Server is a running sshd. Every user who may log in on this machine can, with its key.
type Server struct {
	Port string // on 127.0.0.1
	Dir  string // with all files of the server and of its client

	t      testing.TB
	config []string
	cmd    *exec.Cmd
	log    *serverLog
	done   chan struct{} // closed when cmd has ended
}

// startTimeout is for a machine that does other things at the same time.
const startTimeout = 30 * time.Second

// serverLog is what a process of the server says.
type serverLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *serverLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *serverLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Start starts a server, which ends with the test. Lines of config are put before its own, so that they
// count: of a keyword that comes twice sshd takes the first.
func Start(t testing.TB, config ...string) *Server {
	t.Helper()
	s := &Server{Dir: t.TempDir(), t: t, config: config}
	s.keygen("host")
	s.keygen("user")
	if err := os.MkdirAll(runDir, 0o755); err != nil {
		t.Fatalf("sshd does not run without %s: %v", runDir, err)
	}
	s.copy("user.pub", "authorized")
	for range 5 { // somebody else may take the port first
		s.Port = freePort(t)
		if s.run() {
			s.trust("host.pub")
			t.Cleanup(s.Stop)
			return s
		}
	}
	t.Fatalf("sshd does not start:\n%s", s.log.String())
	return nil
}

func (s *Server) run() bool {
	lines := append(append([]string(nil), s.config...),
		"ListenAddress 127.0.0.1:"+s.Port,
		"HostKey "+s.path("host"),
		"AuthorizedKeysFile "+s.path("authorized"),
		"PidFile none",
		"StrictModes no",
		"UsePAM no",
		"PasswordAuthentication no",
		"KbdInteractiveAuthentication no",
		"PermitRootLogin prohibit-password",
		"MaxStartups 100",
	)
	if !strings.Contains(strings.Join(s.config, "\n"), "Subsystem ") { // sshd takes no second one
		lines = append(lines, "Subsystem sftp internal-sftp")
	}
	s.write("sshd_config", strings.Join(lines, "\n")+"\n")
	s.log = new(serverLog)
	s.cmd = exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", s.path("sshd_config"))
	s.cmd.Stderr = s.log
	s.cmd.WaitDelay = time.Second // sessions keep standard error open
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start sshd (scripts/setup installs it): %v", err)
	}
	cmd, done := s.cmd, make(chan struct{})
	s.done = done
	go func() {
		cmd.Wait() // what went wrong is in the log
		close(done)
	}()
	// It says when it listens. Whoever answers there may be somebody else.
	for end := time.Now().Add(startTimeout); time.Now().Before(end); {
		if strings.Contains(s.log.String(), "Server listening on 127.0.0.1 port "+s.Port+".") {
			return true
		}
		select {
		case <-done: // it cannot have the port, or its configuration is wrong
			return false
		case <-time.After(5 * time.Millisecond):
		}
	}
	s.Stop()
	return false
}

// Stop ends the server, but not the sessions it has.
func (s *Server) Stop() {
	s.cmd.Process.Signal(os.Interrupt)
	s.cmd.Process.Signal(os.Kill)
	<-s.done
}

// Kill ends the server and all sessions at once, as a crash of the machine does.
func (s *Server) Kill() {
	s.t.Helper()
	sessions, err := descendants(s.cmd.Process.Pid)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Stop() // first, so that no new session begins
	for _, pid := range sessions {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			s.t.Fatalf("kill a session: %v", err)
		}
	}
}

// Restart starts a server that was stopped or killed again, on the same port.
func (s *Server) Restart() {
	s.t.Helper()
	if !s.run() {
		s.t.Fatalf("sshd does not start again:\n%s", s.log.String())
	}
}

// descendants returns the children of a process, and theirs.
func descendants(pid int) ([]int, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return nil, nil // it has ended
	} else if err != nil {
		return nil, fmt.Errorf("list the children of process %d: %w", pid, err)
	}
	var all []int
	for _, field := range strings.Fields(string(content)) {
		child, err := strconv.Atoi(field)
		if err != nil {
			return nil, fmt.Errorf("list the children of process %d: %w", pid, err)
		}
		below, err := descendants(child)
		if err != nil {
			return nil, err
		}
		all = append(append(all, child), below...)
	}
	return all, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return "127.0.0.1:" + s.Port }

// Args are the arguments of ssh with which it uses the keys of this server, and nothing of the user
// who runs the test.
func (s *Server) Args() []string {
	return []string{
		"-F", "none", "-i", s.path("user"),
		"-oIdentitiesOnly=yes", "-oIdentityAgent=none", "-oStrictHostKeyChecking=yes",
		"-oUserKnownHostsFile=" + s.path("known_hosts"), "-oGlobalKnownHostsFile=none", "-oHostKeyAlias=sshdtest",
	}
}

// Command is a command line whose input and output are those of an SFTP server.
func (s *Server) Command() string {
	return "ssh " + strings.Join(s.Args(), " ") + " -p " + s.Port + " root@127.0.0.1 -s sftp"
}

// Location is that of a directory on the server.
func (s *Server) Location(dir string) string { return "sftp://root@" + s.Addr() + "/" + dir }

// ChangeHostKey lets the client know another host key than the server has.
func (s *Server) ChangeHostKey() {
	s.keygen("other")
	s.trust("other.pub")
}

// ForgetHostKey lets the client know no host key.
func (s *Server) ForgetHostKey() { s.write("known_hosts", "") }

// ChangeUserKey lets the client have another key than the server accepts.
func (s *Server) ChangeUserKey() {
	for _, name := range []string{"user", "user.pub"} {
		if err := os.Remove(s.path(name)); err != nil {
			s.t.Fatal(err)
		}
	}
	s.keygen("user")
}

func (s *Server) trust(key string) {
	content, err := os.ReadFile(s.path(key))
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("known_hosts", "sshdtest "+string(content))
}

func (s *Server) keygen(name string) {
	s.t.Helper()
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", s.path(name)).CombinedOutput(); err != nil {
		s.t.Fatalf("ssh-keygen: %v\n%s", err, out)
	}
}

func (s *Server) copy(from, to string) {
	content, err := os.ReadFile(s.path(from))
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(to, string(content))
}

func (s *Server) write(name, content string) {
	if err := os.WriteFile(s.path(name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Server) path(name string) string { return filepath.Join(s.Dir, name) }

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}
