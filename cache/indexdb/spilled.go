package indexdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"vitrine/repo/spill"
)

// spillEntries is how many entries of new index files stay in RAM: 8 MiB. A run of more lies in a file without a name below the
// cache directory, masked as in a generation, until the next generation has it.
const spillEntries = 1 << 18

// spilledError is an error about what lies in that file. The index files have to be read again, into RAM.
type spilledError struct{ error }

func (e *spilledError) Unwrap() error { return e.error }

func isSpilled(err error) bool {
	var spilled *spilledError
	return errors.As(err, &spilled)
}

// spiller makes the file. Its methods may be called in parallel.
type spiller struct {
	dir  string // "": all stays in RAM
	most int    // spillEntries; tests replace it, and free
	free func(dir string) (int64, error)
	log  *slog.Logger

	mu        sync.Mutex // guards the rest
	file      *spill.File
	inGen     int64     // entries of the generation in use
	notBefore time.Time // until then nothing is written: the disk was full, or of no use
	told      bool      // of that
	bad       bool      // what was written is not read any more, and nothing is written
}

// write begins a run of n entries on disk. It is nil when they are to stay in RAM: they are few, or the disk is of no use
// just now, or they would take the space that the next generation needs.
func (s *spiller) write(n int) *spill.Writer {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.wantsLocked(n) {
		return nil
	}
	if s.file == nil {
		err := os.MkdirAll(s.dir, 0o700)
		if err == nil {
			s.file, err = spill.Create(s.dir)
		}
		if err != nil {
			s.stop(err)
			return nil
		}
	}
	free, err := s.free(s.dir)
	if err != nil {
		s.stop(fmt.Errorf("ask for free space: %w", err))
		return nil
	}
	own := int64(n) * entryBytes
	next := withReserve(generationBytes(s.inGen+s.file.UsedBytes()/entryBytes+int64(n), 0))
	need := own + minReserveBytes
	if free >= next { // or else there is no next generation anyway, and RAM is not better than the disk
		need = own + next
	}
	if free < need {
		s.stop(fmt.Errorf("%s has %d MiB free, %d are needed", s.dir, free>>20, need>>20))
		return nil
	}
	return s.file.Write(entryBytes, n)
}

// wants reports whether a run of n entries is to lie on disk, if there is room.
func (s *spiller) wants(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.wantsLocked(n)
}

// wantsLocked needs mu.
func (s *spiller) wantsLocked(n int) bool {
	return n > s.most && s.dir != "" && !s.bad && !time.Now().Before(s.notBefore)
}

// beside tells which generation is in use; nil: none.
func (s *spiller) beside(gen *generation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inGen = 0; gen != nil {
		s.inGen = gen.meta.Entries
	}
}

// unwritable has everything that is new stay in RAM for failurePause.
func (s *spiller) unwritable(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop(err)
}

// stop needs mu.
func (s *spiller) stop(err error) {
	s.notBefore = time.Now().Add(failurePause)
	if !s.told && !s.bad {
		s.told = true
		s.log.Warn("new index files stay in memory: the cache directory is of no use for them", "error", err)
	}
}

// unreadable has everything be read again and stay in RAM from now on.
func (s *spiller) unreadable(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.bad {
		s.bad = true
		s.log.Warn("what lies of the index in the cache directory cannot be read; reading the repository's index instead", "error", err)
	}
}

// isUnreadable reports whether unreadable was called.
func (s *spiller) isUnreadable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bad
}

func (s *spiller) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bad = true; s.file != nil {
		_ = s.file.Close() // nobody needs what is in it
	}
}

// findSpilled calls fn with each entry of the key, of a run on disk, until fn returns false.
func (r *run) findSpilled(m *masker, k dbKey, fn func(*entry) bool) error {
	var key [spill.KeyBytes]byte
	binary.BigEndian.PutUint64(key[:8], k.hi)
	binary.BigEndian.PutUint64(key[8:], k.lo)
	err := r.spilled.Find(&key, func(record []byte) bool {
		e := m.parse(record)
		return fn(&e)
	})
	if err != nil {
		return &spilledError{err}
	}
	return nil
}

// cursor gives the entries of a run in their order. It is for one goroutine.
type cursor struct {
	entries []entry // of a run in RAM, those that come after head
	disk    *spill.Cursor
	masker  *masker // for those on disk
	base    uint32  // is added to pack numbers
	head    entry   // the next one, unless ended
	ended   bool
}

// cursors are those of several runs.
type cursors []*cursor

// cursorsOf adds bases to the pack numbers of the runs.
func cursorsOf(m *masker, runs []*run, bases []uint32) (cursors, error) {
	all := make(cursors, len(runs))
	for i, r := range runs {
		all[i] = &cursor{entries: r.entries, masker: m, base: bases[i]}
		if r.spilled != nil {
			all[i].disk = r.spilled.Cursor()
		}
		if err := all[i].next(); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// next moves head on.
func (c *cursor) next() error {
	if c.disk != nil {
		record, err := c.disk.Next()
		if errors.Is(err, io.EOF) {
			c.ended = true
			return nil
		} else if err != nil {
			return &spilledError{err}
		}
		c.head = c.masker.parse(record)
	} else {
		if c.ended = len(c.entries) == 0; c.ended {
			return nil
		}
		c.head, c.entries = c.entries[0], c.entries[1:]
	}
	c.head.pack += c.base
	return nil
}

// each calls fn with all entries in the order of their keys, up to an error.
func (all cursors) each(fn func(*entry) error) error {
	for {
		var first *cursor
		for _, c := range all {
			if !c.ended && (first == nil || c.head.key.less(first.head.key)) {
				first = c
			}
		}
		if first == nil {
			return nil
		}
		if err := fn(&first.head); err != nil {
			return err
		}
		if err := first.next(); err != nil {
			return err
		}
	}
}

// take appends the entries of a bucket, whose number is what shift leaves of a key, to dst.
func (all cursors) take(bucket uint64, shift uint, dst []entry) ([]entry, error) {
	for _, c := range all {
		for !c.ended && c.head.key.hi>>shift == bucket {
			dst = append(dst, c.head)
			if err := c.next(); err != nil {
				return dst, err
			}
		}
	}
	return dst, nil
}

// store writes the entries that each gives in order. An error of class *spilledError is about runs that it reads, others
// about what it writes.
func store(m *masker, w *spill.Writer, each func(func(*entry) error) error) (*spill.Run, error) {
	var stored []byte
	err := each(func(e *entry) error {
		stored = m.append(stored[:0], e)
		return w.Add(stored)
	})
	if err != nil {
		return nil, err
	}
	return w.Finish()
}

// toDisk gives r, which has packs and files, its n entries, those that each gives in order, on disk. false: they are not to
// lie there, or cannot.
func (s *spiller) toDisk(r *run, m *masker, n int, each func(func(*entry) error) error) (bool, error) {
	w := s.write(n)
	if w == nil {
		return false, nil
	}
	spilled, err := store(m, w, each)
	if err != nil && !isSpilled(err) {
		s.unwritable(fmt.Errorf("write %d entries: %w", n, err))
		return false, nil
	}
	r.spilled = spilled
	return err == nil, err
}

// fill gives r, which has packs and files, its n entries: those that each gives in order. Many go to disk. each may be called twice.
func (s *spiller) fill(r *run, m *masker, n int, each func(func(*entry) error) error) error {
	if done, err := s.toDisk(r, m, n, each); done || err != nil {
		return err
	}
	r.sorted = newSorted(n)
	i := 0
	err := each(func(e *entry) error {
		r.entries[i] = *e
		i++
		return nil
	})
	r.mark()
	return err
}
