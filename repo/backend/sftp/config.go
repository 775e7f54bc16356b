package sftp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"unicode"

	"vitrine/repo/backend/option"
	"vitrine/repo/shellwords"
)

// DefaultConnections is how many ssh processes a Backend has at most when nothing else is said.
const DefaultConnections = 5

// maxConnections is the largest number that is taken for meant.
const maxConnections = 64

// Config says where a repository is and how its server is reached.
type Config struct {
	User string // "" leaves it to ssh
	Host string // name, address or an alias in ssh_config; an IPv6 address stands without brackets
	Port string // decimal; "" leaves it to ssh
	Path string // clean; relative to the directory in which the server puts a login, or absolute

	// Command, when it is not empty, is run instead of ssh: program and arguments. Its standard
	// input and output must be those of an SFTP server.
	Command []string
	// Args are put before all other arguments of ssh. Of an option that comes twice ssh takes
	// the first.
	Args []string
	// Connections is the largest number of processes at a time; 0 means DefaultConnections.
	Connections int

	// SilentAfter ends a connection on which somebody waits when the server has said nothing for that
	// long; 0 means 5 minutes, less than 0 never.
	SilentAfter time.Duration

	Log *slog.Logger // nil discards
}

// Parse reads a location:
//
//	sftp:user@host:/srv/backup              absolute
//	sftp:host:backup                        relative to the login directory, as ./backup is
//	sftp://user@host:2222//srv/backup       absolute, with a port
//	sftp://host/backup                      relative
//	sftp://[2001:db8::1]//srv/backup        an IPv6 address stands in brackets, in both forms
//
// A password in it is an error: there is no way to hand it to ssh.
func Parse(location string) (Config, error) {
	var c Config
	var err error
	switch rest, ok := strings.CutPrefix(location, "sftp:"); {
	case !ok:
		err = errors.New(`it does not begin with "sftp:"`)
	case strings.HasPrefix(rest, "//"):
		c, err = parseURL(location)
	default:
		c, err = parseShort(rest)
	}
	if err == nil {
		err = c.check()
	}
	if err != nil {
		return Config{}, fmt.Errorf("location %s: %w; write sftp:user@host:/path or sftp://user@host:port//path", unsecret(location), err)
	}
	c.Path = path.Clean(c.Path)
	return c, nil
}

var errPassword = errors.New("it has a password in it, or what looks like one, which ssh takes from nobody: use a key and ssh-agent")

func parseURL(location string) (Config, error) {
	u, err := url.Parse(location)
	if err != nil {
		if unsecret(location) != location {
			return Config{}, errPassword // a "/" or "#" in it makes a port of its first part, which err repeats
		}
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // without the whole location, in which a password may be
		}
		return Config{}, err
	}
	c := Config{User: u.User.Username(), Host: u.Hostname(), Port: u.Port()}
	if _, secret := u.User.Password(); secret {
		return c, errPassword
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return c, errors.New(`"?" and "#" must be written %3F and %23 in a URL`)
	}
	c.Path = strings.TrimPrefix(u.Path, "/")
	return c, nil
}

func parseShort(s string) (Config, error) {
	var c Config
	// The user may contain an "@", the path both "@" and ":"; the host neither, unless in brackets.
	end := strings.Index(s, ":")
	if open := strings.Index(s, "["); open >= 0 && open < end {
		shut := strings.Index(s, "]:")
		if shut < 0 {
			return c, errors.New("the bracket is not closed")
		}
		end = shut + 1
	}
	if end < 0 {
		return c, errors.New("there is no colon after the host")
	}
	host := s[:end]
	c.Path = s[end+1:]
	if at := strings.LastIndex(host, "@"); at >= 0 {
		c.User, host = host[:at], host[at+1:]
	}
	c.Host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	switch number, _, more := strings.Cut(c.Path, ":"); {
	case likePassword(c.User, c.Path):
		return c, fmt.Errorf(`%w (a directory whose name has an "@" in it is written ./name)`, errPassword)
	case more && number != "" && strings.Trim(number, "0123456789") == "":
		return c, errors.New("there is a port in it, for which this form has no place (a directory whose name begins so is written ./name)")
	}
	return c, nil
}

// likePassword tells whether a path of the short form was meant to be a password with the host and its
// path behind it: "sftp:user:secret@host:/srv" names the host "user". A path that begins with "/" or "."
// is one, and so is "backups/anna@example.org".
func likePassword(user, path string) bool {
	if strings.HasPrefix(path, "/") || strings.HasPrefix(path, ".") {
		return false
	}
	first, _, _ := strings.Cut(path, "/")
	_, behind, _ := strings.Cut(path, "@")
	return strings.Contains(behind, ":") || user == "" && strings.Contains(first, "@")
}

