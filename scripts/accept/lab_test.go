package accept

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// lab is one repository with what belongs to it, in a directory of its own. When its test
// ends, the repository is checked and the directory removed.
type lab struct {
	t        *testing.T
	program  string // the vitrine it runs: binary, or plain
	dir      string // everything below is in here
	repo     string
	password string // file
	cache    string

	vitrineOptions, resticOptions []string // how each reaches the repository, where that must be said
}

func newLab(t *testing.T) *lab {
	t.Helper()
	dir, err := os.MkdirTemp(base, strings.ReplaceAll(t.Name(), "/", "-")+".")
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, program: binary, dir: dir, repo: dir + "/repo", password: dir + "/password", cache: dir + "/cache"}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Errorf("something is left in %s: %v", dir, err)
		}
	})
	write(t, l.password, "correct horse\n")
	return l
}

// plain runs the program without the race detector, for tests of what is written and shown (see doc.go).
func (l *lab) plain() *lab {
	l.program = plain
	return l
}

// checked adds that the repository must check clean when the test is over.
func (l *lab) checked() *lab {
	l.t.Cleanup(func() { l.vitrine("check", "--read-data") })
	return l
}

// result is how a program ended.
type result struct {
	command        string
	stdout, stderr string
	code           int
}

func (r result) String() string {
	return r.command + "\nexit code " + strconv.Itoa(r.code) + "\n" + clip(r.stdout) + clip(r.stderr)
}

// clip keeps the ends of what a program printed.
func clip(s string) string {
	const most = 6000
	if len(s) > most {
		s = s[:most/2] + "\n[…]\n" + s[len(s)-most/2:]
	}
	return s
}

// try runs a program to its end, whatever its exit code. A panic or a data race of the
// program is always an error of the test.
func (l *lab) try(cmd *exec.Cmd) result {
	l.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if cmd.Dir == "" {
		cmd.Dir = l.dir
	}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		l.t.Fatalf("%v: %v", cmd.Args, err)
	}
	r := result{strings.Join(cmd.Args, " "), stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
	l.sane(r.command, r.stdout+r.stderr)
	return r
}

// sane fails the test when the output of a program shows a mistake of the program itself.
func (l *lab) sane(command, output string) {
	l.t.Helper()
	for _, sign := range []string{"panic:", "goroutine 1 [", "DATA RACE", "fatal error:", "SIGSEGV", "SIGBUS", "nil pointer"} {
		if strings.Contains(output, sign) {
			l.t.Errorf("%s: the output has %q:\n%s", command, sign, clip(output))
			return
		}
	}
}

// must runs a program that has to succeed, and returns its standard output.
func (l *lab) must(name string, args ...string) string {
	l.t.Helper()
	r := l.try(exec.Command(name, args...))
	if r.code != 0 {
		l.t.Fatal(r)
	}
	return r.stdout
}

// in is must in a working directory.
func (l *lab) in(dir string, command []string, args ...string) string {
	l.t.Helper()
	cmd := exec.Command(command[0], append(command[1:len(command):len(command)], args...)...)
	cmd.Dir = dir
	r := l.try(cmd)
	if r.code != 0 {
		l.t.Fatal(r)
	}
	return r.stdout
}

func (l *lab) vitrineCommand() []string {
	return append([]string{l.program, "--repo", l.repo, "--password-file", l.password, "--cache-dir", l.cache}, l.vitrineOptions...)
}

func (l *lab) resticCommand() []string {
	return append([]string{"restic", "--repo", l.repo, "--password-file", l.password, "--cache-dir", l.dir + "/restic-cache"}, l.resticOptions...)
}

func (l *lab) vitrine(args ...string) string {
	l.t.Helper()
	return l.in(l.dir, l.vitrineCommand(), args...)
}

func (l *lab) tryVitrine(args ...string) result {
	l.t.Helper()
	command := append(l.vitrineCommand(), args...)
	return l.try(exec.Command(command[0], command[1:]...))
}

func (l *lab) restic(args ...string) string {
	l.t.Helper()
	return l.in(l.dir, l.resticCommand(), args...)
}

// same fails the test when rsync finds any difference in content, metadata, links, ACLs or xattrs.
// More options can narrow what it looks at.
func (l *lab) same(want, got string, options ...string) {
	l.t.Helper()
	if out := l.must("rsync", append(options, "-aHAXnc", "--delete", "-i", want+"/", got+"/")...); out != "" {
		l.t.Errorf("%s differs from %s:\n%s", got, want, clip(out))
	}
}

