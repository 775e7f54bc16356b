package cli

import (
	"testing"
	"time"
)

// A request that hangs is given up while its readers wait, also when other commands wait for ever.
func TestStuckUnderMount(t *testing.T) {
	for _, c := range []struct{ stuck, ioTimeout, want time.Duration }{
		{5 * time.Minute, 5 * time.Minute, 75 * time.Second},
		{time.Second, 5 * time.Minute, time.Second},
		{0, 4 * time.Second, time.Second},
	} {
		if got := stuckUnderMount(c.stuck, c.ioTimeout); got != c.want {
			t.Errorf("--stuck-request-timeout %v --io-timeout %v: %v, want %v", c.stuck, c.ioTimeout, got, c.want)
		}
	}
}
