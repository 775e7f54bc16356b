package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// generateOptions are the flags of generate: files to write, "-" for standard output.
type generateOptions struct {
	bash, fish, zsh, powershell string
	man                         string
}

func newGenerate(a *app) *cobra.Command {
	var o generateOptions
	cmd := &cobra.Command{
		Use:   "generate [flags]",
		Short: "Write man pages and completions for shells",
		Long: `Writes man pages into a directory, and completion files for shells; "-" writes a
completion to standard output.`,
		Example: `  vitrine generate --man /usr/local/share/man/man1
  vitrine generate --bash-completion /etc/bash_completion.d/vitrine`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runGenerate(cmd.Root(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.bash, "bash-completion", "", "write the completion for bash to this `file`")
	f.StringVar(&o.fish, "fish-completion", "", "write the completion for fish to this `file`")
	f.StringVar(&o.zsh, "zsh-completion", "", "write the completion for zsh to this `file`")
	f.StringVar(&o.powershell, "powershell-completion", "", "write the completion for PowerShell to this `file`")
	f.StringVar(&o.man, "man", "", "write the man pages into this `directory`")
	return cmd
}

func (a *app) runGenerate(root *cobra.Command, o generateOptions) error {
	done := false
	if o.man != "" {
		done = true
		// A tree of its own: its texts are changed for the pages.
		if err := writeManPages(newRoot(&app{stdin: a.stdin, stdout: a.stdout, stderr: a.stderr, env: a.env}), o.man); err != nil {
			return fmt.Errorf("write man pages: %w", err)
		}
		a.print.Line("wrote man pages to %s", o.man)
	}
	for _, c := range []struct {
		shell, file string
		write       func(io.Writer) error
	}{
		{"bash", o.bash, func(w io.Writer) error { return root.GenBashCompletionV2(w, true) }},
		{"fish", o.fish, func(w io.Writer) error { return root.GenFishCompletion(w, true) }},
		{"zsh", o.zsh, root.GenZshCompletion},
		{"powershell", o.powershell, root.GenPowerShellCompletionWithDesc},
	} {
		if c.file == "" {
			continue
		}
		done = true
		if err := a.writeCompletion(c.file, c.write); err != nil {
			return fmt.Errorf("write the completion for %s: %w", c.shell, err)
		}
		if c.file != "-" {
			a.print.Line("wrote the completion for %s to %s", c.shell, c.file)
		}
	}
	if !done {
		return usagef("vitrine generate", "say what to write")
	}
	return nil
}

func (a *app) writeCompletion(name string, write func(io.Writer) error) error {
	if name == "-" {
		return write(a.stdout)
	}
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(write(f), f.Close())
}
