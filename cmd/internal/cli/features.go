package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"vitrine/cmd/internal/progress"
)

// feature is one of restic's feature flags: something that can be switched on or off there. Here none can.
type feature struct {
	name        string
	kind        string // restic's word for how settled it is
	on          bool   // how it is here
	description string
}

var features = []feature{
	{"backend-error-redesign", "stable", true, "end requests that are stuck, and tell errors that stay from those that go"},
	{"device-id-for-hardlinks", "deprecated", false, "store device numbers of files with several names only"},
	{"explicit-s3-anonymous-auth", "stable", true, "sign no request to S3 only with `-o s3.unsafe-anonymous-auth=true`"},
	{"safe-forget-keep-tags", "stable", true, "keep `forget --keep-tag` from removing all snapshots when none has the tag"},
}

func newFeatures(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "features",
		Short: "List the feature flags",
		Long: `Lists restic's feature flags and how each is in vitrine. $VITRINE_FEATURES is read, in the form
featureA=true,featureB=false, so that scripts for restic need no change; what it asks for and
is not so is warned about.

A stable feature is always on, a deprecated one always off.`,
		Example: "  vitrine features",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.print.JSONMode() {
				for _, f := range features {
					a.print.Message(featureMessage{"feature", f.name, f.kind, f.on, f.description})
				}
				return nil
			}
			a.print.Result("All Feature Flags:")
			t := progress.NewTable("Name", "Type", "Default", "Description")
			for _, f := range features {
				t.Row(f.name, f.kind, strconv.FormatBool(f.on), f.description)
			}
			return t.Write(a.stdout)
		},
	}
}

// featureMessage is a flag under --json; restic has none.
type featureMessage struct {
	MessageType string `json:"message_type"` // feature
	Name        string `json:"name"`
	Type        string `json:"type"`
	Default     bool   `json:"default"`
	Description string `json:"description"`
}

// checkFeatures returns a warning for each flag that is unknown, cannot be read, or is not as it is asked for. A flag
// without a value is to be on.
func checkFeatures(flags string) (warnings []string) {
	for flag := range strings.SplitSeq(flags, ",") {
		name, value, hasValue := strings.Cut(strings.TrimSpace(flag), "=")
		if name == "" && !hasValue {
			continue
		}
		on, err := true, error(nil)
		if hasValue {
			on, err = strconv.ParseBool(value)
		}
		known := false
		for _, f := range features {
			if f.name != name {
				continue
			}
			known = true
			switch {
			case err != nil:
				warnings = append(warnings, fmt.Sprintf("feature flag %s: %q is neither true nor false", name, value))
			case on != f.on:
				warnings = append(warnings, fmt.Sprintf("feature flag %s is always %v in vitrine", name, f.on))
			}
		}
		if !known {
			warnings = append(warnings, fmt.Sprintf("feature flag %q is unknown; `vitrine features` lists those that are known", name))
		}
	}
	return warnings
}
