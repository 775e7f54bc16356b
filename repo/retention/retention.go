// Package retention decides which snapshots a forget keeps. It does no I/O and looks at no clock.
//
// A Policy is a set of rules, and a snapshot stays when one of them wants it. The rules go through
// the snapshots from the newest to the oldest:
//
//   - a count, such as Daily, keeps the newest snapshot of each of the n newest days that have one.
//     Days, months and so on are those of the calendar, in the time zone that the snapshot carries;
//     weeks are those of ISO 8601;
//   - Within keeps what is younger than that, and WithinDaily and the like keep the newest snapshot
//     of each day in that time. The age is counted from the newest snapshot, not from today, so that a
//     host that makes no backups any more does not lose those it has. A snapshot dated in the
//     future does not count as the newest;
//   - Tags keeps what has all tags of one of the lists;
//   - the oldest snapshot is also kept by each count that is not used up, and by each
//     WithinDaily and the like whose time it is in: history grows to what was asked for, and does
//     not begin with the last day of each period.
//
// These are restic's rules since 0.16 (0.17 for the last one as far as it concerns
// WithinDaily and the like). Debian's 0.14 has no rule for the oldest snapshot; in all else the two
// agree. Snapshots of the same instant are ordered by their IDs, where restic takes them as
// they come.
package retention

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"vitrine/repo/snapshot"
)

// All as a count keeps one snapshot of every period.
const All = -1

// Policy says what to keep. Counts are numbers of periods, or All; zero values are rules that keep
// nothing.
type Policy struct {
	Last, Hourly, Daily, Weekly, Monthly, Yearly int

	Within                                                               Duration
	WithinHourly, WithinDaily, WithinWeekly, WithinMonthly, WithinYearly Duration

	Tags [][]string // as in snapshot.Filter
}

// Reason says why a snapshot is kept.
type Reason struct {
	Snapshot *snapshot.Snapshot
	Matches  []string // the rules that want it, in words
	Counters Counters // what is left of the counts after it
}

// Counters are what is left of the counts of a policy; All stays All.
type Counters struct {
	Last    int `json:"last,omitempty"`
	Hourly  int `json:"hourly,omitempty"`
	Daily   int `json:"daily,omitempty"`
	Weekly  int `json:"weekly,omitempty"`
	Monthly int `json:"monthly,omitempty"`
	Yearly  int `json:"yearly,omitempty"`
}

// Periods of the calendar, as numbers that differ between neighbours.
func hourOf(t time.Time) int { return dayOf(t)*100 + t.Hour() }
func dayOf(t time.Time) int  { return monthOf(t)*100 + t.Day() }
func weekOf(t time.Time) int {
	year, week := t.ISOWeek()
	return year*100 + week
}
func monthOf(t time.Time) int { return t.Year()*100 + int(t.Month()) }
func yearOf(t time.Time) int  { return t.Year() }

// cycle keeps the newest snapshot of each period.
type cycle struct {
	name  string // in words
	of    func(time.Time) int
	begun bool
	now   int // the period of the snapshot that was kept last
}

// keep returns the reason to keep a snapshot, "" when there is none.
func (c *cycle) keep(t time.Time, oldest bool) string {
	period := c.of(t)
	switch {
	case !c.begun || period != c.now:
		c.begun, c.now = true, period
		return c.name
	case oldest:
		return "oldest " + c.name
	}
	return ""
}

// counted is a cycle that ends after so many periods.
type counted struct {
	cycle
	left *int // All never ends
}

func (c *counted) keep(t time.Time, oldest bool) string {
	if *c.left == 0 {
		return ""
	}
	reason := c.cycle.keep(t, oldest)
	if reason != "" && *c.left > 0 {
		*c.left--
	}
	return reason
}

// within is a cycle that ends at an age.
type within struct {
	cycle
	after time.Time
}

func (w *within) keep(t time.Time, oldest bool) string {
	if !t.After(w.after) {
		return ""
	}
	return w.cycle.keep(t, oldest)
}

// rules are a policy at work.
type rules struct {
	policy   Policy
	left     Counters
	since    time.Time // Policy.Within reaches back to it
	counted  []counted
	periodic []within
}

func newRules(p Policy, newest time.Time) *rules {
	r := &rules{policy: p, since: p.Within.before(newest)}
	r.left = Counters{p.Last, p.Hourly, p.Daily, p.Weekly, p.Monthly, p.Yearly}
	number := 0
	every := func(time.Time) int { number++; return number }
	for _, c := range []struct {
		word string
		of   func(time.Time) int
		left *int
		span Duration
	}{
		{"last", every, &r.left.Last, Duration{}},
		{"hourly", hourOf, &r.left.Hourly, p.WithinHourly},
		{"daily", dayOf, &r.left.Daily, p.WithinDaily},
		{"weekly", weekOf, &r.left.Weekly, p.WithinWeekly},
		{"monthly", monthOf, &r.left.Monthly, p.WithinMonthly},
		{"yearly", yearOf, &r.left.Yearly, p.WithinYearly},
	} {
		*c.left = max(*c.left, All)
		r.counted = append(r.counted, counted{cycle{name: c.word + " snapshot", of: c.of}, c.left})
		if !c.span.IsZero() {
			name := fmt.Sprintf("%s within %v", c.word, c.span)
			r.periodic = append(r.periodic, within{cycle{name: name, of: c.of}, c.span.before(newest)})
		}
	}
	return r
}

// matches returns the reasons to keep a snapshot. It is asked of each, from the newest to the oldest.
func (r *rules) matches(sn *snapshot.Snapshot, oldest bool) []string {
	var found []string
	add := func(reason string) {
		if reason != "" {
			found = append(found, reason)
		}
	}
	for _, tags := range r.policy.Tags {
		if (snapshot.Filter{Tags: [][]string{tags}}).Match(sn) {
			add("has tags [" + strings.Join(tags, ", ") + "]")
		}
	}
	if !r.policy.Within.IsZero() && sn.Time.After(r.since) {
		add("within " + r.policy.Within.String())
	}
	for i := range r.counted {
		add(r.counted[i].keep(sn.Time, oldest))
	}
	for i := range r.periodic {
		add(r.periodic[i].keep(sn.Time, oldest))
	}
	return found
}

// Apply divides snapshots, which may come in any order, into those that the policy keeps and the
// others, both newest first. Snapshots after now, the time of this moment, are not the newest for Within
// and its like. A policy without rules keeps nothing.
func Apply(p Policy, list []*snapshot.Snapshot, now time.Time) (keep []Reason, remove []*snapshot.Snapshot) {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *snapshot.Snapshot) int {
		return cmp.Or(b.Time.Compare(a.Time), b.ID.Compare(a.ID))
	})
	var newest time.Time
	for _, sn := range list {
		if sn.Time.Before(now) {
			newest = sn.Time
			break
		}
	}
	r := newRules(p, newest)
	for i, sn := range list {
		if matches := r.matches(sn, i == len(list)-1); len(matches) > 0 {
			keep = append(keep, Reason{sn, matches, r.left})
		} else {
			remove = append(remove, sn)
		}
	}
	return keep, remove
}
