package indexdb

import (
	"os"
	"path/filepath"
	"testing"

	"vitrine/cache/indexdb/indextest"
)

// openTable opens a directory that has a generation, of which so many entries may be in RAM.
func openTable(t *testing.T, dir string, src Source, entries int64) (*DB, *generation) {
	t.Helper()
	d := openTest(t, dir, src, func(d *DB) {
		alwaysBuild(d)
		d.table = entries
	})
	gen := d.core.state.Load().gen
	if gen == nil {
		t.Fatal("there is no generation")
	}
	return d, gen
}

// The table comes when it pays, and then Badger is not asked any more.
func TestTable(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir, name := built(t, src)
	d, gen := openTable(t, dir, src, 3000)
	absent := indextest.Entries(99, 3000/tableAfter)
	indextest.CheckAbsent(t, d, absent[1:])
	if gen.table.loaded.Load() != nil {
		t.Fatalf("loaded after %d lookups", len(absent)-1)
	}
	indextest.CheckAbsent(t, d, absent[:1])
	if gen.table.loaded.Load() == nil {
		t.Fatalf("not loaded after %d lookups", len(absent))
	}
	paths, err := filepath.Glob(filepath.Join(dir, name, "*.sst"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%v, %v", paths, err)
	}
	for _, path := range paths {
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	indextest.Check(t, d, src)
	indextest.CheckAbsent(t, d, absent)
	if gen.bad.Load() {
		t.Error("Badger was asked")
	}
}

func TestTableTooLarge(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir, _ := built(t, src)
	d, gen := openTable(t, dir, src, 2999)
	indextest.Check(t, d, src)
	if gen.table.loaded.Load() != nil {
		t.Error("3000 entries are in RAM, want at most 2999")
	}
}

// What an index file listed that is gone is answered no more, also not from RAM.
func TestTableDead(t *testing.T) {
	checkNothingLeft(t)
	a, b := indextest.Entries(1, 500), indextest.Entries(2, 500)
	src := indextest.NewSource(a)
	gone := src.Add(b)
	dir, _ := built(t, src)
	d := openTest(t, dir, src, func(d *DB) {
		d.worthBuilding = func(Stats) bool { return false }
		d.table = 1000
	})
	indextest.Check(t, d, src)
	gen := d.core.state.Load().gen
	if gen.table.loaded.Load() == nil {
		t.Fatal("not loaded")
	}
	src.Remove(gone)
	if err := d.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	indextest.Check(t, d, src)
	indextest.CheckAbsent(t, d, b)
	if d.core.state.Load().gen != gen {
		t.Error("another generation came")
	}
}

// A generation that turns out damaged when it is read into RAM is replaced like any other.
func TestTableDamaged(t *testing.T) {
	checkNothingLeft(t)
	src := damageSource()
	dir, name := built(t, src)
	d, gen := openTable(t, dir, src, 3000)
	paths, err := filepath.Glob(filepath.Join(dir, name, "*.sst"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%v, %v", paths, err)
	}
	gen.table.asked.Store(3000)
	for _, path := range paths {
		if err := os.Truncate(path, 0); err != nil {
			t.Fatal(err)
		}
	}
	indextest.Check(t, d, src)
	if !gen.bad.Load() || gen.table.loaded.Load() != nil {
		t.Error("the damage was not noticed")
	}
	if got := waitBuilt(t, d).Generation; got == name {
		t.Errorf("still uses %s", got)
	}
	indextest.Check(t, d, src)
}
