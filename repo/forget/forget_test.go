package forget_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/repo"
	"vitrine/repo/backend/fault"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/forget"
	"vitrine/repo/repotest"
	"vitrine/repo/retention"
	"vitrine/repo/snapshot"
)

var now = time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)

// fill stores one snapshot a day of two hosts, of one of which only the newest has a tag.
func fill(t *testing.T, r *repo.Repository, days int) []*snapshot.Snapshot {
	t.Helper()
	tree := blob.Hash([]byte("tree"))
	for day := range days {
		for _, host := range []string{"a", "b"} {
			sn := &snapshot.Snapshot{Time: now.AddDate(0, 0, -day), Tree: &tree, Hostname: host, Paths: []string{"/p"}}
			if host == "a" && day == 0 {
				sn.Tags = []string{"keep"}
			}
			if _, err := r.SaveSnapshot(t.Context(), sn); err != nil {
				t.Fatal(err)
			}
		}
	}
	all, err := r.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func names(list []*snapshot.Snapshot) []string {
	var out []string
	for _, sn := range list {
		out = append(out, fmt.Sprint(sn.Hostname, sn.Time.Format("0102")))
	}
	return out
}

func TestByPolicy(t *testing.T) {
	r, _ := repotest.New(t, 2)
	all := fill(t, r, 3)
	byHost := snapshot.GroupBy{Host: true}
	for _, c := range []struct {
		name   string
		o      forget.Options
		keep   []string // by groups
		groups int
		want   error
	}{
		{name: "no policy", o: forget.Options{GroupBy: byHost}, want: forget.ErrNoPolicy},
		{name: "all of them", o: forget.Options{GroupBy: byHost, RemoveAll: true}, groups: 2},
		{name: "each group", o: forget.Options{GroupBy: byHost, Policy: retention.Policy{Last: 1}}, keep: []string{"a0601", "b0601"}, groups: 2},
		{name: "one group", o: forget.Options{Policy: retention.Policy{Last: 3}}, keep: []string{"a0601", "b0601", "?0531"}, groups: 1},
		{name: "nothing left of b", o: forget.Options{GroupBy: byHost, Policy: retention.Policy{Tags: [][]string{{"keep"}}}}, want: forget.ErrLast},
		{name: "nor with RemoveAll", o: forget.Options{GroupBy: byHost, RemoveAll: true, Policy: retention.Policy{Tags: [][]string{{"x"}}}}, want: forget.ErrLast},
		{name: "the tag is in the group", o: forget.Options{Policy: retention.Policy{Tags: [][]string{{"keep"}}}}, keep: []string{"a0601"}, groups: 1},
	} {
		c.o.Now = now.Add(time.Hour)
		p, err := forget.ByPolicy(all, c.o)
		if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if err != nil {
			if len(p.Remove) > 0 {
				t.Errorf("%s: a plan beside the error", c.name)
			}
			continue
		}
		var keep []string
		kept := make(map[blob.ID]bool)
		for _, g := range p.Groups {
			for _, reason := range g.Keep {
				keep = append(keep, names([]*snapshot.Snapshot{reason.Snapshot})...)
				kept[reason.Snapshot.ID] = true
			}
		}
		// Of two snapshots of one instant the IDs decide, which are random.
		for i := range keep {
			if i < len(c.keep) && strings.HasPrefix(c.keep[i], "?") {
				keep[i] = "?" + keep[i][1:]
			}
		}
		slices.Sort(keep)
		slices.Sort(c.keep)
		if diff := cmp.Diff(c.keep, keep); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
		if len(p.Groups) != c.groups || len(p.Remove)+len(kept) != len(all) {
			t.Errorf("%s: %d groups, %d removed, %d kept of %d", c.name, len(p.Groups), len(p.Remove), len(kept), len(all))
		}
		for _, id := range p.Remove {
			if kept[id] {
				t.Errorf("%s: %v is kept and removed", c.name, id)
			}
		}
	}
}

func TestExecute(t *testing.T) {
	r, be := repotest.New(t, 2)
	all := fill(t, r, 2)
	plan := forget.ByName(all[:3])
	if _, err := forget.Execute(t.Context(), r, forget.ByName(all[:1]), func(blob.ID, error) {}); err != nil {
		t.Fatal(err)
	}
	var told []blob.ID
	failed, err := forget.Execute(t.Context(), r, plan, func(id blob.ID, err error) { // one is gone already
		told = append(told, id)
		if err != nil {
			t.Errorf("%v: %v", id, err)
		}
	})
	if failed != 0 || err != nil || len(told) != 3 {
		t.Errorf("%d failed, %v, told %v", failed, err, told)
	}
	left, err := repotest.Open(t, be).Snapshots(t.Context())
	if err != nil || len(left) != 1 || left[0].ID != all[3].ID {
		t.Errorf("left are %v (%v), want %v", names(left), err, names(all[3:]))
	}
}

// Whatever call fails, no snapshot that is kept is lost, what failed is told, and a second run
// completes the work.
func TestExecuteThatFails(t *testing.T) {
	for _, mode := range []fault.Mode{fault.Before, fault.After} {
		for n := 0; ; n++ {
			store := mem.New()
			repotest.Init(t, store, 2)
			all := fill(t, repotest.Open(t, store), 3)
			be := fault.New(store, nil)
			r := repotest.Open(t, be)
			plan, err := forget.ByPolicy(all, forget.Options{Policy: retention.Policy{Last: 2}, GroupBy: snapshot.GroupBy{Host: true}, Now: now})
			if err != nil {
				t.Fatal(err)
			}
			before := be.Calls()
			be.SetPlan(fault.Nth(before+n, mode))
			told := 0
			failed, err := forget.Execute(t.Context(), r, plan, func(_ blob.ID, err error) {
				if err != nil {
					told++
				}
			})
			if err != nil || failed != told {
				t.Errorf("call %d failed (%v): %d failed, %d told, %v", n, mode, failed, told, err)
			}
			if be.Calls() <= before+n {
				if n == 0 {
					t.Fatal("no call to spoil")
				}
				break
			}
			if failed != 1 {
				t.Errorf("call %d failed (%v), and nobody says so", n, mode)
			}
			if failed, err = forget.Execute(t.Context(), r, plan, func(blob.ID, error) {}); failed != 0 || err != nil {
				t.Errorf("the second run: %d failed, %v", failed, err)
			}
			left, err := repotest.Open(t, store).Snapshots(t.Context())
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff([]string{"0531", "0531", "0601", "0601"}, days(left)); diff != "" {
				t.Errorf("call %d failed (%v): %s", n, mode, diff)
			}
		}
	}
}

func days(list []*snapshot.Snapshot) []string {
	var out []string
	for _, sn := range list {
		out = append(out, sn.Time.Format("0102"))
	}
	return out
}
