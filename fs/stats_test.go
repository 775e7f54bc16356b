package fs

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo/blob"
)

func TestUnreadCountsWhatPrefetchIsWorth(t *testing.T) {
	id := func(i int) blob.ID { return blob.Hash(fmt.Append(nil, i)) }
	evicted := map[blob.ID]bool{}
	cached := func(id blob.ID) bool { return !evicted[id] }
	var u unread
	for i := range 4 {
		u.add(id(i), 10, cached)
	}
	u.read(id(0))
	u.read(id(0))  // the second time is no news
	u.read(id(99)) // and this was not prefetched
	evicted[id(1)] = true
	if waiting := u.settle(cached); waiting != 20 {
		t.Errorf("%d bytes wait, want 20", waiting)
	}
	u.read(id(1)) // fetched once more, by the reader
	if used, wasted := u.used.bytes.Load(), u.wasted.bytes.Load(); used != 10 || wasted != 10 {
		t.Errorf("%d bytes used and %d wasted, want 10 of each", used, wasted)
	}
	for i := range 2 * maxUnread {
		evicted[id(i)] = true
		u.add(id(i+100), 1, cached)
	}
	if len(u.blobs) > maxUnread {
		t.Errorf("%d blobs are remembered", len(u.blobs))
	}
}

// Where the cache is large and all stays, nobody looks for room again and again.
func TestUnreadSweepsSeldom(t *testing.T) {
	looks := 0
	var u unread
	for i := range 2 * maxUnread {
		u.add(blob.Hash(fmt.Append(nil, i)), 1, func(blob.ID) bool { looks++; return true })
	}
	if most := maxUnread * (maxUnread / sweepEvery); looks > most || len(u.blobs) != maxUnread {
		t.Errorf("looked at %d blobs, at most %d wanted, and %d are remembered", looks, most, len(u.blobs))
	}
}

func TestLatencies(t *testing.T) {
	var l latencies
	for _, took := range []time.Duration{0, 500 * time.Nanosecond, 1500 * time.Nanosecond, 3 * time.Millisecond, time.Hour} {
		l.note(took, took < time.Hour)
	}
	if n := l.errors.Load(); n != 1 {
		t.Errorf("%d errors", n)
	}
	steps := make([]int64, latencySteps)
	for i := range steps {
		steps[i] = l.steps[i].Load()
	}
	want := make([]int64, latencySteps)
	want[0], want[1], want[12], want[latencySteps-1] = 2, 1, 1, 1
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Error(diff)
	}
	longest := time.Duration(l.longest.Load())
	for _, tc := range []struct {
		q    float64
		want time.Duration
	}{{0.4, time.Microsecond}, {0.5, 2 * time.Microsecond}, {0.8, 4096 * time.Microsecond}, {1, min(longest, time.Microsecond<<(latencySteps-1))}} {
		if got := quantile(steps, tc.q, longest); got != tc.want {
			t.Errorf("quantile %v is %v, want %v", tc.q, got, tc.want)
		}
	}
	if got := quantile(make([]int64, latencySteps), 0.5, 0); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}

func TestDamagesAreBounded(t *testing.T) {
	var d damages
	var wg sync.WaitGroup
	described := make(chan int, 10*maxDamages)
	for range 2 { // the second time nothing is new
		for i := range 2 * maxDamages {
			wg.Go(func() {
				d.add(7, uint64(i), func() Damage {
					described <- i
					return Damage{Path: "/f", From: uint64(i)}
				})
			})
		}
	}
	wg.Wait()
	list, total := d.all()
	if len(list) != maxDamages || total != 2*maxDamages || len(described) != maxDamages {
		t.Errorf("%d listed of %d, %d described", len(list), total, len(described))
	}
	seen := map[uint64]bool{}
	for _, one := range list {
		if seen[one.From] || one.Time.IsZero() {
			t.Errorf("odd entry %+v", one)
		}
		seen[one.From] = true
	}
	for i := range 2 * maxDamageKeys {
		d.add(8, uint64(i), func() Damage { return Damage{} })
	}
	if _, total := d.all(); total != maxDamageKeys {
		t.Errorf("%d are told apart", total)
	}
}
