package child

import (
	"bufio"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// start runs a script that says the number of a process in its background.
func start(t *testing.T, script string) (g *Group, background int, done chan error) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command("sh", "-c", script)
	cmd.Stdout = w
	cmd.Stderr = new(strings.Builder) // read by a goroutine, for which Wait waits
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 20 * time.Second // Wait must not be through before the test has looked
	g, err = Start(cmd)
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	done = make(chan error, 1)
	go func() { done <- g.Wait() }()
	line, _ := bufio.NewReader(r).ReadString('\n')
	if background, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Kill(background, syscall.SIGKILL) })
	return g, background, done
}

// gone waits until there is no process of that number.
func gone(pid int) bool {
	for range 4000 {
		if unix.Kill(pid, 0) == unix.ESRCH {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return false
}

// state is the letter of a process in its stat file, "" when it is not there.
func state(pid int) string {
	content, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, rest, _ := strings.Cut(string(content), ") ")
	letter, _, _ := strings.Cut(rest, " ")
	return letter
}

func TestKillsTheGroup(t *testing.T) {
	g, background, done := start(t, "sleep 60 & echo $!; wait")
	g.Kill()
	if err := <-done; err == nil {
		t.Error("it ends as if it had not been killed")
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if s := state(background); s == "" || s == "Z" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("the child is in state %s", s)
		}
	}
}

// When the process has been waited for its number may be another's, though Wait has not returned yet.
func TestKillsNothingAfterwards(t *testing.T) {
	g, background, done := start(t, "sleep 60 & echo $!")
	if !gone(g.Pid()) {
		t.Fatal("it does not end")
	}
	select {
	case <-done:
		t.Fatal("Wait has returned: the test shows nothing")
	default:
	}
	g.Kill()
	time.Sleep(20 * time.Millisecond)
	if s := state(background); s != "S" && s != "R" {
		t.Errorf("the group is killed by a number that is free: state %q", s)
	}
	syscall.Kill(background, syscall.SIGKILL)
	<-done
	g.Kill()
}

func TestLines(t *testing.T) {
	var l Lines
	var got []string
	long := strings.Repeat("x", maxLine)
	for _, p := range []string{"on", "e\n\n  two \r\nth", "ree", "\n" + long + "y\n", "rest "} {
		l.Add([]byte(p), func(line string) { got = append(got, line) })
	}
	want := []string{"one", "two", "three", long, "y"}
	if diff := cmp.Diff(want, got); diff != "" || l.Rest() != "rest" {
		t.Errorf("rest %q, lines -want +got:\n%s", l.Rest(), diff)
	}
}
