package rclone

import (
	"cmp"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// remote is what rclone reads in the name of a remote, which may hold parameters, also secret ones:
//
//	name,key=value,key="value, with ""quotes""",key='value',flag:path
//
// A name that begins with a colon is a type of store instead of a section of rclone's configuration.
type remote struct {
	name   string // with its colon at the front; "" for a path on the local disk
	params []parameter
	path   string
}

// parameter is one of them; a flag has the value "true".
type parameter struct{ key, value string }

// splitRemote takes a remote apart as rclone does. ok is false when nobody can tell where its parameters end;
// then all from the first comma on may be secret.
func splitRemote(s string) (r remote, ok bool) {
	end := strings.IndexAny(s[min(1, len(s)):], ",:/") + min(1, len(s))
	if strings.HasPrefix(s, "/") || end < min(1, len(s)) || s[end] == '/' {
		return remote{path: s}, true
	}
	r.name = s[:end]
	for s[end] == ',' {
		s = s[end+1:]
		if end = strings.IndexAny(s, ",:="); end < 0 {
			return r, false
		}
		p := parameter{s[:end], "true"}
		if s[end] == '=' {
			s = s[end+1:]
			if p.value, end = splitValue(s); end < 0 {
				return r, false
			}
		}
		r.params = append(r.params, p)
	}
	r.path = s[end+1:]
	return r, true
}

// splitValue returns the value that s begins with, and where the comma or colon behind it is; -1 if nowhere.
func splitValue(s string) (value string, end int) {
	if s == "" || s[0] != '"' && s[0] != '\'' {
		end = strings.IndexAny(s, ",:")
		return s[:max(end, 0)], end
	}
	quote := s[:1]
	for at := 1; ; {
		n := strings.Index(s[at:], quote)
		if n < 0 || at+n+1 == len(s) {
			return "", -1
		}
		at += n + 1
		switch s[at] {
		case quote[0]: // two of them stand for one
			at++
		case ',', ':':
			return strings.ReplaceAll(s[1:at-1], quote+quote, quote), at
		default:
			return "", -1
		}
	}
}

// split is splitRemote, and ok is false also when the path looks as if parameters went on in it: a URL or a password
// with a colon in it that is not in quotes ends them too early.
func split(s string) (r remote, ok bool) {
	r, ok = splitRemote(s)
	if len(r.params) > 0 && strings.ContainsAny(r.path, "@=") {
		ok = false
	}
	return r, ok
}

// publicRemote is a remote without its parameters.
func publicRemote(s string) string {
	r, ok := split(s)
	switch {
	case !ok:
		return r.name + ":…"
	case len(r.params) == 0:
		return hideUsers(s)
	}
	return r.name + ":" + hideUsers(r.path)
}

// userinfo is what stands before the host of a URL.
var userinfo = regexp.MustCompile(`://[^/\s"']*@`)

func hideUsers(s string) string { return userinfo.ReplaceAllString(s, "://***@") }

// notSecret are parameters whose values messages would be unreadable without; users and passwords of URLs are hidden
// all the same.
var notSecret = []string{"url", "endpoint", "host", "provider", "vendor", "region", "type"}

// hider takes out of what rclone says all that a remote has in its parameters.
func hider(s string) func(line string) string {
	public := publicRemote(s)
	if public == s {
		return hideUsers
	}
	pairs := []string{s, public, strconv.Quote(s), strconv.Quote(public)}
	values := secrets(s)
	slices.SortFunc(values, func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // of two the longer counts
	for _, v := range values {
		pairs = append(pairs, v, "***")
	}
	r := strings.NewReplacer(pairs...)
	return func(line string) string { return hideUsers(r.Replace(line)) }
}

// secrets are the values of the parameters of a remote, in each form in which rclone may repeat them.
func secrets(s string) (all []string) {
	hide := func(v string) {
		quoted := strconv.Quote(v)
		for _, v := range []string{v, quoted[1 : len(quoted)-1], url.QueryEscape(v), url.PathEscape(v)} {
			if len(v) > 2 && !slices.Contains(all, v) {
				all = append(all, v)
			}
		}
	}
	r, ok := split(s)
	if !ok { // whatever may be a value is one
		_, rest, _ := strings.Cut(strings.TrimPrefix(s, r.name), ",")
		for _, p := range strings.Split(rest, ",") {
			_, value, _ := strings.Cut(p, "=")
			r.params = append(r.params, parameter{"", value}, parameter{"", strings.Trim(value, `"':`)}, parameter{"url", p})
		}
	}
	for _, p := range r.params {
		if !slices.Contains(notSecret, p.key) && p.value != "true" {
			hide(p.value)
		}
		if _, rest, found := strings.Cut(p.value, "://"); found {
			if at := strings.LastIndex(rest, "@"); at >= 0 {
				hide(rest[:at])
				_, password, _ := strings.Cut(rest[:at], ":")
				hide(password)
				if plain, err := url.PathUnescape(password); err == nil {
					hide(plain)
				}
			}
		}
	}
	return all
}

// envKey is what can be the key of a parameter in the environment.
var envKey = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// environment gives the remote without its parameters, and these as variables: unlike the command line, they are
// not seen by other users of the machine. rclone finds them by the name of the remote; those of a type it calls ":type".
// ok is false when that cannot be.
func environment(s string) (short string, vars []string, ok bool) {
	r, ok := splitRemote(s)
	if !ok || strings.ContainsRune(r.name, '=') {
		return "", nil, false
	}
	for _, p := range r.params {
		if !envKey.MatchString(p.key) || strings.ContainsRune(p.value, 0) {
			return "", nil, false
		}
		// Some versions replace a minus in the name, and some do not.
		for _, name := range []string{r.name, strings.ReplaceAll(r.name, "-", "_")} {
			vars = append(vars, "RCLONE_CONFIG_"+strings.ToUpper(name+"_"+p.key)+"="+p.value)
		}
	}
	return r.name + ":" + r.path, vars, len(vars) > 0
}
