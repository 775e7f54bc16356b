package indexdb

import (
	"bufio"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math/bits"
)

// A composer streams the next generation out of a state: the live part of the old generation
// and the runs, merged bucket by bucket. It holds one bucket in memory.
type composer struct {
	masker
	meta    *meta
	expect  int64 // entries
	packs   int64
	gen     *generation
	dead    []bool
	runs    []*run
	fileNo  []uint32 // of the old generation's index files, for those alive
	packNo  []uint32 // of the old generation's packs; deadPack for those left out
	runBase []uint32 // first pack number of each run
}

const deadPack = 0xffffffff

const maxBucketEntries = (maxBucketBytes - 1) / entryBytes

func newComposer(k *keys, st *state) *composer {
	c := &composer{
		masker: masker{keys: k},
		meta:   &meta{Number: 1, Salt: make([]byte, 32)},
		gen:    st.gen, dead: st.dead, runs: st.runs,
		expect: st.stats.Entries,
	}
	rand.Read(c.meta.Salt)
	if c.gen != nil {
		c.meta.Number = c.gen.meta.Number + 1
		c.packs = int64(c.gen.meta.Packs)
		c.fileNo = make([]uint32, len(c.gen.meta.Files))
		for i, f := range c.gen.meta.Files {
			if c.dead == nil || !c.dead[i] {
				c.fileNo[i] = uint32(len(c.meta.Files))
				c.meta.Files = append(c.meta.Files, f)
			}
		}
	}
	for _, r := range c.runs {
		c.packs += int64(len(r.packs))
	}
	c.meta.Name = newName(c.meta.Number)
	// 8 to 16 entries in a bucket. Measured at 4 million, CPU time per lookup and of the
	// builder: 32 entries 10.4 µs, 0.65 s; 16 8.5 µs, 0.95 s; 8 7.1 µs, 1.0 s; 4 6.5 µs, 1.8 s.
	c.meta.Bits = uint(max(bits.Len64(uint64(c.expect)/8)-1, 0))
	return c
}

// needBytes is what the generation takes on disk, rounded up.
func (c *composer) needBytes() int64 { return generationBytes(c.expect, c.packs) }

// generationBytes: Badger adds 5 %, and while it writes 18 MiB of memory table and statistics, which are mostly holes.
func generationBytes(entries, packs int64) int64 {
	return entries*entryBytes*9/8 + packs*(packRowBytes+1) + 8<<20
}

// tableBytes makes tables of 2 MiB as long as there are at most about 32, up to 2 million entries, and then larger ones: neither memory
// of the builder, which has buffers for several tables, nor, up to some 100 million entries, the number of open files gets out of
// hand. Of 4 million entries, to open 64 tables takes 19 ms, 16 take 8, and a lookup among 64 takes a tenth longer.
func (c *composer) tableBytes() int64 {
	return min(max(c.expect*entryBytes/32, 2<<20), 32<<20)
}

// writePacks writes the pack table and numbers the packs; it comes before writeBuckets.
func (c *composer) writePacks(path string) (err error) {
	seal, err := c.packSeal(c.meta.Salt)
	if err != nil {
		return err
	}
	w, err := createPacks(path, seal)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := w.close(); err == nil {
			err = closeErr
		}
		c.meta.Packs = w.rows
	}()
	if c.gen != nil {
		if err := c.copyPacks(w); err != nil {
			return err
		}
	}
	for _, r := range c.runs {
		c.runBase = append(c.runBase, w.rows)
		files := uint32(len(c.meta.Files))
		c.meta.Files = append(c.meta.Files, r.files...)
		for _, p := range r.packs {
			if err := w.add(packRow{p.id, p.file + files}); err != nil {
				return err
			}
		}
	}
	return nil
}

