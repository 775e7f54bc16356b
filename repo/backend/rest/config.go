package rest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"vitrine/repo/backend/option"
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
// "rest:http+unix:///path/of/socket:/path/" or "rest:http+unix://user:password@/path/of/socket:/path/".
func Parse(location string) (Config, error) {
	c := Config{Connections: defaultConnections}
	rest, ok := strings.CutPrefix(location, "rest:")
	if !ok {
		return c, errors.New("rest: is not what the location begins with")
	}
	if socket, ok := strings.CutPrefix(rest, "http+unix://"); ok {
		login := ""
		if before, behind, ok := strings.Cut(socket, "@"); ok && !strings.HasPrefix(socket, "/") {
			login, socket = before+"@", behind
		}
		path, repo, _ := strings.Cut(socket, ":")
		if !strings.HasPrefix(path, "/") {
			return c, fmt.Errorf("rest:http+unix:// wants the absolute path of a socket, rest:http+unix:///path/of/socket:/repository/; user and password stand before it as in rest:http+unix://user:password@/path/of/socket:/repository/, with %%XX for special characters, or in VITRINE_REST_USERNAME and VITRINE_REST_PASSWORD")
		}
		c.Socket = path
		rest = "http://" + login + "localhost/" + strings.TrimPrefix(repo, "/")
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
	if strings.Contains(u.EscapedPath(), "@") {
		// A "/" in a password ends the host: of http://anna:2024/secret@host/ that is anna, and its port 2024.
		return c, fmt.Errorf("rest: there is an @ in the path; write %%40 for it, and %%2F for a / in the password")
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
	"connections": func(c *Config, value string) (err error) {
		c.Connections, err = option.Number(value, 200)
		return err
	},
}

// Apply takes over extended options, whose keys are without "rest.": connections.
func (c *Config) Apply(options map[string]string) error {
	return option.Apply(c, "rest", settings, options)
}

// Public returns the location without credentials.
func (c *Config) Public() string {
	if c.Socket == "" {
		return "rest:" + c.URL
	}
	return "rest:http+unix://" + c.Socket + ":" + strings.TrimPrefix(c.URL, "http://localhost")
}
