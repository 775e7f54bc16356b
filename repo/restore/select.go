package restore

import "vitrine/repo/source/pattern"

// Select limits what is restored. The zero value lets everything through. Paths are those below
// the directory that is restored.
type Select struct {
	Include []*pattern.List // when there are any: only what one of them matches, and all below it
	Exclude []*pattern.List // not what one of them matches, nor anything below it
}

// spot is where a walk is, as Select sees it.
type spot struct {
	include, exclude []pattern.State
}

func (s *Select) root() spot {
	return spot{roots(s.Include), roots(s.Exclude)}
}

func roots(lists []*pattern.List) []pattern.State {
	var states []pattern.State
	for _, l := range lists {
		states = append(states, l.Root())
	}
	return states
}

// enter returns the spot of an entry.
func (s *Select) enter(at spot, name string) spot {
	return spot{entered(s.Include, at.include, name), entered(s.Exclude, at.exclude, name)}
}

func entered(lists []*pattern.List, states []pattern.State, name string) []pattern.State {
	var next []pattern.State
	for i, l := range lists {
		next = append(next, l.Enter(states[i], name))
	}
	return next
}

// selects reports whether the entry at the spot is restored.
func (s *Select) selects(at spot) bool {
	for i, l := range s.Exclude {
		if l.Excluded(at.exclude[i]) {
			return false
		}
	}
	for i, l := range s.Include {
		if l.Excluded(at.include[i]) {
			return true
		}
	}
	return len(s.Include) == 0
}

// leads reports whether something below the directory at the spot may be restored.
func (s *Select) leads(at spot) bool {
	if s.selects(at) {
		return true
	}
	if len(s.Include) == 0 {
		return false // excluded
	}
	for i, l := range s.Exclude {
		if l.Excluded(at.exclude[i]) {
			return false
		}
	}
	for i, l := range s.Include {
		if l.Leads(at.include[i]) {
			return true
		}
	}
	return false
}