// check refuses what ssh would take for something else: a host "-oProxyCommand=…" is an option.
func (c *Config) check() error {
	for what, s := range map[string]string{"user": c.User, "host": c.Host} {
		if strings.HasPrefix(s, "-") || strings.ContainsAny(s, "/ \t\r\n\x00") {
			return fmt.Errorf("%q is no %s", s, what)
		}
	}
	switch {
	case c.Host == "":
		return errors.New("there is no host in it")
	case c.Path == "":
		return errors.New("there is no directory in it")
	case strings.HasPrefix(c.Path, "~"):
		return errors.New(`servers do not know "~": leave "~/" out, relative directories begin at home`)
	case strings.ContainsRune(c.Path, 0):
		return errors.New("there is a zero byte in the directory")
	}
	if c.Port != "" {
		if n, err := strconv.ParseUint(c.Port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("%q is no port", c.Port)
		}
	}
	return nil
}

// unsecret takes out of a location that cannot be parsed what may be a password: all between the first
// colon and the last "@", as a password may hold anything.
func unsecret(location string) string {
	scheme := "sftp:"
	if strings.HasPrefix(location, "sftp://") {
		scheme = "sftp://"
	}
	rest := strings.TrimPrefix(location, scheme)
	at := strings.LastIndex(rest, "@")
	if at < 0 {
		return location
	}
	user, _, secret := strings.Cut(rest[:at], ":")
	if !secret {
		return location
	}
	return scheme + user + ":***" + rest[at:]
}

// settings are the extended options, without their prefix.
var settings = map[string]func(c *Config, value string) error{
	"command": func(c *Config, value string) (err error) {
		c.Command, err = option.Command(value)
		return err
	},
	"args": func(c *Config, value string) (err error) {
		c.Args, err = shellwords.Split(value)
		return err
	},
	"connections": func(c *Config, value string) (err error) {
		c.Connections, err = option.Number(value, maxConnections)
		return err
	},
	"layout": func(_ *Config, value string) error { return option.Layout(value) },
}

// Apply sets what the options say, without "sftp." before them: command, args, connections and layout.
func (c *Config) Apply(options map[string]string) error {
	if err := option.Apply(c, "sftp", settings, options); err != nil {
		return err
	}
	if len(c.Command) > 0 && len(c.Args) > 0 {
		return errors.New("sftp.args: sftp.command replaces all of ssh; write the arguments there")
	}
	return nil
}

// Public returns the location for everybody to see. A user can be in it, a password cannot.
func (c *Config) Public() string {
	if c.Port == "" && !strings.Contains(c.Host, ":") && !likePassword(c.User, c.Path) {
		return "sftp:" + c.login() + ":" + c.Path
	}
	host := c.login()
	if c.Port != "" {
		host += ":" + c.Port
	}
	return "sftp://" + host + "/" + (&url.URL{Path: c.Path}).EscapedPath()
}

// login is user and host, for people.
func (c *Config) login() string {
	host := c.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if c.User != "" {
		return c.User + "@" + host
	}
	return host
}

// byCommand stands for the words of Command, which are not told, since one of them may be a password (sshpass -p).
const byCommand = "the program of -o sftp.command"

// peer is with whom connections are, for people: with Command it may be anybody.
func (c *Config) peer() string {
	if len(c.Command) > 0 {
		return byCommand
	}
	return c.login()
}

// hostName is the host that ssh is told, for people.
func (c *Config) hostName() string {
	if len(c.Command) > 0 {
		return "(that in -o sftp.command)"
	}
	return c.Host
}

// speaker is who writes to standard error, for the log.
func (c *Config) speaker() string {
	name := filepath.Base(c.command()[0])
	if len(c.Command) > 0 {
		return name + " (sftp.command)"
	}
	return name + " (" + c.login() + ")"
}

// loginCommand says how a person logs in on the way that the connections take: a command for a shell.
func (c *Config) loginCommand() string {
	if len(c.Command) > 0 {
		return byCommand
	}
	words := append([]string{"ssh"}, c.Args...)
	if c.Port != "" {
		words = append(words, "-p", c.Port)
	}
	login := c.Host
	if c.User != "" {
		login = c.User + "@" + login
	}
	words = append(words, login)
	quoted := make([]string, len(words))
	for i, word := range words {
		if quoted[i] = word; word == "" || strings.ContainsFunc(word, special) {
			quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
		}
	}
	return "`" + strings.Join(quoted, " ") + "`"
}

// special tells of characters that may mean something to a shell.
func special(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("@%+=:,./_-[]", r)
}

func (c *Config) connections() int {
	if c.Connections < 1 {
		return DefaultConnections
	}
	return c.Connections
}

// command is the process to start.
func (c *Config) command() []string {
	if len(c.Command) > 0 {
		return c.Command
	}
	// What sftp(1) says too: the forwardings of ssh_config are for logins, and a second connection
	// could not have them. No BatchMode: a graphical SSH_ASKPASS may ask.
	args := append([]string{"ssh"}, c.Args...)
	args = append(args, "-oForwardAgent=no", "-oForwardX11=no", "-oClearAllForwardings=yes", "-oPermitLocalCommand=no")
	if c.Port != "" {
		args = append(args, "-p", c.Port)
	}
	if c.User != "" {
		args = append(args, "-l", c.User)
	}
	return append(args, "-s", "--", c.Host, "sftp")
}
