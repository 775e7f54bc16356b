package accept

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vitrine/repo/backend/s3/miniotest"
)

// readme is a part of the README whose commands are run as they are printed.
type readme struct {
	script  string // its blocks of commands
	cleanUp string // what it says behind the last of them removes all that they have made
}

// readmePart returns what the README has in blocks that are marked so.
func readmePart(t *testing.T, mark string) readme {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var part readme
	for _, block := range regexp.MustCompile("(?s)```sh "+mark+"\n(.*?)```([^`]*`([^`\n]+)`)?").FindAllSubmatch(text, -1) {
		part.script += string(block[1])
		if command := string(block[3]); strings.Contains(command, "rm -r") {
			part.cleanUp = command
		}
	}
	if part.script == "" {
		t.Fatalf("the README has no block of commands marked as %s", mark)
	}
	return part
}

// run runs the commands by one shell in an empty home directory, calls check when they have worked, and cleans up.
func (p readme) run(t *testing.T, l *lab, check func(home string)) {
	t.Helper()
	home := l.dir + "/home"
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	shell := func(script string) result {
		cmd := exec.Command("timeout", "--signal=TERM", "300", "bash", "-euxo", "pipefail", "-c", script)
		cmd.Dir = home
		cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME=", "PATH="+filepath.Dir(plain)+":"+os.Getenv("PATH"))
		return l.try(cmd)
	}
	start := time.Now()
	r := shell(p.script)
	t.Logf("the commands took %.1f s", time.Since(start).Seconds())
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[1], home) {
			t.Errorf("the commands leave %s mounted", fields[1])
			detach(fields[1])
		}
	}
	if r.code != 0 {
		t.Fatal(r)
	}
	for _, name := range []string{"far/password", "tour/password"} {
		if info, err := os.Stat(home + "/" + name); err == nil && info.Mode()&0o077 != 0 {
			t.Errorf("others can read ~/%s: %v", name, info.Mode())
		}
	}
	check(home)
	if r := shell(p.cleanUp); r.code != 0 || p.cleanUp == "" {
		t.Errorf("to clean up with %q: %v", p.cleanUp, r)
	}
	others := []string{home, home + "/.cache", home + "/.config", home + "/.config/rclone"} // rclone makes the latter
	err = filepath.Walk(home, func(path string, _ os.FileInfo, err error) error {
		if !slices.Contains(others, path) {
			t.Errorf("%q leaves %s behind", p.cleanUp, path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// at replaces the address of a server in the commands.
func (p readme) at(t *testing.T, printed, real string) readme {
	t.Helper()
	if !strings.Contains(p.script, printed) {
		t.Fatalf("%s is not in the commands:\n%s", printed, p.script)
	}
	p.script = strings.ReplaceAll(p.script, printed, real)
	return p
}

func TestReadmeTour(t *testing.T) {
	part := readmePart(t, "tour")
	for _, word := range []string{"vitrine init", "vitrine backup", "vitrine snapshots", "vitrine mount", "cp -a", "rsync", "diff -r", "vitrine check"} {
		if !strings.Contains(part.script, word) {
			t.Fatalf("the tour does not show %q; it is:\n%s", word, part.script)
		}
	}
	l := newLab(t)
	part.run(t, l, func(home string) {
		l.must(plain, "--repo", home+"/tour/repo", "--password-file", home+"/tour/password", "check", "--read-data")
	})
}

func TestReadmeS3(t *testing.T) {
	l := newLab(t).plain()
	server := miniotest.Start(t)
	miniotest.Setenv(t)
	readmePart(t, "s3").at(t, "127.0.0.1:9000", server.Addr).run(t, l, func(home string) {
		l.same("/usr/include/x86_64-linux-gnu", home+"/restored")
	})
}

func TestReadmeREST(t *testing.T) {
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := free.Addr().String()
	free.Close()
	l := newLab(t)
	readmePart(t, "rest").at(t, "127.0.0.1:8000", addr).run(t, l, func(home string) {
		l.must(plain, "--repo", home+"/far/repo", "--password-file", home+"/far/password", "check")
	})
}

func TestReadmeRclone(t *testing.T) {
	l := newLab(t)
	readmePart(t, "rclone").run(t, l, func(home string) {
		l.must(plain, "--repo", home+"/far/rclone", "--password-file", home+"/far/password", "check")
	})
}
