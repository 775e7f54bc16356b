package indexdb

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vitrine/cache/indexdb/indextest"
	"vitrine/repo/blob"
)

func TestWorthBuilding(t *testing.T) {
	for _, tc := range []struct {
		name string
		s    Stats
		want bool
	}{
		{"empty", Stats{}, false},
		{"small repository", Stats{DeltaEntries: 20_000, DeltaFiles: 10}, false},
		{"larger", Stats{DeltaEntries: 20_001, DeltaFiles: 1}, true},
		{"many backups", Stats{DeltaEntries: 100, DeltaFiles: 65}, true},
		{"five percent", Stats{GenerationEntries: 1_000_000, DeltaEntries: 50_000}, false},
		{"more than five percent", Stats{GenerationEntries: 1_000_000, DeltaEntries: 50_001}, true},
		{"five percent of what lives", Stats{GenerationEntries: 1_000_000, DeadEntries: 200_000, DeltaEntries: 40_001}, true},
		{"quarter dead", Stats{GenerationEntries: 1_000_000, DeadEntries: 250_000}, false},
		{"more than a quarter dead", Stats{GenerationEntries: 1_000_000, DeadEntries: 250_001}, true},
		{"few dead", Stats{GenerationEntries: 20_000, DeadEntries: 20_000}, false},
	} {
		if got := worthBuilding(tc.s); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// The second open reads no index file; later ones read only what is new.
func TestReopen(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir, gen := built(t, src)
	if got := src.Loads(); got != 2 {
		t.Fatalf("%d index files read, want 2", got)
	}
	d := openTest(t, dir, src, func(*DB) {})
	indextest.Check(t, d, src)
	if got := src.Loads(); got != 2 {
		t.Errorf("second open read %d index files", got-2)
	}
	want := Stats{Entries: 3000, IndexFiles: 2, Generation: gen, GenerationEntries: 3000}
	if diff := cmp.Diff(want, d.Stats()); diff != "" {
		t.Error(diff)
	}
	src.Add(indextest.Entries(3, 40))
	src.Remove(src.Names()[0])
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	indextest.Check(t, d, src)
	s := d.Stats()
	if got := src.Loads(); got > 3 || s.IndexFiles != 2 || s.Generation != gen || s.Entries != int64(len(src.All())) {
		t.Errorf("%d index files read, %+v", got, s)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := d.Stats(); got != (Stats{}) {
		t.Errorf("after Close: %+v", got)
	}
	if _, _, err := d.Lookup(blob.Handle{}); err != ErrClosed {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
	if err := d.Refresh(t.Context()); err != ErrClosed {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}

// A command that is over before the generation is: Close finishes it.
func TestCloseFinishesTheBuild(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir := filepath.Join(t.TempDir(), "index")
	d := openTest(t, dir, src, alwaysBuild)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	d = openTest(t, dir, src, alwaysBuild)
	if got := src.Loads(); got != 2 {
		t.Errorf("second open read %d index files", got-2)
	}
	indextest.Check(t, d, src)
}

// A command that is interrupted does not wait, and lookups work to the end.
func TestInterruptedBuild(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir := filepath.Join(t.TempDir(), "index")
	ctx, cancel := context.WithCancel(t.Context())
	d, err := open(ctx, dir, testSecret, src, Options{Builder: script(t, "exec sleep 100")}, alwaysBuild)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "building", func() bool { return d.Stats().Building })
	began := time.Now()
	cancel()
	<-d.done
	indextest.Check(t, d, src)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	checkNoGeneration(t, dir)
}

// Close does not wait for ever either.
func TestCloseGivesUp(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir := filepath.Join(t.TempDir(), "index")
	d, err := open(t.Context(), dir, testSecret, src, Options{Builder: script(t, "exec sleep 100")}, func(d *DB) {
		d.worthBuilding, d.patience = always, 10*time.Millisecond
	})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
	checkNoGeneration(t, dir)
}

func checkNoGeneration(t *testing.T, dir string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range names {
		if e.Name() != "build.lock" {
			t.Errorf("%s is left", e.Name())
		}
	}
}

// Whatever happens to the child, the index answers from RAM, says why once, and leaves nothing.
func TestBuilderFails(t *testing.T) {
	for name, tc := range map[string]struct{ lines, want string }{
		"exits":                {"echo no luck >&2; exit 1", "no luck"},
		"killed":               {"kill -9 $$", "signal: killed"},
		"killed while reading": {"head -c 50000 >/dev/null; kill -9 $$", "signal: killed"},
		"killed at the end":    {`"$builder"; kill -9 $$`, "signal: killed"},
		"input ends":           {`head -c 50000 | "$builder"`, "unexpected EOF"},
		"says something else":  {"cat >/dev/null; echo PASS", "PASS"},
		"does nothing":         {"exit 0", "builder"},
		"lies":                 {`cat >/dev/null; echo "built 256 buckets"`, "no manifest"},
	} {
		t.Run(name, func(t *testing.T) {
			checkNothingLeft(t)
			src := damageSource()
			dir := filepath.Join(t.TempDir(), "index")
			log, logged := logTo()
			d, err := open(t.Context(), dir, testSecret, src, Options{Log: log, Builder: script(t, tc.lines)}, alwaysBuild)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			waitFor(t, "a warning", func() bool { return logged() != "" })
			indextest.Check(t, d, src)
			if err := d.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			if got := logged(); lines(got) != 1 || !strings.Contains(got, tc.want) {
				t.Errorf("logged %q, want %q in it", got, tc.want)
			}
			checkNoGeneration(t, dir)
		})
	}
	t.Run("is missing", func(t *testing.T) {
		src := damageSource()
		log, logged := logTo()
		d, err := open(t.Context(), t.TempDir(), testSecret, src, Options{Log: log, Builder: "/nonexistent"}, alwaysBuild)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		waitFor(t, "a warning", func() bool { return strings.Contains(logged(), "/nonexistent") })
		indextest.Check(t, d, src)
	})
}

func TestNoBuilder(t *testing.T) {
	for name, fn := range map[string]func(t *testing.T) string{
		"none given":     func(*testing.T) string { return "" },
		"inside a child": func(t *testing.T) string { t.Setenv(builderEnv, "1"); return Self },
	} {
		t.Run(name, func(t *testing.T) {
			src := damageSource()
			dir := t.TempDir()
			d, err := open(t.Context(), dir, testSecret, src, Options{Builder: fn(t)}, alwaysBuild)
			if err != nil {
				t.Fatal(err)
			}
			indextest.Check(t, d, src)
			if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			checkNoGeneration(t, dir)
		})
	}
}

// The directory cannot be used at all.
func TestUnusableDirectory(t *testing.T) {
	checkNothingLeft(t)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	src := damageSource()
	log, logged := logTo()
	d := openLogged(t, path, src, alwaysBuild, log)
	indextest.Check(t, d, src)
	waitFor(t, "a warning", func() bool { return logged() != "" })
	indextest.Check(t, d, src)
}

func TestNoSpace(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir := t.TempDir()
	log, logged := logTo()
	d := openLogged(t, dir, src, func(d *DB) {
		d.worthBuilding = always
		d.freeBytes = func(string) (int64, error) { return 20 << 20, nil }
	}, log)
	waitFor(t, "a warning", func() bool { return strings.Contains(logged(), "20 MiB free") })
	indextest.Check(t, d, src)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	checkNoGeneration(t, dir)
}

// Two at once: one builds, the other takes it over, and what it had in RAM goes.
func TestTakeOver(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir := t.TempDir()
	a := openTest(t, dir, src, func(*DB) {})
	b := openTest(t, dir, src, alwaysBuild)
	first := waitBuilt(t, b).Generation
	loads := src.Loads()
	if err := a.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := a.Stats(); s.Generation != first || s.DeltaEntries != 0 {
		t.Errorf("%+v, want generation %s alone", s, first)
	}
	indextest.Check(t, a, src)
	if got := src.Loads(); got != loads {
		t.Errorf("%d index files read", got-loads)
	}

	// The next one replaces it; a still reads the old one, which stays until a is done with it.
	src.Add(indextest.Entries(3, 100))
	if err := b.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := waitBuilt(t, b).Generation
	for _, gen := range []string{first, second} {
		if _, err := os.Stat(filepath.Join(dir, gen)); err != nil {
			t.Error(err)
		}
	}
	indextest.CheckAbsent(t, a, indextest.Entries(3, 100))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, first)); !os.IsNotExist(err) {
		t.Errorf("nobody needs %s any more: %v", first, err)
	}
	indextest.Check(t, b, src)
}

// Both want to build: the second waits for the lock and finds the work done.
func TestBothBuild(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir := t.TempDir()
	a := openTest(t, dir, src, alwaysBuild)
	b := openTest(t, dir, src, alwaysBuild)
	if ga, gb := waitBuilt(t, a).Generation, waitBuilt(t, b).Generation; ga != gb {
		t.Errorf("generations %s and %s", ga, gb)
	}
	indextest.Check(t, a, src)
	indextest.Check(t, b, src)
}

// The cache is deleted while it is in use: open files stay, the next build makes it anew.
func TestDeletedWhileOpen(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir, _ := built(t, src)
	d := openTest(t, dir, src, alwaysBuild)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	indextest.Check(t, d, src)
	src.Add(indextest.Entries(3, 100))
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	indextest.Check(t, d, src)
	waitBuilt(t, d)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	checkHeals(t, dir, src)
}

func TestLocations(t *testing.T) {
	a := indextest.Entries(1, 100)
	b := slices.Clone(a)
	for i := range b {
		b[i].Pack = blob.Hash(b[i].Pack[:])
	}
	src := indextest.NewSource(a, b)
	m := must(OpenMemory(t.Context(), src, Options{}))
	defer m.Close()
	d := openTest(t, t.TempDir(), src, alwaysBuild)
	waitBuilt(t, d)
	for _, locations := range []func(blob.Handle) ([]blob.Location, error){m.Locations, d.Locations} {
		for i := range a {
			got, err := locations(a[i].Handle)
			want := []blob.Location{a[i].Location, b[i].Location}
			for _, locs := range [][]blob.Location{got, want} {
				slices.SortFunc(locs, func(a, b blob.Location) int { return a.Pack.Compare(b.Pack) })
			}
			if diff := cmp.Diff(want, got); diff != "" || err != nil {
				t.Fatalf("%v: %v %s", a[i].Handle, err, diff)
			}
		}
		if got, err := locations(blob.Handle{}); got != nil || err != nil {
			t.Errorf("got %v, %v; want nothing", got, err)
		}
	}
}

// A blob that is stored very often is cut to what a bucket holds.
func TestVeryManyPlaces(t *testing.T) {
	entries := indextest.Entries(1, 3*maxBucketEntries)
	for i := range entries {
		entries[i].Handle = entries[i%2].Handle
	}
	src := indextest.NewSource(entries)
	d := openTest(t, t.TempDir(), src, alwaysBuild)
	s := waitBuilt(t, d)
	indextest.Check(t, d, src)
	if locs, err := d.Locations(entries[0].Handle); err != nil || len(locs) < 100 || s.Entries > 2*maxBucketEntries {
		t.Errorf("%d places, %v; %+v", len(locs), err, s)
	}
}

func TestMemoryStats(t *testing.T) {
	src := damageSource()
	m := must(OpenMemory(t.Context(), src, Options{}))
	want := Stats{Entries: 3000, IndexFiles: 2, DeltaEntries: 3000, DeltaFiles: 2, DeltaBytes: 3000*32 + 150*36 + 2*40 + 4*(256+1+128+1)}
	if diff := cmp.Diff(want, m.Stats()); diff != "" {
		t.Error(diff)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.Lookup(blob.Handle{}); err != ErrClosed {
		t.Errorf("after Close: %v, want ErrClosed", err)
	}
}

// The builder's buffers are the same for a million and for two million entries, and a generation of up to 32 million has about
// 32 tables.
func TestTableBytes(t *testing.T) {
	for entries, want := range map[int64]int64{0: 2 << 20, 1_000_000: 2 << 20, 2_000_000: 2 << 20, 4_000_000: 4_000_000, 16 << 20: 16 << 20, 1 << 40: 32 << 20} {
		if got := (&composer{expect: entries}).tableBytes(); got != want {
			t.Errorf("%d entries: tables of %d bytes, want %d", entries, got, want)
		}
	}
}

// What reading index files has left is out of memory when the child begins.
func TestBuildFreesGarbage(t *testing.T) {
	dir := t.TempDir()
	seen := filepath.Join(dir, "seen")
	builder := filepath.Join(dir, "builder")
	text := fmt.Sprintf("#!/bin/sh\ngrep RssAnon: /proc/$PPID/status >%q\nexec %q\n", seen, quickBuilder)
	if err := os.WriteFile(builder, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	src := indextest.NewSource(indextest.Entries(1, 1000))
	d := openTest(t, filepath.Join(dir, "index"), src, func(d *DB) {
		d.builder = builder
		d.core.spill.most = 999
		d.worthBuilding = func(Stats) bool { return false }
	})
	const garbageKiB = 64 << 10
	garbage := make([]byte, garbageKiB<<10)
	for i := range garbage {
		garbage[i] = 1
	}
	before := anonymousKiB(t, string(must(os.ReadFile("/proc/self/status"))))
	runtime.KeepAlive(garbage)
	defer must(lockBuild(d.dir)).Close()
	if err := d.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := anonymousKiB(t, string(must(os.ReadFile(seen)))); after > before-garbageKiB/2 {
		t.Errorf("%d KiB are in memory when the child begins, of %d with %d of garbage", after, before, garbageKiB)
	}
}

// anonymousKiB reads what of a process is in memory, files left out.
func anonymousKiB(t *testing.T, status string) (kib int) {
	_, rest, _ := strings.Cut(status, "RssAnon:")
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib
}
