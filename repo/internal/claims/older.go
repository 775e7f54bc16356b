package claims

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"vitrine/repo/spill"
)

// disk is the file of a set, which is made when the first shard is full. What goes wrong with it costs memory, or that
// a blob is stored twice.
type disk struct {
	scratch      func() (dir string, err error)
	log          *slog.Logger
	reserveBytes int64 // tests replace it

	mu   sync.Mutex // guards the rest
	file *spill.File
	told [2]bool // that it cannot be written, or read
}

// write begins a run of n claims, nil when they are to stay in memory.
func (d *disk) write(n int) *spill.Writer {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.scratch == nil {
		return nil
	}
	if d.file == nil {
		dir, err := d.scratch()
		if err == nil {
			d.file, err = spill.Create(dir)
		}
		if err != nil {
			d.stop(err)
			return nil
		}
	}
	free, err := d.file.FreeBytes()
	if need := int64(n)*spill.KeyBytes + d.reserveBytes; err == nil && free < need {
		err = fmt.Errorf("%d MiB are free where %d are needed", free>>20, need>>20)
	}
	if err != nil {
		d.stop(err)
		return nil
	}
	return d.file.Write(spill.KeyBytes, n)
}

// unwritable tells that some claims stay in memory.
func (d *disk) unwritable(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stop(err)
}

// stop needs mu.
func (d *disk) stop(err error) {
	if !d.told[0] {
		d.told[0] = true
		d.log.Debug("more blobs of this run are remembered in memory", "error", err)
	}
}

func (d *disk) unreadable(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.told[1] {
		d.told[1] = true
		d.log.Warn("blobs that this run has stored may be stored again: what it remembers of them cannot be read", "error", err)
	}
}

func (d *disk) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.file != nil {
		_ = d.file.Close() // nobody needs what is in it
	}
}

// older is what a shard has on disk. It needs the lock of the shard.
type older struct {
	filter filter
	runs   []*spill.Run // each shorter than the one before
}

func (o *older) has(c *claim, d *disk) (found bool) {
	if !o.filter.has(c) {
		return false
	}
	for _, r := range o.runs {
		err := r.Find((*[spill.KeyBytes]byte)(c), func([]byte) bool {
			found = true
			return false
		})
		if err != nil {
			d.unreadable(err)
		}
		if found {
			return true
		}
	}
	return false
}

// spill moves what is in memory to disk, together with the runs that are not longer than what goes with them. So each
// claim is written as often as the set can double. A disk that is of no use is tried again as often, too.
func (sh *shard) spill(d *disk) {
	o := cmp.Or(sh.older, &older{})
	n, keep := len(sh.recent), len(o.runs)
	for keep > 0 && o.runs[keep-1].Len() <= n {
		keep--
		n += o.runs[keep].Len()
	}
	w := d.write(n)
	if w == nil {
		sh.again = 2 * len(sh.recent)
		return
	}
	recent := slices.SortedFunc(maps.Keys(sh.recent), func(a, b claim) int { return bytes.Compare(a[:], b[:]) })
	run, err := mergeTo(w, recent, o.runs[keep:])
	if err != nil {
		d.unwritable(err)
		sh.again = 2 * len(sh.recent)
		return
	}
	if o.filter == nil {
		o.filter = newFilter()
	}
	clear(o.runs[keep:])
	o.runs = append(o.runs[:keep], run)
	for _, c := range recent {
		o.filter.add(&c)
	}
	sh.older = o
	if clear(sh.recent); sh.again > 0 {
		sh.recent, sh.again = make(map[claim]struct{}), 0 // the old one would keep its size
	}
}

// mergeTo writes a run: the claims given, which are in order, and those of the runs.
func mergeTo(w *spill.Writer, claims []claim, runs []*spill.Run) (*spill.Run, error) {
	type head struct {
		record []byte
		rest   func() ([]byte, error)
	}
	heads := []head{{rest: func() ([]byte, error) {
		if len(claims) == 0 {
			return nil, io.EOF
		}
		c := claims[0][:]
		claims = claims[1:]
		return c, nil
	}}}
	for _, r := range runs {
		heads = append(heads, head{rest: r.Cursor().Next})
	}
	advance := func(i int) (err error) {
		if heads[i].record, err = heads[i].rest(); errors.Is(err, io.EOF) {
			heads, err = slices.Delete(heads, i, i+1), nil
		}
		return err
	}
	for i := len(heads) - 1; i >= 0; i-- {
		if err := advance(i); err != nil {
			return nil, err
		}
	}
	for len(heads) > 0 {
		first := 0
		for i := range heads {
			if bytes.Compare(heads[i].record, heads[first].record) < 0 {
				first = i
			}
		}
		if err := w.Add(heads[first].record); err != nil {
			return nil, err
		}
		if err := advance(first); err != nil {
			return nil, err
		}
	}
	return w.Finish()
}

// filter is a Bloom filter of what is on disk: what it does not have is not there. All bits of a claim are
// in one cache line (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007). Its size is
// fixed. Of blobs that are not in the set it lets pass, which costs some µs each: one in 700 when 4 million data blobs are
// there, one in 50 of 8 million, three in five of 32 million (measured).
type filter [][lineBits / 64]uint64

const (
	lineBits    = 512
	filterLines = 512 << 10 / (lineBits / 8) // 512 KiB a shard, 8 MiB of all data blobs
	filterBits  = 5                          // for each claim
)

func newFilter() filter { return make(filter, filterLines) }

// bits calls fn with the word and the bit of each bit of a claim until fn returns false.
func (f filter) bits(c *claim, fn func(word *uint64, bit uint64) bool) bool {
	line := &f[binary.LittleEndian.Uint64(c[:8])%filterLines]
	rest := binary.LittleEndian.Uint64(c[8:])
	for range filterBits {
		if at := rest % lineBits; !fn(&line[at/64], 1<<(at%64)) {
			return false
		}
		rest /= lineBits
	}
	return true
}

func (f filter) has(c *claim) bool {
	return f.bits(c, func(word *uint64, bit uint64) bool { return *word&bit > 0 })
}

func (f filter) add(c *claim) {
	f.bits(c, func(word *uint64, bit uint64) bool { *word |= bit; return true })
}
