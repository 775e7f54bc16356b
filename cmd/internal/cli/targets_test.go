package cli

import (
	"os"
	"strings"
	"testing"
)

// A target that is a link to a directory is told of once, on standard error, to people only; output and exit code are those of any
// other.
func TestLinkHint(t *testing.T) {
	t.Chdir(t.TempDir())
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.MkdirAll("real/inner", 0o755))
	must(os.WriteFile("file", nil, 0o644))
	for name, to := range map[string]string{"link": "real", "inner": "real/inner", "again": "link", "other": "/tmp", "tofile": "file", "dangling": "nowhere", "loop": "loop"} {
		must(os.Symlink(to, name))
	}
	for targets, want := range map[string]string{
		"link": "link", "./link/": "link", "again": "again", "file link inner": "link",
		"real": "", "link real": "", "inner real": "", "other /tmp/": "", "link /": "", "tofile dangling loop file missing": "",
	} {
		hint := linkHint(strings.Fields(targets))
		if (hint != "") != (want != "") || !strings.Contains(hint, want+" is a symbolic link") && want != "" {
			t.Errorf("backup %s: %q, want one of %q", targets, hint, want)
		}
	}
	env := []string{"VITRINE_PASSWORD=p", "VITRINE_REPOSITORY=repo", "HOME=" + t.TempDir()}
	for _, c := range []struct {
		args string
		told int
	}{{"init", 0}, {"backup link", 1}, {"backup link --quiet", 0}, {"backup link --json", 0}} {
		var stdout, stderr strings.Builder
		code := Main(append(strings.Fields(c.args), "--no-cache"), strings.NewReader(""), &stdout, &stderr, env)
		if code != 0 || strings.Contains(stdout.String(), "symbolic") {
			t.Errorf("%s: exit code %d, %q", c.args, code, stdout.String())
		}
		if n := strings.Count(stderr.String(), "symbolic link"); n != c.told || strings.Count(stderr.String(), "\n") != n {
			t.Errorf("%s: %q", c.args, stderr.String())
		}
	}
}
