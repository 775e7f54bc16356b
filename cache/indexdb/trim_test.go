package indexdb

import (
	"bufio"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"vitrine/cache/indexdb/indextest"
	"vitrine/repo/blob"
)

// residentBytes is how much of the tables below dir is in this process's memory.
func residentBytes(t *testing.T, dir string) (total int64) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	here := false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.Contains(lines.Text(), dir+"/") {
			here = strings.HasSuffix(lines.Text(), ".sst")
		}
		if kib, ok := strings.CutPrefix(lines.Text(), "Rss:"); ok && here {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(kib), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			total += int64(n) << 10
			here = false
		}
	}
	return total
}

// Lookups and scans beside trims give the right answers, and nothing of the tables stays in memory after a trim.
func TestTrim(t *testing.T) {
	var files [][]blob.Entry
	for i := range uint64(4) {
		files = append(files, indextest.Entries(i, 20_000))
	}
	src := indextest.NewSource(files...)
	dir, name := built(t, src)
	link := filepath.Join(t.TempDir(), "link") // as ~/.cache may be one
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	d := openTest(t, link, src, func(*DB) {})
	indextest.Check(t, d, src)
	gen := d.core.state.Load().gen
	if n := residentBytes(t, filepath.Join(dir, name)); n < 1<<20 {
		t.Fatalf("%d bytes of the tables are in memory after all were read", n)
	}
	gen.trim.trim()
	if n := residentBytes(t, filepath.Join(dir, name)); n > 0 {
		t.Errorf("%d bytes of the tables are in memory after a trim", n)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				gen.trim.trim()
			}
		}
	})
	indextest.Check(t, d, src)
	indextest.CheckAbsent(t, d, indextest.Entries(99, 1000))
	m := masker{keys: d.core.keys}
	if _, err := gen.loadTable(&m); err != nil {
		t.Error(err)
	}
	close(stop)
	wg.Wait()
	if n := mappedBytes(); n < 1<<20 || n > 1<<32 {
		t.Errorf("%d bytes of files are said to be in memory", n)
	}
}

// A generation that is open twice, as when a refresh comes between the end of its build and the switch to it, trims its own
// mappings only: where the other one was may lie something else by then.
func TestTrimOwn(t *testing.T) {
	src := indextest.NewSource(indextest.Entries(1, 20_000))
	dir, _ := built(t, src)
	first := openTest(t, dir, src, func(*DB) {}).core.state.Load().gen
	second := openTest(t, dir, src, func(*DB) {}).core.state.Load().gen
	for _, g := range []*generation{first, second} {
		g.trim.trim()
		if len(g.trim.tables) == 0 {
			t.Error("no table is known")
		}
	}
	for _, m := range first.trim.tables {
		if slices.Contains(second.trim.tables, m) {
			t.Errorf("both trim %x", m)
		}
	}
}
