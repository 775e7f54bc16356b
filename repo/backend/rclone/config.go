package rclone

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vitrine/repo/backend/option"
	"vitrine/repo/shellwords"
)

// Config says which remote is meant and how rclone is run.
type Config struct {
	Remote string // as rclone writes it: "remote:path"

	// Program and Args make the command; the remote comes behind them.
	Program []string
	Args    []string

	Timeout     time.Duration // of each start, until the first answer
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
		c.Program, err = option.Command(value)
		return err
	},
	"args": func(c *Config, value string) (err error) {
		c.Args, err = shellwords.Split(value)
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
	"connections": func(c *Config, value string) (err error) {
		c.Connections, err = option.Number(value, 200) // the server's limit is 250
		return err
	},
}

// Apply takes over extended options, whose keys are without "rclone.": program, args, timeout and
// connections.
func (c *Config) Apply(options map[string]string) error {
	return option.Apply(c, "rclone", settings, options)
}

// command returns the command line and the environment. Of a program that is not rclone itself, with arguments or
// without, such as ssh, nobody knows whether it hands the environment on, so the parameters of the remote stand in the
// command line then.
func (c *Config) command() (argv, env []string) {
	remote, vars, ok := environment(c.Remote)
	if !ok || filepath.Base(c.Program[0]) != "rclone" {
		remote, vars = c.Remote, nil
	}
	return slices.Concat(c.Program, c.Args, []string{remote}), append(os.Environ(), vars...)
}

// Public returns the location without the parameters of a remote.
func (c *Config) Public() string { return "rclone:" + publicRemote(c.Remote) }
