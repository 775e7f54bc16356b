package indexdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"

	"vitrine/repo/blob"
)

// generation is an open generation. It is closed when the last reference is released; opening gives
// the first one.
type generation struct {
	meta  *meta
	db    *badger.DB
	packs *packTable
	table table
	trim  trimmer

	refs   atomic.Int64
	closed chan struct{} // closed after Badger is

	// bad is set by the first reader who finds damage. healed is closed when the generation has
	// been replaced, or could not be: then healErr says why.
	bad     atomic.Bool
	once    sync.Once
	healed  chan struct{}
	healErr error
}

// settle tells those who wait in heal what came of it. The first call counts.
func (g *generation) settle(err error) {
	g.once.Do(func() {
		g.healErr = err
		close(g.healed)
	})
}

// damageError is what a lookup in a damaged generation returns.
type damageError struct {
	gen *generation
	err error
}

func (e *damageError) Error() string { return e.gen.meta.Name + ": " + e.err.Error() }
func (e *damageError) Unwrap() error { return e.err }

// errGone tells that a generation was removed while it was opened: read CURRENT again.
var errGone = errors.New("generation is being removed")

// badgerOptions are what writer and readers have in common. No compression and no caches:
// values are masked, hence incompressible, and the page cache is the cache. No bloom filters:
// every bucket exists.
func badgerOptions(dir string) badger.Options {
	return badger.DefaultOptions(dir).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithBloomFalsePositive(0).
		WithChecksumVerificationMode(options.OnBlockRead).
		WithBlockSize(2 << 10).
		WithValueThreshold(maxBucketBytes + 1).
		WithMemTableSize(1 << 20).
		WithValueLogFileSize(1 << 20).
		WithNumCompactors(2).
		WithMetricsEnabled(false).
		WithDetectConflicts(false)
}

// maxBucketBytes is the most a bucket may take. It is seventy times the average, which uniform
// keys stay below by far; blobs that are stored hundreds of times over are cut, see composer.
const maxBucketBytes = 32 << 10

// bucketFormat is the first byte of a bucket: to Badger an empty value is a missing one.
const bucketFormat = 1

