package lock

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// dead and alive are PIDs for clients of mortal.
const dead, alive = 4711, 4712

// mortal is a client to whom one process has ended.
func mortal(s Files) *client {
	c := testClient(s, false, nil)
	c.self = Info{Hostname: "here", Username: "bob", UID: 7, PID: 1, PIDSpace: "boot/ns"}
	c.started = func(pid int) (time.Time, bool) { return time.Time{}, pid != dead }
	return c
}

func TestRank(t *testing.T) {
	now := time.Now()
	at := func(i Info, age time.Duration) Info {
		i.Time = now.Add(-age)
		return i
	}
	first := Info{Hostname: "before", Username: "alice", PID: 1, PIDSpace: "boot/ns", Backup: true}
	last := first
	last.Hostname = "there"
	change := func(i Info, fn func(*Info)) Info {
		fn(&i)
		return i
	}
	for _, tc := range []struct {
		name  string
		locks []Info
		want  int
	}{
		{"nobody", nil, 0},
		{"one", []Info{at(first, time.Minute)}, 1},
		{"one, with a clock that is ahead", []Info{at(first, -time.Minute)}, 1},
		{"one with two locks, as while it renews them", []Info{at(first, 5*time.Minute), at(first, 0)}, 1},
		{"two", []Info{at(first, time.Minute), at(change(first, func(i *Info) { i.PID = 2 }), time.Minute)}, 2},
		{"one that comes after us", []Info{at(last, time.Minute)}, 0},
		{"another process of ours that comes after us", []Info{at(Info{Hostname: "here", Username: "bob", PID: alive, PIDSpace: "boot/ns", Backup: true}, time.Minute)}, 0},
		{"another process in a container before ours", []Info{at(Info{Hostname: "here", Username: "bob", PID: alive, PIDSpace: "a", Backup: true}, time.Minute)}, 1},
		{"old", []Info{at(first, staleAfter+time.Minute)}, 0},
		{"ended", []Info{at(Info{Hostname: "here", Username: "bob", PID: dead, Backup: true}, time.Minute)}, 0},
		{"a mount", []Info{at(change(first, func(i *Info) { i.Backup = false }), time.Minute)}, 0},
		{"two of restic, and one", []Info{at(Info{Hostname: "there"}, 0), at(Info{Hostname: "a", PID: 2}, 0), at(first, 0)}, 2},
	} {
		c := mortal(newStore())
		own := c.self
		own.Time, own.Backup = now, true
		locks := []found{{info: own}, {info: Info{}}} // as it is when it is read, and when it is not
		for _, info := range tc.locks {
			locks = append(locks, found{info: info})
		}
		if o := c.tellApart(locks); o.rank != tc.want {
			t.Errorf("%s: rank %d, want %d", tc.name, o.rank, tc.want)
		}
	}
}

// Two clients that see each other have different ranks, and those that did not at first have them when they look again.
func TestRankOfTwo(t *testing.T) {
	for _, apart := range []time.Duration{0, time.Nanosecond, time.Millisecond, settleTime / 2, settleTime, time.Second, time.Minute} {
		for _, slow := range []time.Duration{0, settleTime / 2, settleTime, 10 * settleTime} {
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				var wg sync.WaitGroup
				locks := make([]*Lock, 2)
				for i := range locks {
					wg.Go(func() {
						c := mortal(s)
						c.self.Hostname, c.self.Backup = fmt.Sprint("host", i), true
						if i == 0 {
							c.files = slowSave{s, slow}
						}
						time.Sleep(time.Duration(i) * apart)
						_, locks[i] = mustAcquire(t, c)
					})
				}
				wg.Wait()
				now := func(l *Lock) int {
					rank, err := l.RankNow(t.Context())
					if err != nil {
						t.Error(err)
					}
					return rank
				}
				if a, b := now(locks[0]), now(locks[1]); a != 0 || b != 1 {
					t.Errorf("%v apart, slow by %v: ranks %d and %d", apart, slow, a, b)
				}
				if a, b := locks[0].Rank(), locks[1].Rank(); slow < settleTime && (a != 0 || b != 1) {
					t.Errorf("%v apart, slow by %v: ranks %d and %d at first", apart, slow, a, b)
				}
			})
		}
	}
}

