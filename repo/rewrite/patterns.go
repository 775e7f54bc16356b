package rewrite

import (
	"encoding/binary"

	"vitrine/repo/snapshot"
	"vitrine/repo/source/pattern"
)

// Place is what patterns have seen on the way to a directory.
type Place struct {
	path   string // without the slash at the end; "" for the root
	states []pattern.State
}

// Excluding are rules that leave out what one of the lists matches. The path of each entry that is left out is told
// to dropped, once for all snapshots that share the directory.
func Excluding(lists []*pattern.List, dropped func(path string)) *Rules[Place] {
	s := selection(lists)
	return &Rules[Place]{
		Root: s.root(), Key: s.key,
		Node: func(at Place, n *snapshot.Node) (Verdict, Place, error) {
			for i, l := range s {
				if l.ExcludedIn(at.states[i], n.Name) {
					dropped(at.path + "/" + n.Name)
					return Drop, Place{}, nil
				}
			}
			if n.Type == snapshot.Dir {
				return Keep, s.enter(at, n.Name), nil
			}
			return Keep, Place{}, nil
		},
	}
}

// Including are rules that leave nothing but what one of the lists matches, all below it, and the directories on the way
// there. The path of each entry that stays, but for these directories, is told to kept, once for all snapshots that share the
// directory.
func Including(lists []*pattern.List, kept func(path string)) *Rules[Place] {
	s := selection(lists)
	return &Rules[Place]{
		Root: s.root(), Key: s.key,
		Node: func(at Place, n *snapshot.Node) (Verdict, Place, error) {
			in := s.enter(at, n.Name)
			switch {
			case s.matches(in):
				kept(in.path)
				return Keep, in, nil
			case n.Type == snapshot.Dir && s.leads(in):
				return Keep, in, nil
			}
			return Drop, in, nil
		},
		Empty: s.matches,
	}
}

// selection is a choice by patterns.
type selection []*pattern.List

func (s selection) root() Place {
	var p Place
	for _, l := range s {
		p.states = append(p.states, l.Root())
	}
	return p
}

func (s selection) enter(at Place, name string) Place {
	p := Place{path: at.path + "/" + name, states: make([]pattern.State, len(s))}
	for i, l := range s {
		p.states[i] = l.Enter(at.states[i], name)
	}
	return p
}

func (s selection) matches(at Place) bool {
	for i, l := range s {
		if l.Excluded(at.states[i]) {
			return true
		}
	}
	return false
}

func (s selection) leads(at Place) bool {
	for i, l := range s {
		if l.Leads(at.states[i]) {
			return true
		}
	}
	return false
}

// key is what of the way counts: the path does not.
func (s selection) key(at Place) string {
	var key []byte
	for _, st := range at.states {
		for _, positions := range st {
			key = binary.LittleEndian.AppendUint64(key, positions)
		}
	}
	return string(key)
}

// Counting are rules that leave everything as it is, for the sake of the sums.
func Counting() *Rules[Place] {
	return &Rules[Place]{Node: func(_ Place, n *snapshot.Node) (Verdict, Place, error) { return Keep, Place{}, nil }}
}
