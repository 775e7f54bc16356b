package indexdb

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"vitrine/cache/indexdb/indextest"
	"vitrine/repo/blob"
)

// spillAll has everything that is new go to disk.
func spillAll(d *DB) { d.core.spill.most = 0 }

// spilledSource has enough for some pages.
func spilledSource() *indextest.Source {
	var files [][]blob.Entry
	for i := range uint64(12) {
		files = append(files, indextest.Entries(i, 500))
	}
	return indextest.NewSource(files...)
}

// nameless opens the file without a name below dir, which this process has open.
func nameless(t *testing.T, dir string) *os.File {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if path, err := os.Readlink(link); err == nil && strings.HasPrefix(path, dir) && strings.HasSuffix(path, " (deleted)") {
			f, err := os.OpenFile(link, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f
		}
	}
	t.Fatal("there is no file without a name")
	return nil
}

// What is new is on disk, takes hardly any memory, and is found.
func TestSpilled(t *testing.T) {
	checkNothingLeft(t)
	dir, src := filepath.Join(t.TempDir(), "index"), spilledSource()
	d := openTest(t, dir, src, spillAll)
	indextest.Check(t, d, src)
	indextest.CheckAbsent(t, d, indextest.Entries(99, 200))
	s := d.Stats()
	if s.DeltaEntries != 6000 || s.DeltaFiles != 12 {
		t.Errorf("%d entries of %d index files", s.DeltaEntries, s.DeltaFiles)
	}
	packs := 0
	if err := d.Packs(func(blob.ID) { packs++ }); err != nil {
		t.Fatal(err)
	}
	if most := int64(packs*packRowBytes + 12*40 + 8*1024); s.DeltaBytes > most {
		t.Errorf("%d bytes in RAM, at most %d are for packs, files and pages", s.DeltaBytes, most)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "build.lock" {
			t.Errorf("%s is in the directory", e.Name())
		}
	}
}

// Nothing on disk tells whether a blob that somebody knows is in the repository.
func TestSpilledIsMasked(t *testing.T) {
	dir, src := filepath.Join(t.TempDir(), "index"), spilledSource()
	d := openTest(t, dir, src, spillAll)
	content, err := os.ReadFile(nameless(t, dir).Name())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range indextest.Entries(3, 500) {
		if strings.Contains(string(content), string(e.ID[:8])) || strings.Contains(string(content), string(e.Pack[:8])) {
			t.Fatalf("%v is in the file", e)
		}
	}
	indextest.Check(t, d, src)
}

// Whatever happens to the file, all answers are right: the index files are read again, and stay in RAM.
func TestSpilledDamage(t *testing.T) {
	for name, damage := range map[string]func(*os.File) error{
		"a flipped bit": func(f *os.File) error {
			info, err := f.Stat()
			if err != nil {
				return err
			}
			var b [1]byte
			at := info.Size() - 5 // in the run that was written last, so in use
			if _, err := f.ReadAt(b[:], at); err != nil {
				return err
			}
			b[0] ^= 1
			_, err = f.WriteAt(b[:], at)
			return err
		},
		"truncated": func(f *os.File) error { return f.Truncate(3000) },
	} {
		for _, then := range []struct {
			name string
			fn   func(*testing.T, *DB, *indextest.Source)
		}{
			{"lookup", func(*testing.T, *DB, *indextest.Source) {}},
			{"refresh", func(t *testing.T, d *DB, src *indextest.Source) {
				for i := range uint64(10) {
					src.Add(indextest.Entries(20+i, 50))
				}
				if err := d.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
			}},
			{"build", func(t *testing.T, d *DB, src *indextest.Source) {
				d.building.Store(false)
				err := d.build(t.Context())
				if !isSpilled(err) || d.core.stats().DeltaBytes < 32*6000 {
					t.Errorf("built from what is damaged: %v, and %d bytes are in RAM then", err, d.core.stats().DeltaBytes)
				}
			}},
		} {
			t.Run(name+"/"+then.name, func(t *testing.T) {
				checkNothingLeft(t)
				dir, src := filepath.Join(t.TempDir(), "index"), spilledSource()
				log, logged := logTo()
				d := openLogged(t, dir, src, func(d *DB) {
					spillAll(d)
					d.worthBuilding = func(Stats) bool { return false }
				}, log)
				if err := damage(nameless(t, dir)); err != nil {
					t.Fatal(err)
				}
				then.fn(t, d, src)
				indextest.Check(t, d, src)
				indextest.CheckAbsent(t, d, indextest.Entries(99, 200))
				if n := lines(logged()); n != 1 {
					t.Errorf("%d lines were logged:\n%s", n, logged())
				}
			})
		}
	}
}

