package snapshot

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"vitrine/repo/blob"

	"github.com/google/go-cmp/cmp"
)

// Snapshots as clients wrote them: Debian's restic 0.14 the first two, then the order of
// fields with everything in it.
const (
	resticSnapshot = `{"time":"2026-11-22T10:59:57.562322426Z","parent":"7b34e769e6baf8f953b47ad29cc2557ec6c0afca6d41141a8ca5d6cf65848563","tree":"b4ae845b7dc6298ca3d97d319789cc6e86c66d5a63b3a38e04906b903f12c20b","paths":["/dev/shm/snaplane/src"],"hostname":"vm","username":"root","excludes":["big"]}`
	resticTagged   = `{"time":"2026-11-22T16:29:56.743698743+05:30","tree":"2d64d72bfe12fb4a41a1ce0eefa26f2be0d3da130c35c55aaae4f66225c43a20","paths":["/dev/shm/snaplane/src"],"hostname":"vm","username":"root","tags":["a","b"]}`
	fullSnapshot   = `{"time":"2024-05-06T07:08:09.1+02:00","parent":"7b34e769e6baf8f953b47ad29cc2557ec6c0afca6d41141a8ca5d6cf65848563",` +
		`"tree":"b4ae845b7dc6298ca3d97d319789cc6e86c66d5a63b3a38e04906b903f12c20b","paths":["/a \u0026 b","/\u2028"],"hostname":"h","username":"u",` +
		`"uid":1000,"gid":100,"excludes":["*.o"],"tags":["complete backup CW16"],` +
		`"original":"2d64d72bfe12fb4a41a1ce0eefa26f2be0d3da130c35c55aaae4f66225c43a20","program_version":"vitrine 1.0",` +
		`"summary":{"backup_start":"2024-05-06T07:08:09+02:00","backup_end":"2024-05-06T07:08:10Z","files_new":1,"files_changed":2,` +
		`"files_unmodified":3,"dirs_new":4,"dirs_changed":5,"dirs_unmodified":6,"data_blobs":7,"tree_blobs":8,"data_added":9,` +
		`"data_added_packed":10,"total_files_processed":11,"total_bytes_processed":12}}`
)

func TestSnapshotRoundTrip(t *testing.T) {
	for _, p := range []string{resticSnapshot, resticTagged, fullSnapshot} {
		s, err := Decode([]byte(p))
		if err != nil {
			t.Fatal(err)
		}
		s.ID = blob.Hash([]byte(p)) // not part of the JSON
		got, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, string(got)); diff != "" {
			t.Errorf("(-read +written):\n%s", diff)
		}
	}
}

func TestSnapshotFields(t *testing.T) {
	s, err := Decode([]byte(fullSnapshot))
	if err != nil {
		t.Fatal(err)
	}
	id := func(s string) *blob.ID {
		id, err := blob.ParseID(s)
		if err != nil {
			t.Fatal(err)
		}
		return &id
	}
	east := time.FixedZone("", 7200)
	want := &Snapshot{
		Time:     time.Date(2024, 5, 6, 7, 8, 9, 1e8, east),
		Parent:   id("7b34e769e6baf8f953b47ad29cc2557ec6c0afca6d41141a8ca5d6cf65848563"),
		Tree:     id("b4ae845b7dc6298ca3d97d319789cc6e86c66d5a63b3a38e04906b903f12c20b"),
		Paths:    []string{"/a & b", "/\u2028"},
		Hostname: "h", Username: "u", UID: 1000, GID: 100,
		Excludes: []string{"*.o"}, Tags: []string{"complete backup CW16"},
		Original:       id("2d64d72bfe12fb4a41a1ce0eefa26f2be0d3da130c35c55aaae4f66225c43a20"),
		ProgramVersion: "vitrine 1.0",
		Summary: &Summary{
			BackupStart: time.Date(2024, 5, 6, 7, 8, 9, 0, east), BackupEnd: time.Date(2024, 5, 6, 7, 8, 10, 0, time.UTC),
			FilesNew: 1, FilesChanged: 2, FilesUnmodified: 3, DirsNew: 4, DirsChanged: 5, DirsUnmodified: 6, DataBlobs: 7,
			TreeBlobs: 8, DataAdded: 9, DataAddedPacked: 10, TotalFilesProcessed: 11, TotalBytesProcessed: 12,
		},
	}
	if diff := cmp.Diff(want, s, sameTime); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSnapshotRefuses(t *testing.T) {
	for _, p := range []string{
		"", "null", "{}", "[]", "{", `{"tree":null}`, `{"tree":"12"}`, resticSnapshot + "x", resticSnapshot[:100],
		`{"time":"yesterday",` + resticSnapshot[1:], strings.Replace(resticSnapshot, `["big"]`, `"big"`, 1),
	} {
		if s, err := Decode([]byte(p)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%.60q: %+v, %v", p, s, err)
		}
	}
	if _, err := new(Snapshot).Encode(); err == nil {
		t.Error("a snapshot without a tree was encoded")
	}
	if _, err := (&Snapshot{Tree: &blob.ID{}, Time: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}).Encode(); err == nil {
		t.Error("a year of five digits was encoded")
	}
}

func TestFilter(t *testing.T) {
	tagged := &Snapshot{Hostname: "h1", Paths: []string{"/a", "/b"}, Tags: []string{"x", "y z"}}
	plain := &Snapshot{Hostname: "h2", Paths: []string{"/a"}}
	tags := ParseTagList
	for _, test := range []struct {
		name          string
		f             Filter
		tagged, plain bool
	}{
		{"nothing", Filter{}, true, true},
		{"host", Filter{Hosts: []string{"h2"}}, false, true},
		{"hosts", Filter{Hosts: []string{"h3", "h1"}}, true, false},
		{"empty host is a name", Filter{Hosts: []string{""}}, false, false},
		{"path", Filter{Paths: []string{"/a"}}, true, true},
		{"paths", Filter{Paths: []string{"/b", "/a"}}, true, false},
		{"paths and more", Filter{Paths: []string{"/b", "/c"}}, false, false},
		{"a path is not a prefix", Filter{Paths: []string{"/"}}, false, false},
		{"tag", Filter{Tags: tags([]string{"x"})}, true, false},
		{"both tags", Filter{Tags: tags([]string{"y z,x"})}, true, false},
		{"one of two missing", Filter{Tags: tags([]string{"x,w"})}, false, false},
		{"any list", Filter{Tags: tags([]string{"w", "x"})}, true, false},
		{"untagged", Filter{Tags: tags([]string{""})}, false, true},
		{"untagged or tag", Filter{Tags: tags([]string{"", "x"})}, true, true},
		{"untagged first in a list", Filter{Tags: tags([]string{",x"})}, false, true},
		{"untagged last in a list", Filter{Tags: tags([]string{"x,"})}, false, false},
		{"no tags asked", Filter{Tags: [][]string{{}}}, true, true},
		{"all parts", Filter{Hosts: []string{"h1"}, Paths: []string{"/a"}, Tags: tags([]string{"x"})}, true, false},
		{"all parts but one", Filter{Hosts: []string{"h1"}, Paths: []string{"/c"}, Tags: tags([]string{"x"})}, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.f.Match(tagged); got != test.tagged {
				t.Errorf("tagged snapshot: %v, want %v", got, test.tagged)
			}
			if got := test.f.Match(plain); got != test.plain {
				t.Errorf("plain snapshot: %v, want %v", got, test.plain)
			}
		})
	}
}

