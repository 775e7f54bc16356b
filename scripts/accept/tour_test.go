package accept

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The tour of the README is run as it is printed, by one shell, in an empty home directory.
func TestReadmeTour(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var script strings.Builder
	for _, block := range regexp.MustCompile("(?s)```sh tour\n(.*?)```").FindAllSubmatch(readme, -1) {
		script.Write(block[1])
	}
	for _, word := range []string{"vitrine init", "vitrine backup", "vitrine snapshots", "vitrine mount", "cp -a", "rsync", "diff -r", "vitrine check"} {
		if !strings.Contains(script.String(), word) {
			t.Fatalf("the tour does not show %q; it is:\n%s", word, script.String())
		}
	}
	l := newLab(t)
	home := l.dir + "/home"
	if err := os.Mkdir(home, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("timeout", "--signal=TERM", "300", "bash", "-euxo", "pipefail", "-c", script.String())
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_CACHE_HOME=", "PATH="+filepath.Dir(binary)+":"+os.Getenv("PATH"))
	start := time.Now()
	r := l.try(cmd)
	if r.code != 0 {
		t.Error(r)
	}
	t.Logf("the tour took %.1f s", time.Since(start).Seconds())
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); strings.HasPrefix(fields[1], home) {
			t.Errorf("the tour leaves %s mounted", fields[1])
			detach(fields[1])
		}
	}
	if repo := home + "/tour/repo"; r.code == 0 {
		l.must(binary, "--repo", repo, "--password-file", home+"/tour/password", "check", "--read-data")
	}
}
