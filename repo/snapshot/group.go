package snapshot

// GroupBy says which properties tell groups of snapshots apart.
type GroupBy struct {
	Host, Paths, Tags bool
}

// ParseGroupBy reads a list like "host,paths"; the empty string means one single group.
func ParseGroupBy(s string) (GroupBy, error) { panic("not yet") }

// String returns the list that ParseGroupBy reads.
func (g GroupBy) String() string { panic("not yet") }

// GroupKey is what the snapshots of a group have in common. Parts that do not matter are zero.
type GroupKey struct {
	Hostname string   `json:"hostname"`
	Paths    []string `json:"paths"`
	Tags     []string `json:"tags"`
}

// Grouped is one group. Its JSON is that of `snapshots --group-by --json`.
type Grouped struct {
	Key       GroupKey    `json:"group_key"`
	Snapshots []*Snapshot `json:"snapshots"`
}

// Group splits the list. Groups are ordered by key, snapshots keep the order of the list.
func Group(list []*Snapshot, by GroupBy) []Grouped { panic("not yet") }
