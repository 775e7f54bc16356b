package spill

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func create(t testing.TB, dir string) *File {
	t.Helper()
	f, err := Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// records returns sorted records, every fifth key several times, every seventh first half with several second ones.
func records(random *rand.Rand, n, recordBytes int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = make([]byte, recordBytes)
		for at := 0; at < recordBytes; at += 8 {
			binary.BigEndian.PutUint64(all[i][at:], random.Uint64())
		}
		if i > 0 && i%5 == 0 {
			copy(all[i], all[random.IntN(i)][:KeyBytes])
		}
		if i > 0 && i%7 == 0 {
			copy(all[i], all[random.IntN(i)][:KeyBytes/2])
		}
	}
	slices.SortFunc(all, func(a, b []byte) int { return bytes.Compare(a[:KeyBytes], b[:KeyBytes]) })
	return all
}

func write(t testing.TB, f *File, all [][]byte, recordBytes int) *Run {
	t.Helper()
	w := f.Write(recordBytes, len(all))
	for _, r := range all {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	run, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	return run
}

// A run gives all its records in order, each by its key, and none for other keys. Runs of one file do not meet.
func TestRun(t *testing.T) {
	f := create(t, t.TempDir())
	random := rand.New(rand.NewPCG(1, 2))
	type written struct {
		run *Run
		all [][]byte
	}
	var runs []written
	for _, recordBytes := range []int{16, 32, 4096} {
		perPage := pageBytes / recordBytes
		for _, n := range []int{0, 1, 2, perPage - 1, perPage, perPage + 1, 3 * perPage, together*perPage + 1, 20*perPage + perPage/2} {
			all := records(random, n, recordBytes)
			runs = append(runs, written{write(t, f, all, recordBytes), all})
		}
	}
	for _, w := range runs {
		t.Run(fmt.Sprintf("%d of %d", w.run.Len(), w.run.recordBytes), func(t *testing.T) { checkRun(t, w.run, w.all) })
	}
}

func checkRun(t *testing.T, run *Run, all [][]byte) {
	if run.Len() != len(all) {
		t.Fatalf("%d records", run.Len())
	}
	keys := map[[KeyBytes]byte]bool{}
	for _, r := range all {
		keys[[KeyBytes]byte(r)] = true
	}
	c := run.Cursor()
	for i := range all {
		if got, err := c.Next(); err != nil || !bytes.Equal(got, all[i]) {
			t.Fatalf("record %d: %x, %v; wrote %x", i, got, err, all[i])
		}
	}
	if _, err := c.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last one: %v", err)
	}
	for from := 0; from < len(all); {
		to := from + 1
		for to < len(all) && bytes.Equal(all[to][:KeyBytes], all[from][:KeyBytes]) {
			to++
		}
		key := [KeyBytes]byte(all[from])
		if got := find(t, run, key); !slices.EqualFunc(got, all[from:to], bytes.Equal) {
			t.Fatalf("records %d to %d: found %d", from, to, len(got))
		}
		for _, i := range []int{0, KeyBytes - 1} {
			other := key
			other[i] ^= 1
			if got := find(t, run, other); !keys[other] && len(got) > 0 {
				t.Fatalf("%x was not written, found %x", other, got)
			}
		}
		from = to
	}
}

