package snapshot

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// GroupBy says which properties tell groups of snapshots apart.
type GroupBy struct {
	Host, Paths, Tags bool
}

// ParseGroupBy reads a list like "host,paths"; the empty string means one single group.
func ParseGroupBy(s string) (GroupBy, error) {
	var g GroupBy
	for word := range strings.SplitSeq(s, ",") {
		switch word {
		case "host", "hosts":
			g.Host = true
		case "path", "paths":
			g.Paths = true
		case "tag", "tags":
			g.Tags = true
		case "":
		default:
			return GroupBy{}, fmt.Errorf("cannot group by %q: want a list of host, paths, tags", word)
		}
	}
	return g, nil
}

// String returns the list that ParseGroupBy reads.
func (g GroupBy) String() string {
	var words []string
	if g.Host {
		words = append(words, "host")
	}
	if g.Paths {
		words = append(words, "paths")
	}
	if g.Tags {
		words = append(words, "tags")
	}
	return strings.Join(words, ",")
}

// GroupKey is what the snapshots of a group have in common: paths and tags sorted, parts
// that do not matter zero.
type GroupKey struct {
	Hostname string   `json:"hostname"`
	Paths    []string `json:"paths"`
	Tags     []string `json:"tags"`
}

// Compare orders keys by host, then paths, then tags.
func (k GroupKey) Compare(other GroupKey) int {
	return cmp.Or(
		strings.Compare(k.Hostname, other.Hostname),
		slices.Compare(k.Paths, other.Paths),
		slices.Compare(k.Tags, other.Tags),
	)
}

// Key returns the key of the group that s belongs to.
func (g GroupBy) Key(s *Snapshot) GroupKey {
	var k GroupKey
	if g.Host {
		k.Hostname = s.Hostname
	}
	if g.Paths {
		k.Paths = slices.Sorted(slices.Values(s.Paths))
	}
	if g.Tags {
		k.Tags = slices.Sorted(slices.Values(s.Tags))
	}
	return k
}

// Grouped is one group. Its JSON is that of `snapshots --group-by --json`.
type Grouped struct {
	Key       GroupKey    `json:"group_key"`
	Snapshots []*Snapshot `json:"snapshots"`
}

// Group splits the list by the key of g. The groups are ordered by key, the snapshots of a
// group as in the list; the list is not changed. No snapshots give no groups.
func Group(list []*Snapshot, g GroupBy) []Grouped {
	keyed := make([]Grouped, len(list)) // groups of one
	for i := range list {
		keyed[i] = Grouped{g.Key(list[i]), list[i : i+1 : i+1]}
	}
	slices.SortStableFunc(keyed, func(a, b Grouped) int { return a.Key.Compare(b.Key) })
	var groups []Grouped
	for _, one := range keyed {
		if n := len(groups); n > 0 && groups[n-1].Key.Compare(one.Key) == 0 {
			groups[n-1].Snapshots = append(groups[n-1].Snapshots, one.Snapshots...)
		} else {
			groups = append(groups, one)
		}
	}
	return groups
}
