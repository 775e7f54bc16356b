package lock

import (
	"context"
	"fmt"
	"slices"
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

func TestBackwards(t *testing.T) {
	now := time.Now()
	at := func(i Info, age time.Duration) Info {
		i.Time = now.Add(-age)
		return i
	}
	change := func(i Info, fn func(*Info)) Info {
		fn(&i)
		return i
	}
	backwards := func(i *Info) { i.Backwards = true }
	first := Info{Hostname: "before", Username: "alice", PID: 1, PIDSpace: "boot/ns", Backup: true}
	second := change(first, func(i *Info) { i.PID = 2 })
	last := change(first, func(i *Info) { i.Hostname = "there" })
	ours := Info{Hostname: "here", Username: "bob", PID: alive, PIDSpace: "boot/ns", Backup: true}
	for _, tc := range []struct {
		name  string
		locks []Info
		// What we choose when we come, what follows for who said that, and for who said nothing of others.
		choice, chosen, blind bool
	}{
		{"nobody", nil, false, false, false},
		{"one", []Info{at(first, time.Minute)}, true, true, true},
		{"one that goes backwards", []Info{at(change(first, backwards), time.Minute)}, false, false, false},
		{"one, with a clock that is ahead", []Info{at(first, -time.Minute)}, true, true, true},
		{"one with two locks, as while it renews them", []Info{at(first, 5*time.Minute), at(first, 0)}, true, true, true},
		{"two", []Info{at(first, time.Minute), at(second, time.Minute)}, true, true, false},
		{"two that differ", []Info{at(first, time.Minute), at(change(second, backwards), time.Minute)}, false, false, false},
		{"one after us by order", []Info{at(last, time.Minute)}, true, true, false},
		{"another process of ours", []Info{at(ours, time.Minute)}, true, true, false},
		{"another process in a container", []Info{at(change(ours, func(i *Info) { i.PIDSpace = "a" }), time.Minute)}, true, true, true},
		{"old", []Info{at(first, staleAfter+time.Minute)}, false, false, false},
		{"ended", []Info{at(change(ours, func(i *Info) { i.PID = dead }), time.Minute)}, false, false, false},
		{"ended here, perhaps at work in a container", []Info{at(change(ours, func(i *Info) { i.PID, i.PIDSpace = dead, "a" }), time.Minute)}, true, true, true},
		{"ended, of restic", []Info{at(Info{Hostname: "here", PID: dead}, time.Minute)}, false, false, false},
		{"a mount", []Info{at(change(first, func(i *Info) { i.Backup = false }), time.Minute)}, false, false, false},
		{"two of restic", []Info{at(Info{Hostname: "there"}, 0), at(Info{Hostname: "a", PID: 2}, 0)}, true, true, true},
		{"two of restic, and one", []Info{at(Info{Hostname: "there"}, 0), at(Info{Hostname: "a", PID: 2}, 0), at(first, 0)}, true, true, false},
	} {
		c := mortal(newStore())
		c.self.Backup = true
		own := c.self
		own.Time = now
		locks := []found{{info: own}, {info: Info{}}} // as it is when it is read, and when it is not
		for _, info := range tc.locks {
			locks = append(locks, found{info: info})
		}
		o, meanwhile := c.tellApart(locks), c.tellApart(locks)
		if c.turn(&o); o.forwards != tc.choice || o.backwards != tc.blind || c.turned.Load() != tc.blind {
			t.Errorf("%s: chooses %v, and goes %v when it has chosen before it knew; want %v, %v", tc.name, o.forwards, o.backwards, tc.choice, tc.blind)
		}
		if c.turn(&meanwhile); meanwhile.backwards != o.backwards {
			t.Errorf("%s: backwards %v, and %v for another question at the same time", tc.name, o.backwards, meanwhile.backwards)
		}
		c.backwards.Store(tc.choice)
		o = c.tellApart(locks)
		if c.turn(&o); o.backwards != tc.chosen {
			t.Errorf("%s: goes %v when it has chosen, want %v", tc.name, o.backwards, tc.chosen)
		}
	}
}

// Two clients that see each other go in different directions, whoever comes first and however slow its store is; those that
// did not see each other do when they look again; and who was there long before goes on as it did.
func TestOppositeDirections(t *testing.T) {
	for _, apart := range []time.Duration{0, time.Nanosecond, time.Millisecond, settleTime / 2, settleTime, time.Second, time.Minute} {
		for _, slow := range []time.Duration{0, settleTime / 2, settleTime, 10 * settleTime} {
			for kind := range 4 {
				synctest.Test(t, func(t *testing.T) {
					later, early := kind%2, kind/2 == 1
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
							if i == later {
								time.Sleep(apart)
							}
							c.sharing = true
							if !early {
								_, locks[i] = mustAcquire(t, c)
								return
							}
							var err error
							if _, locks[i], err = c.acquireEarly(t.Context()); err != nil {
								t.Error(err)
								return
							}
							t.Cleanup(func() { locks[i].Release() })
						})
					}
					wg.Wait()
					for _, l := range locks {
						if err := l.Settled(t.Context()); err != nil {
							t.Error(err)
						}
					}
					now := func(l *Lock) bool {
						backwards, err := l.BackwardsNow(t.Context())
						if err != nil {
							t.Error(err)
						}
						return backwards
					}
					if a, b := now(locks[0]), now(locks[1]); a == b {
						t.Errorf("host%d %v later, slow by %v: both backwards: %v", later, apart, slow, a)
					}
					if a, b := locks[0].Backwards(), locks[1].Backwards(); !early && slow < settleTime && a == b { // one that is early has perhaps not looked again
						t.Errorf("host%d %v later, slow by %v: both backwards: %v at first", later, apart, slow, a)
					}
					if apart == time.Minute && now(locks[1-later]) {
						t.Errorf("host%d %v later, slow by %v: the other one has turned", later, apart, slow)
					}
				})
			}
		}
	}
}

