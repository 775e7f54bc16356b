package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
	"github.com/spf13/pflag"
)

// writeManPages writes the page of a command and of those below it into a directory. It changes the texts
// of the commands.
func writeManPages(cmd *cobra.Command, dir string) error {
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			if err := writeManPages(c, dir); err != nil {
				return err
			}
		}
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	f, err := os.Create(filepath.Join(dir, name+".1"))
	if err != nil {
		return err
	}
	cmd.DisableAutoGenTag = true
	cmd.Long = manText(cmd.Long)
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { f.Usage = manLine(f.Usage) })
	cmd.PersistentFlags().VisitAll(func(f *pflag.Flag) { f.Usage = manLine(f.Usage) })
	header := &doc.GenManHeader{Title: strings.ToUpper(name), Section: "1", Source: "vitrine " + Version, Manual: "vitrine manual"}
	return errors.Join(doc.GenMan(cmd, header, f), f.Close())
}

// manText makes Markdown, from which the pages are made, of a text for the terminal: lines that begin with
// spaces are laid out already.
func manText(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "  "):
			lines[i] = "    " + line
		case !strings.HasPrefix(line, "\t"): // as cobra lays its texts out
			lines[i] = manLine(line)
		}
	}
	return strings.Join(lines, "\n")
}

// markup are the signs that Markdown would not show.
var markup = strings.NewReplacer(`\`, `\\`, "<", `\<`, "*", `\*`, "_", `\_`)

// manLine keeps the signs of a line from being markup. Backquotes stay: they set the name of a flag's
// value apart, and between them nothing is markup anyway.
func manLine(line string) string {
	parts := strings.Split(line, "`")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = markup.Replace(parts[i])
	}
	return strings.Join(parts, "`")
}
