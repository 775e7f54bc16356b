package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/wiring"
)

func newOptions(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "options",
		Short: "List the extended options",
		Long:  `Lists the keys that -o key=value takes, with what they do.`,
		Example: `  vitrine options
  vitrine -o s3.connections=32 -r s3:https://host/bucket snapshots`,
		Args: noArgs,
		RunE: func(*cobra.Command, []string) error { return a.runOptions() },
	}
}

// optionMessage is an option under --json; restic has none.
type optionMessage struct {
	MessageType string `json:"message_type"` // option
	Name        string `json:"name"`
	Description string `json:"description"`
	Default     string `json:"default,omitempty"`
}

func (a *app) runOptions() error {
	all := wiring.ExtendedOptions()
	if a.print.JSONMode() {
		for _, o := range all {
			a.print.Message(optionMessage{"option", o.Key, o.Does, o.Default})
		}
		return nil
	}
	width := 0
	for _, o := range all {
		width = max(width, len(o.Key))
	}
	a.print.Result("All Extended Options:")
	for _, o := range all {
		text := o.Does
		if o.Default != "" {
			text += fmt.Sprintf(" (default: %s)", o.Default)
		}
		a.print.Result("  %-*s  %s", width, o.Key, text)
	}
	return nil
}
