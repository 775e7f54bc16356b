package compat

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The list in the README is what the programs' help texts make it, and every flag of restic is accepted or explained.
func TestList(t *testing.T) {
	vitrine := filepath.Join(t.TempDir(), "vitrine")
	if out, err := exec.Command("go", "build", "-o", vitrine, "vitrine/cmd/vitrine").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	list, findings, err := List(t.Context(), "restic", Program(vitrine))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		t.Error(f)
	}
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, have, _, err := Section(string(readme))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(list, have); diff != "" {
		t.Errorf("README.md is not up to date: make build && go run ./scripts/compat -write\n%s", diff)
	}
}

// fake is a program that answers help and accepts nothing else.
func fake(t *testing.T, name string, help map[string]string) Program {
	var script strings.Builder
	script.WriteString("#!/bin/sh\ncase \"$*\" in\n")
	for words, text := range help {
		script.WriteString("'help" + words + "') cat <<'END'\n" + text + "END\n;;\n")
		if words != "" {
			script.WriteString("'" + strings.TrimSpace(words) + " --help') echo '" + name + words + "' ;;\n")
		}
	}
	script.WriteString("*) echo unknown flag >&2; exit 1 ;;\nesac\n")
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(script.String()), 0o755); err != nil {
		t.Fatal(err)
	}
	return Program(path)
}

// A flag that is missing, has another letter, takes no value or has another default is found.
func TestFlagDiffers(t *testing.T) {
	theirs := Command{Flags: []Flag{{Long: "gone"}, {Long: "letter", Short: "l"}, {Long: "value", Value: true}, {Long: "default", Value: true, Default: "5%"}, {Long: "same", Short: "s"}}}
	ours := Command{Flags: []Flag{{Long: "letter", Short: "x"}, {Long: "value"}, {Long: "default", Value: true, Default: "6%"}, {Long: "same", Short: "s"}}}
	c := &compare{ours: fake(t, "vitrine", nil), used: map[int]bool{}}
	for _, f := range theirs.Flags {
		if err := c.flag(t.Context(), &comparison{name: "some"}, ours, f); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"some --gone is not accepted", "some --letter has the letter", "some --value takes a value", "some --default is"}
	if !slices.EqualFunc(c.findings, want, strings.HasPrefix) {
		t.Errorf("found %q, want %q", c.findings, want)
	}
}

// A command of restic that is missing is found.
func TestCommandMissing(t *testing.T) {
	commands := map[string]string{"": "Usage:\n  restic\n\nAvailable Commands:\n"}
	for _, name := range []string{"aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh", "ii", "jj"} {
		commands[""] += "  " + name + "    Do it\n"
		commands[" "+name] = "Usage:\n  restic " + name + "\n\nFlags:\n  -h, --help   help\n      --one n   one (default 5)\n"
	}
	all, err := fake(t, "restic", commands).Interface(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	want := Command{Name: "cc", Flags: []Flag{{Long: "one", Value: true, Default: "5"}}}
	if diff := cmp.Diff(want, all["cc"]); diff != "" {
		t.Error(diff)
	}
	c := &compare{restic: fake(t, "restic", commands), ours: fake(t, "vitrine", nil), used: map[int]bool{}}
	if _, err := c.interfaces(t.Context()); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(c.findings, `vitrine has no command "cc", and nothing explains it`) {
		t.Errorf("found %q", c.findings)
	}
}

func TestRecord(t *testing.T) {
	all := Interface{
		"":        {Name: "", Flags: []Flag{{Long: "repo", Short: "r", Value: true}}},
		"key add": {Name: "key add", Flags: []Flag{{Long: "host", Value: true, Default: "a,b"}, {Long: "on"}}},
		"list":    {Name: "list"},
	}
	got, err := parseRecord(all.Record())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Error(diff)
	}
}
