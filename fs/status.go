package fs

import (
	"bytes"
	"encoding/json"
	"os"
	"runtime/metrics"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"vitrine/cache/blobcache"
)

// StatusVersion is the version of the form of Status. It grows when a field gets another meaning or
// goes; new fields may come at any time.
//
// Version 2: damage has only what is damaged or missing; reads that failed while the store was away were in it
// before, and are counted in outages now.
const StatusVersion = 2

// Status is what a mount tells about itself, in .vitrine/status as JSON. Counters are since the
// mount began. Nothing in it opens the repository.
type Status struct {
	Version       int              `json:"version"` // StatusVersion
	Time          time.Time        `json:"time"`    // of this status
	UptimeSeconds float64          `json:"uptime_seconds"`
	PID           int              `json:"pid"`
	Mountpoint    string           `json:"mountpoint"`
	Repository    RepositoryStatus `json:"repository"`
	Memory        MemoryStatus     `json:"memory"`
	Caches        CachesStatus     `json:"caches"`
	Prefetch      PrefetchStatus   `json:"prefetch"`
	// Backend is null where nobody counts.
	Backend   *Traffic        `json:"backend"`
	Reads     ReadStatus      `json:"reads"`
	Snapshots SnapshotsStatus `json:"snapshots"`
	Refresh   RefreshStatus   `json:"refresh"`
	Damage    DamageStatus    `json:"damage"`
	Outages   OutageStatus    `json:"outages"`
}

// RepositoryStatus says which repository is shown.
type RepositoryStatus struct {
	ID       string `json:"id"`       // 64 hexadecimal digits, as in its config
	Location string `json:"location"` // without user and password
}

// MemoryStatus says where the memory is. UsedBytes is the sum of the lines below it and stays within
// BudgetBytes but for what is in flight and for huge trees.
type MemoryStatus struct {
	BudgetBytes   int64 `json:"budget_bytes"`
	UsedBytes     int64 `json:"used_bytes"`
	BlobsBytes    int64 `json:"blobs_bytes"`
	TreesBytes    int64 `json:"trees_bytes"`
	HugeTrees     int64 `json:"huge_trees_bytes"` // directories too large for the cache
	LayoutsBytes  int64 `json:"layouts_bytes"`
	InFlightBytes int64 `json:"in_flight_bytes"` // asked for by reads under way

	ResidentBytes int64 `json:"resident_bytes"` // of the process, with mapped files
	GoHeapBytes   int64 `json:"go_heap_bytes"`  // live and dead objects
	Directories   int   `json:"directories"`    // that the kernel remembers
	KnownTrees    int   `json:"known_trees"`    // different tree blobs met
}

// CachesStatus has each cache of the mount.
type CachesStatus struct {
	Blobs   CacheStatus `json:"blobs"`   // plain content
	Trees   CacheStatus `json:"trees"`   // parsed directories
	Layouts CacheStatus `json:"layouts"` // which chunks a file has
}

// CacheStatus counts what happened in a cache.
type CacheStatus struct {
	Hits        int64   `json:"hits"`
	Misses      int64   `json:"misses"` // started a load
	Shared      int64   `json:"shared"` // joined a load that was under way
	HitRate     float64 `json:"hit_rate"`
	Evictions   int64   `json:"evictions"`
	Entries     int     `json:"entries"`
	Bytes       int64   `json:"bytes"`
	BudgetBytes int64   `json:"budget_bytes"`
}

// PrefetchStatus says who wanted the plain bytes that were fetched, and what became of those that
// nobody had asked for yet.
type PrefetchStatus struct {
	Demand    Amount `json:"demand"`    // a reader waited
	Readahead Amount `json:"readahead"` // further on in a file
	Push      Amount `json:"push"`      // files of a directory that is read
	Pushed    Amount `json:"pushed"`    // files given to the kernel's page cache unasked

	Used         Amount `json:"used"`          // of Readahead and Push: read later, as far as the kernel asked us
	Wasted       Amount `json:"wasted"`        // of these: left the cache unread
	WaitingBytes int64  `json:"waiting_bytes"` // of these: still there
}

// Amount is a number of blobs or files and their bytes.
type Amount struct {
	Count int64 `json:"count"`
	Bytes int64 `json:"bytes"`
}

