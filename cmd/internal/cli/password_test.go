package cli

import (
	"bufio"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPassword(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		name   string
		access access
		stdin  string
		none   bool
		data   bool // standard input is taken
		want   string
		fails  string
	}{
		{name: "file", access: access{passwordFile: write("file", "  geheim \n")}, want: "geheim"},
		{name: "file with byte order mark", access: access{passwordFile: write("bom", "\xef\xbb\xbfgeheim\r\n")}, want: "geheim"},
		{name: "missing file", access: access{passwordFile: filepath.Join(dir, "none")}, fails: "read the password file"},
		{name: "empty file", access: access{passwordFile: write("empty", "\n")}, fails: "--insecure-no-password"},
		{name: "command", access: access{passwordCommand: `printf 'ge heim\n'`}, want: "ge heim"},
		{name: "failing command hides its arguments", access: access{passwordCommand: "false geheim"}, fails: "password command false: exit status 1"},
		{name: "missing command", access: access{passwordCommand: "./no-such-program"}, fails: "password command ./no-such-program"},
		{name: "file and command", access: access{passwordFile: "a", passwordCommand: "b"}, fails: "leave one of them out"},
		{name: "environment", access: access{password: "geheim"}, want: "geheim"},
		{name: "file before environment", access: access{password: "no", passwordFile: write("yes", "yes")}, want: "yes"},
		{name: "standard input", stdin: "geheim\r\nmore\n", want: "geheim"},
		{name: "standard input without newline", stdin: "geheim", want: "geheim"},
		{name: "nothing at all", fails: "no password: standard input is no terminal"},
		{name: "standard input is data", stdin: "data", data: true, fails: "--password-file"},
		{name: "none", none: true},
		{name: "none and one", none: true, access: access{password: "geheim"}, fails: "--insecure-no-password"},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := strings.NewReader(c.stdin)
			a := &app{stdin: in, lines: bufio.NewReader(in), stderr: &strings.Builder{}, stdinIsData: c.data}
			got, err := a.password(context.Background(), &c.access, "repository", false, c.none)
			if c.fails == "" && (err != nil || string(got) != c.want) {
				t.Errorf("have %q, %v; want %q", got, err, c.want)
			}
			if c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("error %v, want %q", err, c.fails)
			}
			if err != nil && strings.Contains(err.Error(), "geheim") {
				t.Errorf("the password is in the message: %v", err)
			}
		})
	}
}

func TestPasswordSource(t *testing.T) {
	a := &app{stdin: strings.NewReader(""), env: environment([]string{"VITRINE_PASSWORD=", "RESTIC_PASSWORD=secret", "VITRINE_FROM_PASSWORD=secret"})}
	for _, c := range []struct {
		s    *access
		want string
	}{
		{&access{passwordCommand: "pass show 'secret'"}, "the password command pass"},
		{&access{passwordFile: "/etc/pw", password: "secret"}, "the file /etc/pw"},
		{&access{password: "secret"}, "$RESTIC_PASSWORD"},
		{&a.from, "$VITRINE_FROM_PASSWORD"},
		{&access{}, "standard input"},
	} {
		if c.s == &a.from {
			a.from.password = "secret"
		}
		if got := a.passwordSource(c.s); got != c.want {
			t.Errorf("%+v: %q, want %q", *c.s, got, c.want)
		}
	}
	for s, want := range map[*access]string{{}: "no key; --insecure-no-password says", &a.from: "no key; --from-insecure-no-password says"} {
		if err := a.wrongPassword(errors.New("no key"), s, true); !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "came from") {
			t.Errorf("without a password: %v", err)
		}
	}
}
