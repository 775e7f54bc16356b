package progress

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTable(t *testing.T) {
	table := NewTable("ID", "Host", "Paths")
	table.MinWidth(1, 6)
	table.Spaced = true
	table.Row("1f2e3d4c", "süß", "/a\n/bb")
	table.Row("aaaaaaaa", "", "/c")
	table.Footer("2 snapshots")
	var b strings.Builder
	if err := table.Write(&b); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"ID        Host    Paths",
		"-----------------------",
		"1f2e3d4c  süß     /a",
		"                  /bb",
		"",
		"aaaaaaaa          /c",
		"-----------------------",
		"2 snapshots",
		"",
	}, "\n")
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Error(diff)
	}
}
