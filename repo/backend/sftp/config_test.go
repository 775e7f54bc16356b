package sftp

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	tests := []struct {
		location string
		want     Config
		public   string // "" is the location itself
	}{
		{"sftp:user@host:/srv/repo", Config{User: "user", Host: "host", Path: "/srv/repo"}, ""},
		{"sftp:host:repo", Config{Host: "host", Path: "repo"}, ""},
		{"sftp:host:../repo", Config{Host: "host", Path: "../repo"}, ""},
		{"sftp:user@domain@host:/srv", Config{User: "user@domain", Host: "host", Path: "/srv"}, ""},
		{"sftp:u@host:a//b/../c:d@e", Config{User: "u", Host: "host", Path: "a/c:d@e"}, "sftp:u@host:a/c:d@e"},
		{"sftp:u@[2001:db8::1]:/srv", Config{User: "u", Host: "2001:db8::1", Path: "/srv"}, "sftp://u@[2001:db8::1]//srv"},
		{"sftp:host:backups/anna@example.org", Config{Host: "host", Path: "backups/anna@example.org"}, ""},
		{"sftp:host:./anna@example.org", Config{Host: "host", Path: "anna@example.org"}, "sftp://host/anna@example.org"},
		{"sftp:host:/srv/a@b:c", Config{Host: "host", Path: "/srv/a@b:c"}, ""},
		{"sftp:host:2024/a:b", Config{Host: "host", Path: "2024/a:b"}, ""},
		{"sftp:host:a[b]:c", Config{Host: "host", Path: "a[b]:c"}, ""},
		{"sftp://user@host:2222//srv/repo", Config{User: "user", Host: "host", Port: "2222", Path: "/srv/repo"}, ""},
		{"sftp://host//srv/repo", Config{Host: "host", Path: "/srv/repo"}, "sftp:host:/srv/repo"},
		{"sftp://host/repo/x", Config{Host: "host", Path: "repo/x"}, "sftp:host:repo/x"},
		{"sftp://user@host/a///b/../c", Config{User: "user", Host: "host", Path: "a/c"}, "sftp:user@host:a/c"},
		{"sftp://user@[::1]/dir", Config{User: "user", Host: "::1", Path: "dir"}, ""},
		{"sftp://user@[::1]:22/dir", Config{User: "user", Host: "::1", Port: "22", Path: "dir"}, ""},
		{"sftp://host:22//a%20b%3F", Config{Host: "host", Port: "22", Path: "/a b?"}, "sftp://host:22//a%20b%3F"},
	}
	for _, test := range tests {
		got, err := Parse(test.location)
		if err != nil {
			t.Errorf("%s: %v", test.location, err)
			continue
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%s, -want +got:\n%s", test.location, diff)
		}
		if test.public == "" {
			test.public = test.location
		}
		if public := got.Public(); public != test.public {
			t.Errorf("%s: Public is %s, want %s", test.location, public, test.public)
		}
		if again, err := Parse(got.Public()); err != nil || !cmp.Equal(again, got) {
			t.Errorf("%s: its public form %s means %+v (%v), not the same", test.location, got.Public(), again, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	tests := map[string]string{
		"local:/srv":                       "does not begin",
		"sftp:host":                        "no colon",
		"sftp:host:":                       "no directory",
		"sftp::/srv":                       "no host",
		"sftp:[::1:/srv":                   "not closed",
		"sftp://host":                      "no directory",
		"sftp://host/":                     "no directory",
		"sftp:///srv":                      "no host",
		"sftp://host:dir":                  "invalid port",
		"sftp://host:0//srv":               "no port",
		"sftp://host:99999//srv":           "no port",
		"sftp:host:~/repo":                 "leave \"~/\" out",
		"sftp:-oProxyCommand=x:/srv":       "is no host",
		"sftp://-oProxyCommand=x//srv":     "is no host",
		"sftp:-lroot@host:/srv":            "is no user",
		"sftp:a b:/srv":                    "is no host",
		"sftp://user:geheim@host//srv":     "password",
		"sftp://user:geheim@host:dir//srv": "password",
		"sftp://user:geheim/x@host//srv":   "password",
		"sftp://user:geheim#x@host//srv":   "password",
		"sftp:user:geheim@host:/srv":       "password",
		"sftp:user:geheim@host:srv":        "password",
		"sftp:user:geheim@host/srv":        "password",
		"sftp:user:x/geheim@host:/srv":     "password",
		"sftp:user:@geheim:x@host:/srv":    "password",
		"sftp:a@b:geheim@host:/srv":        "password",
		"sftp:host:2222:/srv":              "port",
		"sftp:user@host:2222:/srv":         "port",
		"sftp:/srv/a:b":                    "is no host",
		"sftp://host//srv?x":               "%3F",
	}
	for location, want := range tests {
		got, err := Parse(location)
		if err == nil {
			t.Errorf("%s is taken as %+v", location, got)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: error %q, want %q in it and no password", location, err, want)
		}
	}
}

func TestApply(t *testing.T) {
	tests := []struct {
		options map[string]string
		want    Config
	}{
		{nil, Config{}},
		{map[string]string{"connections": "2"}, Config{Connections: 2}},
		{map[string]string{"args": `-i "my key" -oUser='a b'`}, Config{Args: []string{"-i", "my key", "-oUser=a b"}}},
		{map[string]string{"command": "ssh -p 22\thost\n-s sftp"}, Config{Command: []string{"ssh", "-p", "22", "host", "-s", "sftp"}}},
		{map[string]string{"command": `sh -c 'exec "$0"' "a\"b\\\$c\d" e\ f ''`},
			Config{Command: []string{"sh", "-c", `exec "$0"`, `a"b\$c\d`, "e f", ""}}},
	}
	for _, test := range tests {
		var got Config
		if err := got.Apply(test.options); err != nil {
			t.Errorf("%v: %v", test.options, err)
		} else if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%v, -want +got:\n%s", test.options, diff)
		}
	}
	for _, options := range []map[string]string{
		{"connections": "0"}, {"connections": "x"}, {"connections": "1000"}, {"command": " "}, {"command": `a "b`}, {"command": `a "b\"`},
		{"args": `a\`}, {"layout": "s3"}, {"command": "a", "args": "b"},
	} {
		if err := new(Config).Apply(options); err == nil || !strings.Contains(err.Error(), "sftp.") {
			t.Errorf("%v: error %v, want one that names the option", options, err)
		}
	}
}

func TestCommand(t *testing.T) {
	c := Config{User: "me", Host: "example.org", Port: "2222", Path: "/srv", Args: []string{"-i", "key"}}
	want := "ssh -i key -oForwardAgent=no -oForwardX11=no -oClearAllForwardings=yes -oPermitLocalCommand=no -p 2222 -l me -s -- example.org sftp"
	if got := strings.Join(c.command(), " "); got != want {
		t.Errorf("command\n%s, want\n%s", got, want)
	}
}

// TestLoginCommand: what a person is told to type leads where the program goes.
func TestLoginCommand(t *testing.T) {
	for want, c := range map[string]Config{
		"`ssh host`":    {Host: "host"},
		"`ssh me@host`": {User: "me", Host: "host", Port: ""},
		"`ssh -i 'my key' -F x -p 2222 me@example.org`": {User: "me", Host: "example.org", Port: "2222", Args: []string{"-i", "my key", "-F", "x"}},
		"`ssh me@2001:db8::1`":                          {User: "me", Host: "2001:db8::1"},
		"`ssh -i 'it'\\''s' host`":                      {Host: "host", Args: []string{"-i", "it's"}},
		"the program of -o sftp.command":                {Host: "host", Command: []string{"sshpass", "-p", "geheim", "ssh", "host"}},
	} {
		if got := c.loginCommand(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestForget(t *testing.T) {
	ssh := "ssh-keygen -f '/root/.ssh/known_hosts' -R '[alias]:29'"
	for _, test := range []struct {
		cfg   Config
		lines []string
		want  string
	}{
		{Config{Host: "host"}, nil, "ssh-keygen -R host"},
		{Config{Host: "host", Port: "22"}, []string{"remove with:"}, "ssh-keygen -R host"},
		{Config{Host: "host", Port: "2222"}, nil, `ssh-keygen -R "[host]:2222"`},
		{Config{Host: "host", Port: "2222"}, []string{"remove with:", ssh, "more"}, ssh},
		{Config{Host: "host"}, []string{"ssh-keygen -f 'x' -R 'y'; evil", "ssh-keygen -f '$(evil)' -R 'y'"}, "ssh-keygen -R host"},
	} {
		if got := forget(&test.cfg, test.lines); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
}