// Traffic counts what was asked of the store of a repository since it was opened.
type Traffic struct {
	Requests  int64 `json:"requests"`
	BytesRead int64 `json:"bytes_read"`
	Errors    int64 `json:"errors"`
	InFlight  int64 `json:"in_flight"`
	// IndexFiles are those of the index that were read.
	IndexFiles int64 `json:"index_files"`
	// Seconds is the sum of how long each request took.
	Seconds float64 `json:"seconds"`

	// Waiting are the requests that have failed and are being made again, and since when there have always been
	// some. They are shown among Outages.
	Waiting      int       `json:"-"`
	WaitingSince time.Time `json:"-"`
}

// ReadStatus tells how long the kernel waited for contents of files. What it finds in its own cache
// it does not ask for.
type ReadStatus struct {
	Count          int64   `json:"count"`
	Errors         int64   `json:"errors"`
	Bytes          int64   `json:"bytes"`
	InFlight       int64   `json:"in_flight"`
	TotalSeconds   float64 `json:"total_seconds"`
	MaxSeconds     float64 `json:"max_seconds"`
	P50Seconds     float64 `json:"p50_seconds"` // upper end of the step that holds it
	P99Seconds     float64 `json:"p99_seconds"`
	HistogramSteps []Step  `json:"histogram"` // without empty steps
}

// Step is a part of a histogram: so many requests took less than BelowSeconds, and not less than
// the step before.
type Step struct {
	BelowSeconds float64 `json:"below_seconds"`
	Count        int64   `json:"count"`
}

// SnapshotsStatus counts snapshots.
type SnapshotsStatus struct {
	Known int `json:"known"` // that the mount shows
	// Open are those whose root directory the kernel remembers, because somebody looked into it or
	// at its attributes and the kernel did not need the memory since.
	Open    int      `json:"open"`
	OpenIDs []string `json:"open_ids"` // short IDs, at most maxOpenIDs
}

const maxOpenIDs = 100

// RefreshStatus is the last look for new snapshots.
type RefreshStatus struct {
	Count         int64     `json:"count"` // looks since the mount began
	Time          time.Time `json:"time"`  // when the last one began
	Seconds       float64   `json:"seconds"`
	NewIndexFiles int       `json:"new_index_files"`
	Error         string    `json:"error"` // "" when it worked
}

// OutageStatus tells what a store does that does not answer. Count are the requests of programs that failed
// of it, which work again when the store does; those for contents are among ReadStatus.Errors too.
type OutageStatus struct {
	Count int64    `json:"count"`
	Last  *Failure `json:"last"` // null when there was none

	// Waiting are requests to the store that have failed and are being made again now; whoever needs their answers
	// waits. Since is when the first of them failed, null when there are none.
	Waiting int        `json:"waiting"`
	Since   *time.Time `json:"since"`
}

// DamageStatus lists what is damaged or missing in the repository, as far as the mount met it.
type DamageStatus struct {
	Total  int      `json:"total"`  // ranges and nodes told apart, at most 65536
	Listed []Damage `json:"listed"` // the first maxDamages
}

// Status tells how the mount is.
func (s *Server) Status() Status {
	n, now := s.nodes, time.Now()
	held, blobs := n.tree.Stats(), n.blobStats()
	st := Status{
		Version: StatusVersion, Time: now, UptimeSeconds: now.Sub(s.began).Seconds(), PID: os.Getpid(),
		Mountpoint: s.dir, Repository: s.repository,
		Caches:    CachesStatus{cacheStatus(blobs), cacheStatus(held.Parsed), cacheStatus(held.Layouts)},
		Prefetch:  n.prefetchStatus(),
		Reads:     n.stats.reads.status(),
		Snapshots: SnapshotsStatus{Known: held.Snapshots, Open: len(held.Open), OpenIDs: []string{}},
		Refresh:   n.stats.lastRefresh().status(),
	}
	st.Memory = MemoryStatus{
		BudgetBytes: s.budgetBytes,
		BlobsBytes:  blobs.Bytes, TreesBytes: held.Parsed.Bytes, HugeTrees: held.HugeBytes, LayoutsBytes: held.Layouts.Bytes,
		InFlightBytes: n.stats.reads.inFlightBytes.Load(),
		ResidentBytes: residentBytes(), GoHeapBytes: goHeapBytes(),
		Directories: held.Dirs, KnownTrees: held.Trees,
	}
	m := &st.Memory
	m.UsedBytes = m.BlobsBytes + m.TreesBytes + m.HugeTrees + m.LayoutsBytes + m.InFlightBytes
	for _, id := range held.Open[:min(len(held.Open), maxOpenIDs)] {
		st.Snapshots.OpenIDs = append(st.Snapshots.OpenIDs, id.Short())
	}
	st.Damage.Listed, st.Damage.Total = n.stats.damage.all()
	st.Outages = n.stats.outages.status()
	if s.traffic != nil {
		t := s.traffic()
		st.Backend = &t
		if st.Outages.Waiting = t.Waiting; t.Waiting > 0 {
			st.Outages.Since = &t.WaitingSince
		}
	}
	return st
}

