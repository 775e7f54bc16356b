package cli

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestRunCommand(t *testing.T) {
	for _, test := range []struct {
		name  string
		args  []string
		out   string
		lines []string
		fails string
	}{
		{"output", []string{"sh", "-c", "echo a; echo b"}, "a\nb\n", nil, ""},
		{"arguments as they are", []string{"printf", "%s|", "a b", "$c"}, "a b|$c|", nil, ""},
		{"messages", []string{"sh", "-c", "echo one >&2; printf two >&2; echo out"}, "out\n", []string{"one", "two"}, ""},
		{"no input", []string{"cat"}, "", nil, ""},
		{"failure", []string{"sh", "-c", "echo half; exit 3"}, "half\n", nil, "command sh failed: exit status 3"},
		{"killed", []string{"sh", "-c", "kill -9 $$"}, "", nil, "command sh failed: signal: killed"},
		{"no such command", []string{"/nosuch/command"}, "", nil, "command /nosuch/command failed: "},
	} {
		var lines []string
		out, stop := runCommand(t.Context(), test.args, func(line string) { lines = append(lines, line) })
		got, err := io.ReadAll(out)
		stop()
		if string(got) != test.out || !slices.Equal(lines, test.lines) {
			t.Errorf("%s: %q, lines %q", test.name, got, lines)
		}
		if (err == nil) != (test.fails == "") || err != nil && !strings.HasPrefix(err.Error(), test.fails) {
			t.Errorf("%s: %v, want %q", test.name, err, test.fails)
		}
	}
}

// Whoever stops reading, and a signal, end the command.
func TestRunCommandEnds(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	for _, end := range []func(){func() {}, func() { cancel(why) }} {
		out, stop := runCommand(ctx, []string{"sh", "-c", "echo started; exec sleep 1000"}, func(string) {})
		p := make([]byte, 8)
		if _, err := io.ReadFull(out, p); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		end()
		if ctx.Err() != nil {
			if _, err := out.Read(p); !errors.Is(err, why) {
				t.Errorf("%v", err)
			}
		}
		stop()
		if took := time.Since(begin); took > patience {
			t.Errorf("it took %v to end the command", took)
		}
	}
}

func TestNotEmpty(t *testing.T) {
	if _, err := io.ReadAll(&notEmpty{Reader: strings.NewReader("")}); !errors.Is(err, errNoInput) {
		t.Error(err)
	}
	if p, err := io.ReadAll(&notEmpty{Reader: strings.NewReader("x")}); err != nil || string(p) != "x" {
		t.Errorf("%q, %v", p, err)
	}
}

func TestLineWriter(t *testing.T) {
	var lines []string
	l := &lineWriter{say: func(line string) { lines = append(lines, line) }}
	long := strings.Repeat("x", maxLineBytes)
	for _, part := range []string{"a", "b\n\nc", "\n", long, "y\nend"} {
		if n, err := io.WriteString(l, part); n != len(part) || err != nil {
			t.Error(n, err)
		}
	}
	l.end()
	l.end()
	if want := []string{"ab", "", "c", long, "y", "end"}; !slices.Equal(lines, want) {
		t.Errorf("%d lines, want %d", len(lines), len(want))
	}
}
