// Package spill keeps sorted records in a file without a name, for sets that grow with a repository
// while the memory of the process must not.
//
// A record begins with its key, 16 bytes that are uniformly distributed (a MAC, or the output of a cipher); nothing
// readable is in it, since it goes to a disk. Records are written in the order of their keys, once, as a Run. Memory
// holds 16 bytes of each page of 4 KiB: where its keys begin, and its checksum. So a lookup reads one page, mostly from
// the system's cache of pages, which is not memory of the process: some 1 µs.
package spill

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// KeyBytes is the length of a key.
const KeyBytes = 16

// pageBytes are read and checked together.
const pageBytes = 4 << 10

// ErrDamaged tells that a page is not as it was written.
var ErrDamaged = errors.New("a page on disk is not as it was written")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// File is a file without a name. Its methods may be called in parallel.
type File struct {
	f    *os.File
	end  atomic.Int64 // where the next run begins; what was freed before is a hole
	used atomic.Int64 // bytes of all runs but those that were freed
}

// Create makes a file without a name in a directory that exists. It goes away with Close, or with the process.
func Create(dir string) (*File, error) {
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return &File{f: os.NewFile(uintptr(fd), filepath.Join(dir, "spill"))}, nil
	}
	return createNamed(dir)
}

// prefix is what a file is called that has a name, for a moment.
const prefix = "spill-"

// createNamed is Create for file systems without O_TMPFILE: NFS, old ones of FUSE.
func createNamed(dir string) (*File, error) {
	removeStale(dir)
	f, err := os.CreateTemp(dir, prefix)
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(err, f.Close())
	}
	return &File{f: f}, nil
}

// staleAfter is how old a name is that a process left when it was killed.
const staleAfter = time.Hour

// removeStale removes such names, of files that are empty. Somebody who was stopped in between for so long loses nothing: he would remove
// the name next, and has the file open.
func removeStale(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // CreateTemp tells
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), prefix) || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil && info.Size() == 0 && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(filepath.Join(dir, e.Name())) // it costs a name
		}
	}
}

// Close gives the file up with all its runs, which fail from then on.
func (f *File) Close() error { return f.f.Close() }

// FreeBytes is how much may be written to the file system.
func (f *File) FreeBytes() (free int64, err error) {
	conn, err := f.f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var st unix.Statfs_t
	if controlErr := conn.Control(func(fd uintptr) { err = unix.Fstatfs(int(fd), &st) }); controlErr != nil {
		return 0, controlErr
	}
	return int64(st.Bavail) * int64(st.Frsize), err
}

// UsedBytes is what the runs have for themselves that somebody holds, or that are being written.
func (f *File) UsedBytes() int64 { return f.used.Load() }

// Run is a sorted set of records, immutable. Its methods may be called in parallel. Its space on disk comes free after
// nobody holds it any more.
type Run struct {
	file        *File
	offset      int64 // of its first page
	recordBytes int
	records     int
	pages       []page
}

// page is what memory knows of a page on disk.
type page struct {
	first uint64 // the first half of its first key
	sum   uint32 // CRC-32C
}

// Len is the number of records.
func (r *Run) Len() int { return r.records }

// MemoryBytes is what the run takes in memory.
func (r *Run) MemoryBytes() int64 { return int64(cap(r.pages)) * 16 }

// extent is where a run lies.
type extent struct {
	file              *File
	offset, sizeBytes int64
}

// free gives the space back, as far as the file system can do that.
func (e extent) free() {
	e.file.used.Add(-e.sizeBytes)
	conn, err := e.file.f.SyscallConn() // Fd would race with Close
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		_ = unix.Fallocate(int(fd), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, e.offset, e.sizeBytes)
	})
}

// buffers are those of lookups.
var buffers = sync.Pool{New: func() any { return new([pageBytes]byte) }}

// Find calls fn with each record of the key until fn returns false. The record is fn's only during the call.
func (r *Run) Find(key *[KeyBytes]byte, fn func(record []byte) bool) error {
	half := binary.BigEndian.Uint64(key[:])
	// Records of the key may begin in the last page whose first key is less.
	no := max(sort.Search(len(r.pages), func(i int) bool { return r.pages[i].first >= half })-1, 0)
	buf := buffers.Get().(*[pageBytes]byte)
	defer buffers.Put(buf)
	for ; no < len(r.pages) && r.pages[no].first <= half; no++ {
		records, err := r.read(no, buf[:])
		if err != nil {
			return err
		}
		n := len(records) / r.recordBytes
		i := sort.Search(n, func(i int) bool { return bytes.Compare(records[i*r.recordBytes:][:KeyBytes], key[:]) >= 0 })
		for ; i < n && bytes.Equal(records[i*r.recordBytes:][:KeyBytes], key[:]); i++ {
			if !fn(records[i*r.recordBytes : (i+1)*r.recordBytes]) {
				return nil
			}
		}
	}
	return nil
}

// read returns the records of a page, in buf, which has a page's length.
func (r *Run) read(no int, buf []byte) ([]byte, error) {
	perPage := pageBytes / r.recordBytes
	records := buf[:min(perPage, r.records-no*perPage)*r.recordBytes]
	if _, err := r.file.f.ReadAt(records, r.offset+int64(no)*pageBytes); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: the file is shorter", ErrDamaged)
		}
		return nil, err
	}
	if crc32.Checksum(records, castagnoli) != r.pages[no].sum {
		return nil, ErrDamaged
	}
	return records, nil
}
