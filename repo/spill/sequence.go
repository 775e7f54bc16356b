package spill

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
)

// together is how many pages are written at a time.
const together = 16

// Writer writes a run. It is for one goroutine.
type Writer struct {
	run     *Run
	buf     []byte // whole pages and the one that is being filled
	off     int64  // where buf goes
	extent  extent
	cleanup runtime.Cleanup // frees it
	failed  error
}

// Write begins a run of at most that many records of recordBytes each: KeyBytes or more, and a power of two up to a page. Several runs may
// be written to a file at once.
func (f *File) Write(recordBytes, most int) *Writer {
	if recordBytes < KeyBytes || pageBytes%recordBytes != 0 {
		panic(fmt.Sprintf("spill: records of %d bytes", recordBytes))
	}
	perPage := pageBytes / recordBytes
	pages := (most + perPage - 1) / perPage
	sizeBytes := int64(pages) * pageBytes
	offset := f.end.Add(sizeBytes) - sizeBytes
	f.used.Add(sizeBytes)
	run := &Run{file: f, offset: offset, recordBytes: recordBytes, pages: make([]page, 0, pages)}
	w := &Writer{run: run, buf: make([]byte, 0, together*pageBytes), off: offset, extent: extent{f, offset, sizeBytes}}
	w.cleanup = runtime.AddCleanup(run, extent.free, w.extent) // also of a run that is given up
	return w
}

// Add adds a record, whose key is not less than the one before.
func (w *Writer) Add(record []byte) error {
	if len(w.buf)%pageBytes == 0 {
		if len(w.run.pages) == cap(w.run.pages) {
			return fmt.Errorf("a run got more than its %d records", w.run.records) // the next pages are another run's
		}
		w.run.pages = append(w.run.pages, page{first: binary.BigEndian.Uint64(record)})
	}
	w.buf = append(w.buf, record[:w.run.recordBytes]...)
	w.run.records++
	if len(w.buf)%pageBytes > 0 {
		return nil
	}
	w.seal(w.buf[len(w.buf)-pageBytes:])
	if len(w.buf) == cap(w.buf) {
		return w.flush()
	}
	return nil
}

// seal notes the checksum of the page that was filled last.
func (w *Writer) seal(p []byte) { w.run.pages[len(w.run.pages)-1].sum = crc32.Checksum(p, castagnoli) }

// flush writes buf. When it fails, what was written so far comes free at once: the disk may be full.
func (w *Writer) flush() error {
	if w.failed != nil {
		return w.failed
	}
	n, err := w.run.file.f.WriteAt(w.buf, w.off)
	w.off += int64(n)
	w.buf = w.buf[:0]
	if err != nil {
		w.failed = err
		w.cleanup.Stop()
		w.extent.free()
	}
	return err
}

// Finish returns the run.
func (w *Writer) Finish() (*Run, error) {
	if n := len(w.buf) % pageBytes; n > 0 {
		w.seal(w.buf[len(w.buf)-n:])
	}
	if err := w.flush(); err != nil {
		return nil, err
	}
	return w.run, nil
}

// Cursor gives the records of a run in their order. It is for one goroutine.
type Cursor struct {
	run  *Run
	next int    // page to read
	buf  []byte // a page
	left []byte // what of it was not given yet
}

// Cursor begins at the first record.
func (r *Run) Cursor() *Cursor { return &Cursor{run: r, buf: make([]byte, pageBytes)} }

// Next returns the next record, which is the caller's until the call after. At the end the error is io.EOF.
func (c *Cursor) Next() ([]byte, error) {
	if len(c.left) == 0 {
		if c.next == len(c.run.pages) {
			return nil, io.EOF
		}
		records, err := c.run.read(c.next, c.buf)
		if err != nil {
			return nil, err
		}
		c.next++
		c.left = records
	}
	record := c.left[:c.run.recordBytes]
	c.left = c.left[c.run.recordBytes:]
	return record, nil
}
