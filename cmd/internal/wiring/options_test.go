package wiring

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"vitrine/repo/backend/slow"
)

func TestParseStoreOptions(t *testing.T) {
	for _, c := range []struct {
		options []string
		want    slow.Limits
		fails   []string
	}{
		{options: nil},
		{options: []string{"slow.latency=50ms"}, want: slow.Limits{Latency: 50 * time.Millisecond}},
		{options: []string{"slow.bandwidth=100M", "slow.latency=1s", "slow.bandwidth=2k"}, want: slow.Limits{Latency: time.Second, BytesPerSecond: 2 << 10}},
		{options: []string{"slow.bandwidth=100000000"}, want: slow.Limits{BytesPerSecond: 100_000_000}},
		{options: []string{"slow.latency"}, fails: []string{"slow.latency", "key=value"}},
		{options: []string{"=1"}, fails: []string{"key=value"}},
		{options: []string{"b2.layout=default"}, fails: []string{"b2.layout=default", "slow.bandwidth, slow.latency", "rest"}},
		{options: []string{"rest.connections=5"}},
		{options: []string{"rest.conections=5"}, fails: []string{"rest.conections", "rest.connections"}},
		{options: []string{"rest.connections=0"}, fails: []string{"rest.connections", "1 to 200"}},
		{options: []string{"slow.latency=-1s"}, fails: []string{"slow.latency", "50ms"}},
		{options: []string{"slow.latency=50"}, fails: []string{"slow.latency", "50ms"}},
		{options: []string{"slow.bandwidth=0"}, fails: []string{"slow.bandwidth", "100M"}},
		{options: []string{"slow.bandwidth=fast"}, fails: []string{"slow.bandwidth", "100M"}},
	} {
		o, err := ParseStoreOptions(c.options)
		if len(c.fails) == 0 && (err != nil || o.Slow != c.want) {
			t.Errorf("%q: %+v, %v; want %+v", c.options, o.Slow, err, c.want)
		}
		for _, word := range c.fails {
			if err == nil || !strings.Contains(err.Error(), word) {
				t.Errorf("%q: error %v, want %q in it", c.options, err, word)
			}
		}
	}
}

// TestSlowStore opens a repository over a slow store, and hears at the end what that took.
func TestSlowStore(t *testing.T) {
	const latency = 20 * time.Millisecond
	dir := newRepository(t, "secret")
	o, err := ParseStoreOptions([]string{"slow.latency=" + latency.String()})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	start := time.Now()
	be, err := OpenBackend(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := OpenRepository(t.Context(), be, Options{Password: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	// It looks whether there is a config, lists and reads the key, and reads the config.
	if d := time.Since(start); d < 4*latency {
		t.Errorf("opening took %v, want at least four round trips of %v", d, latency)
	}
	if !strings.Contains(log.String(), "requests=4") {
		t.Errorf("log %q, want 4 requests in it", log.String())
	}
}
