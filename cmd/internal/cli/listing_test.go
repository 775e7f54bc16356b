package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
	"vitrine/repo/snapshot"
)

func TestListingWanted(t *testing.T) {
	for _, c := range []struct {
		dirs      []string
		recursive bool
		path      string
		wanted    bool
		leadsOn   bool
	}{
		{nil, false, "/a/b", true, true},
		{[]string{"/"}, false, "/a", true, false},
		{[]string{"/"}, false, "/a/b", false, false},
		{[]string{"/"}, true, "/a/b", true, true},
		{[]string{"/a"}, false, "/a", true, true},
		{[]string{"/a"}, false, "/a/b", true, false},
		{[]string{"/a"}, false, "/a/b/c", false, false},
		{[]string{"/a"}, true, "/a/b/c", true, true},
		{[]string{"/a"}, true, "/ab", false, false},
		{[]string{"/a/b/c"}, false, "/a", false, true},
		{[]string{"/a/b/c"}, false, "/a/b", false, true},
		{[]string{"/x", "/a"}, false, "/a/b", true, false},
	} {
		l := listing{dirs: c.dirs, recursive: c.recursive}
		if got := l.wanted(c.path); got != c.wanted {
			t.Errorf("%v recursive %v: wanted(%s) = %v", c.dirs, c.recursive, c.path, got)
		}
		if got := l.leadsOn(c.path); got != c.leadsOn {
			t.Errorf("%v recursive %v: leadsOn(%s) = %v", c.dirs, c.recursive, c.path, got)
		}
	}
}

// sn makes a snapshot of a host and some paths at an hour.
func sn(hour int, host string, paths ...string) *snapshot.Snapshot {
	return &snapshot.Snapshot{Time: time.Date(2024, 1, 2, hour, 0, 0, 0, time.Local), Hostname: host, Paths: paths, ID: blob.Hash([]byte{byte(hour)})}
}

func TestLatestOfEach(t *testing.T) {
	list := []*snapshot.Snapshot{sn(1, "a", "/x", "/y"), sn(2, "b", "/x"), sn(3, "a", "/y", "/x"), sn(4, "b", "/x"), sn(5, "b", "/z")}
	var hours []int
	for _, s := range latestOfEach(list, 1) {
		hours = append(hours, s.Time.Hour())
	}
	if diff := cmp.Diff([]int{3, 4, 5}, hours); diff != "" {
		t.Error(diff)
	}
}

func TestSnapshotTable(t *testing.T) {
	list := []*snapshot.Snapshot{sn(1, "host", "/x", "/y"), sn(2, "host", "/z")}
	list[1].Tags = []string{"one", "two"}
	var b strings.Builder
	if err := snapshotTable(list, false, nil).Write(&b); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"ID        Time                 Host        Tags        Paths",
		"------------------------------------------------------------",
		"4bf5122f  2024-01-02 01:00:00  host                    /x",
		"                                                       /y",
		"",
		"dbc1b4c9  2024-01-02 02:00:00  host        one,two     /z",
		"------------------------------------------------------------",
		"2 snapshots",
		"",
	}, "\n")
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
	list[0].Summary = &snapshot.Summary{TotalBytesProcessed: 1 << 20}
	b.Reset()
	if err := snapshotTable(list, true, nil).Write(&b); err != nil {
		t.Fatal(err)
	}
	want = strings.Join([]string{
		"ID        Time                 Host  Tags    Size",
		"------------------------------------------------------",
		"4bf5122f  2024-01-02 01:00:00  host          1.000 MiB",
		"dbc1b4c9  2024-01-02 02:00:00  host  one",
		"                                     two",
		"------------------------------------------------------",
		"2 snapshots",
		"",
	}, "\n")
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}
