package cli

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// everyCommand calls fn for each command of vitrine that is not cobra's own.
func everyCommand(t *testing.T, fn func(cmd *cobra.Command)) {
	t.Helper()
	a := &app{stdin: strings.NewReader(""), stdout: &strings.Builder{}, stderr: &strings.Builder{}, env: environment(nil)}
	commands := newRoot(a).Commands()
	for _, cmd := range commands {
		if cmd.Name() != "help" && cmd.Name() != "completion" {
			fn(cmd)
		}
	}
	if len(commands) < 10 {
		t.Errorf("only %d commands", len(commands))
	}
}

func TestHelpIsComplete(t *testing.T) {
	everyCommand(t, func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" {
			t.Errorf("%s: it does not say what it does", cmd.Name())
		}
		if !strings.Contains(cmd.Example, "vitrine "+cmd.Name()) {
			t.Errorf("%s: no example of it: %q", cmd.Name(), cmd.Example)
		}
		check := func(f *pflag.Flag) {
			kind, usage := pflag.UnquoteUsage(f)
			if len(usage) < 10 || strings.HasSuffix(usage, ".") {
				t.Errorf("%s --%s: %q", cmd.Name(), f.Name, usage)
			}
			if f.Value.Type() != "bool" && f.Value.Type() != "count" && !strings.Contains(f.Usage, "`") {
				t.Errorf("%s --%s: its value has no name but %q", cmd.Name(), f.Name, kind)
			}
		}
		cmd.LocalFlags().VisitAll(check)
		cmd.InheritedFlags().VisitAll(check)
	})
}

// The help of a flag, the README and the program agree on the variables.
func TestHelpNamesVariables(t *testing.T) {
	readme, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(readme), "### Environment\n")
	section, _, _ = strings.Cut(section, "\n### ")
	var names []string
	for _, group := range new(app).settings() {
		for _, s := range group {
			names = append(names, s.name)
			from, isFrom := strings.CutPrefix(s.name, "FROM_")
			if isFrom && !strings.Contains(section, "`FROM_…`") || !strings.Contains(section, "`"+from+"`") {
				t.Errorf("the README does not name %s", s.name)
			}
			if s.flag == "" && !strings.Contains(rootLong, "$VITRINE_"+s.name) {
				t.Errorf("the help does not name $VITRINE_%s", s.name)
			}
			users := 0
			everyCommand(t, func(cmd *cobra.Command) {
				cmd.InheritedFlags() // adds those of the root to Flags
				if f := cmd.Flags().Lookup(s.flag); f != nil {
					users++
					if !strings.Contains(f.Usage, "$VITRINE_"+s.name) {
						t.Errorf("%s --%s does not name $VITRINE_%s: %s", cmd.Name(), s.flag, s.name, f.Usage)
					}
				}
			})
			if (users == 0) != (s.flag == "") {
				t.Errorf("%s: %d commands have its flag %q", s.name, users, s.flag)
			}
		}
	}
	// The other way round: no help names a variable that is not read.
	everyCommand(t, func(cmd *cobra.Command) {
		for _, text := range strings.Split(cmd.Long+cmd.UsageString(), "$VITRINE_")[1:] {
			end := strings.IndexFunc(text, func(r rune) bool { return (r < 'A' || r > 'Z') && r != '_' })
			if name := text[:end]; !slices.Contains(names, name) {
				t.Errorf("%s: its help names $VITRINE_%s, which nobody reads", cmd.Name(), name)
			}
		}
	})
}

func TestManText(t *testing.T) {
	in := "a <b> of *.o, `c<d>_e`\n\n  x/<y>  z\n\n\tp <(q)\n\nback\\slash an_d"
	want := "a \\<b> of \\*.o, `c<d>_e`\n\n      x/<y>  z\n\n\tp <(q)\n\nback\\\\slash an\\_d"
	if got := manText(in); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
