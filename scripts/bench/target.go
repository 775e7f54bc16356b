package main

import "fmt"

// target is what a figure of vitrine's must reach: a limit, alone or times the figure of a peer.
type target struct {
	limit   float64
	of      string  // "plain" or "restic", or "" when the limit stands alone
	atLeast bool    // else at most
	faster  float64 // how it is said, when it is about speed and the figure is a time; 0 otherwise
	memory  bool    // about the peak resident memory in MiB, not the row's own figure
}

func atMost(limit float64) target        { return target{limit: limit} }
func atLeast(limit float64) target       { return target{limit: limit, atLeast: true} }
func atMostPlain(times float64) target   { return target{limit: times, of: "plain"} }
func atLeastPlain(times float64) target  { return target{limit: times, of: "plain", atLeast: true} }
func atMostRestic(times float64) target  { return target{limit: times, of: "restic"} }
func atLeastRestic(times float64) target { return target{limit: times, of: "restic", atLeast: true} }

// fasterThanRestic is for times.
func fasterThanRestic(times float64) target {
	return target{limit: 1 / times, of: "restic", faster: times}
}

// residentAtMost is for rows that are about something else.
func residentAtMost(mib float64) target { return target{limit: mib, memory: true} }

// String is how the table says it.
func (t target) String() string {
	if t.faster > 0 {
		return fmt.Sprintf("≥ %s × as fast as %s", number(t.faster), t.of)
	}
	sign := "≤"
	if t.atLeast {
		sign = "≥"
	}
	if t.memory {
		return fmt.Sprintf("%s %s MiB", sign, number(t.limit))
	}
	if t.of == "" {
		return fmt.Sprintf("%s %s", sign, number(t.limit))
	}
	return fmt.Sprintf("%s %s × %s", sign, number(t.limit), t.of)
}

// verdict is what the measurement says about a target.
type verdict string

const (
	met     verdict = "yes"
	missed  verdict = "**no**"
	unknown verdict = "–" // something to compare with was not measured
)

// judge compares the medians, or the largest memory of all runs.
func (t target) judge(f figures) verdict {
	medians := f.medians
	if t.memory {
		medians = f.peaksMiB
	}
	ours, ok := medians["vitrine"]
	limit := t.limit
	if t.of != "" {
		peer, measured := medians[t.of]
		limit *= peer
		ok = ok && measured
	}
	switch {
	case !ok:
		return unknown
	case t.atLeast && ours >= limit, !t.atLeast && ours <= limit:
		return met
	}
	return missed
}
