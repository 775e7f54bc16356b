package progress

import (
	"fmt"
	"time"
)

// Bytes writes a size for people, in binary units with three decimals: "2.861 MiB".
func Bytes(n uint64) string {
	units := []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), ""
	for _, unit = range units {
		v /= 1024
		if v < 1024 {
			break
		}
	}
	return fmt.Sprintf("%.3f %s", v, unit)
}

// Rate writes bytes per second for people: "312.4 MiB/s".
func Rate(n uint64, elapsed time.Duration) string {
	if elapsed <= 0 {
		return "0 B/s"
	}
	v := float64(n) / elapsed.Seconds()
	for _, unit := range []string{"B/s", "KiB/s", "MiB/s"} {
		if v < 1024 {
			return fmt.Sprintf("%.1f %s", v, unit)
		}
		v /= 1024
	}
	return fmt.Sprintf("%.1f GiB/s", v)
}

// Clock writes a duration as "m:ss", or "h:mm:ss" from one hour on.
func Clock(d time.Duration) string {
	s := max(0, int64(d/time.Second))
	if s < 3600 {
		return fmt.Sprintf("%d:%02d", s/60, s%60)
	}
	return fmt.Sprintf("%d:%02d:%02d", s/3600, s/60%60, s%60)
}

// Percent writes the share of done in total with two decimals; it never exceeds 100.00%.
func Percent(done, total uint64) string {
	return fmt.Sprintf("%.2f%%", 100*Share(done, total))
}

// Share returns done/total between 0 and 1, and 0 while the total is not known.
func Share(done, total uint64) float64 {
	if total == 0 {
		return 0
	}
	return min(1, float64(done)/float64(total))
}

// leastElapsed is how long a rate is watched before anything is concluded from it.
const leastElapsed = 4 * time.Second

// Remaining estimates the time left from the mean rate so far; 0 while nothing can be said.
func Remaining(done, total uint64, elapsed time.Duration) time.Duration {
	if done == 0 || done >= total || elapsed < leastElapsed {
		return 0
	}
	return time.Duration(float64(elapsed) * float64(total-done) / float64(done))
}

// Count writes a number of things: "1 lock", "2 locks".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
