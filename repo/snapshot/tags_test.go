package snapshot

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
)

func TestTagChange(t *testing.T) {
	id, first := blob.Hash([]byte("second")), blob.Hash([]byte("first"))
	for _, c := range []struct {
		name    string
		have    []string
		change  TagChange
		want    []string
		changed bool
	}{
		{"add", []string{"a"}, TagChange{Add: []string{"b", "", "a", "b"}}, []string{"a", "b"}, true},
		{"add what is there", []string{"a"}, TagChange{Add: []string{"a"}}, nil, false},
		{"remove", []string{"a", "b", "c"}, TagChange{Remove: []string{"a", "x"}}, []string{"b", "c"}, true},
		{"remove the last", []string{"a"}, TagChange{Remove: []string{"a"}}, []string{}, true},
		{"remove what is not there", []string{"a"}, TagChange{Remove: []string{"b"}}, nil, false},
		{"add and remove", []string{"a"}, TagChange{Add: []string{"b"}, Remove: []string{"a"}}, []string{"b"}, true},
		{"add and remove the same", []string{"a"}, TagChange{Add: []string{"b"}, Remove: []string{"b"}}, nil, false},
		{"set", []string{"a"}, TagChange{Replace: true, Set: []string{"b", "b"}}, []string{"b"}, true},
		{"set what is there", []string{"a"}, TagChange{Replace: true, Set: []string{"a"}}, []string{"a"}, true},
		{"set nothing", []string{"a"}, TagChange{Replace: true, Set: []string{""}}, nil, true},
	} {
		for _, original := range []*blob.ID{nil, &first} {
			sn := &Snapshot{ID: id, Tags: c.have, Original: original, Hostname: "h"}
			before := *sn
			before.Tags = append([]string(nil), c.have...)
			out, changed := c.change.Apply(sn)
			if diff := cmp.Diff(before, *sn); diff != "" {
				t.Errorf("%s: the snapshot itself is changed: %s", c.name, diff)
			}
			if changed != c.changed {
				t.Errorf("%s: changed is %v", c.name, changed)
			}
			if !changed {
				continue
			}
			want := before
			want.ID, want.Tags, want.Original = blob.ID{}, c.want, &id
			if original != nil {
				want.Original = &first
			}
			if diff := cmp.Diff(want, *out); diff != "" {
				t.Errorf("%s: %s", c.name, diff)
			}
		}
	}
}
