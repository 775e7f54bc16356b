package retention

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/snapshot"
)

// at makes a snapshot of a time, written as RFC 3339 without or with a zone, and tags.
func at(t *testing.T, text string) *snapshot.Snapshot {
	t.Helper()
	stamp, tags, _ := strings.Cut(text, " ")
	if !strings.Contains(stamp, "T") {
		stamp += "T00:00:00"
	}
	if !strings.ContainsAny(stamp[len("2006-01-02"):], "Z+-") {
		stamp += "Z"
	}
	when, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		t.Fatal(err)
	}
	sn := &snapshot.Snapshot{Time: when}
	if tags != "" {
		sn.Tags = strings.Split(tags, ",")
	}
	return sn
}

func span(t *testing.T, s string) Duration {
	t.Helper()
	d, err := ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Each rule alone and the borders of its periods.
func TestApply(t *testing.T) {
	now := time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		policy Policy
		list   []string // newest first, as they come out
		want   []string // for each the reasons, "" for removed
		left   Counters // after the last one that is kept
	}{
		{
			name: "no rule", policy: Policy{},
			list: []string{"2024-01-02", "2024-01-01"}, want: []string{"", ""},
		}, {
			name: "last", policy: Policy{Last: 2},
			list: []string{"2024-01-03", "2024-01-02", "2024-01-01"},
			want: []string{"last snapshot", "last snapshot", ""},
		}, {
			name: "fewer than wanted", policy: Policy{Last: 5},
			list: []string{"2024-01-03", "2024-01-02"},
			want: []string{"last snapshot", "last snapshot"}, left: Counters{Last: 3},
		}, {
			name: "several of a day", policy: Policy{Daily: 2},
			list: []string{"2024-01-03T20:00:00", "2024-01-03T10:00:00", "2024-01-02T20:00:00", "2024-01-02T10:00:00", "2024-01-01"},
			want: []string{"daily snapshot", "", "daily snapshot", "", ""},
		}, {
			name: "the oldest when the count is not used up", policy: Policy{Daily: 3},
			list: []string{"2024-01-03T20:00:00", "2024-01-03T10:00:00", "2024-01-03T09:00:00"},
			want: []string{"daily snapshot", "", "oldest daily snapshot"}, left: Counters{Daily: 1},
		}, {
			name: "unlimited", policy: Policy{Monthly: All, Last: 1},
			list: []string{"2024-03-02", "2024-03-01", "2024-01-31", "2023-01-31"},
			want: []string{"last snapshot|monthly snapshot", "", "monthly snapshot", "monthly snapshot"}, left: Counters{Monthly: All},
		}, {
			name: "ISO weeks: Sunday ends one, and the turn of the year does not", policy: Policy{Weekly: 9},
			list: []string{"2025-01-05", "2025-01-01", "2024-12-30", "2024-12-29", "2024-12-20"},
			want: []string{"weekly snapshot", "", "", "weekly snapshot", "weekly snapshot"}, left: Counters{Weekly: 6},
		}, {
			name: "hours and years", policy: Policy{Hourly: 2, Yearly: 2},
			list: []string{"2024-01-03T20:59:59", "2024-01-03T20:00:00", "2024-01-03T19:59:59", "2023-12-31", "2023-12-30"},
			want: []string{"hourly snapshot|yearly snapshot", "", "hourly snapshot", "yearly snapshot", ""},
		}, {
			name: "days are those of the snapshot's zone", policy: Policy{Daily: 2},
			list: []string{"2024-01-02T00:30:00+02:00", "2024-01-01T22:00:00Z", "2024-01-01T12:00:00Z", "2023-12-31"},
			want: []string{"daily snapshot", "daily snapshot", "", ""},
		}, {
			name: "tags", policy: Policy{Tags: [][]string{{"a", "b"}, {"c"}, {""}}},
			list: []string{"2024-01-04 a", "2024-01-03 b,a", "2024-01-02 c,a,b", "2024-01-01"},
			want: []string{"", "has tags [a, b]", "has tags [a, b]|has tags [c]", "has tags []"},
		}, {
			name: "within counts from the newest, which is not kept by its being equal to the end", policy: Policy{Within: Duration{Days: 1, Hours: 2}},
			list: []string{"2024-01-04", "2024-01-02T22:00:01", "2024-01-02T22:00:00", "2024-01-01"},
			want: []string{"within 1d2h", "within 1d2h", "", ""},
		}, {
			name: "within does not count from the future", policy: Policy{Within: Duration{Days: 2}},
			list: []string{"2030-01-01", "2024-01-04", "2024-01-03", "2024-01-02"},
			want: []string{"within 2d", "within 2d", "within 2d", ""},
		}, {
			name: "daily within", policy: Policy{WithinDaily: Duration{Months: 1}},
			list: []string{"2024-03-31T12:00:00", "2024-03-31T06:00:00", "2024-03-03T12:00:00", "2024-03-02T12:00:01", "2024-03-02T12:00:00"},
			want: []string{"daily within 1m", "", "daily within 1m", "daily within 1m", ""},
		}, {
			name: "the oldest within", policy: Policy{WithinYearly: Duration{Years: 2}},
			list: []string{"2024-03-31", "2024-03-30", "2024-03-29"},
			want: []string{"yearly within 2y", "", "oldest yearly within 2y"},
		}, {
			name: "one snapshot", policy: Policy{Daily: 1, WithinWeekly: Duration{Hours: 1}},
			list: []string{"2024-03-31"}, want: []string{"daily snapshot|weekly within 1h"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var list []*snapshot.Snapshot
			for i := range c.list {
				list = append(list, at(t, c.list[len(c.list)-1-i])) // Apply sorts
			}
			before := append([]*snapshot.Snapshot(nil), list...)
			keep, remove := Apply(c.policy, list, now)
			got := make([]string, len(c.list))
			index := func(sn *snapshot.Snapshot) int {
				for i := range list {
					if list[i] == sn {
						return len(list) - 1 - i
					}
				}
				t.Fatal("a snapshot that was not in the list")
				return 0
			}
			last := -1
			for _, r := range keep {
				i := index(r.Snapshot)
				if i <= last {
					t.Error("what is kept is not newest first")
				}
				last = i
				got[i] = strings.Join(r.Matches, "|")
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if len(keep)+len(remove) != len(list) {
				t.Errorf("%d kept and %d removed of %d", len(keep), len(remove), len(list))
			}
			if len(keep) > 0 {
				if diff := cmp.Diff(c.left, keep[len(keep)-1].Counters); diff != "" {
					t.Errorf("counters: %s", diff)
				}
			}
			for i := range list {
				if list[i] != before[i] {
					t.Fatal("Apply changes the caller's list")
				}
			}
		})
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]Duration{
		"": {}, "0h": {}, "2y5m7d3h": {2, 5, 7, 3}, "3h1y": {Years: 1, Hours: 3}, "1d2d": {Days: 2}, "012m": {Months: 12}, "999999h": {Hours: 999999},
	} {
		got, err := ParseDuration(in)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v, want %v", in, got, err, want)
		}
		if again := span(t, got.String()); again != want {
			t.Errorf("%q: comes back as %v", in, again)
		}
	}
	for _, in := range []string{"3", "h", "1x", "-1d", "1d-2h", " 1d", "1 d", "1000000h", "99999999999999999999d", "1d2", "1D", "٣d"} {
		if d, err := ParseDuration(in); err == nil || !strings.Contains(err.Error(), in[len(in)-1:]) {
			t.Errorf("%q: %v, %v", in, d, err)
		}
	}
}

