package compat

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// comparison is what one command of restic is in vitrine.
type comparison struct {
	name   string
	except []Exception // flags, or the whole command
	extra  []string    // flags that no restic has
}

// compare holds restic's interface against ours. What differs and is not explained, and what is explained and does
// not differ, are findings.
type compare struct {
	restic, ours Program
	used         map[int]bool // of exceptions
	findings     []string
}

func (c *compare) report(format string, args ...any) {
	c.findings = append(c.findings, fmt.Sprintf(format, args...))
}

// explained returns the exception for a flag, or for the command when flag is "".
func (c *compare) explained(command, flag string) (Exception, bool) {
	i := slices.IndexFunc(exceptions, func(e Exception) bool { return e.Command == command && e.Flag == flag })
	if i < 0 {
		return Exception{}, false
	}
	c.used[i] = true
	return exceptions[i], true
}

// interfaces compares the command lines of both programs, with what is recorded of a newer restic.
func (c *compare) interfaces(ctx context.Context) ([]comparison, error) {
	debian, err := c.restic.Interface(ctx)
	if err != nil {
		return nil, err
	}
	recorded, err := Newer()
	if err != nil {
		return nil, err
	}
	var all []comparison
	names := append(debian.names(), recorded.names()...)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		ours, _, err := c.ours.command(ctx, name)
		if err != nil {
			return nil, err
		}
		row := comparison{name: name}
		if e, ok := c.explained(name, ""); ok {
			row.except = append(row.except, e)
			if len(ours.Flags) > 0 {
				c.report("%s: is explained as missing, but is there", name)
			}
			all = append(all, row)
			continue
		}
		if known, err := c.known(ctx, name); err != nil {
			return nil, err
		} else if !known {
			c.report("vitrine has no command %q, and nothing explains it", name)
			continue
		}
		theirs := merge(debian[name], recorded[name])
		theirs.Flags = append(theirs.Flags, c.hidden(ctx, name)...)
		for _, f := range theirs.Flags {
			if err := c.flag(ctx, &row, ours, f); err != nil {
				return nil, err
			}
		}
		for _, f := range ours.Flags {
			if _, ok := theirs.flag(f.Long); !ok {
				row.extra = append(row.extra, "--"+f.Long)
			}
		}
		all = append(all, row)
	}
	for i, e := range exceptions {
		if !c.used[i] {
			c.report("the explanation of %s --%s explains nothing: remove it", e.Command, e.Flag)
		}
	}
	return all, nil
}

// known reports whether vitrine has the command.
func (c *compare) known(ctx context.Context, name string) (bool, error) {
	out, err := c.ours.run(ctx, append(strings.Fields(name), "--help")...)
	return err == nil && strings.Contains(out, "vitrine "+name), err
}

// merge adds to the flags of the older restic those that only the newer one has.
func merge(old, recent Command) Command {
	for _, f := range recent.Flags {
		if _, ok := old.flag(f.Long); !ok {
			old.Flags = append(old.Flags, f)
		}
	}
	return old
}

// hidden returns the flags of restic that its help does not name, having asked whether it knows them.
func (c *compare) hidden(ctx context.Context, command string) []Flag {
	var flags []Flag
	for _, h := range hidden {
		if h.command != command {
			continue
		}
		if ok, err := c.restic.Accepts(ctx, command, h.flag.Long); err != nil || !ok {
			c.report("restic %s does not know --%s (%v): remove it from the table of hidden flags", command, h.flag.Long, err)
		}
		flags = append(flags, h.flag)
	}
	return flags
}

// flag compares one flag of restic with ours of that name.
func (c *compare) flag(ctx context.Context, row *comparison, ours Command, theirs Flag) error {
	problem := ""
	switch f, ok := ours.flag(theirs.Long); {
	case !ok:
		accepted, err := c.ours.Accepts(ctx, row.name, theirs.Long)
		if err != nil {
			return err
		}
		if !accepted {
			problem = "is not accepted"
		}
	case theirs.Short != "" && f.Short != theirs.Short:
		problem = fmt.Sprintf("has the letter %q for restic's %q", f.Short, theirs.Short)
	case f.Value != theirs.Value:
		problem = fmt.Sprintf("takes a value: %v", f.Value)
	case theirs.Default != "" && f.Default != theirs.Default:
		problem = fmt.Sprintf("is %q when nothing is said, in restic %q", f.Default, theirs.Default)
	}
	e, ok := c.explained(row.name, theirs.Long)
	switch {
	case ok:
		if problem == "" && e.Verdict == No {
			c.report("%s --%s: is explained as missing, but is there", row.name, theirs.Long)
		}
		row.except = append(row.except, e)
	case problem != "":
		c.report("%s --%s %s, and nothing explains it", row.name, theirs.Long, problem)
	}
	return nil
}

// List compares the two programs and returns the list of the README, and what is wrong with it: what differs without
// an explanation, and explanations of nothing.
func List(ctx context.Context, restic, vitrine Program) (list string, findings []string, err error) {
	c := &compare{restic: restic, ours: vitrine, used: map[int]bool{}}
	rows, err := c.interfaces(ctx)
	if err != nil {
		return "", nil, err
	}
	return render(rows), c.findings, nil
}

// render makes the table: a row for each command with something to say, one for all others.
func render(rows []comparison) string {
	var out strings.Builder
	out.WriteString("| command | flags of restic | what differs |\n|---|---|---|\n")
	var same []string
	for _, row := range rows {
		name := "`" + row.name + "`"
		if row.name == "" {
			name = "all commands"
		}
		var differs []string
		for _, d := range Differences {
			if d.Command == row.name {
				differs = append(differs, d.Text)
			}
		}
		if len(row.extra) > 0 {
			differs = append(differs, "more than "+NewerVersion+": `"+strings.Join(row.extra, "`, `")+"`")
		}
		if len(row.except) == 0 && len(differs) == 0 {
			same = append(same, name)
			continue
		}
		fmt.Fprintf(&out, "| %s | %s | %s |\n", name, flagsText(row.except), strings.Join(differs, "; "))
	}
	fmt.Fprintf(&out, "| %s | yes | |\n", strings.Join(same, ", "))
	return out.String()
}

// flagsText says which flags are as in restic.
func flagsText(except []Exception) string {
	if len(except) == 0 {
		return "yes"
	}
	if except[0].Flag == "" {
		return "no: " + except[0].Why
	}
	// Flags with the same reason stand together.
	var reasons []string
	flags := map[string][]string{}
	for _, e := range except {
		text := string(e.Verdict) + ": " + e.Why
		if flags[text] == nil {
			reasons = append(reasons, text)
		}
		flags[text] = append(flags[text], "`--"+e.Flag+"`")
	}
	var parts []string
	for _, r := range reasons {
		parts = append(parts, strings.Join(flags[r], ", ")+" "+r)
	}
	return "yes, but " + strings.Join(parts, "; ")
}

// Marks of the list in the README. What is between them is made by scripts/compat.
const (
	beginMark = "<!-- made by go run ./scripts/compat -write; scripts/internal/compat has the reasons -->\n"
	endMark   = "<!-- end -->\n"
)

// Section cuts the list out of the README.
func Section(readme string) (before, list, after string, err error) {
	before, rest, ok := strings.Cut(readme, beginMark)
	list, after, ok2 := strings.Cut(rest, endMark)
	if !ok || !ok2 {
		return "", "", "", fmt.Errorf("README.md has no %q … %q", strings.TrimSpace(beginMark), strings.TrimSpace(endMark))
	}
	return before + beginMark, list, endMark + after, nil
}