// openGeneration checks the generation and opens it read-only. Errors are of class errCorrupt when
// it is not worth keeping, errGone when CURRENT should be read again.
// A generation of up to tableEntries may be read into RAM.
func openGeneration(dir string, k *keys, m *meta, tableEntries int64, log *slog.Logger) (_ *generation, err error) {
	path := filepath.Join(dir, m.Name)
	// Until Badger has its own shared lock, ours keeps the directory from being removed.
	guard, err := flock(path, unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	defer guard.Close()
	if err := verify(path, m.Parts); err != nil {
		return nil, err
	}
	seal, err := k.packSeal(m.Salt)
	if err != nil {
		return nil, err
	}
	g := &generation{meta: m, closed: make(chan struct{}), healed: make(chan struct{})}
	g.table.mostEntries = tableEntries
	if g.packs, err = openPacks(filepath.Join(path, packsName), seal, m.Packs); err != nil {
		return nil, err
	}
	o := badgerOptions(path).WithReadOnly(true).WithLogger(badgerLog{log})
	err = g.trim.watch(m.Name, func() (err error) {
		g.db, err = badger.OpenManaged(o)
		return err
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: open %s: %w", errCorrupt, m.Name, err), g.packs.close())
	}
	g.refs.Store(1)
	var buckets uint64
	for _, t := range g.db.Tables() {
		buckets += uint64(t.KeyCount)
	}
	if buckets != 1<<m.Bits {
		g.release()
		return nil, fmt.Errorf("%w: %s has %d buckets, not %d", errCorrupt, m.Name, buckets, uint64(1)<<m.Bits)
	}
	return g, nil
}

// acquire takes a reference; false means that the generation is closed.
func (g *generation) acquire() bool {
	for {
		n := g.refs.Load()
		if n == 0 {
			return false
		}
		if g.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (g *generation) release() {
	if g.refs.Add(-1) == 0 {
		// Nothing was written, so nothing can be lost by an error here.
		_ = g.db.Close()
		_ = g.packs.close()
		close(g.closed)
	}
}

// deadFiles tells which index files of the generation are not listed any more, and how many
// entries they had. The slice is nil when all are there.
func (g *generation) deadFiles(listed map[blob.ID]bool) (dead []bool, entries int64) {
	for i, f := range g.meta.Files {
		if !listed[f.ID] {
			if dead == nil {
				dead = make([]bool, len(g.meta.Files))
			}
			dead[i] = true
			entries += f.Entries
		}
	}
	return dead, entries
}

// guard turns a fault in mapped memory (file truncated, disk failed) and Badger's panics about
// what it finds in a block into an error. Use: defer guard(&err)()
func guard(err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		if p := recover(); p != nil {
			*err = fmt.Errorf("%w: badger: %v", errCorrupt, p)
		}
		debug.SetPanicOnFault(old)
	}
}

// bucket calls fn with the stored entries of a bucket, valid only during the call.
func (g *generation) bucket(no uint64, fn func([]byte) error) (err error) {
	defer guard(&err)()
	var key [4]byte
	binary.BigEndian.PutUint32(key[:], uint32(no))
	txn := g.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	item, err := txn.Get(key[:])
	if err != nil {
		return fmt.Errorf("%w: bucket %d: %w", errCorrupt, no, err)
	}
	return withEntries(item, no, fn)
}

// withEntries calls fn with the stored entries of a bucket.
func withEntries(item *badger.Item, no uint64, fn func([]byte) error) error {
	return item.Value(func(p []byte) error {
		if len(p)%entryBytes != 1 || p[0] != bucketFormat {
			return fmt.Errorf("%w: bucket %d has %d bytes", errCorrupt, no, len(p))
		}
		return fn(p[1:])
	})
}

// scan reads all buckets in order, for a third of what as many lookups cost.
type scan struct {
	txn  *badger.Txn
	it   *badger.Iterator
	next uint64 // bucket that the iterator should stand at
	trim *trimmer
}

func (g *generation) scan() (s *scan, err error) {
	defer guard(&err)()
	txn := g.db.NewTransactionAt(math.MaxUint64, false)
	// Without prefetch Badger starts no goroutine, in which a fault would be fatal.
	s = &scan{txn: txn, it: txn.NewIterator(badger.IteratorOptions{}), trim: &g.trim}
	s.it.Rewind()
	return s, nil
}

// read calls fn with the entries of the next bucket. Badger's iterator passes over what is
// damaged, so a bucket that is not the next one is an error.
func (s *scan) read(fn func([]byte) error) (err error) {
	defer guard(&err)()
	var key [4]byte
	binary.BigEndian.PutUint32(key[:], uint32(s.next))
	if !s.it.Valid() || !bytes.Equal(s.it.Item().Key(), key[:]) {
		return fmt.Errorf("%w: bucket %d is missing", errCorrupt, s.next)
	}
	err = withEntries(s.it.Item(), s.next, fn)
	s.next++
	s.it.Next()
	s.trim.looked()
	return err
}

func (s *scan) close() {
	var ignored error // a fault: read has reported it
	defer guard(&ignored)()
	defer s.txn.Discard()
	s.it.Close()
	s.trim.trim() // what comes in turn is not needed again
}

// lookup calls fn with each live place of the blob until it returns false. The caller holds a
// reference.
func (g *generation) lookup(m *masker, key dbKey, dead []bool, fn func(blob.Location) bool) error {
	if g.bad.Load() {
		return &damageError{g, errCorrupt}
	}
	t, err := g.fromTable(m)
	switch {
	case err != nil:
	case t != nil:
		for i := t.find(key); i < len(t.entries) && t.entries[i].key == key && err == nil; i++ {
			var more bool
			if more, err = g.place(&t.entries[i], dead, fn); !more {
				break
			}
		}
	default:
		g.trim.looked()
		err = g.bucket(key.hi>>(64-g.meta.Bits), func(p []byte) error {
			for ; len(p) > 0; p = p[entryBytes:] {
				k := storedKey(p)
				if k.less(key) {
					continue
				}
				if k != key {
					return nil
				}
				e := m.parse(p)
				if more, err := g.place(&e, dead, fn); !more {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return &damageError{g, err}
	}
	return nil
}

// place calls fn with the place of an entry unless it is dead, and reports whether to go on.
func (g *generation) place(e *entry, dead []bool, fn func(blob.Location) bool) (more bool, err error) {
	row, err := g.packs.row(e.pack)
	if err != nil {
		return false, err
	}
	if uint64(row.file) >= uint64(len(g.meta.Files)) {
		return false, fmt.Errorf("%w: index file number %d of %d", errCorrupt, row.file, len(g.meta.Files))
	}
	if dead != nil && dead[row.file] {
		return true, nil
	}
	return fn(e.location(row.id)), nil
}

// listPacks calls fn with each live pack. The caller holds a reference.
func (g *generation) listPacks(dead []bool, fn func(blob.ID)) error {
	if g.bad.Load() {
		return &damageError{g, errCorrupt}
	}
	for page := range uint32(len(g.packs.pages)) {
		rows, err := g.packs.read(page) // not kept: most of them nobody asks for again
		if err != nil {
			return &damageError{g, err}
		}
		for _, row := range rows {
			if uint64(row.file) >= uint64(len(g.meta.Files)) {
				return &damageError{g, fmt.Errorf("%w: index file number %d of %d", errCorrupt, row.file, len(g.meta.Files))}
			}
			if dead == nil || !dead[row.file] {
				fn(row.id)
			}
		}
	}
	return nil
}

// flock opens a file or directory and locks it without waiting: unix.LOCK_SH or LOCK_EX. It
// returns errLocked when somebody else has a lock that excludes this one, errGone when path
// does not lead to it any more. Closing the file unlocks, and so does the end of the process.
func flock(path string, how int) (*os.File, error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", errGone, err)
	}
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, errLocked
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	// Whoever removes does so under the exclusive lock: it may have gone between open and lock.
	now, err := os.Stat(path)
	mine, err2 := f.Stat()
	if err != nil || err2 != nil || !os.SameFile(now, mine) {
		f.Close()
		return nil, errGone
	}
	return f, nil
}

// errLocked tells that another process holds a lock.
var errLocked = errors.New("locked by another process")