func find(t *testing.T, run *Run, key [KeyBytes]byte) (found [][]byte) {
	t.Helper()
	err := run.Find(&key, func(r []byte) bool {
		found = append(found, slices.Clone(r))
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	first := 0
	if err := run.Find(&key, func([]byte) bool { first++; return false }); err != nil || first != min(len(found), 1) {
		t.Fatalf("asked for one of %d: %d, %v", len(found), first, err)
	}
	return found
}

// Runs are written and read at once.
func TestParallel(t *testing.T) {
	f := create(t, t.TempDir())
	var wg sync.WaitGroup
	for seed := range 4 {
		wg.Go(func() {
			all := records(rand.New(rand.NewPCG(uint64(seed), 3)), 3000, 32)
			checkRun(t, write(t, f, all, 32), all)
		})
	}
	wg.Wait()
}

// The file has no name, and what is freed takes no space.
func TestSpace(t *testing.T) {
	dir := t.TempDir()
	f := create(t, dir)
	all := records(rand.New(rand.NewPCG(5, 6)), 100_000, 16)
	first, second := write(t, f, all, 16), write(t, f, all, 16)
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("%v in the directory, %v", entries, err)
	}
	blocks := func() int64 {
		var st unix.Stat_t
		if err := unix.Fstat(int(f.f.Fd()), &st); err != nil {
			t.Fatal(err)
		}
		return st.Blocks * 512
	}
	w := f.Write(16, len(all)) // is given up
	for _, r := range all {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	before := blocks()
	if first.Len() != len(all) || w.run.Len() != len(all) { // they are held up to here
		t.Errorf("%d and %d records", first.Len(), w.run.Len())
	}
	first, w = nil, nil
	for began := time.Now(); blocks() > before*4/10; time.Sleep(time.Millisecond) {
		if runtime.GC(); time.Since(began) > 10*time.Second {
			t.Fatalf("%d bytes before, %d after nobody held two of three runs", before, blocks())
		}
	}
	checkRun(t, second, all)
}

// A run that cannot be written gives its space back at once: others need it.
func TestFailedRun(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	f := create(t, dir)
	before, err := f.FreeBytes()
	if err != nil || before != 1<<20 {
		t.Fatalf("%d bytes are free, %v", before, err)
	}
	w := f.Write(4096, 1000)
	for err == nil {
		err = w.Add(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if free, err := f.FreeBytes(); free != before || err != nil || f.UsedBytes() != 0 {
		t.Errorf("%d bytes are free, were %d, and %d are in use, %v", free, before, f.UsedBytes(), err)
	}
	if _, err := w.Finish(); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("a run that failed was finished: %v", err)
	}
	runtime.KeepAlive(w)
	all := records(rand.New(rand.NewPCG(15, 16)), 1000, 16)
	checkRun(t, write(t, f, all, 16), all)
}

// Where a file has a name for a moment, the next one removes those that killed processes left, and nothing else.
func TestNamed(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"spill-stale": "", "spill-new": "", "spill-full": "x", "other": ""} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if name != "spill-new" {
			old := time.Now().Add(-staleAfter - time.Minute)
			if err := os.Chtimes(path, old, old); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "spill-directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := createNamed(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if want := []string{"other", "spill-directory", "spill-full", "spill-new"}; !slices.Equal(names, want) {
		t.Errorf("%v are left, not %v", names, want)
	}
	all := records(rand.New(rand.NewPCG(17, 18)), 1000, 16)
	checkRun(t, write(t, f, all, 16), all)
}

// More records than were announced would come into the next run.
func TestTooMany(t *testing.T) {
	f := create(t, t.TempDir())
	w := f.Write(32, 128)
	record := make([]byte, 32)
	for i := range 128 {
		if err := w.Add(record); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
	}
	if err := w.Add(record); err == nil {
		t.Error("the 129th of 128 was taken")
	}
}

// What is not as it was written is an error, never a wrong answer.
func TestDamage(t *testing.T) {
	all := records(rand.New(rand.NewPCG(7, 8)), 1000, 32)
	for name, damage := range map[string]func(f *os.File) error{
		"a flipped bit": func(f *os.File) error {
			var b [1]byte
			if _, err := f.ReadAt(b[:], 5000); err != nil {
				return err
			}
			b[0] ^= 4
			_, err := f.WriteAt(b[:], 5000)
			return err
		},
		"a shorter file": func(f *os.File) error { return f.Truncate(5000) },
		"zeros":          func(f *os.File) error { return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE, 4096, 4096) },
	} {
		t.Run(name, func(t *testing.T) {
			f := create(t, t.TempDir())
			run := write(t, f, all, 32)
			if err := damage(f.f); err != nil {
				t.Fatal(err)
			}
			failed := 0
			for _, want := range all {
				key := [KeyBytes]byte(want)
				found := false
				err := run.Find(&key, func([]byte) bool { found = true; return false })
				switch {
				case errors.Is(err, ErrDamaged):
					failed++
				case err != nil || !found:
					t.Fatalf("%v, %v", found, err)
				}
			}
			if failed == 0 || failed == len(all) {
				t.Errorf("%d of %d lookups failed", failed, len(all))
			}
			c := run.Cursor()
			for {
				if _, err := c.Next(); errors.Is(err, ErrDamaged) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A closed file, a full disk and a directory that is not there are errors.
func TestErrors(t *testing.T) {
	dir := t.TempDir()
	if _, err := Create(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory that is missing: %v", err)
	}
	f := create(t, dir)
	all := records(rand.New(rand.NewPCG(9, 10)), 10, 16)
	run := write(t, f, all, 16)
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	key := [KeyBytes]byte(all[0])
	if err := run.Find(&key, func([]byte) bool { return true }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	w := create(t, dir).Write(4096, 100)
	var err error
	for i := 0; i < 100 && err == nil; i++ {
		err = w.Add(make([]byte, 4096))
	}
	if !errors.Is(err, unix.ENOSPC) {
		t.Errorf("full disk: %v", err)
	}
}

func BenchmarkFind(b *testing.B) {
	all := records(rand.New(rand.NewPCG(11, 12)), 1_000_000, 32)
	run := write(b, create(b, "/dev/shm"), all, 32)
	random := rand.New(rand.NewPCG(13, 14))
	for b.Loop() {
		key := [KeyBytes]byte(all[random.IntN(len(all))])
		if err := run.Find(&key, func([]byte) bool { return false }); err != nil {
			b.Fatal(err)
		}
	}
}
