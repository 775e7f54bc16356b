// Package pattern decides whether a path is excluded from a backup. Its patterns mean what they
// mean to restic; it does no I/O.
//
// A pattern is split at its slashes and every part is matched against one component of the
// absolute path:
//
//   - ?  [a-z]  [^a-z]  \x   as in path.Match: never across a slash
//     **                        as a whole part: any number of components, also none
//     /a/b                      a leading slash anchors the pattern at the root
//     a/b                       without one it may begin at any component
//     a/b/  ./a  a//b  a/../b   are cleaned first
//     !a                        takes back what earlier patterns of the list have excluded
//
// A pattern that matches a directory matches everything below, and the walk does not enter an
// excluded directory, so that "!" cannot bring back what is inside. The last
// pattern of a list that matches decides.
//
// The walk goes down one component at a time, so matching does too: a State holds, for
// each pattern, the parts that the path so far has matched, as in a non-deterministic
// automaton. A name in a directory then costs one step per pattern, however deep it is.
package pattern

import (
	"fmt"
	"path"
	"strings"
)

// maxParts is what fits into a word of State beside the accepting bit.
const maxParts = 62

// List is a compiled list of patterns. It is immutable and safe for parallel use.
type List struct {
	rules []rule
	fold  bool
}

type rule struct {
	parts    []part
	anchored bool
	negated  bool
}

// part matches one component.
type part struct {
	kind kind
	text string // literal, suffix or prefix; the whole pattern for glob
}

type kind uint8

const (
	literal  kind = iota
	anything      // *
	suffix        // *.go
	prefix        // cache*
	glob          // all else: path.Match
	deep          // **
)

// State is what a list has seen of one directory's path. It belongs to the List that made it and
// is not changed by it afterwards.
type State []uint64

// Compile makes a List. With fold, upper and lower case are the same. Patterns that are
// empty or only "!" are left out; a malformed one is an error that names it.
func Compile(patterns []string, fold bool) (*List, error) {
	l := &List{fold: fold}
	for _, p := range patterns {
		r, ok, err := compile(p, fold)
		if err != nil {
			return nil, fmt.Errorf("pattern %q: %w", p, err)
		}
		if ok {
			l.rules = append(l.rules, r)
		}
	}
	return l, nil
}

func compile(p string, fold bool) (r rule, ok bool, err error) {
	if fold {
		p = strings.ToLower(p)
	}
	p, r.negated = strings.CutPrefix(p, "!")
	if p == "" {
		return r, false, nil
	}
	p = path.Clean(p)
	p, r.anchored = strings.CutPrefix(p, "/")
	if p == "" {
		return r, true, nil // "/": no part left to match, so it matches everything
	}
	for text := range strings.SplitSeq(p, "/") {
		if _, err := path.Match(text, ""); err != nil {
			return r, false, err
		}
		r.parts = append(r.parts, classify(text))
	}
	if len(r.parts) > maxParts {
		return r, false, fmt.Errorf("%d components, the limit is %d", len(r.parts), maxParts)
	}
	return r, true, nil
}

func classify(text string) part {
	const meta = `*?[\`
	switch {
	case text == "**":
		return part{deep, text}
	case text == "*":
		return part{anything, text}
	case !strings.ContainsAny(text, meta):
		return part{literal, text}
	case text[0] == '*' && !strings.ContainsAny(text[1:], meta):
		return part{suffix, text[1:]}
	case strings.IndexAny(text, meta) == len(text)-1 && text[len(text)-1] == '*':
		return part{prefix, text[:len(text)-1]}
	}
	return part{glob, text}
}

func (p *part) match(name string) bool {
	switch p.kind {
	case literal:
		return name == p.text
	case anything:
		return true
	case suffix:
		return strings.HasSuffix(name, p.text)
	case prefix:
		return strings.HasPrefix(name, p.text)
	}
	ok, _ := path.Match(p.text, name) // malformed ones do not compile
	return ok
}

// Len returns the number of patterns.
func (l *List) Len() int { return len(l.rules) }

// Root returns the state at "/".
func (l *List) Root() State {
	st := make(State, len(l.rules))
	for i := range l.rules {
		st[i] = l.rules[i].skipDeep(1)
	}
	return st
}

// accepted is the bit of a rule whose parts are all matched.
func (r *rule) accepted() uint64 { return 1 << len(r.parts) }

// skipDeep adds the positions behind each ** that is reached: it may match no component.
func (r *rule) skipDeep(positions uint64) uint64 {
	for i := range r.parts {
		if r.parts[i].kind == deep && positions&(1<<i) != 0 {
			positions |= 1 << (i + 1)
		}
	}
	return positions
}

// step returns the positions after one more component.
func (r *rule) step(positions uint64, name string) uint64 {
	if positions&r.accepted() != 0 {
		return positions
	}
	var next uint64
	if !r.anchored {
		next = 1
	}
	for i := range r.parts {
		if positions&(1<<i) == 0 {
			continue
		}
		switch {
		case r.parts[i].kind == deep:
			next |= 1<<i | 1<<(i+1)
		case r.parts[i].match(name):
			next |= 1 << (i + 1)
		}
	}
	return r.skipDeep(next)
}

// Enter returns the state of the entry called name in the directory whose state is st.
func (l *List) Enter(st State, name string) State {
	if l.fold {
		name = strings.ToLower(name)
	}
	child := make(State, len(st))
	for i := range st {
		child[i] = l.rules[i].step(st[i], name)
	}
	return child
}

// Excluded reports whether the path that led to st is excluded.
func (l *List) Excluded(st State) bool {
	for i := len(st) - 1; i >= 0; i-- {
		if st[i]&l.rules[i].accepted() != 0 {
			return !l.rules[i].negated
		}
	}
	return false
}

// ExcludedIn reports whether the entry called name is excluded, st being the state of its
// directory. It is Excluded(Enter(st, name)) without memory.
func (l *List) ExcludedIn(st State, name string) bool {
	if l.fold {
		name = strings.ToLower(name)
	}
	for i := len(st) - 1; i >= 0; i-- {
		r := &l.rules[i]
		if r.step(st[i], name)&r.accepted() != 0 {
			return !r.negated
		}
	}
	return false
}

// Leads reports whether something below the directory whose state is st may be matched.
func (l *List) Leads(st State) bool {
	for i, positions := range st {
		if positions != 0 && !l.rules[i].negated {
			return true
		}
	}
	return false
}

// Walk returns the state of a cleaned absolute path.
func (l *List) Walk(abs string) State {
	st := l.Root()
	for name := range strings.SplitSeq(abs, "/") {
		if name != "" {
			st = l.Enter(st, name)
		}
	}
	return st
}

// Match reports whether the absolute path is excluded.
func (l *List) Match(abs string) bool { return l.Excluded(l.Walk(abs)) }
