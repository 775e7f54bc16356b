package cli

import (
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/fs"
)

func TestStatusLines(t *testing.T) {
	at := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	since := at.Add(-90 * time.Second)
	s := fs.Status{
		Time: at, UptimeSeconds: 3725, PID: 42, Mountpoint: "/mnt/a\x1bb",
		Repository: fs.RepositoryStatus{ID: "0123456789abcdef", Location: "/srv/backup"},
		Memory: fs.MemoryStatus{BudgetBytes: 512 << 20, UsedBytes: 300 << 20, BlobsBytes: 200 << 20, TreesBytes: 60 << 20,
			HugeTrees: 30 << 20, LayoutsBytes: 9 << 20, InFlightBytes: 1 << 20, ResidentBytes: 400 << 20, Directories: 7},
		Caches: fs.CachesStatus{Blobs: fs.CacheStatus{Hits: 3, Misses: 1, HitRate: 0.75, Evictions: 2, Bytes: 200 << 20, BudgetBytes: 384 << 20}},
		Prefetch: fs.PrefetchStatus{Demand: fs.Amount{Count: 2, Bytes: 2048}, Readahead: fs.Amount{Count: 1, Bytes: 1024},
			Pushed: fs.Amount{Count: 9, Bytes: 10}, Used: fs.Amount{Count: 1, Bytes: 1024}},
		Backend:   &fs.Traffic{Requests: 4, BytesRead: 4096, Seconds: 0.01},
		Reads:     fs.ReadStatus{Count: 4, Bytes: 5000, Errors: 1, TotalSeconds: 0.0101, P50Seconds: 0.000512, P99Seconds: 0.131072, MaxSeconds: 1.5},
		Snapshots: fs.SnapshotsStatus{Known: 5, Open: 2},
		Refresh:   fs.RefreshStatus{Time: at.Add(-1500 * time.Millisecond), Seconds: 0.0123, NewIndexFiles: 2, Error: "offline"},
		Outages:   fs.OutageStatus{Waiting: 2, Since: &since, Count: 1, Last: &fs.Failure{Time: at.Add(-2 * time.Second), Path: "/ids/x/g", Error: "far\naway"}},
		Damage: fs.DamageStatus{Total: 3, Listed: []fs.Damage{
			{Path: "/ids/x/f\n", What: "bytes 5 to 10", From: 5, To: 10, Blob: strings.Repeat("ab", 32), Pack: strings.Repeat("cd", 32), Error: "one\ntwo"},
			{Path: "/ids/x/d", What: "the directory", Error: "three"},
		}},
	}
	want := []string{
		`2020-01-02 03:04:05: repository 01234567, /srv/backup, on "/mnt/a\x1bb" for 1:02:05, process 42`,
		`  memory     300.000 MiB of 512.000 MiB: content 200.000 MiB, directories 90.000 MiB, layouts of files 9.000 MiB, in flight 1.000 MiB`,
		`             the process has 400.000 MiB; the kernel remembers 7 directories`,
		`  cache      content: 4 asked, 75.0 % there, 0 shared a load, 2 dropped, 200.000 MiB of 384.000 MiB`,
		`  cache      directories: 0 asked, 0.0 % there, 0 shared a load, 0 dropped, 0 B of 0 B`,
		`  cache      layouts: 0 asked, 0.0 % there, 0 shared a load, 0 dropped, 0 B of 0 B`,
		`  fetched    for readers 2.000 KiB in 2, ahead in files 1.000 KiB in 1, ahead in directories 0 B in 0`,
		`             of what was fetched ahead: read 1.000 KiB in 1, dropped unread 0 B in 0, not read yet 0 B`,
		`             given to the kernel unasked: 9 files, 10 B`,
		`  store      4 requests, 4.000 KiB, 0 failed, 0 under way, 2.5ms each`,
		`  reads      4, 4.883 KiB, 1 failed, 0 under way; 2.53ms each, half in 512µs, 99 % in 131ms, longest 1.5s`,
		`  snapshots  5, of which the kernel remembers 2`,
		`  refreshed  1.5s ago in 12.3ms, 2 new index files; it failed: offline`,
		`  outages    the store has not answered for 1m30s, 2 requests are tried again; 1 request failed while the store did not answer, the last 2s ago: /ids/x/g: far; away`,
		`  damage     3 parts damaged or missing:`,
		`    "/ids/x/f\n", bytes 5 to 10, blob abababab, pack cdcdcdcd: one; two`,
		`    /ids/x/d, the directory: three`,
		`    and 1 more`,
	}
	if diff := cmp.Diff(want, statusLines(&s)); diff != "" {
		t.Error(diff)
	}
}

func TestMemoryFlag(t *testing.T) {
	for _, tc := range []struct {
		memory string
		want   int64
		fails  string
	}{
		{"", fs.DefaultCacheBytes(), ""},
		{"16m", 16 << 20, ""},
		{"2G", 2 << 30, ""},
		{"16777215", 0, "at least 16m"},
		{"0", 0, "at least 16m"},
		{"much", 0, `--memory: size "much"`},
		{"-1g", 0, "size"},
	} {
		o := mountOptions{memory: tc.memory}
		got, err := o.budgetBytes("--memory")
		if got != tc.want || (err == nil) != (tc.fails == "") || err != nil && !strings.Contains(err.Error(), tc.fails) {
			t.Errorf("--memory %q: %d, %v; want %d, %q", tc.memory, got, err, tc.want, tc.fails)
		}
	}
}

func TestLimitMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	for _, tc := range []struct{ present, budget, want int64 }{
		{1 << 40, 1 << 30, 1<<30 + aboveBudgetBytes},
		{1 << 29, 1 << 30, 1 << 29}, // the user's stays
	} {
		debug.SetMemoryLimit(tc.present)
		limitMemory(tc.budget)
		if got := debug.SetMemoryLimit(-1); got != tc.want {
			t.Errorf("limit %d after %d and a budget of %d, want %d", got, tc.present, tc.budget, tc.want)
		}
	}
}
