package snapshot

import (
	"slices"
	"strings"
)

// Filter selects snapshots. A part left empty matches every snapshot.
type Filter struct {
	Hosts []string   // any of them
	Tags  [][]string // all tags of any of the lists; the tag "" is had by untagged snapshots
	Paths []string   // all of them must be among the snapshot's paths, spelled as there
}

// Match reports whether s passes every part of the filter.
func (f Filter) Match(s *Snapshot) bool {
	if len(f.Hosts) > 0 && !slices.Contains(f.Hosts, s.Hostname) {
		return false
	}
	for _, path := range f.Paths {
		if !slices.Contains(s.Paths, path) {
			return false
		}
	}
	return len(f.Tags) == 0 || slices.ContainsFunc(f.Tags, s.hasTags)
}

// hasTags reports whether s has every tag of the list. As soon as "" is asked of an
// untagged snapshot the answer is yes: restic's rule, also for lists like ",a".
func (s *Snapshot) hasTags(list []string) bool {
	for _, tag := range list {
		if tag == "" && len(s.Tags) == 0 {
			return true
		}
		if !slices.Contains(s.Tags, tag) {
			return false
		}
	}
	return true
}

// ParseTagList splits each argument of --tag at its commas and drops the white space
// around the tags. An empty argument gives the list of one empty tag.
func ParseTagList(args []string) [][]string {
	lists := make([][]string, 0, len(args))
	for _, arg := range args {
		list := strings.Split(arg, ",")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		lists = append(lists, list)
	}
	return lists
}
