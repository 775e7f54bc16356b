package retention_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"vitrine/repo/backend"
	"vitrine/repo/backend/mem"
	"vitrine/repo/blob"
	"vitrine/repo/repotest"
	"vitrine/repo/retention"
	"vitrine/repo/snapshot"
)

// The comparison runs in rounds: a repository with so many sets of snapshots, each under a host of its
// own, and so many policies, each of which one restic process applies to all sets.
const (
	roundSets     = 50
	roundPolicies = 10

	shortCases = 3 * roundSets * roundPolicies
	longCases  = 10_000
)

// unlimited is what restic 0.14, which has no word for it, gets.
const unlimited = 1_000_000

// decision is what is kept of a set, newest first, with reasons and counters. Snapshots of the same
// instant, whose order restic leaves to chance, are alike in all but their names.
type decision struct {
	Time     string
	Tags     []string
	Matches  []string
	Counters *retention.Counters // nil for a restic that does not tell them, as those of today
}

// TestAgainstRestic compares with `restic forget --dry-run --json` of random sets under random policies: 1500 cases,
// or 10 000 with VITRINE_ACCEPT=long. It asks the restic of the PATH, or the program that VITRINE_RESTIC names. One
// before 0.16 does not know the rules for the oldest snapshot: what they alone keep is then left out of the comparison,
// and counted.
func TestAgainstRestic(t *testing.T) {
	cases := shortCases
	if os.Getenv("VITRINE_ACCEPT") == "long" {
		cases = longCases
	}
	program := cmp.Or(os.Getenv("VITRINE_RESTIC"), "restic")
	major, minor := 0, 0
	version, err := exec.Command(program, "version").Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(string(version), "restic %d.%d", &major, &minor); err != nil {
		t.Fatalf("%q: %v", version, err)
	}
	knowsOldest := major > 0 || minor >= 16
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d, %s", seed, version)
	random := rand.New(rand.NewPCG(seed, 0))
	done, kept, removed, oldest := 0, 0, 0, 0
	for done < cases {
		dir, sets := fabricate(t, random)
		for range roundPolicies {
			p := randomPolicy(random)
			theirs, err := resticKeeps(program, dir, p)
			if errors.Is(err, errRefused) && knowsOldest {
				// It tells nothing then of the sets of which it would keep some.
				if !slices.ContainsFunc(slices.Collect(maps.Values(sets)), func(set []*snapshot.Snapshot) bool {
					keep, _ := retention.Apply(p, set, time.Now())
					return len(keep) == 0
				}) {
					t.Fatalf("seed %d, %v: restic would keep nothing of some set, and vitrine some of each", seed, p)
				}
				continue
			}
			if err != nil || len(theirs) != len(sets) {
				t.Fatalf("seed %d, %v: restic tells of %d sets of %d, %v", seed, p, len(theirs), len(sets), err)
			}
			for host, set := range sets {
				keep, remove := retention.Apply(p, set, time.Now())
				kept, removed = kept+len(keep), removed+len(remove)
				ours, extra := decisions(keep, knowsOldest)
				oldest += extra
				for i := range ours {
					if knowsOldest && i < len(theirs[host]) && theirs[host][i].Counters == nil {
						ours[i].Counters = nil
					}
				}
				if diff := gocmp.Diff(theirs[host], ours); diff != "" {
					t.Fatalf("seed %d, %v, of %s (- restic, + vitrine):\n%s", seed, p, listing(set), diff)
				}
				done++
			}
		}
	}
	t.Logf("%d cases agree: %d snapshots kept, %d removed; kept only for being the oldest: %d", done, kept, removed, oldest)
	if kept == 0 || removed == 0 || oldest == 0 {
		t.Error("the cases are too much alike to tell anything")
	}
}

// decisions puts what is kept into the words of the comparison. For a restic that does not know the rules for the
// oldest snapshot their reasons are taken out, and a snapshot that is kept for nothing else. It counts those.
func decisions(keep []retention.Reason, knowsOldest bool) (list []decision, alone int) {
	for _, r := range keep {
		d := decision{Time: r.Snapshot.Time.Format(time.RFC3339Nano), Tags: r.Snapshot.Tags, Counters: &r.Counters}
		left := r.Counters
		for _, m := range r.Matches {
			name, extra := strings.CutPrefix(m, "oldest ")
			if !extra {
				d.Matches = append(d.Matches, m)
				continue
			}
			if n := counter(&left, name); n != nil && *n != retention.All {
				*n++
			}
		}
		if len(d.Matches) == 0 {
			alone++
		}
		switch {
		case knowsOldest:
			d.Matches = r.Matches
		case len(d.Matches) == 0:
			continue
		default:
			d.Counters = &left
		}
		list = append(list, d)
	}
	return list, alone
}

