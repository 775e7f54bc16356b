package sftp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"vitrine/repo/backend"
	"vitrine/repo/backend/child"
)

const (
	endTime   = 3 * time.Second // from the end of its input until the process is killed
	headLines = 3               // of standard error: a usage text may stand below a version or a complaint
	lastLines = 40              // of standard error that are kept: a changed host key takes 14
	pipeBytes = 1 << 20         // what a pipe to the process holds, where the kernel allows it
)

// process is a running ssh, or what is run instead of it.
type process struct {
	group   *child.Group
	in, out *os.File // our ends
	stderr  stderr
	exited  chan struct{} // closed when it has ended and its standard error is complete
	end     sync.Once
}

// start runs the command in a session of its own: Ctrl-C in the terminal must not end it before
// the locks are removed through it, and reading a password from a terminal in whose background it is
// would stop it for ever.
func start(cfg *Config) (*process, error) {
	argv := cfg.command()
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	out, theirOut, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, theirIn.Close(), in.Close())
	}
	for _, f := range []*os.File{in, out} {
		widen(f)
	}
	p := &process{in: in, out: out, exited: make(chan struct{})}
	cmd := exec.Command(argv[0], argv[1:]...)
	p.stderr.log, p.stderr.who = cfg.log(), cfg.speaker()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = theirIn, theirOut, &p.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second // a ControlPersist master keeps standard error open
	p.group, err = child.Start(cmd)
	theirIn.Close()
	theirOut.Close()
	if err != nil {
		in.Close()
		out.Close()
		return nil, cannotStart(argv[0], err)
	}
	go func() {
		p.group.Wait() // how it ended is on its standard error
		close(p.exited)
	}()
	return p, nil
}

// widen makes a pipe hold more than its 64 KiB, so that fewer switches between the processes
// carry the same bytes. Where that is refused it works all the same.
func widen(f *os.File) {
	if raw, err := f.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeBytes) })
	}
}

func cannotStart(name string, err error) error {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		hint := "correct sftp.command"
		if name == "ssh" {
			hint = "install openssh-client, or name another program with -o sftp.command"
		}
		return backend.Classed(backend.ErrDenied, fmt.Errorf("there is no program %s here (%s)", name, hint))
	}
	if errors.Is(err, os.ErrPermission) || slices.ContainsFunc(noProgram, func(errno syscall.Errno) bool { return errors.Is(err, errno) }) {
		return backend.Classed(backend.ErrDenied, fmt.Errorf("start %s: %v", name, err)) // not an answer of the server
	}
	return fmt.Errorf("start %s: %w", name, err)
}

// noProgram is what the kernel says of files that it will not start the next time either.
var noProgram = []syscall.Errno{syscall.ENOEXEC, syscall.ENOTDIR, syscall.ELOOP, syscall.ENAMETOOLONG, syscall.E2BIG}

// kill ends the process and all its children at once, and the reads and writes on its pipes.
func (p *process) kill() {
	p.end.Do(func() {
		p.group.Kill()
		p.in.Close()
		p.out.Close()
	})
}

// stop waits until the process, whose input has ended, has ended too, and helps in the end.
func (p *process) stop() {
	timer := time.NewTimer(endTime)
	defer timer.Stop()
	select {
	case <-p.exited:
	case <-timer.C:
	}
	p.kill()
	<-p.exited
}

// stderr logs what the process says on standard error and keeps the first and the last lines of it.
type stderr struct {
	log *slog.Logger
	who string // says it

	mu    sync.Mutex // guards all below
	parts child.Lines
	head  []string
	last  []string
}

// Write implements io.Writer; its caller is the goroutine of exec.Cmd.
func (s *stderr) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts.Add(p, func(line string) {
		s.log.Info(s.who, "reason", line)
		if len(s.head) < headLines {
			s.head = append(s.head, line)
		}
		s.last = append(s.last, line)
		s.last = s.last[max(0, len(s.last)-lastLines):]
	})
	return len(p), nil
}

// first returns the first lines.
func (s *stderr) first() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.head)
}

// lines returns the last lines, the oldest first.
func (s *stderr) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := append([]string(nil), s.last...)
	if rest := s.parts.Rest(); rest != "" {
		all = append(all, rest)
	}
	return all
}

const noHost = "there is no such host: HOST"

