package readahead

import (
	"testing"
	"time"
)

func TestPath(t *testing.T) {
	type sample struct {
		took    time.Duration
		carried int64
	}
	ms := time.Millisecond
	for _, tc := range []struct {
		name    string
		samples []sample
		window  uint64
		request int
		gap     int
	}{
		{"nothing known", nil, minWindow, minRequest, minGap},
		{"nearby", []sample{{300 * time.Microsecond, m}, {400 * time.Microsecond, 2 * m}}, minWindow, 1581053, maxGap},
		{"slow and near", []sample{{10 * ms, 100_000}}, minWindow, minRequest, 100_000},
		{"far: 60 ms, 100 MB/s", []sample{{60 * ms, m}, {70 * ms, 7_000_000}}, 12_000_000, maxRequest, maxGap},
		{"very far", []sample{{time.Second, 200 * m}}, maxWindow, maxRequest, maxGap},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var p Path
			for _, s := range tc.samples {
				p.Sample(s.took, s.carried)
			}
			near := func(what string, got, want float64) {
				if got < want*0.97 || got > want*1.03 {
					t.Errorf("%s of %.0f bytes, want %.0f", what, got, want)
				}
			}
			near("window", float64(p.Window()), float64(tc.window))
			near("request", float64(p.Request()), float64(tc.request))
			near("gap", float64(p.Gap()), float64(tc.gap))
		})
	}
	// A path that becomes slow is noticed.
	var p Path
	p.Sample(ms, 4*m)
	for range 10 * forgetting {
		p.Sample(100*ms, m)
	}
	if got := p.latency; got < 90*ms {
		t.Errorf("latency %v after 640 requests of 100 ms", got)
	}
	if got := p.bytesPerSecond; got > 15*m {
		t.Errorf("rate %.0f after 640 requests at 10 MiB/s", got)
	}
}
