package claims

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"vitrine/repo/blob"
)

var silent = slog.New(slog.DiscardHandler)

// in is the directory of a set's file.
func in(dir string) func() (string, error) { return func() (string, error) { return dir, nil } }

// numbered is a blob by number, of both types in turn.
func numbered(i int) blob.Handle {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(i))
	return blob.Handle{Type: blob.Type(i % 2), ID: blob.Hash(b[:])}
}

// Each handle is added once, whoever comes first, and handles that differ in one bit are different.
func TestAdd(t *testing.T) {
	c := New(nil, silent)
	defer c.Close()
	var handles []blob.Handle
	for typ := range 2 {
		base := blob.Handle{Type: blob.Type(typ), ID: blob.Hash([]byte("blob"))}
		handles = append(handles, base)
		for bit := range 8 * len(base.ID) {
			h := base
			h.ID[bit/8] ^= 1 << (bit % 8)
			handles = append(handles, h)
		}
	}
	for _, h := range handles {
		if c.Has(h) {
			t.Fatalf("%v is there before it was added", h)
		}
	}
	var added atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for _, h := range handles {
				if c.Add(h) {
					added.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if n := int(added.Load()); n != len(handles) {
		t.Errorf("%d of %d were new", n, len(handles))
	}
	for _, h := range handles {
		if !c.Has(h) {
			t.Errorf("%v is not there", h)
		}
	}
	other := New(nil, silent)
	defer other.Close()
	for _, h := range handles {
		a, b := c.lock(h), other.lock(h)
		if a.buf == b.buf {
			t.Errorf("%v has the same claim in two sets", h)
		}
		a.mu.Unlock()
		b.mu.Unlock()
	}
}

// Two goroutines add every blob: of each, one is told that it was new, also after most are on disk. Where there is
// no disk, or none any more, all is as before.
func TestSpill(t *testing.T) {
	const n, most = 20_000, 100
	full := t.TempDir()
	for _, tc := range []struct {
		name    string
		scratch func() (string, error)
		reserve int64
		onDisk  bool
	}{
		{"disk", in(t.TempDir()), reserveBytes, true},
		{"memory", nil, reserveBytes, false},
		{"no directory", func() (string, error) { return "", errors.New("read-only file system") }, reserveBytes, false},
		{"full", in(full), reserveBytes, false},
		{"gets full", in(full), -1 << 40, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.name == "full" || tc.name == "gets full" {
				if err := unix.Mount("tmpfs", full, "tmpfs", 0, "size=64k"); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = unix.Unmount(full, unix.MNT_DETACH) })
			}
			c := New(tc.scratch, silent)
			c.most = most
			c.disk.reserveBytes = tc.reserve
			defer c.Close()
			var added [2]int
			var wg sync.WaitGroup
			for who := range added {
				wg.Go(func() {
					for i := range n {
						if c.Add(numbered(i)) {
							added[who]++
						}
					}
				})
			}
			wg.Wait()
			if added[0]+added[1] != n {
				t.Errorf("%d and %d of %d were new", added[0], added[1], n)
			}
			inMemory := 0
			for i := range c.shards {
				for j := range c.shards[i] {
					sh := &c.shards[i][j]
					inMemory += len(sh.recent)
					if sh.older == nil {
						continue
					}
					for k := 1; k < len(sh.older.runs); k++ {
						if a, b := sh.older.runs[k-1].Len(), sh.older.runs[k].Len(); a <= b {
							t.Errorf("a run of %d comes after one of %d", b, a)
						}
					}
				}
			}
			if tc.onDisk != (inMemory <= 2*shards*most) {
				t.Errorf("%d of %d are in memory", inMemory, n)
			}
			for i := range n + n/10 {
				if has := c.Has(numbered(i)); has != (i < n) {
					t.Fatalf("blob %d of %d: %v", i, n, has)
				}
			}
		})
	}
}

// A disk that was full is written to when it has room again.
func TestSpillAgain(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
	c := New(in(dir), silent)
	c.most = 100
	defer c.Close()
	const n = 50_000
	inMemory := func() (sum int) {
		for i := range c.shards {
			for j := range c.shards[i] {
				sum += len(c.shards[i][j].recent)
			}
		}
		return sum
	}
	for i := range n {
		c.Add(numbered(i))
	}
	if got := inMemory(); got != n {
		t.Fatalf("%d of %d are in memory", got, n)
	}
	if err := unix.Mount("", dir, "", unix.MS_REMOUNT, "size=64m"); err != nil {
		t.Fatal(err)
	}
	for i := n; i < 3*n; i++ {
		c.Add(numbered(i))
	}
	if got := inMemory(); got > 2*shards*c.most {
		t.Errorf("%d of %d are in memory", got, 3*n)
	}
	for i := range 4 * n {
		if has := c.Has(numbered(i)); has != (i < 3*n) {
			t.Fatalf("blob %d of %d: %v", i, 3*n, has)
		}
	}
}

// Nothing is left on disk, not even while the set is used.
func TestNoName(t *testing.T) {
	dir := t.TempDir()
	c := New(in(dir), silent)
	c.most = 10
	defer c.Close()
	for i := range 2 * 2 * shards * c.most {
		c.Add(numbered(i))
	}
	if c.disk.file == nil {
		t.Fatal("no file was made")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%v in the directory, %v", entries, err)
	}
}

// A file that cannot be read any more makes blobs be stored again, and nothing worse.
func TestUnreadable(t *testing.T) {
	c := New(in(t.TempDir()), silent)
	c.most = 100
	n := 2 * 2 * shards * c.most
	for i := range n {
		c.Add(numbered(i))
	}
	c.Close()
	again := 0
	for i := range n {
		if c.Add(numbered(i)) {
			again++
		}
	}
	if again == 0 || again == n {
		t.Errorf("%d of %d are new again", again, n)
	}
}

// With two sizes, one four times the other, memory is the same but for the 16 bytes of each page.
func TestMemory(t *testing.T) {
	c := New(in(t.TempDir()), silent)
	c.most = 1000
	defer c.Close()
	heap := func(upTo, from int) uint64 {
		for i := from; i < upTo; i++ {
			c.Add(numbered(i))
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	const n = 50_000
	first := heap(n, 0)
	if second := heap(4*n, n); second > first+64<<10 {
		t.Errorf("%d blobs take %d KiB, %d take %d KiB", n, first>>10, 4*n, second>>10)
	}
}

func BenchmarkNew(b *testing.B) {
	for _, size := range []int{100_000, 1_000_000, 8_000_000} {
		b.Run(map[int]string{100_000: "100k", 1_000_000: "1M", 8_000_000: "8M"}[size], func(b *testing.B) {
			c := New(in("/dev/shm"), silent)
			defer c.Close()
			for i := range size {
				h := numbered(i)
				h.Type = blob.Data
				c.Add(h)
			}
			i := size
			for b.Loop() {
				h := numbered(i)
				h.Type = blob.Data
				i++
				if c.Has(h) {
					b.Fatal("it was there before")
				}
				if i%8 == 0 {
					c.Add(h)
				}
			}
		})
	}
}