// copyPacks takes over the live part of the old pack table, without filling its cache of pages.
func (c *composer) copyPacks(w *packWriter) error {
	c.packNo = make([]uint32, 0, c.gen.meta.Packs)
	for page := range uint32(len(c.gen.packs.pages)) {
		rows, err := c.gen.packs.read(page)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if uint64(row.file) >= uint64(len(c.fileNo)) {
				return fmt.Errorf("%w: index file number %d of %d", errCorrupt, row.file, len(c.fileNo))
			}
			if c.dead != nil && c.dead[row.file] {
				c.packNo = append(c.packNo, deadPack)
				continue
			}
			c.packNo = append(c.packNo, w.rows)
			if err := w.add(packRow{row.id, c.fileNo[row.file]}); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeBuckets writes all buckets and the end mark.
func (c *composer) writeBuckets(w *bufio.Writer) error {
	shift := 64 - c.meta.Bits
	var old *genCursor
	if c.gen != nil {
		scan, err := c.gen.scan()
		if err != nil {
			return err
		}
		defer scan.close()
		old = &genCursor{c: c, scan: scan}
	}
	news, err := cursorsOf(&c.masker, c.runs, c.runBase)
	if err != nil {
		return err
	}
	var bucket []entry
	var stored []byte
	for no := range uint64(1) << c.meta.Bits {
		bucket = bucket[:0]
		if old != nil {
			if bucket, err = old.take(no, shift, bucket); err != nil {
				return err
			}
		}
		if bucket, err = news.take(no, shift, bucket); err != nil {
			return err
		}
		insertionSort(bucket)
		if len(bucket) > maxBucketEntries {
			bucket = thin(bucket, maxBucketEntries)
		}
		c.meta.Entries += int64(len(bucket))
		stored = binary.LittleEndian.AppendUint32(stored[:0], uint32(1+len(bucket)*entryBytes))
		stored = append(stored, bucketFormat)
		for i := range bucket {
			stored = c.append(stored, &bucket[i])
		}
		if _, err := w.Write(stored); err != nil {
			return err
		}
	}
	_, err = w.Write(binary.LittleEndian.AppendUint32(nil, endOfBuckets))
	return err
}

// thin leaves out places of blobs that have very many, until at most limit remain.
func thin(bucket []entry, limit int) []entry {
	blobs := 0
	for i := range bucket {
		if i == 0 || bucket[i].key != bucket[i-1].key {
			blobs++
		}
	}
	each, n, kept := max(limit/blobs, 1), 0, bucket[:0]
	for i, e := range bucket {
		if i == 0 || e.key != kept[len(kept)-1].key {
			n = 0
		}
		if n++; n <= each && len(kept) < limit {
			kept = append(kept, e)
		}
	}
	return kept
}

// genCursor reads the live entries of the old generation in order.
type genCursor struct {
	c    *composer
	scan *scan
	buf  []entry // of the bucket read last
	pos  int     // what of it was not taken yet
}

// take appends the entries of a bucket of the next generation.
func (g *genCursor) take(bucket uint64, shift uint, dst []entry) ([]entry, error) {
	oldBits := g.c.gen.meta.Bits
	for {
		for ; g.pos < len(g.buf); g.pos++ {
			if g.buf[g.pos].key.hi>>shift != bucket {
				return dst, nil
			}
			dst = append(dst, g.buf[g.pos])
		}
		if g.scan.next == 1<<oldBits || (g.scan.next<<(64-oldBits))>>shift > bucket {
			return dst, nil
		}
		if err := g.read(); err != nil {
			return dst, err
		}
	}
}

// read replaces buf by the next bucket of the old generation.
func (g *genCursor) read() error {
	g.buf, g.pos = g.buf[:0], 0
	return g.scan.read(func(p []byte) error {
		for ; len(p) > 0; p = p[entryBytes:] {
			e := g.c.parse(p)
			if uint64(e.pack) >= uint64(len(g.c.packNo)) {
				return fmt.Errorf("%w: pack number %d of %d", errCorrupt, e.pack, len(g.c.packNo))
			}
			if e.pack = g.c.packNo[e.pack]; e.pack != deadPack {
				g.buf = append(g.buf, e)
			}
		}
		return nil
	})
}
