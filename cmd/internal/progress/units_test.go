package progress

import (
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for n, want := range map[uint64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.000 KiB", 3000006: "2.861 MiB", 1 << 30: "1.000 GiB",
		5 << 40: "5.000 TiB", 1<<64 - 1: "16.000 EiB",
	} {
		if got := Bytes(n); got != want {
			t.Errorf("Bytes(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestRate(t *testing.T) {
	for _, c := range []struct {
		n    uint64
		d    time.Duration
		want string
	}{
		{0, 0, "0 B/s"}, {100, time.Second, "100.0 B/s"}, {3 << 20, 2 * time.Second, "1.5 MiB/s"}, {4 << 40, time.Second, "4096.0 GiB/s"},
	} {
		if got := Rate(c.n, c.d); got != c.want {
			t.Errorf("Rate(%d, %v) = %q, want %q", c.n, c.d, got, c.want)
		}
	}
}

func TestClock(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0:00", 999 * time.Millisecond: "0:00", 61 * time.Second: "1:01",
		time.Hour: "1:00:00", 25*time.Hour + 2*time.Minute + 3*time.Second: "25:02:03",
	} {
		if got := Clock(d); got != want {
			t.Errorf("Clock(%v) = %q, want %q", d, got, want)
		}
	}
}

func TestShareAndRemaining(t *testing.T) {
	if got := Percent(1, 3); got != "33.33%" {
		t.Errorf("Percent(1,3) = %s", got)
	}
	if got := Percent(9, 3); got != "100.00%" {
		t.Errorf("Percent(9,3) = %s", got)
	}
	if got := Percent(9, 0); got != "0.00%" {
		t.Errorf("Percent(9,0) = %s", got)
	}
	if got := Remaining(1, 4, time.Minute); got != 3*time.Minute {
		t.Errorf("Remaining(1,4,1m) = %v", got)
	}
	if got := Remaining(1, 4, time.Second); got != 0 {
		t.Errorf("Remaining(1,4,1s) = %v", got)
	}
	for _, c := range [][2]uint64{{0, 4}, {4, 4}, {5, 4}} {
		if got := Remaining(c[0], c[1], time.Minute); got != 0 {
			t.Errorf("Remaining(%v) = %v, want 0", c, got)
		}
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 locks", 1: "1 lock", 21: "21 locks"} {
		if got := Count(n, "lock"); got != want {
			t.Errorf("Count(%d) = %q, want %q", n, got, want)
		}
	}
}