func TestParseCount(t *testing.T) {
	for in, want := range map[string]int{"0": 0, "7": 7, "unlimited": All} {
		if got, err := ParseCount(in); err != nil || got != want {
			t.Errorf("%q: %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "-1", "x", "1.5", "99999999999999999999"} {
		if got, err := ParseCount(in); err == nil {
			t.Errorf("%q: %d", in, got)
		}
	}
}

func TestPolicyString(t *testing.T) {
	for _, c := range []struct {
		policy Policy
		want   string
	}{
		{Policy{Last: 1, Weekly: All}, "keep 1 latest, all weekly snapshots"},
		{Policy{WithinDaily: Duration{Days: 1}, WithinYearly: Duration{Years: 2}}, "keep daily snapshots within 1d, yearly snapshots within 2y"},
		{Policy{Daily: 2, WithinHourly: Duration{Hours: 5}, Within: Duration{Days: 1, Hours: 2}, Tags: [][]string{{"01"}, {"x", "02"}}},
			"keep 2 daily snapshots, hourly snapshots within 5h and all snapshots with tags [[01] [x, 02]] and all snapshots within 1d2h of the newest"},
	} {
		if got := c.policy.String(); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
		if c.policy.IsZero() {
			t.Errorf("%v has no rule", c.policy)
		}
	}
	if got := (Policy{}).String(); got != "remove" {
		t.Errorf("no rule: %q", got)
	}
	if !(Policy{}).IsZero() || (Policy{Tags: [][]string{{""}}}).IsZero() || !(Policy{WithinWeekly: Duration{}}).IsZero() {
		t.Error("IsZero is wrong")
	}
}