// slowSave takes its time for saving.
type slowSave struct {
	Files
	time time.Duration
}

func (s slowSave) SaveFile(ctx context.Context, kind backend.Kind, plain []byte) (blob.ID, error) {
	time.Sleep(s.time)
	return s.Files.SaveFile(ctx, kind, plain)
}

// Who asks for its rank reads the locks of others, and its own only when that is not the first one any more.
func TestRankNowReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		c := mortal(s)
		c.self.Backup = true
		_, l := mustAcquire(t, c)
		first := Info{Hostname: "before", Username: "alice", PID: 1, PIDSpace: "boot/ns", Backup: true}
		var reads atomic.Int64
		s.spoil(func(op string, _ blob.ID) error {
			if op == "read" {
				reads.Add(1)
			}
			return nil
		}, nil)
		want := func(wantRank int, wantReads int64) {
			t.Helper()
			reads.Store(0)
			if rank, err := l.RankNow(t.Context()); err != nil || rank != wantRank || reads.Load() != wantReads {
				t.Errorf("rank %d with %d reads, %v; want %d with %d", rank, reads.Load(), err, wantRank, wantReads)
			}
		}
		want(0, 0)
		time.Sleep(refreshEvery + time.Minute)
		want(0, 1)
		first.Time = time.Now()
		s.put(t, first)
		want(1, 2)
	})
}

func TestDead(t *testing.T) {
	ours := Info{Hostname: "here", Username: "bob", UID: 7, PID: dead}
	change := func(fn func(*Info)) Info {
		i := ours
		fn(&i)
		return i
	}
	space := func(p string) func(*Info) { return func(i *Info) { i.PIDSpace = p } }
	for _, tc := range []struct {
		name string
		lock Info
		age  time.Duration
		dead bool
		gone bool // after RemoveDead
	}{
		{"of this kernel", change(space("boot/ns")), time.Second, true, true},
		{"of restic, perhaps on a machine of our name", ours, time.Minute, true, false},
		{"of restic, and old", ours, staleAfter + time.Second, true, true},
		{"of another boot or machine", change(space("other/ns")), time.Minute, true, false},
		{"of another boot, and old", change(space("other/ns")), staleAfter + time.Second, true, true},
		{"alive", change(func(i *Info) { i.PID, i.PIDSpace = alive, "boot/ns" }), time.Minute, false, false},
		{"of another host", change(func(i *Info) { i.Hostname = "there" }), time.Minute, false, false},
		{"of another user", change(func(i *Info) { i.UID, i.Username = 8, "eve" }), time.Minute, false, false},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			tc.lock.Time = time.Now().Add(-tc.age)
			s.put(t, tc.lock)
			tc.lock.Time = tc.lock.Time.Add(-time.Millisecond)
			s.put(t, tc.lock) // killed while it renewed its lock
			_, l := mustAcquire(t, mortal(s))
			if l.Dead() != tc.dead {
				t.Errorf("%s: Dead is %v", tc.name, l.Dead())
			}
			if err := l.RemoveDead(t.Context()); err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			want := 3
			if tc.gone {
				want = 1
			}
			s.wantFiles(t, want)
			if err := l.RemoveDead(t.Context()); err != nil {
				t.Errorf("%s, removed already: %v", tc.name, err)
			}
		})
	}
}

func TestPIDSpace(t *testing.T) {
	if a, b := identity().PIDSpace, pidSpace(); len(a) < 36 || a != b {
		t.Errorf("%q, then %q", a, b)
	}
}
