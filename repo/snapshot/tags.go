package snapshot

import (
	"slices"

	"vitrine/repo/blob"
)

// TagChange is a change of the tags of a snapshot.
type TagChange struct {
	Replace     bool     // the tags become Set, else Add and Remove count
	Set         []string // none takes all tags away
	Add, Remove []string
}

// Apply returns a copy of s with the tags changed, and false when there is nothing to change. A Replace
// always is a change, as it is for restic. The copy has no ID; its Original is the ID of the first
// snapshot of the chain of changes.
func (c TagChange) Apply(s *Snapshot) (*Snapshot, bool) {
	tags := slices.Clone(s.Tags)
	changed := c.Replace
	if c.Replace {
		tags = appendNew(nil, c.Set)
	} else {
		tags = appendNew(tags, c.Add)
		tags = slices.DeleteFunc(tags, func(tag string) bool { return slices.Contains(c.Remove, tag) })
		changed = !slices.Equal(tags, s.Tags)
	}
	if !changed {
		return nil, false
	}
	out := *s
	out.Tags = tags
	if out.Original == nil {
		id := s.ID
		out.Original = &id
	}
	out.ID = blob.ID{}
	return &out, true
}

// appendNew appends the tags that are not empty and not there yet.
func appendNew(tags, more []string) []string {
	for _, tag := range more {
		if tag != "" && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}
