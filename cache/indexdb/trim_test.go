package indexdb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/dgraph-io/badger/v4"

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

// What the child has written does not stay in its memory.
func TestTrimWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gen-000001-written")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const bucketBytes = 400
	o := order{Dir: dir, Buckets: 4 * trimBuckets, TableBytes: 2 << 20}
	var in bytes.Buffer
	value := bytes.Repeat([]byte{bucketFormat}, bucketBytes)
	for range o.Buckets {
		in.Write(binary.LittleEndian.AppendUint32(nil, bucketBytes))
		in.Write(value)
	}
	in.Write(binary.LittleEndian.AppendUint32(nil, endOfBuckets))
	db, err := badger.OpenManaged(builderOptions(&o))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := copyBuckets(db, bufio.NewReader(&in), &o); err != nil {
		t.Fatal(err)
	}
	tables, err := mappings(filepath.Base(dir))
	if err != nil {
		t.Fatal(err)
	}
	written := int64(0)
	for _, m := range tables {
		written += int64(m.sizeBytes)
	}
	if n := residentBytes(t, dir); written < int64(o.Buckets)*bucketBytes || n > written/2 {
		t.Errorf("%d bytes of %d that were written are in memory", n, written)
	}
	txn := db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	for no := range uint32(o.Buckets) {
		item, err := txn.Get(binary.BigEndian.AppendUint32(nil, no))
		if err != nil {
			t.Fatal(no, err)
		}
		if err := item.Value(func(p []byte) error {
			if !bytes.Equal(p, value) {
				return fmt.Errorf("bucket %d: %x", no, p)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
}
