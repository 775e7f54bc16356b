package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTargets(t *testing.T) {
	all := figures{map[string]float64{"plain": 10, "restic": 100, "vitrine": 20}, map[string]float64{"restic": 1000, "vitrine": 250}}
	for _, c := range []struct {
		target  target
		text    string
		figures figures
		want    verdict
	}{
		{atMostPlain(2), "≤ 2 × plain", all, met},
		{atMostPlain(1.9), "≤ 1.90 × plain", all, missed},
		{atLeastPlain(0.7), "≥ 0.70 × plain", all, met},
		{atLeastRestic(4), "≥ 4 × restic", all, missed},
		{atMostRestic(1), "≤ 1 × restic", all, met},
		{atMost(20), "≤ 20", all, met},
		{atLeast(20.5), "≥ 20.5", all, missed},
		{atMostPlain(2), "≤ 2 × plain", figures{medians: map[string]float64{"vitrine": 1}}, unknown},
		{atMost(2), "≤ 2", figures{medians: map[string]float64{"restic": 1}}, unknown},
		{residentAtMost(250), "≤ 250 MiB", all, met},
		{residentAtMost(249), "≤ 249 MiB", all, missed},
		{residentAtMost(300), "≤ 300 MiB", figures{medians: map[string]float64{"vitrine": 1}}, unknown},
	} {
		if got := c.target.String(); got != c.text {
			t.Errorf("%+v says %q, want %q", c.target, got, c.text)
		}
		if got := c.target.judge(c.figures); got != c.want {
			t.Errorf("%v of %v is %q, want %q", c.target, c.figures, got, c.want)
		}
	}
}

func TestTable(t *testing.T) {
	var r report
	row := spec{section: "mount", title: "cp -a", unit: "s", targets: []target{atMostPlain(2), atMostRestic(0.5)}}
	r.add(row, "plain", value{v: 2})
	for _, v := range []float64{9, 3, 5} {
		r.add(row, "vitrine", value{v: v, rssBytes: int64(v) << 20})
	}
	r.add(row, "restic", value{v: 50})
	r.add(spec{section: "large", title: "sum", unit: "MB/s", more: true}, "vitrine", value{v: 1200})
	got := r.String()
	for _, want := range []string{
		"| mount | cp -a | s | 3 | 2 | 50 | **5** | 2.50 | 10 | ≤ 2 × plain, ≤ 0.50 × restic | **no**, yes | – | – | – | 9 |\n",
		"| large | sum | MB/s | 1 | – | – | **1200** | – | – | – | – | – | – | – | – |\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("the table has no line\n%sbut\n%s", want, got)
		}
	}
}

func TestMisses(t *testing.T) {
	var r report
	row := spec{section: "small", title: "first backup", unit: "s", targets: []target{fasterThanRestic(2.5), residentAtMost(250)}}
	r.add(row, "restic", value{v: 50})
	r.add(row, "vitrine", value{v: 25, rssBytes: 240 << 20})
	r.add(row, "vitrine", value{v: 25, rssBytes: 264 << 20}) // the largest of all runs counts
	r.add(spec{section: "small", title: "size", unit: "MiB", targets: []target{atMostRestic(1.01)}}, "vitrine", value{v: 5})
	r.add(spec{section: "growth", title: "memory", unit: "×", targets: []target{atMost(1.1)}}, "vitrine", value{v: 1.05})
	lines, judged := r.misses()
	want := []string{
		"small: first backup: ≥ 2.50 × as fast as restic: 25 s, restic 50",
		"small: first backup: ≤ 250 MiB: 264 MiB",
	}
	if diff := cmp.Diff(want, lines); diff != "" || judged != 3 {
		t.Errorf("of %d targets, missed (-want +got):\n%s", judged, diff)
	}
	if table := r.String(); !strings.Contains(table, "| ≥ 2.50 × as fast as restic, ≤ 250 MiB | **no**, **no** | – | – | – | 264 |\n") {
		t.Errorf("the table does not say it:\n%s", table)
	}
}

func TestBorrow(t *testing.T) {
	var r report
	r.add(spec{section: "tar", title: "first backup"}, "restic", value{v: 60})
	r.add(spec{section: "noise", title: "first backup"}, "restic", value{v: 20})
	r.add(spec{section: "pure-files", title: "first backup, without"}, "vitrine", value{v: 70})
	r.add(spec{section: "pure-files", title: "another, without"}, "vitrine", value{v: 7})
	for range 2 {
		r.borrow("restic", "tar", "pure-files", ", without")
	}
	if got := r.rows[2].by["restic"]; len(got) != 1 || got[0].v != 60 {
		t.Errorf("the row has of restic %v", got)
	}
	if got := r.rows[3].by["restic"]; len(got) != 0 {
		t.Errorf("a row that nobody else has got %v", got)
	}
}

func TestVerifiedNote(t *testing.T) {
	for v, want := range map[verified]string{
		{7, 7, 7, 7}: "restic check --read-data: 7 repositories that vitrine has written, all without errors; root tree ids equal: 7 of 7.",
		{7, 6, 6, 5}: "restic check --read-data: 7 repositories that vitrine has written, 1 WITH ERRORS; root tree ids equal: 5 of 6.",
	} {
		if got := v.note(); got != want {
			t.Errorf("%+v says %q, want %q", v, got, want)
		}
	}
}

func TestNewestOf(t *testing.T) {
	got, err := newestOf([]byte(`[{"time":"2024-05-01T10:00:00.5+02:00","tree":"aa","id":"1"},{"time":"2024-05-01T08:00:01Z","tree":"bb","id":"2"},{"time":"2024-05-01T08:00:00Z","tree":"cc","id":"3"}]`))
	if err != nil || got.ID != "2" || got.Tree != "bb" {
		t.Errorf("the newest is %+v, %v", got, err)
	}
	for _, text := range []string{`[]`, `null`, `[{"time":"2024-05-01T08:00:00Z","id":"1"}]`, `{}`} {
		if _, err := newestOf([]byte(text)); err == nil {
			t.Errorf("no error of %s", text)
		}
	}
}

func TestChoose(t *testing.T) {
	got, err := choose("many,mount")
	if err != nil || len(got) != 2 || got[0].name != "mount" || got[1].name != "many" {
		t.Errorf("choose gives %v, %v", got, err)
	}
	if _, err := choose("mount,speed"); err == nil || !strings.Contains(err.Error(), `"speed"`) {
		t.Errorf("choose of an unknown section: %v", err)
	}
}
