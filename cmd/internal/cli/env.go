package cli

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
)

// prefixes of our environment variables. A variable of the first wins over one of the
// second, and a flag wins over both.
var prefixes = []string{"VITRINE_", "RESTIC_"}

// setting is something that the environment can say: the flag it stands for or, when flag
// is empty, the place to put it.
type setting struct {
	name string // of the variable, without prefix
	flag string
	into func(value string) error
}

// settings returns what the environment may say, in groups. The members of a group answer
// the same question, so that a flag which answers it, or a variable of the stronger prefix,
// puts all weaker answers out of play.
func (a *app) settings() [][]setting {
	text := func(p *string) func(string) error { return func(v string) error { *p = v; return nil } }
	return [][]setting{
		{{name: "REPOSITORY", flag: "repo"}, {name: "REPOSITORY_FILE", flag: "repository-file"}},
		{{name: "PASSWORD_FILE", flag: "password-file"}, {name: "PASSWORD_COMMAND", flag: "password-command"},
			{name: "PASSWORD", into: text(&a.global.password)}},
		{{name: "KEY_HINT", flag: "key-hint"}},
		{{name: "FROM_REPOSITORY", flag: "from-repo"}, {name: "FROM_REPOSITORY_FILE", flag: "from-repository-file"}},
		{{name: "FROM_PASSWORD_FILE", flag: "from-password-file"}, {name: "FROM_PASSWORD_COMMAND", flag: "from-password-command"},
			{name: "FROM_PASSWORD", into: text(&a.from.password)}},
		{{name: "FROM_KEY_HINT", flag: "from-key-hint"}},
		{{name: "CACHE_DIR", flag: "cache-dir"}},
		{{name: "CACHE_SIZE", flag: "cache-size"}},
		{{name: "COMPRESSION", flag: "compression"}},
		{{name: "PACK_SIZE", flag: "pack-size"}},
		{{name: "CACERT", flag: "cacert"}},
		{{name: "TLS_CLIENT_CERT", flag: "tls-client-cert"}},
		{{name: "HOST", flag: "host"}},
		{{name: "MEMORY", flag: "memory"}},
		{{name: "IO_TIMEOUT", flag: "io-timeout"}},
		{{name: "READ_CONCURRENCY", flag: "read-concurrency"}},
		{{name: "FEATURES", into: text(&a.features)}},
		{{name: "PROGRESS_FPS", into: func(v string) (err error) {
			a.global.fps, err = strconv.ParseFloat(v, 64)
			if err != nil || !(a.global.fps >= 0) { // which is not NaN either
				return errors.New("write a number of updates a second, such as 0.5 or 10, or 0 for no lines of progress")
			}
			a.global.noLines = a.global.fps == 0 // with which restic does the same as without the variable, and has no such lines then
			return nil
		}}},
	}
}

// applyEnv lets the environment answer what the flags left open. Empty variables count as not
// set.
func (a *app) applyEnv(flags *pflag.FlagSet) error {
	for _, group := range a.settings() {
		if flagGiven(flags, group) {
			continue
		}
		for _, prefix := range prefixes {
			found := false
			for _, s := range group {
				value, _ := a.env(prefix + s.name)
				if value == "" {
					continue
				}
				found = true
				if err := a.applySetting(flags, s, prefix+s.name, value); err != nil {
					return err
				}
			}
			if found {
				break
			}
		}
	}
	return nil
}

func flagGiven(flags *pflag.FlagSet, group []setting) bool {
	for _, s := range group {
		if s.flag != "" && flags.Changed(s.flag) {
			return true
		}
	}
	return false
}

// applySetting puts the value of a variable into its flag, if the command has it, or its place.
func (a *app) applySetting(flags *pflag.FlagSet, s setting, variable, value string) error {
	if s.into != nil {
		if err := s.into(value); err != nil {
			return fmt.Errorf("$%s %q: %w", variable, value, err)
		}
		return nil
	}
	if flags.Lookup(s.flag) == nil {
		return nil
	}
	if a.variables == nil {
		a.variables = make(map[string]string)
	}
	a.variables[s.flag] = variable
	return badValue("$"+variable, flags.Set(s.flag, value))
}