// refusals are what ssh says when there will be no connection, each with what it means. The first
// that is found counts.
var refusals = []struct {
	says  string
	class error // nil, or ErrNoHost: it may work the next time
	means string
}{
	{"REMOTE HOST IDENTIFICATION HAS CHANGED", backend.ErrUntrusted,
		"its host key has changed: it was set up anew, or somebody is in between; when you know which, `FORGET` and log in once with LOGIN"},
	{"Host key verification failed", backend.ErrUntrusted,
		"its host key is not known here, and there is nobody to ask; log in once with LOGIN and accept it"},
	{"Permission denied (", backend.ErrDenied,
		"permission denied: it accepts none of the keys; LOGIN must work without a question (ssh-agent, ssh-copy-id)"},
	{"Too many authentication failures", backend.ErrDenied,
		"permission denied: too many keys were offered; name the right one in ssh_config (IdentityFile, IdentitiesOnly)"},
	{"Name or service not known", backend.ErrNoHost, noHost},           // glibc
	{"No address associated with hostname", backend.ErrNoHost, noHost}, // glibc
	{"Name does not resolve", backend.ErrNoHost, noHost},               // musl
	{"nodename nor servname provided", backend.ErrNoHost, noHost},      // BSD
	{"Could not resolve hostname", nil, "could not resolve hostname HOST: the name server does not answer"},
	{"subsystem request failed", backend.ErrDenied, "it has no SFTP: the login works, but sshd_config has no line \"Subsystem sftp\""},
	{"This service allows sftp connections only", backend.ErrDenied, "it allows nothing but SFTP; correct sftp.command"},
	{"Bad configuration option", backend.ErrDenied, ""},
	{"Bad owner or permissions", backend.ErrDenied, ""},
	{"ommand-line: line ", backend.ErrDenied, ""},
	{"Connection refused", nil, "connection refused: is sshd running, and is the port right?"},
	{"Connection timed out", nil, "connection timed out: is the machine on, and does a firewall let ssh through?"},
	{"No route to host", nil, "no route to host: is the machine on, and in this network?"},
	{"Network is unreachable", nil, "network is unreachable: is this machine connected?"},
}

// usage is how programs begin to explain their command line.
var usage = regexp.MustCompile(`(?i)^usage: +(\S+)`)

// misused returns what a program has said up to the first line of its usage text, or "" when that is not at the
// beginning. A server's greeting comes the same way, so the text must be about a word of the command.
func misused(cfg *Config, head []string) string {
	for i, line := range head {
		of := usage.FindStringSubmatch(line)
		if of != nil && slices.ContainsFunc(strings.Fields(strings.Join(cfg.command(), " ")), func(word string) bool {
			return filepath.Base(word) == filepath.Base(of[1])
		}) {
			return strings.Join(head[:i+1], "; ")
		}
	}
	return ""
}

// refused explains in one line why there is no connection. head and lines are the first and the last lines that the
// process said, err is what the protocol met.
func refused(cfg *Config, head, lines []string, err error) error {
	if said := misused(cfg, head); said != "" {
		option := "sftp.args"
		if len(cfg.Command) > 0 {
			option = "sftp.command"
		}
		return backend.Classed(backend.ErrDenied, fmt.Errorf("%s does not understand its arguments, correct -o %s: %s", filepath.Base(cfg.command()[0]), option, said))
	}
	all := strings.Join(lines, "\n")
	for _, r := range refusals {
		if !strings.Contains(all, r.says) {
			continue
		}
		means := strings.NewReplacer("HOST", cfg.hostName(), "LOGIN", cfg.loginCommand(), "FORGET", forget(cfg, lines)).Replace(r.means)
		if means == "" {
			means = strings.Join(lines, "; ")
		}
		if err = errors.New(means); r.class != nil {
			return backend.Classed(r.class, err)
		}
		return err
	}
	if len(lines) > 0 {
		return errors.New(strings.Join(lines[max(0, len(lines)-3):], "; "))
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) {
		err = fmt.Errorf("%s ended without an answer", cfg.command()[0])
	} else {
		err = fmt.Errorf("the answer is not SFTP (a login script that prints something?): %w", err)
	}
	return backend.Classed(backend.ErrNoServer, err)
}

// proposal is the command that ssh proposes. What a server says comes the same way, so nothing else may be in it.
var proposal = regexp.MustCompile(`^ssh-keygen -f ["'][\w./ -]+["'] -R ["'][\w.:\[\]-]+["']$`)

// forget is the command that takes a host key out of known_hosts. That of ssh has the name and the port under which
// the key stands there.
func forget(cfg *Config, lines []string) string {
	for _, line := range lines {
		if proposal.MatchString(line) {
			return line
		}
	}
	if len(cfg.Command) > 0 {
		return "ssh-keygen -R …" // of a host that we do not know
	}
	if cfg.Port == "" || cfg.Port == "22" {
		return "ssh-keygen -R " + cfg.Host
	}
	return fmt.Sprintf(`ssh-keygen -R "[%s]:%s"`, cfg.Host, cfg.Port)
}

// reader counts as activity what comes in.
type reader struct {
	r    *bufio.Reader
	seen func()
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if n > 0 {
		r.seen()
	}
	return n, err
}