// counter returns the counter behind a reason, nil for "daily within 3d" and the like.
func counter(c *retention.Counters, reason string) *int {
	return map[string]*int{
		"last snapshot": &c.Last, "hourly snapshot": &c.Hourly, "daily snapshot": &c.Daily,
		"weekly snapshot": &c.Weekly, "monthly snapshot": &c.Monthly, "yearly snapshot": &c.Yearly,
	}[reason]
}

// fabricate makes a repository of random sets and returns what restic will read of them, by host.
// Its files are written without fsync, for nobody wants them back.
func fabricate(t *testing.T, random *rand.Rand) (dir string, sets map[string][]*snapshot.Snapshot) {
	t.Helper()
	r, store := repotest.New(t, 2)
	for n := range roundSets {
		for _, sn := range randomSet(random, fmt.Sprint("host-", n)) {
			if _, err := r.SaveSnapshot(t.Context(), sn); err != nil {
				t.Fatal(err)
			}
		}
	}
	dir = t.TempDir()
	for _, kind := range []string{"data", "index", "keys", "locks", "snapshots"} {
		if err := os.Mkdir(filepath.Join(dir, kind), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeOut(t.Context(), store, dir); err != nil {
		t.Fatal(err)
	}
	all, err := r.Snapshots(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sets = make(map[string][]*snapshot.Snapshot)
	for _, sn := range all {
		sets[sn.Hostname] = append(sets[sn.Hostname], sn)
	}
	return dir, sets
}

func writeOut(ctx context.Context, store *mem.Backend, dir string) error {
	write := func(f backend.File, name string) error {
		content, err := store.ReadAll(ctx, f, 1<<20)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, name), content, 0o600)
	}
	err := write(backend.File{Kind: backend.Config}, "config")
	for kind, name := range map[backend.Kind]string{backend.Key: "keys", backend.Snapshot: "snapshots"} {
		err = errors.Join(err, store.List(ctx, kind, func(info backend.Info) error {
			return write(backend.File{Kind: kind, Name: info.Name}, filepath.Join(name, info.Name))
		}))
	}
	return err
}

// zones are those of the snapshots of a set: hosts travel.
var zones = []*time.Location{time.UTC, time.UTC, time.FixedZone("", 5*3600+1800), time.FixedZone("", -8*3600)}

// randomSet makes the snapshots of a host: at steps of very different length, some on the borders of
// periods, some of the same second or instant, some in the future.
func randomSet(random *rand.Rand, host string) []*snapshot.Snapshot {
	var list []*snapshot.Snapshot
	when := time.Date(2015+random.IntN(9), time.Month(1+random.IntN(12)), 1+random.IntN(31), random.IntN(24), random.IntN(60), random.IntN(60), 0, time.UTC)
	if random.IntN(10) == 0 {
		when = time.Now().AddDate(0, -random.IntN(3), random.IntN(60))
	}
	steps := []time.Duration{0, time.Nanosecond, time.Second, 20 * time.Minute, time.Hour, 5 * time.Hour, 24 * time.Hour, 40 * time.Hour, 7 * 24 * time.Hour, 30 * 24 * time.Hour, 200 * 24 * time.Hour}
	low := random.IntN(len(steps))
	span := 1 + random.IntN(len(steps)-low)
	exact := random.IntN(3) == 0 // whole hours and days, so that ages are on the borders of durations
	zone := zones[random.IntN(len(zones))]
	tree := blob.Hash([]byte("tree"))
	var tags []string
	for range 1 + random.IntN(24) {
		step := steps[low+random.IntN(span)]
		if step > time.Second && !exact {
			step += time.Duration(random.Int64N(int64(step)))
		}
		if step != 0 { // those of one instant cannot be told apart
			tags = []string{"a", "b", "c"}[random.IntN(3):][:random.IntN(2)]
		}
		when = when.Add(-step)
		if !exact && random.IntN(6) == 0 {
			zone = zones[random.IntN(len(zones))]
			when = when.Truncate(24 * time.Hour)
		}
		if n := len(list); n > 0 && list[n-1].Time.Equal(when) {
			tags = list[n-1].Tags
			zone = list[n-1].Time.Location()
		}
		list = append(list, &snapshot.Snapshot{
			Time: when.In(zone), Tree: &tree, Paths: []string{"/p"}, Hostname: host, Tags: tags,
		})
	}
	return list
}

func randomPolicy(random *rand.Rand) retention.Policy {
	count := func() int {
		switch random.IntN(8) {
		case 0, 1:
			return 1 + random.IntN(3)
		case 2:
			return 1 + random.IntN(20)
		case 3:
			return []int{0, retention.All}[random.IntN(2)]
		}
		return 0
	}
	span := func() retention.Duration {
		if random.IntN(5) > 0 {
			return retention.Duration{}
		}
		d := retention.Duration{Hours: random.IntN(2) * random.IntN(72)}
		for _, field := range []*int{&d.Years, &d.Months, &d.Days} {
			if random.IntN(2) == 0 {
				*field = random.IntN(4)
			}
		}
		return d
	}
	for {
		p := retention.Policy{
			Last: count(), Hourly: count(), Daily: count(), Weekly: count(), Monthly: count(), Yearly: count(),
			Within: span(), WithinHourly: span(), WithinDaily: span(), WithinWeekly: span(), WithinMonthly: span(), WithinYearly: span(),
		}
		if random.IntN(4) == 0 {
			p.Tags = [][]string{{"a"}, {"b", "a"}, {""}, {"c"}}[random.IntN(4):][:1]
		}
		if !p.IsZero() {
			return p
		}
	}
}

// errRefused is the error of a restic that would keep nothing of a set. That of Debian removes them all.
var errRefused = errors.New("restic refuses")

// resticKeeps runs restic and returns what it keeps of each host's snapshots, nil of one of which it keeps nothing.
func resticKeeps(program, dir string, p retention.Policy) (map[string][]decision, error) {
	args := []string{"-r", dir, "--no-cache", "--no-lock", "forget", "--dry-run", "--json", "--group-by", "host"}
	for flag, n := range map[string]int{"last": p.Last, "hourly": p.Hourly, "daily": p.Daily, "weekly": p.Weekly, "monthly": p.Monthly, "yearly": p.Yearly} {
		if n == retention.All {
			n = unlimited
		}
		args = append(args, fmt.Sprintf("--keep-%s=%d", flag, n))
	}
	for flag, d := range map[string]retention.Duration{"": p.Within, "-hourly": p.WithinHourly, "-daily": p.WithinDaily,
		"-weekly": p.WithinWeekly, "-monthly": p.WithinMonthly, "-yearly": p.WithinYearly} {
		args = append(args, fmt.Sprintf("--keep-within%s=%v", flag, d))
	}
	for _, tags := range p.Tags {
		args = append(args, "--keep-tag="+strings.Join(tags, ","))
	}
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "RESTIC_PASSWORD="+repotest.Password)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if bytes.Contains(stderr.Bytes(), []byte("refusing to delete last snapshot")) {
		return nil, errRefused
	}
	if err != nil {
		return nil, fmt.Errorf("restic %q: %w: %s", args, err, stderr.Bytes())
	}
	var groups []struct {
		Host    string `json:"host"`
		Reasons []struct {
			Snapshot struct {
				Time string   `json:"time"`
				Tags []string `json:"tags"`
			} `json:"snapshot"`
			Matches  []string            `json:"matches"`
			Counters *retention.Counters `json:"counters"`
		} `json:"reasons"`
	}
	if err := json.Unmarshal(out, &groups); err != nil {
		return nil, fmt.Errorf("restic %q: %w", args, err)
	}
	kept := make(map[string][]decision)
	for _, g := range groups {
		kept[g.Host] = nil
		for _, r := range g.Reasons {
			if c := r.Counters; c != nil {
				for _, n := range []*int{&c.Last, &c.Hourly, &c.Daily, &c.Weekly, &c.Monthly, &c.Yearly} {
					if *n > unlimited/2 {
						*n = retention.All
					}
				}
			}
			kept[g.Host] = append(kept[g.Host], decision{r.Snapshot.Time, r.Snapshot.Tags, r.Matches, r.Counters})
		}
	}
	return kept, nil
}

func listing(set []*snapshot.Snapshot) string {
	var lines []string
	for _, sn := range slices.Backward(set) {
		lines = append(lines, fmt.Sprint(sn.Time.Format(time.RFC3339Nano), " ", sn.Tags))
	}
	return strings.Join(lines, "\n")
}
