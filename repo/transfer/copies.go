package transfer

import (
	"context"
	"fmt"
	"slices"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

// copies are the snapshots of the destination by the IDs of what they may be copies of: their originals, and themselves.
type copies map[blob.ID][]*snapshot.Snapshot

func (t *transfer) copiesThere(ctx context.Context) (copies, error) {
	all, err := t.dst.Snapshots(ctx)
	if err != nil {
		return nil, fmt.Errorf("look for copies in the destination: %w", err)
	}
	c := make(copies)
	for _, sn := range all {
		c[sn.ID] = append(c[sn.ID], sn)
		if sn.Original != nil {
			c[*sn.Original] = append(c[*sn.Original], sn)
		}
	}
	return c, nil
}

// find returns the copy of a snapshot, nil when there is none.
func (c copies) find(sn *snapshot.Snapshot) *snapshot.Snapshot {
	original := sn.ID
	if sn.Original != nil {
		original = *sn.Original
	}
	for _, there := range c[original] {
		if same(sn, there) {
			return there
		}
	}
	return nil
}

// same compares what a copy has of a snapshot. A snapshot whose tags were changed, or which was rewritten, is not
// the one that was copied.
func same(a, b *snapshot.Snapshot) bool {
	return a.Time.Equal(b.Time) && *a.Tree == *b.Tree && a.Hostname == b.Hostname && a.Username == b.Username &&
		a.UID == b.UID && a.GID == b.GID && slices.Equal(a.Excludes, b.Excludes) &&
		sameSet(a.Paths, b.Paths) && sameSet(a.Tags, b.Tags)
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}
