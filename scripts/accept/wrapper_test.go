package accept

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// wrapper runs the program as wrappers such as resticprofile do: by the name restic, with the repository and the password in
// the environment, and it believes exit codes, the summary and a few words.
type wrapper struct {
	*lab
	env []string
}

// run expects the exit code and returns what was printed.
func (w *wrapper) run(code int, line string) result {
	w.t.Helper()
	cmd := exec.Command("bash", "-c", "exec restic "+line)
	cmd.Env = append(os.Environ(), w.env...)
	r := w.try(cmd)
	if r.code != code {
		w.t.Errorf("want exit code %d: %v", code, r)
	}
	return r
}

// summaryOf reads the last message of a backup. A field that is missing is an error: a wrapper's metrics would be wrong.
func (w *wrapper) summaryOf(r result) map[string]any {
	w.t.Helper()
	var found map[string]any
	for line := range strings.Lines(r.stdout) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			w.t.Fatalf("%q is no JSON: %v", line, err)
		}
		if m["message_type"] == "summary" {
			found = m
		}
	}
	for _, field := range []string{
		"files_new", "files_changed", "files_unmodified", "dirs_new", "dirs_changed", "dirs_unmodified", "data_blobs", "tree_blobs",
		"data_added", "total_files_processed", "total_bytes_processed", "total_duration",
	} {
		if _, ok := found[field].(float64); !ok {
			w.t.Errorf("the summary has no number %s: %v", field, found)
		}
	}
	if id, _ := found["snapshot_id"].(string); !regexp.MustCompile(`^[0-9a-f]{64}$`).MatchString(id) {
		w.t.Errorf("snapshot_id %q", found["snapshot_id"])
	}
	return found
}

// A wrapper that knows restic only drives vitrine through the life of a repository.
func TestWrapper(t *testing.T) {
	l := newLab(t).plain()
	for _, dir := range []string{"/bin", "/home", "/source/sub"} {
		if err := os.MkdirAll(l.dir+dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(plain, l.dir+"/bin/restic"); err != nil {
		t.Fatal(err)
	}
	write(t, l.dir+"/source/a", "one\n")
	write(t, l.dir+"/source/sub/b", "two\n")
	environment := []string{"PATH=" + l.dir + "/bin:" + os.Getenv("PATH"), "HOME=" + l.dir + "/home", "RESTIC_CACHE_DIR=" + l.cache}
	for name, env := range map[string][]string{
		"password file":    {"RESTIC_REPOSITORY=" + l.dir + "/by-file", "RESTIC_PASSWORD_FILE=" + l.password},
		"password command": {"RESTIC_REPOSITORY=" + l.dir + "/by-command", "RESTIC_PASSWORD_COMMAND=cat " + l.password},
		"password":         {"RESTIC_REPOSITORY=" + l.dir + "/by-variable", "RESTIC_PASSWORD=correct horse"},
		"repository file":  {"RESTIC_REPOSITORY_FILE=" + l.dir + "/location", "RESTIC_PASSWORD_FILE=" + l.password},
	} {
		t.Run(name, func(t *testing.T) {
			write(t, l.dir+"/location", l.dir+"/by-location\n")
			at := *l
			at.t = t
			w := &wrapper{&at, append(environment, env...)}
			w.life()
		})
	}
}

// life is what a profile does over the months.
func (w *wrapper) life() {
	if r := w.run(0, "version"); !regexp.MustCompile(`restic (\d+)\.(\d+)\.(\d+)`).MatchString(r.stdout) {
		w.t.Errorf("no version of restic in %q", r.stdout)
	}
	// "initialize": look whether there is a repository, and make one if not.
	if r := w.run(10, "snapshots --json"); !strings.Contains(r.stderr, "Is there a repository at the following location?") {
		w.t.Errorf("a script of before there were exit codes is lost: %v", r)
	}
	if r := w.run(0, "init"); !strings.Contains(r.stdout, "created restic repository") {
		w.t.Error(r)
	}
	if r := w.run(1, "init"); !strings.Contains(r.stderr, "config file already exists") {
		w.t.Error(r)
	}

	first := w.summaryOf(w.run(0, "backup --json --tag auto source"))
	if first["files_new"] != 2. || first["total_bytes_processed"] != 8. {
		w.t.Errorf("first summary: %v", first)
	}
	second := w.summaryOf(w.run(0, "backup --json --tag auto source"))
	if second["files_new"] != 0. || second["files_unmodified"] != 2. || second["data_blobs"] != 0. {
		w.t.Errorf("second summary: %v", second)
	}
	w.summaryOf(w.run(3, "backup --json --tag auto source nowhere"))
	plain := w.run(0, "backup --tag auto source --verbose").stdout
	for _, words := range []string{
		`Files: +(\d+) new, +(\d+) changed, +(\d+) unmodified`, `Dirs: +(\d+) new, +(\d+) changed, +(\d+) unmodified`,
		`Added to the repo[a-z]*: ([\d.]+) ([KMGT]?i?B)`, `processed (\d+) files, ([\d.]+) ([KMGT]?i?B) in `, `snapshot ([0-9a-f]{8}) saved`,
	} {
		if !regexp.MustCompile(words).MatchString(plain) {
			w.t.Errorf("a wrapper looks for %s in:\n%s", words, plain)
		}
	}

	w.run(0, "check")
	w.run(0, "forget --keep-last 2 --tag auto --group-by host --prune")
	var list []struct {
		Tags []string
	}
	if r := w.run(0, "snapshots --json --tag auto"); json.Unmarshal([]byte(r.stdout), &list) != nil || len(list) != 2 || list[0].Tags[0] != "auto" {
		w.t.Errorf("want two snapshots: %v", r)
	}
	w.run(0, "prune --max-unused 0")
	w.run(0, "check --read-data-subset 50%")
	w.run(0, "restore latest --target restored --verify")
	w.run(0, "stats --json latest")
	w.run(0, "cache --cleanup")
	w.run(0, "unlock")
	w.run(1, "frobnicate")

	wrong := &wrapper{w.lab, append(w.env[:len(w.env):len(w.env)], "RESTIC_PASSWORD_FILE=", "RESTIC_PASSWORD_COMMAND=", "RESTIC_PASSWORD=wrong")}
	wrong.run(12, "snapshots")
}
