// Package resttest starts a REST server for tests: Debian's rclone.
package resttest

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"syscall"
	"testing"
	"time"
)

var serving = regexp.MustCompile(`Serving restic REST API on \[?(http\S+/)`)

// Serve runs `rclone serve restic` on a free port of the loopback interface until the test ends, and
// returns the URL, which ends in a slash. What it serves is a directory or a remote; args are more of
// its arguments, such as --append-only.
func Serve(t testing.TB, remote string, args ...string) string {
	t.Helper()
	cmd := exec.Command("rclone", append([]string{"serve", "restic", "--addr", "127.0.0.1:0", remote}, args...)...)
	cmd.Env = append(os.Environ(), "RCLONE_CONFIG=/dev/null")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("rclone (scripts/setup installs it): %v", err)
	}
	address := make(chan string, 1)
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		defer close(address)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := serving.FindStringSubmatch(lines.Text()); m != nil {
				select {
				case address <- m[1]:
				default:
				}
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-drained
		cmd.Wait()
	})
	select {
	case url, ok := <-address:
		if !ok {
			t.Fatal("rclone ended before it served")
		}
		return url
	case <-time.After(30 * time.Second):
		t.Fatal("rclone does not serve after 30 s")
	}
	return ""
}