// statusJSON is the content of .vitrine/status.
func (s *Server) statusJSON() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s.Status()); err != nil {
		panic("status cannot be JSON: " + err.Error())
	}
	return b.Bytes()
}

// indexFiles counts the files of the index that were read so far; 0 where nobody counts.
func (s *Server) indexFiles() int64 {
	if s.traffic == nil {
		return 0
	}
	return s.traffic().IndexFiles
}

func cacheStatus(s blobcache.Stats) CacheStatus {
	c := CacheStatus{
		Hits: s.Hits, Misses: s.Misses, Shared: s.Shared, Evictions: s.Evictions,
		Entries: s.Entries, Bytes: s.Bytes, BudgetBytes: s.BudgetBytes,
	}
	if asked := s.Hits + s.Misses + s.Shared; asked > 0 {
		c.HitRate = float64(s.Hits) / float64(asked)
	}
	return c
}

func (n *nodes) prefetchStatus() PrefetchStatus {
	s := &n.stats
	waiting := s.unread.settle(n.cached)
	return PrefetchStatus{
		Demand: s.demand.load(), Readahead: s.ahead.load(), Push: s.push.load(), Pushed: s.pushed.load(),
		Used: s.unread.used.load(), Wasted: s.unread.wasted.load(), WaitingBytes: waiting,
	}
}

func (a *amount) load() Amount { return Amount{a.count.Load(), a.bytes.Load()} }

func (l *latencies) status() ReadStatus {
	longest := time.Duration(l.longest.Load())
	r := ReadStatus{
		Errors: l.errors.Load(), Bytes: l.bytes.Load(), InFlight: l.inFlight.Load(),
		TotalSeconds: time.Duration(l.total.Load()).Seconds(), MaxSeconds: longest.Seconds(),
		HistogramSteps: []Step{},
	}
	steps := make([]int64, len(l.steps))
	for i := range l.steps {
		if steps[i] = l.steps[i].Load(); steps[i] > 0 {
			r.Count += steps[i]
			r.HistogramSteps = append(r.HistogramSteps, Step{(time.Microsecond << i).Seconds(), steps[i]})
		}
	}
	r.P50Seconds, r.P99Seconds = quantile(steps, 0.5, longest).Seconds(), quantile(steps, 0.99, longest).Seconds()
	return r
}

func (r refreshStatus) status() RefreshStatus {
	s := RefreshStatus{Count: r.count, Time: r.at, Seconds: r.took.Seconds(), NewIndexFiles: r.newIndexFiles}
	if r.err != nil {
		s.Error = r.err.Error()
	}
	return s
}

// residentBytes is what the process has in RAM; 0 when the system does not tell.
func residentBytes() int64 {
	line, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(line))
	if len(fields) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

func goHeapBytes() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return int64(sample[0].Value.Uint64())
}

// validPath returns a path that JSON can hold: bytes that are no UTF-8 are written as \xNN.
func validPath(path string) string {
	if utf8.ValidString(path) {
		return path
	}
	var b strings.Builder
	for i, r := range path {
		if _, size := utf8.DecodeRuneInString(path[i:]); r == utf8.RuneError && size == 1 {
			b.WriteString(`\x` + strconv.FormatUint(uint64(path[i])|0x100, 16)[1:])
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
