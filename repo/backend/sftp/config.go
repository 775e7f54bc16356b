package sftp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
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
	// long; 0 means 5 minutes.
	SilentAfter time.Duration

	Log *slog.Logger // nil discards
}

// Parse reads a location:
//
//	sftp:user@host:/srv/backup              absolute
//	sftp:host:backup                        relative to the login directory
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

func parseURL(location string) (Config, error) {
	u, err := url.Parse(location)
	if err != nil {
		var inner *url.Error
		if errors.As(err, &inner) {
			err = inner.Err // without the whole location, in which a password may be
		}
		return Config{}, err
	}
	c := Config{User: u.User.Username(), Host: u.Hostname(), Port: u.Port()}
	if _, secret := u.User.Password(); secret {
		return c, errors.New("it has a password in it, which ssh takes from nobody: use a key and ssh-agent")
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
	return c, nil
}

// check refuses what ssh would take for something else: a host "-oProxyCommand=…" is an option.
func (c *Config) check() error {
	for what, s := range map[string]string{"user": c.User, "host": c.Host} {
		if strings.HasPrefix(s, "-") || strings.ContainsAny(s, " \t\r\n\x00") {
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

// unsecret takes the password out of a location that cannot be parsed.
func unsecret(location string) string {
	rest, isURL := strings.CutPrefix(location, "sftp://")
	at := strings.LastIndex(rest, "@") // a password may hold anything
	if !isURL || at < 0 {
		return location
	}
	user, _, secret := strings.Cut(rest[:at], ":")
	if secret {
		user += ":***"
	}
	return "sftp://" + user + rest[at:]
}

// Apply sets what the options say: "command", "args" and "connections", without "sftp." before
// them. Command and arguments are split into words as a shell does it, with quotes and backslashes,
// and nothing in them is replaced.
func (c *Config) Apply(options map[string]string) error {
	for key, value := range options {
		var err error
		switch key {
		case "command":
			if c.Command, err = words(value); err == nil && len(c.Command) == 0 {
				err = errors.New("it is empty")
			}
		case "args":
			c.Args, err = words(value)
		case "connections":
			n, bad := strconv.Atoi(value)
			if bad != nil || n < 1 || n > maxConnections {
				err = fmt.Errorf("%q is no number from 1 to %d", value, maxConnections)
			}
			c.Connections = n
		default:
			err = errors.New("there is no such option; there are sftp.command, sftp.args and sftp.connections")
		}
		if err != nil {
			return fmt.Errorf("option sftp.%s: %w", key, err)
		}
	}
	if len(c.Command) > 0 && len(c.Args) > 0 {
		return errors.New("option sftp.args: sftp.command replaces all of ssh; write the arguments there")
	}
	return nil
}

// words splits as a POSIX shell does, without expansion.
func words(s string) ([]string, error) {
	var all []string
	var word strings.Builder
	in := false // in a word, which may be empty: ''
	for i := 0; i < len(s); i++ {
		switch b := s[i]; b {
		case ' ', '\t', '\n':
			if in {
				all = append(all, word.String())
				word.Reset()
				in = false
			}
		case '\'', '"':
			in = true
			end := closing(s, i)
			if end < 0 {
				return nil, fmt.Errorf("the quote %c is not closed", b)
			}
			for i++; i < end; i++ {
				if b == '"' && s[i] == '\\' && strings.IndexByte(`"\$`+"`", s[i+1]) >= 0 {
					i++
				}
				word.WriteByte(s[i])
			}
		case '\\':
			if i++; i == len(s) {
				return nil, errors.New("nothing follows the last backslash")
			}
			in = true
			word.WriteByte(s[i])
		default:
			in = true
			word.WriteByte(b)
		}
	}
	if in {
		all = append(all, word.String())
	}
	return all, nil
}

// closing returns where the quote that begins at s[at] ends, or -1.
func closing(s string, at int) int {
	for i := at + 1; i < len(s); i++ {
		if s[i] == s[at] {
			return i
		}
		if s[i] == '\\' && s[at] == '"' {
			i++
		}
	}
	return -1
}

// Public returns the location for everybody to see. A user can be in it, a password cannot.
func (c *Config) Public() string {
	if c.Port == "" && !strings.Contains(c.Host, ":") {
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
