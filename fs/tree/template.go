package tree

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"vitrine/repo/snapshot"
)

// template is a parsed path template: components, each a sequence of literal text and verbs.
type template struct {
	components [][]token
	perTag     bool // holds %t
}

// token is a verb, or literal text when verb is 0.
type token struct {
	verb byte
	text string
}

// nameMaxBytes is the longest name that Linux accepts in a directory.
const nameMaxBytes = 255

func parseTemplates(paths []string, timeForm string) ([]template, error) {
	if timeForm == "" || strings.ContainsAny(timeForm, "/\\\x00") {
		return nil, fmt.Errorf("time template %q: must not be empty or hold a slash or backslash", timeForm)
	}
	var list []template
	for _, p := range paths {
		t, err := parseTemplate(p)
		if err != nil {
			return nil, fmt.Errorf("path template %q: %w", p, err)
		}
		list = append(list, t)
	}
	return list, nil
}

func parseTemplate(p string) (template, error) {
	var t template
	for _, c := range strings.Split(strings.Trim(p, "/"), "/") {
		if c == "" || c == "." || c == ".." || strings.Contains(c, "\x00") {
			return t, fmt.Errorf("%q is no name for a directory", c)
		}
		tokens, err := parseComponent(c)
		if err != nil {
			return t, err
		}
		t.components = append(t.components, tokens)
		t.perTag = t.perTag || slices.ContainsFunc(tokens, func(k token) bool { return k.verb == 't' })
	}
	return t, nil
}

func parseComponent(c string) ([]token, error) {
	var tokens []token
	for c != "" {
		text, rest, found := strings.Cut(c, "%")
		if text != "" {
			tokens = append(tokens, token{text: text})
		}
		if !found {
			break
		}
		if rest == "" {
			return nil, fmt.Errorf("ends in a lone %%; write %%%% for a percent sign")
		}
		switch verb := rest[0]; verb {
		case 'i', 'I', 'u', 'h', 't', 'T':
			tokens = append(tokens, token{verb: verb})
		case '%':
			tokens = append(tokens, token{text: "%"})
		default:
			return nil, fmt.Errorf("unknown verb %%%c: choose of %%i %%I %%u %%h %%t %%T %%%%", verb)
		}
		c = rest[1:]
	}
	return tokens, nil
}

// paths returns where a snapshot is shown: one path, or with %t one for each different tag.
func (t template) paths(sn *snapshot.Snapshot, timeForm string) [][]string {
	if !t.perTag {
		return [][]string{t.path(sn, "", timeForm)}
	}
	var list [][]string
	for _, tag := range sn.Tags {
		p := t.path(sn, tag, timeForm)
		if !slices.ContainsFunc(list, func(q []string) bool { return slices.Equal(p, q) }) {
			list = append(list, p)
		}
	}
	return list
}

func (t template) path(sn *snapshot.Snapshot, tag, timeForm string) []string {
	path := make([]string, len(t.components))
	for i, tokens := range t.components {
		var b strings.Builder
		for _, k := range tokens {
			b.WriteString(k.value(sn, tag, timeForm))
		}
		path[i] = cleanName(b.String())
	}
	return path
}

func (k token) value(sn *snapshot.Snapshot, tag, timeForm string) string {
	switch k.verb {
	case 'i':
		return sn.ID.Short()
	case 'I':
		return sn.ID.String()
	case 'u':
		return sn.Username
	case 'h':
		return sn.Hostname
	case 't':
		return tag
	case 'T':
		return formatTime(sn.Time, timeForm)
	}
	return k.text
}

func formatTime(at time.Time, form string) string { return at.Format(form) }

// cleanName makes any text a name: users, hosts and tags may hold everything. Slashes become
// underscores, and so do the names that a directory has already.
func cleanName(s string) string {
	s = strings.Map(func(r rune) rune {
		if r == '/' || r == 0 {
			return '_'
		}
		return r
	}, s)
	switch s {
	case "", ".":
		return "_"
	case "..":
		return "__"
	}
	const room = len("-1234567") // for what makes it unique
	return s[:min(len(s), nameMaxBytes-room)]
}
