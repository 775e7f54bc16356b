package retention

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// IsZero reports whether the policy has no rules.
func (p Policy) IsZero() bool {
	counts := [...]int{p.Last, p.Hourly, p.Daily, p.Weekly, p.Monthly, p.Yearly}
	spans := [...]Duration{p.Within, p.WithinHourly, p.WithinDaily, p.WithinWeekly, p.WithinMonthly, p.WithinYearly}
	return counts == [len(counts)]int{} && spans == [len(spans)]Duration{} && len(p.Tags) == 0
}

// String tells the policy to people, in restic's words.
func (p Policy) String() string {
	var counts, parts []string
	for _, c := range []struct {
		n    int
		word string
	}{{p.Last, "latest"}, {p.Hourly, "hourly"}, {p.Daily, "daily"}, {p.Weekly, "weekly"}, {p.Monthly, "monthly"}, {p.Yearly, "yearly"}} {
		switch {
		case c.n > 0:
			counts = append(counts, fmt.Sprintf("%d %s", c.n, c.word))
		case c.n < 0:
			counts = append(counts, "all "+c.word)
		}
	}
	if len(counts) > 0 {
		parts = append(parts, strings.Join(counts, ", ")+" snapshots")
	}
	for _, w := range []struct {
		word string
		span Duration
	}{{"hourly", p.WithinHourly}, {"daily", p.WithinDaily}, {"weekly", p.WithinWeekly}, {"monthly", p.WithinMonthly}, {"yearly", p.WithinYearly}} {
		if !w.span.IsZero() {
			parts = append(parts, fmt.Sprintf("%s snapshots within %v", w.word, w.span))
		}
	}
	var clauses []string
	if len(parts) > 0 {
		clauses = append(clauses, strings.Join(parts, ", "))
	}
	if len(p.Tags) > 0 {
		lists := make([]string, len(p.Tags))
		for i, tags := range p.Tags {
			lists[i] = "[" + strings.Join(tags, ", ") + "]"
		}
		clauses = append(clauses, "all snapshots with tags ["+strings.Join(lists, " ")+"]")
	}
	if !p.Within.IsZero() {
		clauses = append(clauses, fmt.Sprintf("all snapshots within %v of the newest", p.Within))
	}
	if len(clauses) == 0 {
		return "remove"
	}
	return "keep " + strings.Join(clauses, " and ")
}

// Duration is a span of the calendar: a month back from 31 May is 1 May, because April has no 31st
// day and time.AddDate counts on. None of the numbers is negative.
type Duration struct{ Years, Months, Days, Hours int }

// maxNumber bounds the numbers of a Duration: 114 years in hours, which time.Duration can hold.
const maxNumber = 999_999

// durationUnits are in the order in which String writes them.
var durationUnits = []struct {
	letter string
	field  func(*Duration) *int
}{
	{"y", func(d *Duration) *int { return &d.Years }},
	{"m", func(d *Duration) *int { return &d.Months }},
	{"d", func(d *Duration) *int { return &d.Days }},
	{"h", func(d *Duration) *int { return &d.Hours }},
}

// ParseDuration reads a span such as 2y5m7d3h: numbers from 0 to 999999, each with its unit, in
// any order; of two numbers with the same unit the last one counts. The empty string is zero.
func ParseDuration(s string) (Duration, error) {
	var d Duration
	for rest := s; rest != ""; {
		digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
		if digits == 0 {
			return Duration{}, fmt.Errorf("duration %q: want a number before %q", s, rest)
		}
		n, err := strconv.Atoi(rest[:digits])
		if err != nil || n > maxNumber {
			return Duration{}, fmt.Errorf("duration %q: %s is more than %d", s, rest[:digits], maxNumber)
		}
		rest = rest[digits:]
		field := d.unit(rest)
		if field == nil {
			return Duration{}, fmt.Errorf("duration %q: want y, m, d or h after %d", s, n)
		}
		*field = n
		rest = rest[1:]
	}
	return d, nil
}

// unit returns the field whose letter the text begins with, or nil.
func (d *Duration) unit(text string) *int {
	for _, u := range durationUnits {
		if strings.HasPrefix(text, u.letter) {
			return u.field(d)
		}
	}
	return nil
}

// IsZero reports whether the span is nothing.
func (d Duration) IsZero() bool { return d == Duration{} }

// String writes the span as ParseDuration reads it, without units that are zero.
func (d Duration) String() string {
	var b strings.Builder
	for _, u := range durationUnits {
		if n := *u.field(&d); n != 0 {
			fmt.Fprintf(&b, "%d%s", n, u.letter)
		}
	}
	return b.String()
}

// before returns the time so long before t.
func (d Duration) before(t time.Time) time.Time {
	return t.AddDate(-d.Years, -d.Months, -d.Days).Add(-time.Duration(d.Hours) * time.Hour)
}

// ParseCount reads a count of a policy: a number from 0, or "unlimited" for All.
func ParseCount(s string) (int, error) {
	if s == "unlimited" {
		return All, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, errors.New("want a whole number, or unlimited")
	}
	if n < 0 {
		return 0, errors.New("a negative number is not allowed; write unlimited to keep all")
	}
	return n, nil
}