// A full disk is no reason to stop, whether it is told before or met.
func TestSpilledFullDisk(t *testing.T) {
	t.Run("told", func(t *testing.T) { testFullDisk(t, spillAll, "needed") })
	t.Run("met", func(t *testing.T) {
		testFullDisk(t, func(d *DB) {
			spillAll(d)
			d.core.spill.free = func(string) (int64, error) { return 1 << 40, nil }
		}, "no space left")
	})
}

func testFullDisk(t *testing.T, tune func(*DB), says string) {
	checkNothingLeft(t)
	dir, src := t.TempDir(), spilledSource()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=128k"); err != nil {
		t.Fatal(err)
	}
	log, logged := logTo()
	d := openLogged(t, filepath.Join(dir, "index"), src, tune, log)
	t.Cleanup(func() {
		d.Close()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	indextest.Check(t, d, src)
	indextest.CheckAbsent(t, d, indextest.Entries(99, 200))
	if n := lines(logged()); n != 1 || !strings.Contains(logged(), says) {
		t.Errorf("%d lines were logged:\n%s", n, logged())
	}
}

// A lookup may meet damage before the refresh that is under way does. Then this has to begin anew all the same.
func TestSpilledDamageTwice(t *testing.T) {
	checkNothingLeft(t)
	dir, src := filepath.Join(t.TempDir(), "index"), spilledSource()
	d := openTest(t, dir, src, func(d *DB) {
		spillAll(d)
		d.worthBuilding = func(Stats) bool { return false }
	})
	var once sync.Once
	src.Add(indextest.Entries(20, 50))
	src.OnLoad(func(blob.ID) {
		once.Do(func() {
			if err := nameless(t, dir).Truncate(0); err != nil {
				t.Error(err)
			}
			d.core.spill.unreadable(errors.New("a lookup came first"))
		})
	})
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	indextest.Check(t, d, src)
}

// What is on disk when that gets full stays in use.
func TestSpilledUnwritable(t *testing.T) {
	checkNothingLeft(t)
	src := spilledSource()
	d := openTest(t, filepath.Join(t.TempDir(), "index"), src, func(d *DB) {
		spillAll(d)
		d.worthBuilding = func(Stats) bool { return false }
	})
	before := src.Loads()
	d.core.spill.unwritable(unix.ENOSPC)
	src.Add(indextest.Entries(20, 50))
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := src.Loads() - before; n != 1 {
		t.Errorf("%d index files were read for one new one", n)
	}
	for i := range uint64(40) { // more runs than are wanted: those on disk stay there, the others become few
		src.Add(indextest.Entries(30+i, 50))
		if err := d.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	onDisk, inRAM := divide(d.core.state.Load().runs)
	if len(onDisk) == 0 {
		t.Error("what was on disk was taken into RAM")
	}
	if len(inRAM) > maxRuns {
		t.Errorf("%d runs are in RAM", len(inRAM))
	}
	indextest.Check(t, d, src)
}

// The disk gets full when runs on it are to be merged: they stay as they are, and are not taken into RAM.
func TestSpilledNoRoomToMerge(t *testing.T) {
	const room = 1 << 40
	for name, full := range map[string]func(d *DB, file *os.File){
		"told": func(d *DB, _ *os.File) { d.core.spill.free = func(string) (int64, error) { return 0, nil } },
		"met": func(_ *DB, file *os.File) { // what is written from here on fails
			limit := unix.Rlimit{Cur: uint64(must(file.Stat()).Size()), Max: unix.RLIM_INFINITY}
			if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &limit); err != nil {
				panic(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			checkNothingLeft(t)
			dir, src := filepath.Join(t.TempDir(), "index"), spilledSource()
			d := openTest(t, dir, src, func(d *DB) {
				spillAll(d)
				d.core.spill.free = func(string) (int64, error) { return room, nil }
				d.worthBuilding = func(Stats) bool { return false }
			})
			spilled := nameless(t, dir)
			t.Cleanup(func() {
				if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}); err != nil {
					t.Error(err)
				}
			})
			calls := 0
			d.core.spill.free = func(string) (int64, error) {
				if calls++; calls == 2 { // the first is about the new index file, the others about what is merged
					full(d, spilled)
					return d.core.spill.free(dir)
				}
				return room, nil
			}
			src.Add(indextest.Entries(20, 50))
			if err := d.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			onDisk, inRAM := divide(d.core.state.Load().runs)
			if len(onDisk) != maxRuns+1 || len(inRAM) > 0 {
				t.Errorf("%d runs are on disk, %d in RAM", len(onDisk), len(inRAM))
			}
			if calls < 2 {
				t.Error("nothing was to be merged")
			}
			indextest.Check(t, d, src)
		})
	}
}

