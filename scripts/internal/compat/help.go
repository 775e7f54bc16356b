// Package compat compares the command line of restic with that of vitrine, and holds every difference between the
// two that is meant, with its reason: of flags, and of what the commands do. The list in the README is made of
// both (scripts/compat); scripts/accept runs both programs and accepts these differences only.
package compat

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// Flag is a flag as the help shows it.
type Flag struct {
	Long, Short string // without dashes; Short may be empty
	Value       bool   // it takes a value
	Default     string // what the help calls the default; "" when it does not
}

// Command is a command with the flags of its own; the one without a name has the global flags.
type Command struct {
	Name  string // such as "backup" or "key add"
	Flags []Flag
}

// Interface is the commands of a program, by name.
type Interface map[string]Command

// Program is a program that explains itself by "help".
type Program string

// run returns what the program prints on both streams, whatever its exit code.
func (p Program) run(ctx context.Context, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, string(p), args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return "", fmt.Errorf("run %s: %w", p, err)
	}
	return string(out), nil
}

// Interface asks for the help of every command that the help names.
func (p Program) Interface(ctx context.Context) (Interface, error) {
	all := Interface{}
	names := []string{""}
	for len(names) > 0 {
		name := names[0]
		if _, again := all[name]; again || len(all) > 200 {
			return nil, fmt.Errorf("%s help %s: its help is not understood", p, name)
		}
		c, below, err := p.command(ctx, name)
		if err != nil {
			return nil, err
		}
		all[name] = c
		names = append(names[1:], below...)
	}
	if len(all) < 10 {
		return nil, fmt.Errorf("%s help: only %d commands were understood", p, len(all))
	}
	return all, nil
}

// command asks for the help of one command, also of one that no help names.
func (p Program) command(ctx context.Context, name string) (c Command, below []string, err error) {
	text, err := p.run(ctx, append([]string{"help"}, strings.Fields(name)...)...)
	if err != nil {
		return c, nil, err
	}
	c, below = parseHelp(text)
	c.Name = name
	if name == "" {
		return c, below, nil
	}
	for i := range below {
		below[i] = name + " " + below[i]
	}
	return c, below, nil
}

var (
	flagLine    = regexp.MustCompile(`^ +(?:-(\w), )?--([\w-]+)( \S+)?   *(.*)$`)
	commandLine = regexp.MustCompile(`^  ([a-z][a-z-]*)  ? *\S`)
	defaultText = regexp.MustCompile(`\(default "?([^":)]+)"?\)$`)
)

// parseHelp returns the flags in the section "Flags:", and the commands in sections of other names.
func parseHelp(text string) (c Command, below []string) {
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if strings.HasSuffix(line, ":") && !strings.HasPrefix(line, " ") && (section != "" || line == "Usage:") { // what is before is prose
			section = line
			continue
		}
		switch section {
		case "", "Usage:", "Examples:", "Global Flags:":
		case "Flags:":
			m := flagLine.FindStringSubmatch(line)
			if m == nil || m[2] == "help" {
				continue
			}
			f := Flag{Short: m[1], Long: m[2], Value: m[3] != ""}
			if d := defaultText.FindStringSubmatch(m[4]); d != nil && d[1] != "[]" {
				f.Default = d[1]
			}
			c.Flags = append(c.Flags, f)
		default:
			if m := commandLine.FindStringSubmatch(line); m != nil && m[1] != "help" && m[1] != "completion" {
				below = append(below, m[1])
			}
		}
	}
	return c, below
}

// Accepts reports whether the program knows a flag that its help may hide. Nothing is done: --help follows.
func (p Program) Accepts(ctx context.Context, command, flag string) (bool, error) {
	out, err := p.run(ctx, append(strings.Fields(command), "--"+flag+"=1", "--help")...)
	return err == nil && !strings.Contains(out, "unknown flag") && !strings.Contains(out, "unknown command"), err
}

// flag returns the flag of that name.
func (c Command) flag(long string) (Flag, bool) {
	i := slices.IndexFunc(c.Flags, func(f Flag) bool { return f.Long == long })
	if i < 0 {
		return Flag{}, false
	}
	return c.Flags[i], true
}

// newer is the interface of a restic that Debian does not have yet, as Record wrote it.
//
//go:embed restic-0.18.txt
var newer string

// NewerVersion is the restic whose interface is recorded beside this file.
const NewerVersion = "0.18"

// Newer returns the recorded interface.
func Newer() (Interface, error) { return parseRecord(newer) }

// Record writes an interface down, a line for each command:
//
//	backup: --exclude/-e= --group-by/-g=host,paths --stdin
func (all Interface) Record() string {
	var out strings.Builder
	for _, name := range all.names() {
		out.WriteString(name + ":")
		for _, f := range all[name].Flags {
			out.WriteString(" --" + f.Long)
			if f.Short != "" {
				out.WriteString("/-" + f.Short)
			}
			if f.Value {
				out.WriteString("=" + f.Default)
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

func parseRecord(text string) (Interface, error) {
	all := Interface{}
	for line := range strings.Lines(text) {
		name, flags, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return nil, fmt.Errorf("line %q: no colon after the command", line)
		}
		c := Command{Name: name}
		for _, word := range strings.Fields(flags) {
			var f Flag
			word, f.Default, f.Value = strings.Cut(word, "=")
			f.Long, f.Short, _ = strings.Cut(strings.TrimPrefix(word, "--"), "/-")
			c.Flags = append(c.Flags, f)
		}
		all[name] = c
	}
	return all, nil
}

// names returns the names of the commands in their order.
func (all Interface) names() []string {
	var names []string
	for name := range all {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
