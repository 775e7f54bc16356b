package lock

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
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

func TestAhead(t *testing.T) {
	now := time.Now()
	at := func(i Info, age time.Duration) Info {
		i.Time = now.Add(-age)
		return i
	}
	other := Info{Hostname: "there", Username: "alice", PID: 1}
	for _, tc := range []struct {
		name          string
		before, after []Info // locks when we came, and those made within our wait
		want          int
	}{
		{"nobody", nil, nil, 0},
		{"one came first", []Info{at(other, time.Minute)}, nil, 1},
		{"one came first, with a clock that is ahead", []Info{at(other, -time.Minute)}, nil, 1},
		{"one with two locks, as while it renews them", []Info{at(other, 5*time.Minute), at(other, 0)}, nil, 1},
		{"two", []Info{at(other, time.Minute), at(Info{Hostname: "there", PID: 2}, time.Minute)}, nil, 2},
		{"old", []Info{at(other, staleAfter+time.Minute)}, nil, 0},
		{"ended", []Info{at(Info{Hostname: "here", Username: "bob", PID: dead}, time.Minute)}, nil, 0},
		{"another process of ours", []Info{at(Info{Hostname: "here", Username: "bob", PID: alive}, time.Minute)}, nil, 1},
		{"came later", nil, []Info{at(other, -time.Second)}, 0},
		{"came at the same moment, with a lock a little older", nil, []Info{at(other, time.Millisecond)}, 1},
	} {
		c := mortal(newStore())
		locks := func(infos []Info) (all []found) {
			for i, info := range infos {
				info.ID[0] = byte(i + 1)
				all = append(all, found{info: info})
			}
			return all
		}
		own := Info{Time: now}
		own.ID[0] = 100
		o := c.tellApart(locks(tc.before), append(locks(append(tc.before, tc.after...)), found{info: own}), &own)
		if o.ahead != tc.want {
			t.Errorf("%s: %d ahead, want %d", tc.name, o.ahead, tc.want)
		}
	}
}

// Of two clients that come within the time in which both see each other, one is ahead.
func TestAheadOfTwo(t *testing.T) {
	for _, apart := range []time.Duration{time.Nanosecond, time.Millisecond, settleTime / 2, settleTime, time.Second} {
		synctest.Test(t, func(t *testing.T) {
			s := newStore()
			var wg sync.WaitGroup
			locks := make([]*Lock, 2)
			for i := range locks {
				wg.Go(func() {
					c := mortal(s)
					c.self.Hostname = fmt.Sprint("host", i)
					time.Sleep(time.Duration(i) * apart)
					_, locks[i] = mustAcquire(t, c)
				})
			}
			wg.Wait()
			if a, b := locks[0].Ahead(), locks[1].Ahead(); a+b != 1 {
				t.Errorf("%v apart: %d and %d are ahead of them", apart, a, b)
			}
		})
	}
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
