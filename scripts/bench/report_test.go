package main

import (
	"strings"
	"testing"
)

func TestTargets(t *testing.T) {
	all := map[string]float64{"plain": 10, "restic": 100, "vitrine": 20}
	for _, c := range []struct {
		target  target
		text    string
		medians map[string]float64
		want    verdict
	}{
		{atMostPlain(2), "≤ 2 × plain", all, met},
		{atMostPlain(1.9), "≤ 1.90 × plain", all, missed},
		{atLeastPlain(0.7), "≥ 0.70 × plain", all, met},
		{atLeastRestic(4), "≥ 4 × restic", all, missed},
		{atMostRestic(1), "≤ 1 × restic", all, met},
		{atMost(20), "≤ 20", all, met},
		{atLeast(20.5), "≥ 20.5", all, missed},
		{atMostPlain(2), "≤ 2 × plain", map[string]float64{"vitrine": 1}, unknown},
		{atMost(2), "≤ 2", map[string]float64{"restic": 1}, unknown},
	} {
		if got := c.target.String(); got != c.text {
			t.Errorf("%+v says %q, want %q", c.target, got, c.text)
		}
		if got := c.target.judge(c.medians); got != c.want {
			t.Errorf("%v of %v is %q, want %q", c.target, c.medians, got, c.want)
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

func TestChoose(t *testing.T) {
	got, err := choose("many,mount")
	if err != nil || len(got) != 2 || got[0].name != "mount" || got[1].name != "many" {
		t.Errorf("choose gives %v, %v", got, err)
	}
	if _, err := choose("mount,speed"); err == nil || !strings.Contains(err.Error(), `"speed"`) {
		t.Errorf("choose of an unknown section: %v", err)
	}
}
