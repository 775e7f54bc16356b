package archive

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"vitrine/repo/source"
)

// filled returns a job of so many entries; they tell it from others.
func filled(entries int) job {
	return job{batch: &batch{group: group{entries: make([]source.Entry, entries)}}}
}

// The walk stops at either bound and goes on at half of it; jobs come out in the order in which they went in.
func TestQueueSleepsUntilHalf(t *testing.T) {
	for _, tc := range []struct {
		name      string
		entries   int // of each job
		most      int // that wait
		goesOnAt  int
		pushedAll int
	}{
		{"small jobs", 1, queuedJobs, queuedJobs / 2, 300},
		{"full groups", groupEntries, 2 * queuedGroups, queuedGroups, 20},
		{"directories alone", 0, queuedJobs, queuedJobs / 2, 300},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQueue(2, groupEntries)
				jobs := make([]job, tc.pushedAll)
				pushed := 0
				go func() {
					for i := range jobs {
						if jobs[i] = filled(tc.entries); tc.entries == 0 {
							jobs[i] = job{dir: &dir{}}
						}
						q.push(jobs[i])
						pushed++
					}
					q.close()
				}()
				for popped := range jobs {
					synctest.Wait()
					// It is full at first, and then each time that half of it was taken.
					step := tc.most - tc.goesOnAt
					if want := min(tc.most+popped/step*step, tc.pushedAll); pushed != want {
						t.Fatalf("after %d were taken the walk has pushed %d, want %d", popped, pushed, want)
					}
					if j, ok := q.pop(); !ok || j != jobs[popped] {
						t.Fatalf("job %d is another one", popped)
					}
				}
				if _, ok := q.pop(); ok {
					t.Error("a job after the last one")
				}
			})
		})
	}
}

// Each job finds a worker that waits, while there is one, and all are told of the end.
func TestQueueWakesWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const workers = 5
		q := newQueue(workers, groupEntries)
		var working, ended atomic.Int32
		leave := make(chan struct{})
		for range workers {
			go func() {
				for _, ok := q.pop(); ok; _, ok = q.pop() {
					working.Add(1)
					<-leave
				}
				ended.Add(1)
			}()
		}
		for i := range workers + 1 {
			synctest.Wait()
			if n := int(working.Load()); n != i {
				t.Fatalf("%d of %d jobs are in work", n, i)
			}
			if i < workers {
				q.push(filled(1))
			}
		}
		close(leave)
		synctest.Wait()
		if ended.Load() > 0 {
			t.Error("a worker leaves before the end")
		}
		q.close()
		synctest.Wait()
		if n := ended.Load(); n != workers {
			t.Errorf("%d of %d workers are told of the end", n, workers)
		}
	})
}

// What waits comes in the opposite order after a turn, also around the end of the ring, and what is pushed then comes after it.
func TestQueueTurns(t *testing.T) {
	for _, taken := range []int{0, 1, queuedJobs - 2} {
		q := newQueue(2, groupEntries)
		for range taken {
			q.push(filled(0))
			q.pop()
		}
		jobs := []job{filled(1), filled(2), filled(3), filled(4), filled(5)}
		for _, j := range jobs[:4] {
			q.push(j)
		}
		q.turn()
		q.push(jobs[4])
		for i, want := range []int{3, 2, 1, 0, 4} {
			if j, ok := q.pop(); !ok || j != jobs[want] {
				t.Errorf("%d taken before: job %d is not that of %d entries", taken, i, want+1)
			}
		}
	}
}
