package cli

import (
	"runtime"

	"github.com/spf13/cobra"
)

// likeRestic is the restic whose commands, flags and messages these are. Wrappers look for "restic " and a version.
const likeRestic = "0.18.0"

// versionMessage is the output of version --json.
type versionMessage struct {
	MessageType string `json:"message_type"` // version
	Version     string `json:"version"`
	GoVersion   string `json:"go_version"`
	GoOS        string `json:"go_os"`
	GoArch      string `json:"go_arch"`
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Tell the version of this program",
		Long:    "Tells the version of this program, and with what and for what it was compiled.",
		Example: "  vitrine version --json",
		Args:    noArgs,
		RunE: func(*cobra.Command, []string) error {
			if a.print.JSONMode() {
				a.print.Message(versionMessage{"version", Version, runtime.Version(), runtime.GOOS, runtime.GOARCH})
				return nil
			}
			a.print.Result("vitrine %s compiled with %s on %s/%s; commands of restic "+likeRestic, Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return nil
		},
	}
}
