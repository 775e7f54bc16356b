package progress

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"vitrine/repo/archive"
	"vitrine/repo/restore"
	"vitrine/repo/snapshot"
)

func TestLogger(t *testing.T) {
	for verbose, want := range map[int]string{
		0: "Warning: pack is gone: pack 1f2e, no such file\nerror: bad\nerror: \"bad \\x1b[2J: 2\"\n",
		1: "info: note\nWarning: pack is gone: pack 1f2e, no such file\nerror: bad\nerror: \"bad \\x1b[2J: 2\"\n",
		3: "debug: detail: n 7\ninfo: note\nWarning: pack is gone: pack 1f2e, no such file\nerror: bad\nerror: \"bad \\x1b[2J: 2\"\n",
	} {
		var out, errOut bytes.Buffer
		log := New(Options{Stdout: &out, Stderr: &errOut, Verbose: verbose}).Logger()
		log.Debug("detail", "n", 7)
		log.Info("note")
		log.With("pack", "1f2e").WithGroup("g").Warn("pack is gone", "error", errors.New("no such file"))
		log.Error("bad")
		log.Error("bad \x1b[2J: 2")
		if errOut.String() != want || out.Len() > 0 {
			t.Errorf("verbose %d: have %q and %q, want %q", verbose, errOut.String(), out.String(), want)
		}
	}
}

// Several errors of one file are one line.
func TestJoinedErrorsAreALine(t *testing.T) {
	var out bytes.Buffer
	p := New(Options{Stdout: &out, Stderr: &out})
	err := errors.Join(errors.New("set the owner"), errors.New("set the mode"))
	NewRestore(p).Error("/a", err)
	NewBackup(p).Error("/a", err)
	if got, want := out.String(), "error: /a: set the owner; set the mode\nerror: set the owner; set the mode\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// What a name holds does not reach the terminal as it is, and what was added to it stays outside of the quotes.
func TestNamesArePrintable(t *testing.T) {
	var out bytes.Buffer
	p := New(Options{Stdout: &out, Stderr: &out, Verbose: 2})
	const name = "\x1b[31mred\xff\né"
	b, r := NewBackup(p), NewRestore(p)
	b.Error("/"+name, errors.New("open "+name+": permission denied"))
	b.Done(archive.Item{Dir: "/", Name: name, Type: snapshot.File, Change: archive.New})
	b.Done(archive.Item{Dir: "/", Name: name, Type: snapshot.File, Change: archive.Unmodified})
	b.Done(archive.Item{Dir: "/", Name: name, Type: snapshot.Dir, Change: archive.New})
	r.Done(restore.Item{Path: "/" + name, Type: snapshot.File, Action: restore.Restored, SizeBytes: 8})
	for line := range strings.Lines(out.String()) {
		if strings.Contains(line, "\x1b") || !utf8.ValidString(line) {
			t.Errorf("%q", line)
		}
	}
	if n := strings.Count(out.String(), "\n"); n != 5 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
	if want := `"/\x1b[31mred\xff\né" with size 8 B`; !strings.Contains(out.String(), want) {
		t.Errorf("%s\nhas no %s", out.String(), want)
	}
}