// What is written leaves room for the generation that takes it over, unless there is none anyway. What was given up or merged
// does not count.
func TestSpillerRoom(t *testing.T) {
	const n, inGen = 1 << 20, 4 << 20
	next := withReserve(generationBytes(inGen+n, 0))
	for _, tc := range []struct {
		name string
		free int64
		want bool
	}{
		{"both", next + n*entryBytes, true},
		{"only one of both", next + n*entryBytes - 1, false},
		{"no generation", next - 1, true},
		{"only the reserve", n*entryBytes + minReserveBytes, true},
		{"less", n*entryBytes + minReserveBytes - 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := &spiller{dir: t.TempDir(), free: func(string) (int64, error) { return tc.free, nil }, log: slog.New(slog.DiscardHandler)}
			defer s.close()
			s.beside(&generation{meta: &meta{Entries: inGen}})
			for i := range 3 { // nothing is held of what the one before reserved
				if w := s.write(n); (w != nil) != tc.want {
					t.Errorf("writes: %v", w != nil)
				}
				for began := time.Now(); s.file.UsedBytes() > 0; time.Sleep(time.Millisecond) {
					if runtime.GC(); time.Since(began) > 10*time.Second {
						t.Fatalf("%d bytes are in use after round %d", s.file.UsedBytes(), i)
					}
				}
			}
		})
	}
}

// A disk that was full is tried again, and the log says so once.
func TestSpillerAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log, logged := logTo()
		s := &spiller{dir: t.TempDir(), free: freeBytes, log: log}
		for range 2 {
			s.unwritable(unix.ENOSPC)
			time.Sleep(failurePause - time.Second)
			if s.wants(1) {
				t.Error("the disk was full just now")
			}
			time.Sleep(time.Second)
			if !s.wants(1) {
				t.Error("the disk may have room again")
			}
		}
		if n := lines(logged()); n != 1 {
			t.Errorf("%d lines were logged:\n%s", n, logged())
		}
		s.unreadable(unix.EIO)
		time.Sleep(2 * failurePause)
		if s.wants(1) {
			t.Error("a disk that cannot be read is written to")
		}
	})
}

// Of a run that has several index files some are removed: the packs of the others get other numbers.
func TestKeep(t *testing.T) {
	for name, tune := range map[string]func(*DB){"on disk": spillAll, "in RAM": func(*DB) {}} {
		t.Run(name, func(t *testing.T) {
			checkNothingLeft(t)
			src := spilledSource()
			d := openTest(t, filepath.Join(t.TempDir(), "index"), src, func(d *DB) {
				tune(d)
				d.worthBuilding = func(Stats) bool { return false }
			})
			several := 0
			for _, r := range d.core.state.Load().runs {
				if len(r.files) > 1 {
					several++
					src.Remove(r.files[0].ID)
				}
			}
			if several == 0 {
				t.Fatal("no run has several index files")
			}
			if err := d.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			indextest.Check(t, d, src)
			if n := d.Stats().DeltaFiles; n != 12-several {
				t.Errorf("%d index files", n)
			}
		})
	}
}
