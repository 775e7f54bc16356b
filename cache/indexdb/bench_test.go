package indexdb

import (
	"context"
	"encoding/binary"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"vitrine/repo/backend"
	"vitrine/repo/blob"
)

// benchEntries: 4000000 is the size that vitrine promises to bear well.
var benchEntries = flag.Int("index.entries", 400_000, "entries in the index of the benchmarks")

// bigSource has that many entries, 50 000 in each index file and 200 in each pack, made as they
// are read.
type bigSource int

const bigFile = 50_000

func (n bigSource) IndexFiles(context.Context) ([]backend.Info, error) {
	infos := make([]backend.Info, (int(n)+bigFile-1)/bigFile)
	for i := range infos {
		infos[i].Name = fileID(uint64(i)).String()
	}
	return infos, nil
}

func (n bigSource) LoadIndexFile(_ context.Context, id blob.ID, fn func(blob.Entry) error) error {
	first := int(binary.BigEndian.Uint64(id[:])) * bigFile
	for i := first; i < min(first+bigFile, int(n)); i++ {
		e := blob.Entry{Handle: bigHandle(i), Location: blob.Location{Pack: bigHandle(-1 - i/200).ID, OffsetBytes: uint32(i), LengthBytes: 1000}}
		if err := fn(e); err != nil {
			return err
		}
	}
	return nil
}

func bigHandle(i int) (h blob.Handle) {
	r := rand.NewPCG(uint64(i), 1)
	for j := range 4 {
		binary.LittleEndian.PutUint64(h.ID[8*j:], r.Uint64())
	}
	return h
}

// residentMiB reads what of this process is in memory, files that are mapped left out and with
// them.
func residentMiB(b *testing.B) (anon, all float64) {
	runtime.GC()
	for line := range strings.Lines(string(must(os.ReadFile("/proc/self/status")))) {
		name, rest, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
		switch name {
		case "RssAnon":
			anon = n / 1024
		case "VmRSS":
			all = n / 1024
		}
	}
	return anon, all
}

func perEntry(b *testing.B) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(*benchEntries), "ns/entry")
}

// BenchmarkLoad is a cold open up to the first answer, without what it takes to fetch and decode.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		m := must(OpenMemory(b.Context(), bigSource(*benchEntries), Options{}))
		m.Close()
	}
	perEntry(b)
}

// BenchmarkBuild makes the first generation, from RAM.
func BenchmarkBuild(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		dir := b.TempDir()
		d := openTest(b, dir, bigSource(*benchEntries), func(d *DB) { d.worthBuilding = func(Stats) bool { return false } })
		b.StartTimer()
		if err := d.build(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		d.Close()
		os.RemoveAll(dir)
		b.StartTimer()
	}
	perEntry(b)
}

// BenchmarkMerge makes the next generation, from the one before and 5 % more.
func BenchmarkMerge(b *testing.B) {
	dir, _ := built(b, bigSource(*benchEntries))
	src := bigSource(*benchEntries + *benchEntries/20 + bigFile)
	for b.Loop() {
		b.StopTimer()
		copied := filepath.Join(b.TempDir(), "index")
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			b.Fatal(err)
		}
		d := openTest(b, copied, src, func(d *DB) { d.worthBuilding = func(Stats) bool { return false } })
		b.StartTimer()
		if err := d.build(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		d.Close()
		os.RemoveAll(copied)
		b.StartTimer()
	}
	perEntry(b)
}

// BenchmarkOpen is the second open: everything is in the generation.
func BenchmarkOpen(b *testing.B) {
	src := bigSource(*benchEntries)
	dir, _ := built(b, src)
	for b.Loop() {
		d := openTest(b, dir, src, func(*DB) {})
		b.StopTimer()
		anon, all := residentMiB(b)
		b.ReportMetric(anon, "anonymous-MiB")
		b.ReportMetric(all, "resident-MiB")
		d.Close()
		b.StartTimer()
	}
}

func BenchmarkLookup(b *testing.B) {
	src := bigSource(*benchEntries)
	dir, _ := built(b, src)
	d := openTest(b, dir, src, func(*DB) {})
	m := must(OpenMemory(b.Context(), src, Options{}))
	defer m.Close()
	for _, x := range []struct {
		name   string
		lookup func(blob.Handle) (blob.Location, bool, error)
	}{{"badger", d.Lookup}, {"memory", m.Lookup}} {
		for name, base := range map[string]int{"hit": 0, "miss": *benchEntries} {
			b.Run(x.name+"/"+name, func(b *testing.B) {
				var seed atomic.Uint64
				b.ReportAllocs()
				b.RunParallel(func(pb *testing.PB) {
					r := rand.New(rand.NewPCG(7, seed.Add(1)))
					for pb.Next() {
						h := bigHandle(base + r.IntN(*benchEntries))
						if _, ok, err := x.lookup(h); err != nil || ok != (base == 0) {
							b.Errorf("%v, %v", ok, err)
							return
						}
					}
				})
			})
		}
	}
}
