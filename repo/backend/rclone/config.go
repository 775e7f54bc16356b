package rclone

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config says which remote is meant and how rclone is run.
type Config struct {
	Remote string // as rclone writes it: "remote:path"

	// Program and Args make the command; the remote comes behind them.
	Program []string
	Args    []string

	Timeout     time.Duration // for the first answer
	Connections int           // requests under way at a time

	// StuckAfter ends a request of which no byte has moved for that long; 0 means never.
	StuckAfter time.Duration

	// WrapConn, when it is not nil, is put around the connection.
	WrapConn func(net.Conn) net.Conn

	Log *slog.Logger // hears what rclone says; nil discards
}

func defaults() Config {
	return Config{
		Program: []string{"rclone"}, Args: []string{"serve", "restic", "--stdio", "--b2-hard-delete"},
		Timeout: time.Minute, Connections: 32,
	}
}

// Parse reads "rclone:remote:path".
func Parse(location string) (Config, error) {
	c := defaults()
	remote, ok := strings.CutPrefix(location, "rclone:")
	if !ok || !strings.Contains(remote, ":") && !strings.HasPrefix(remote, "/") {
		return c, errors.New("rclone: is followed by a remote and a path, such as rclone:remote:path")
	}
	if strings.HasPrefix(remote, "-") {
		return c, errors.New("rclone: a remote does not begin with -")
	}
	c.Remote = remote
	return c, nil
}

// settings are the extended options, without their prefix.
var settings = map[string]func(c *Config, value string) error{
	"program": func(c *Config, value string) (err error) {
		c.Program, err = words(value)
		if err == nil && len(c.Program) == 0 {
			err = errors.New("it names no program")
		}
		return err
	},
	"args": func(c *Config, value string) (err error) {
		c.Args, err = words(value)
		return err
	},
	"timeout": func(c *Config, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return fmt.Errorf("%q is no duration such as 1m", value)
		}
		c.Timeout = d
		return nil
	},
	"connections": func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > 200 { // the server's limit is 250
			return fmt.Errorf("%q is no number of connections from 1 to 200", value)
		}
		c.Connections = n
		return nil
	},
}

// Apply takes over extended options, whose keys are without "rclone.": program, args, timeout and
// connections.
func (c *Config) Apply(options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		set, ok := settings[key]
		if !ok {
			return fmt.Errorf("rclone.%s: there is no such option; there are rclone.%s", key, strings.Join(slices.Sorted(maps.Keys(settings)), ", rclone."))
		}
		if err := set(c, options[key]); err != nil {
			return fmt.Errorf("rclone.%s: %w", key, err)
		}
	}
	return nil
}

// parameters are what a remote may say in its own name, also secrets: ":s3,secret_access_key=…:bucket".
var parameters = regexp.MustCompile(`^(:?[^,:"']*),(?:"[^"]*"|'[^']*'|[^:"'])*:`)

// Public returns the location without the parameters of a remote.
func (c *Config) Public() string { return "rclone:" + publicRemote(c.Remote) }

func publicRemote(remote string) string {
	name := strings.TrimPrefix(remote, ":")
	comma, colon := strings.IndexByte(name, ','), strings.IndexByte(name, ':')
	switch {
	case comma < 0 || colon >= 0 && colon < comma:
		return remote // it has none
	case strings.Count(remote, `"`)%2 == 0 && strings.Count(remote, "'")%2 == 0 && parameters.MatchString(remote):
		return parameters.ReplaceAllString(remote, "$1:")
	}
	return remote[:len(remote)-len(name)+comma] + ":…" // where they end cannot be told
}

// notSecret are parameters whose values messages would be unreadable without.
var notSecret = []string{"url", "endpoint", "host", "provider", "vendor", "region", "type"}

// secrets are the values of the parameters of a remote, in each form in which rclone may repeat them.
func secrets(remote string) (all []string) {
	name := strings.TrimPrefix(remote, ":")
	if publicRemote(remote) == remote {
		return nil
	}
	for _, p := range strings.Split(name, ",")[1:] {
		key, value, _ := strings.Cut(p, "=")
		if slices.Contains(notSecret, key) {
			continue
		}
		for _, v := range []string{value, strings.TrimRight(value, ":"), strings.Trim(value, `"':`)} {
			v, _, _ = strings.Cut(v, ":")
			if len(v) > 2 {
				all = append(all, v)
			}
		}
	}
	return all
}

// words splits a command as a shell does that knows single and double quotes only.
func words(s string) (all []string, err error) {
	var word strings.Builder
	var quote rune
	inWord := false
	for _, r := range s {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			if inWord {
				all = append(all, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("the quote %c has no end", quote)
	}
	if inWord {
		all = append(all, word.String())
	}
	return all, nil
}
