package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// makeStrict gives the root the commands help and completion, which as cobra makes them succeed
// with words that they do not know.
func makeStrict(root *cobra.Command) {
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		switch c.Name() {
		case "help":
			c.Run = nil
			c.RunE = func(_ *cobra.Command, words []string) error {
				found, rest, err := root.Find(words)
				if err != nil {
					return usagef("vitrine", "%w", err)
				}
				if found.HasSubCommands() {
					if err := unknownCommand(found, rest); err != nil {
						return err
					}
				}
				found.InitDefaultHelpFlag()
				found.InitDefaultVersionFlag()
				return found.Help()
			}
		case "completion":
			c.Args = nil
			c.RunE = func(c *cobra.Command, words []string) error {
				if len(words) == 0 {
					return c.Help()
				}
				return usagef("vitrine completion", "there is no completion for %q", words[0])
			}
		}
	}
}

// notYet are commands of restic that vitrine does not have, and what to do instead.
var notYet = map[string]string{
	"self-update": "build it anew from its sources by make",
}

// unknownCommand refuses a word that is no command below parent and names the nearest.
func unknownCommand(parent *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if instead, ok := notYet[args[0]]; ok {
		return fmt.Errorf("not in vitrine yet: %s; %s", args[0], instead)
	}
	var names []string
	for _, c := range parent.Commands() {
		if c.IsAvailableCommand() || c.Name() == "help" {
			names = append(names, c.Name())
		}
	}
	return usagef(parent.CommandPath(), "unknown command %q%s", args[0], didYouMean("", args[0], names))
}

// noArgs refuses words behind a command that takes none: cobra would call them unknown commands.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usagef(cmd.CommandPath(), "%q: %s takes no arguments", args[0], cmd.CommandPath())
}
