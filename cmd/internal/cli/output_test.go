package cli

import (
	"strings"
	"testing"
)

// The commands whose output may be lost are commands.
func TestWorkersAreCommands(t *testing.T) {
	root := newRoot(&app{stdin: strings.NewReader(""), env: environment(nil)})
	for _, name := range workers {
		if cmd, _, err := root.Find(strings.Fields(name)); err != nil || cmd.CommandPath() != "vitrine "+name || !works(cmd) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
