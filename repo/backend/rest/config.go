package rest

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Config says where a server is and how to speak to it.
type Config struct {
	URL      string // of the repository, with a slash at its end, without user and password
	Socket   string // path of a unix socket that leads there; "" for TCP
	Username string // "" sends no credentials
	Password string

	// Connections is how many requests are under way at a time.
	Connections int

	// Transport carries the requests; Open and Create need one. When Socket is set it must lead there.
	Transport http.RoundTripper
}

const defaultConnections = 32

// Parse reads "rest:http://user:password@host:8000/path/" and, for a unix socket,
// "rest:http+unix:///path/of/socket:/path/".
func Parse(location string) (Config, error) {
	c := Config{Connections: defaultConnections}
	rest, ok := strings.CutPrefix(location, "rest:")
	if !ok {
		return c, errors.New("rest: is not what the location begins with")
	}
	if socket, ok := strings.CutPrefix(rest, "http+unix://"); ok {
		path, repo, _ := strings.Cut(socket, ":")
		if !strings.HasPrefix(path, "/") {
			return c, fmt.Errorf("rest:http+unix:// wants the absolute path of a socket: rest:http+unix:///path/of/socket:/repository/")
		}
		c.Socket = path
		rest = "http://localhost/" + strings.TrimPrefix(repo, "/")
	}
	u, err := url.Parse(rest)
	if err != nil {
		// The error of package url repeats the location, and so the password.
		return c, fmt.Errorf("rest: what follows is no URL; write rest:https://user:password@host:8000/path/, with %%XX for special characters")
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return c, fmt.Errorf("rest: is followed by the URL of a server, such as rest:https://host:8000/path/")
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return c, fmt.Errorf("rest: the URL of a repository has no part that begins with ? or #")
	}
	if u.User != nil {
		c.Username = u.User.Username()
		c.Password, _ = u.User.Password()
		u.User = nil
	}
	c.URL = strings.TrimSuffix(u.String(), "/") + "/"
	return c, nil
}

// settings are the extended options, without their prefix.
var settings = map[string]func(c *Config, value string) error{
	"connections": func(c *Config, value string) error {
		n, err := strconv.Atoi(value)
		if err != nil || n < 1 || n > 200 {
			return fmt.Errorf("%q is no number of connections from 1 to 200", value)
		}
		c.Connections = n
		return nil
	},
}

// Apply takes over extended options, whose keys are without "rest.": connections.
func (c *Config) Apply(options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		set, ok := settings[key]
		if !ok {
			return fmt.Errorf("rest.%s: there is no such option; there is rest.connections", key)
		}
		if err := set(c, options[key]); err != nil {
			return fmt.Errorf("rest.%s: %w", key, err)
		}
	}
	return nil
}

// Public returns the location without credentials.
func (c *Config) Public() string {
	if c.Socket == "" {
		return "rest:" + c.URL
	}
	return "rest:http+unix://" + c.Socket + ":" + strings.TrimPrefix(c.URL, "http://localhost")
}