func TestParseTagList(t *testing.T) {
	got := ParseTagList([]string{"a,b", " a b , c ", "", ",x"})
	want := [][]string{{"a", "b"}, {"a b", "c"}, {""}, {"", "x"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := ParseTagList(nil); len(got) != 0 {
		t.Errorf("no arguments give %q", got)
	}
}

func TestParseGroupBy(t *testing.T) {
	for _, test := range []struct {
		s, again string
		want     GroupBy
		ok       bool
	}{
		{"", "", GroupBy{}, true},
		{"host,paths", "host,paths", GroupBy{Host: true, Paths: true}, true},
		{"tags,path,hosts", "host,paths,tags", GroupBy{true, true, true}, true},
		{"tag", "tags", GroupBy{Tags: true}, true},
		{"host,user", "", GroupBy{}, false},
	} {
		got, err := ParseGroupBy(test.s)
		if got != test.want || (err == nil) != test.ok || got.String() != test.again {
			t.Errorf("%q: %+v, %q, %v", test.s, got, got, err)
		}
	}
}

func TestGroup(t *testing.T) {
	list := []*Snapshot{
		{Hostname: "b", Paths: []string{"/y", "/x"}, Tags: []string{"t"}, ProgramVersion: "0"},
		{Hostname: "a", Paths: []string{"/x"}, ProgramVersion: "1"},
		{Hostname: "b", Paths: []string{"/x", "/y"}, ProgramVersion: "2"},
		{Hostname: "b", Paths: []string{"/x"}, Tags: []string{"t"}, ProgramVersion: "3"},
		{Hostname: "b", Paths: []string{"/y", "/x"}, Tags: []string{"t"}, ProgramVersion: "4"},
	}
	for _, test := range []struct {
		by   GroupBy
		want string // key: snapshots
	}{
		{GroupBy{}, "{ [] []}: 0 1 2 3 4"},
		{GroupBy{Host: true}, "{a [] []}: 1; {b [] []}: 0 2 3 4"},
		{GroupBy{Paths: true}, "{ [/x] []}: 1 3; { [/x /y] []}: 0 2 4"},
		{GroupBy{Tags: true}, "{ [] []}: 1 2; { [] [t]}: 0 3 4"},
		{GroupBy{true, true, true}, "{a [/x] []}: 1; {b [/x] [t]}: 3; {b [/x /y] []}: 2; {b [/x /y] [t]}: 0 4"},
	} {
		var got []string
		for _, g := range Group(list, test.by) {
			s := fmt.Sprint(g.Key) + ":"
			for _, sn := range g.Snapshots {
				s += " " + sn.ProgramVersion
			}
			got = append(got, s)
		}
		if got := strings.Join(got, "; "); got != test.want {
			t.Errorf("by %q:\n got %s\nwant %s", test.by, got, test.want)
		}
	}
	if diff := cmp.Diff([]string{"/y", "/x"}, list[0].Paths); diff != "" {
		t.Error("the paths of a snapshot were sorted in place")
	}
	for i, sn := range list {
		if sn.ProgramVersion != string(rune('0'+i)) {
			t.Error("the list was changed")
		}
	}
	if got := Group(nil, GroupBy{Host: true}); len(got) != 0 {
		t.Errorf("no snapshots give %v", got)
	}
	p, err := json.Marshal(Group(list[1:2], GroupBy{Host: true})[0].Key)
	if want := `{"hostname":"a","paths":null,"tags":null}`; err != nil || string(p) != want {
		t.Errorf("key as JSON: %s, %v, want %s", p, err, want)
	}
}
