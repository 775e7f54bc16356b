package indexdb

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vitrine/cache/indexdb/indextest"
	"vitrine/repo/blob"
)

// damageSource fills a table beyond what is checked when it opens, so that damage is met by
// lookups, too.
func damageSource() *indextest.Source {
	return indextest.NewSource(indextest.Entries(1, 2000), indextest.Entries(2, 1000))
}

// cacheFiles lists the files of a cache below dir, build.lock left out.
func cacheFiles(t *testing.T, dir string) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() && e.Name() != "build.lock" {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// checkHeals opens a damaged cache: every answer must be right, and there must be a sound
// generation afterwards.
func checkHeals(t *testing.T, dir string, src *indextest.Source) {
	t.Helper()
	d := openTest(t, dir, src, alwaysBuild)
	indextest.Check(t, d, src)
	indextest.CheckAbsent(t, d, indextest.Entries(99, 200))
	waitBuilt(t, d)
	indextest.Check(t, d, src)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	loads := src.Loads()
	d = openTest(t, dir, src, alwaysBuild)
	indextest.Check(t, d, src)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if got := src.Loads(); got != loads {
		t.Errorf("%d index files read after healing", got-loads)
	}
}

// flip inverts a bit of the file at the offset; negative ones count from the end.
func flip(t *testing.T, path string, offset int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if offset < 0 {
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		offset += st.Size()
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b[:], offset); err != nil {
		t.Fatal(err)
	}
}

// One bit in any file, near its start, further on or at its end, where the lengths of Badger's
// tables are.
func TestFlippedBits(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir, _ := built(t, src)
	for i := range cacheFiles(t, dir) {
		for _, where := range []float64{0.01, 0.3, -30, -5, -1} {
			path := cacheFiles(t, dir)[i] // names change with each healing
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			offset := int64(where)
			if where >= 0 {
				offset = int64(where * float64(st.Size()))
			} else if -offset > st.Size() {
				continue
			}
			t.Run(filepath.Base(path), func(t *testing.T) {
				flip(t, path, offset)
				checkHeals(t, dir, src)
			})
		}
	}
}

func TestMissingTruncatedAndForeignFiles(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir, _ := built(t, src)
	for i := range cacheFiles(t, dir) {
		for name, damage := range map[string]func(path string, size int64) error{
			"missing":  func(path string, _ int64) error { return os.Remove(path) },
			"empty":    func(path string, _ int64) error { return os.Truncate(path, 0) },
			"half":     func(path string, size int64) error { return os.Truncate(path, size/2) },
			"one less": func(path string, size int64) error { return os.Truncate(path, size-1) },
			"longer":   func(path string, size int64) error { return os.Truncate(path, size+1) },
			"foreign":  func(path string, _ int64) error { return os.WriteFile(path+".mem", []byte("x"), 0o600) },
		} {
			path := cacheFiles(t, dir)[i]
			t.Run(filepath.Base(path)+" "+name, func(t *testing.T) {
				st, err := os.Stat(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := damage(path, st.Size()); err != nil {
					t.Fatal(err)
				}
				checkHeals(t, dir, src)
				os.Remove(path + ".mem") // beside CURRENT a foreign file is nobody's business
			})
		}
	}
	t.Run("generation missing", func(t *testing.T) {
		gens, err := filepath.Glob(filepath.Join(dir, genPrefix+"*"))
		if err != nil || len(gens) != 1 {
			t.Fatalf("%v, %v", gens, err)
		}
		if err := os.RemoveAll(gens[0]); err != nil {
			t.Fatal(err)
		}
		checkHeals(t, dir, src)
	})
	t.Run("everything missing", func(t *testing.T) {
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		checkHeals(t, dir, src)
	})
}

// The damage comes while the index is open: tables are mapped, so a truncation is a SIGBUS.
func TestDamageWhileOpen(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, path string){
		"truncated": func(t *testing.T, path string) {
			if err := os.Truncate(path, 0); err != nil {
				t.Fatal(err)
			}
		},
		"overwritten": func(t *testing.T, path string) {
			st, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if _, err := f.WriteAt(make([]byte, st.Size()/2), 0); err != nil { // not the table's index, see doc.go
				t.Fatal(err)
			}
		},
	} {
		for _, glob := range []string{"*.sst", packsName} {
			t.Run(name+" "+glob, func(t *testing.T) {
				checkNothingLeft(t)
				src := damageSource()
				dir, gen := built(t, src)
				log, logged := logTo()
				d := openLogged(t, dir, src, alwaysBuild, log)
				paths, err := filepath.Glob(filepath.Join(dir, gen, glob))
				if err != nil || len(paths) == 0 {
					t.Fatalf("%v, %v", paths, err)
				}
				for _, path := range paths {
					damage(t, path)
				}
				indextest.Check(t, d, src)
				indextest.CheckAbsent(t, d, indextest.Entries(99, 200))
				if got := waitBuilt(t, d).Generation; got == gen {
					t.Errorf("still uses %s", gen)
				}
				indextest.Check(t, d, src)
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				if got := logged(); lines(got) != 1 || !strings.Contains(got, "index cache is damaged") {
					t.Errorf("logged %s", got)
				}
				checkHeals(t, dir, src)
			})
		}
	}
}

// The cache is damaged and the repository cannot be read either: lookups say so, and work again
// after a refresh.
func TestDamageAndNoRepository(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir, gen := built(t, src)
	d := openTest(t, dir, src, alwaysBuild)
	bad := errors.New("the network is down")
	src.Fail(bad, nil)
	paths, err := filepath.Glob(filepath.Join(dir, gen, "*.sst"))
	if err != nil || len(paths) != 1 {
		t.Fatalf("%v, %v", paths, err)
	}
	if err := os.Truncate(paths[0], 0); err != nil {
		t.Fatal(err)
	}
	h := indextest.Entries(1, 1)[0].Handle
	for range 3 {
		if _, _, err := d.Lookup(h); !errors.Is(err, bad) || !errors.Is(err, errCorrupt) {
			t.Fatalf("got %v, want %v", err, bad)
		}
		if _, err := d.Locations(h); !errors.Is(err, bad) {
			t.Fatalf("got %v, want %v", err, bad)
		}
	}
	src.Fail(nil, nil)
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	indextest.Check(t, d, src)
	waitBuilt(t, d)
	indextest.Check(t, d, src)
}

// With another secret the cache is worthless, and no answer comes from it.
func TestOtherSecret(t *testing.T) {
	src := damageSource()
	dir, _ := built(t, src)
	loads := src.Loads()
	d, err := Open(t.Context(), dir, [32]byte{4}, src, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	indextest.Check(t, d, src)
	if got := src.Loads() - loads; got != 2 {
		t.Errorf("%d index files read, want 2", got)
	}
}

// A thief of the directory learns no ID of a blob, pack or index file.
func TestNothingPlainOnDisk(t *testing.T) {
	src := damageSource()
	dir, _ := built(t, src)
	var all strings.Builder
	for _, path := range cacheFiles(t, dir) {
		st, err := os.Stat(path)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 0600", path, st.Mode(), err)
		}
		all.Write(must(os.ReadFile(path)))
	}
	disk := all.String()
	absent := func(what string, id blob.ID) {
		for _, s := range []string{string(id[:8]), string(id[8:16]), string(id[24:]), id.String()[:16]} {
			if strings.Contains(disk, s) {
				t.Fatalf("the cache shows %s %v", what, id)
			}
		}
	}
	for _, e := range append(indextest.Entries(1, 200), indextest.Entries(2, 200)...) {
		absent("blob", e.ID)
		absent("pack", e.Pack)
	}
	for _, id := range src.Names() {
		absent("index file", id)
	}
}

// A lookup that meets damage has its answer while a generation is being built, however long that takes. The build then meets it, too,
// and nobody else does.
func TestDamageDuringBuild(t *testing.T) {
	gen := damageSource()
	spilled := spilledSource()
	for _, tc := range []struct {
		name   string
		src    *indextest.Source
		dir    func(t *testing.T) string
		damage func(t *testing.T, dir string)
	}{
		{
			"generation", gen,
			func(t *testing.T) string { dir, _ := built(t, gen); return dir },
			func(t *testing.T, dir string) {
				tables, err := filepath.Glob(filepath.Join(dir, "gen-*", "*.sst"))
				if err != nil || len(tables) == 0 {
					t.Fatal(tables, err)
				}
				for _, path := range tables {
					flip(t, path, 3000)
				}
			},
		},
		{
			"spilled", spilled,
			func(t *testing.T) string { return filepath.Join(t.TempDir(), "index") },
			func(t *testing.T, dir string) {
				if err := nameless(t, dir).Truncate(3000); err != nil {
					t.Fatal(err)
				}
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			checkNothingLeft(t)
			dir := tc.dir(t)
			building, goOn := make(chan struct{}), make(chan struct{})
			var first, end sync.Once
			d := openTest(t, dir, tc.src, func(d *DB) {
				spillAll(d)
				d.worthBuilding = func(Stats) bool { return d.notBefore.IsZero() }
				d.freeBytes = func(string) (int64, error) {
					first.Do(func() {
						close(building)
						<-goOn
					})
					return 1 << 40, nil
				}
			})
			<-building
			tc.damage(t, dir)
			letBuild := func() { end.Do(func() { close(goOn) }) }
			defer letBuild()
			patience := time.AfterFunc(20*time.Second, func() {
				t.Error("lookups wait for the build")
				letBuild()
			})
			indextest.Check(t, d, tc.src)
			indextest.CheckAbsent(t, d, indextest.Entries(99, 200))
			patience.Stop()
			letBuild()
			waitFor(t, "end of the build", func() bool { return !d.Stats().Building })
			if m, err := readCurrent(dir, d.core.keys); err != nil || m != nil && d.Stats().Generation != m.Name {
				t.Errorf("%s is left to be used, %v", nameOf(m), err)
			}
			indextest.Check(t, d, tc.src)
		})
	}
}