// mounted is a running `vitrine mount`.
type mounted struct {
	l    *lab
	dir  string
	cmd  *exec.Cmd
	log  bytes.Buffer // written by the process until done
	done chan error
}

// startMount starts a mount and does not wait for it to answer.
func (l *lab) startMount(args ...string) *mounted {
	l.t.Helper()
	dir, err := os.MkdirTemp(l.dir, "mnt.")
	if err != nil {
		l.t.Fatal(err)
	}
	command := append(append(l.vitrineCommand(), "mount", dir), args...)
	m := &mounted{l: l, dir: dir, cmd: exec.Command(command[0], command[1:]...), done: make(chan error, 1)}
	m.cmd.Stdout, m.cmd.Stderr = &m.log, &m.log
	if err := m.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() { m.done <- m.cmd.Wait() }()
	l.t.Cleanup(m.stop)
	return m
}

// mount returns when snapshots/latest can be listed.
func (l *lab) mount(args ...string) *mounted {
	l.t.Helper()
	m := l.startMount(args...)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if _, err := os.ReadDir(m.dir + "/snapshots/latest"); err == nil {
			return m
		}
		select {
		case err := <-m.done:
			m.done <- err
			l.t.Fatalf("mount ended: %v\n%s", err, m.log.String())
		default:
		}
	}
	l.t.Fatal("snapshots/latest did not answer within a minute")
	return nil
}

// latest is the path of an absolute directory in the newest snapshot.
func (m *mounted) latest(dir string) string { return filepath.Join(m.dir, "snapshots/latest", dir) }

// stop ends the mount as a person would and expects it to leave cleanly. Later calls do nothing.
func (m *mounted) stop() {
	m.l.t.Helper()
	if m.cmd == nil {
		return
	}
	m.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-m.done:
	case <-time.After(30 * time.Second):
		m.l.t.Error("the mount did not end within 30 s of SIGTERM")
		m.kill()
	}
	m.cmd = nil
	m.l.sane("mount", m.log.String())
	if isMountPoint(m.dir) {
		m.l.t.Errorf("%s is still mounted; the mount said:\n%s", m.dir, clip(m.log.String()))
		detach(m.dir)
	}
}

// kill ends the mount with SIGKILL and detaches what is left of it.
func (m *mounted) kill() {
	if m.cmd == nil {
		return
	}
	m.cmd.Process.Kill()
	select {
	case <-m.done:
	case <-time.After(10 * time.Second):
		// See README, what is missing: the thread that handed a file to the kernel waits for the pages that a reader
		// has asked for, and nobody answers that one any more.
		m.l.t.Log("a killed mount waits for its reader, and that for the mount: unmounted with force")
		_ = syscall.Unmount(m.dir, syscall.MNT_FORCE) // EBUSY, and yet all requests end
		<-m.done
	}
	m.cmd = nil
	detach(m.dir)
}

func detach(dir string) {
	// ENOTCONN or EINVAL when nothing is mounted: then there is nothing to do.
	_ = syscall.Unmount(dir, syscall.MNT_DETACH)
}

func isMountPoint(dir string) bool {
	mounts, err := os.ReadFile("/proc/self/mounts")
	return err != nil || strings.Contains(string(mounts), " "+dir+" ")
}

// summary is what the last line of `backup --json` tells.
type summary struct {
	MessageType string `json:"message_type"`
	DataBlobs   int    `json:"data_blobs"`
	TreeBlobs   int    `json:"tree_blobs"`
	DataAdded   int    `json:"data_added"`
}

func parseSummary(t *testing.T, output string) summary {
	t.Helper()
	for _, line := range strings.Split(output, "\n") {
		var s summary
		if json.Unmarshal([]byte(line), &s) == nil && s.MessageType == "summary" {
			return s
		}
	}
	t.Fatalf("no summary in:\n%s", clip(output))
	return summary{}
}

// describe says what a backup added, for comparing.
func (s summary) describe() string {
	return fmt.Sprintf("%d data and %d tree blobs, %d bytes", s.DataBlobs, s.TreeBlobs, s.DataAdded)
}

// rootTrees asks restic, the referee, for the tree of every snapshot.
func (l *lab) rootTrees() []string {
	l.t.Helper()
	var snapshots []struct{ Tree string }
	if err := json.Unmarshal([]byte(l.restic("snapshots", "--json")), &snapshots); err != nil {
		l.t.Fatal(err)
	}
	var trees []string
	for _, s := range snapshots {
		trees = append(trees, s.Tree)
	}
	return trees
}

func write(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
