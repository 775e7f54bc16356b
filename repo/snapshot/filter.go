package snapshot

// Filter selects snapshots. A part left empty matches every snapshot.
type Filter struct {
	Hosts []string   // any of them
	Tags  [][]string // all tags of any of the lists; a list that is empty or holds only "" matches untagged snapshots
	Paths []string   // all of them must be among the snapshot's paths
}

// Match reports whether s passes every part of the filter.
func (f Filter) Match(s *Snapshot) bool { panic("not yet") }

// ParseTagList splits each argument of --tag at its commas.
func ParseTagList(args []string) [][]string { panic("not yet") }