// Two that came at one moment stay apart when a third comes and goes. Each says where it goes, so that the third finds the end
// that fewer have.
func TestDirectionsOfThree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		var locks [4]*Lock
		take := func(i int) {
			c := mortal(s)
			c.self.Hostname, c.self.Backup = fmt.Sprint("host", i), true
			c.files = slowSave{s, time.Millisecond} // or one would see the other at once
			_, locks[i] = mustAcquire(t, c)
		}
		want := func(when string, want ...bool) {
			t.Helper()
			var got []bool
			for _, l := range locks[:len(want)] {
				backwards, err := l.BackwardsNow(t.Context())
				if err != nil {
					t.Error(err)
				}
				got = append(got, backwards)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: backwards %v, want %v", when, got, want)
			}
		}
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() { take(i) })
		}
		wg.Wait()
		want("at once", false, true)
		time.Sleep(time.Minute)
		take(2)
		want("a third came", false, true, false)
		time.Sleep(10 * time.Minute)
		want("all have renewed their locks", false, true, false)
		take(3)
		want("a fourth came", false, true, false, true)
		for _, i := range []int{1, 3} {
			if err := locks[i].Release(); err != nil {
				t.Error(err)
			}
		}
		if a, err := locks[0].BackwardsNow(t.Context()); err != nil || a {
			t.Errorf("first of two that are left: %v, %v", a, err)
		}
		if b, err := locks[2].BackwardsNow(t.Context()); err != nil || !b {
			t.Errorf("second of two that are left: %v, %v", b, err)
		}
	})
}

// Who is to share the work waits on a slow store for those that come at the same moment, early or not.
func TestSharingWaits(t *testing.T) {
	for _, early := range []bool{false, true} {
		for _, tc := range []struct {
			sharing    bool
			save, want time.Duration
		}{
			{false, settleTime, 2 * settleTime},
			{true, settleTime, 4 * settleTime},
			{true, 10 * time.Second, 10*time.Second + settleMost},
		} {
			synctest.Test(t, func(t *testing.T) {
				c := mortal(slowSave{newStore(), tc.save})
				c.sharing = tc.sharing
				acquire := c.acquireEarly
				if !early {
					acquire = func(ctx context.Context) (context.Context, *Lock, error) { return c.acquire(ctx, 0) }
				}
				began := time.Now()
				_, l, err := acquire(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); took != tc.want {
					t.Errorf("early %v, sharing %v, a store that takes %v: %v, want %v", early, tc.sharing, tc.save, took, tc.want)
				}
				l.Release()
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

// Who asks for its direction reads the locks of others, and its own only when that is not the first one any more.
func TestBackwardsNowReads(t *testing.T) {
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
		want := func(want bool, wantReads int64) {
			t.Helper()
			reads.Store(0)
			if backwards, err := l.BackwardsNow(t.Context()); err != nil || backwards != want || reads.Load() != wantReads {
				t.Errorf("backwards: %v with %d reads, %v; want %v with %d", backwards, reads.Load(), err, want, wantReads)
			}
		}
		want(false, 0)
		time.Sleep(refreshEvery + time.Minute)
		want(false, 1)
		first.Time = time.Now()
		s.put(t, first)
		want(true, 2)
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

func TestAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		c := mortal(s)
		_, l := mustAcquire(t, c)
		want := func(want bool) {
			t.Helper()
			if alone, err := l.Alone(t.Context()); err != nil || alone != want {
				t.Errorf("alone: %v, %v; want %v", alone, err, want)
			}
		}
		want(true)
		time.Sleep(refreshEvery + time.Minute)
		want(true)
		other := s.put(t, Info{Hostname: "here", Username: "bob", PID: dead, PIDSpace: "a", Time: time.Now()})
		want(false) // it may be at work in a container
		if err := s.RemoveFile(t.Context(), backend.Lock, other); err != nil {
			t.Fatal(err)
		}
		want(true)
	})
}

func TestPIDSpace(t *testing.T) {
	if a, b := identity().PIDSpace, pidSpace(); len(a) < 36 || a != b {
		t.Errorf("%q, then %q", a, b)
	}
}
