package indexdb

import (
	"bufio"
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
)

const (
	pagePacks     = 64
	pageSealBytes = 16
	pageBytes     = pagePacks*packRowBytes + pageSealBytes
)

func pageNonce(page uint32) []byte {
	return binary.BigEndian.AppendUint32(make([]byte, 8, 12), page)
}

// packTable is the pack table of a generation, read page by page when needed. It may be used in
// parallel.
type packTable struct {
	f     *os.File
	seal  cipher.AEAD
	rows  uint32
	pages []atomic.Pointer[[]packRow]
}

func openPacks(path string, seal cipher.AEAD, rows uint32) (*packTable, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	pages := (uint64(rows) + pagePacks - 1) / pagePacks
	return &packTable{f: f, seal: seal, rows: rows, pages: make([]atomic.Pointer[[]packRow], pages)}, nil
}

// row returns a line of the table; every error is of class errCorrupt.
func (t *packTable) row(no uint32) (packRow, error) {
	if no >= t.rows {
		return packRow{}, fmt.Errorf("%w: pack number %d of %d", errCorrupt, no, t.rows)
	}
	page := t.pages[no/pagePacks].Load()
	if page == nil {
		rows, err := t.read(no / pagePacks)
		if err != nil {
			return packRow{}, err
		}
		page = &rows
		t.pages[no/pagePacks].Store(page)
	}
	return (*page)[no%pagePacks], nil
}

func (t *packTable) read(page uint32) ([]packRow, error) {
	rows := make([]packRow, min(pagePacks, t.rows-page*pagePacks))
	p := make([]byte, len(rows)*packRowBytes+pageSealBytes)
	if _, err := t.f.ReadAt(p, int64(page)*pageBytes); err != nil {
		return nil, fmt.Errorf("%w: pack table page %d: %w", errCorrupt, page, err)
	}
	p, err := t.seal.Open(p[:0], pageNonce(page), p, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: pack table page %d: %w", errCorrupt, page, err)
	}
	for i := range rows {
		row := p[i*packRowBytes:]
		copy(rows[i].id[:], row)
		rows[i].file = binary.LittleEndian.Uint32(row[32:])
	}
	return rows, nil
}

func (t *packTable) close() error { return t.f.Close() }

// packWriter writes a pack table.
type packWriter struct {
	f    *os.File
	w    *bufio.Writer
	seal cipher.AEAD
	rows uint32
	page []byte
}

func createPacks(path string, seal cipher.AEAD) (*packWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	return &packWriter{f: f, w: bufio.NewWriterSize(f, 256<<10), seal: seal}, nil
}

func (w *packWriter) add(row packRow) error {
	w.page = append(w.page, row.id[:]...)
	w.page = binary.LittleEndian.AppendUint32(w.page, row.file)
	w.rows++
	if w.rows%pagePacks == 0 {
		return w.flush()
	}
	return nil
}

func (w *packWriter) flush() error {
	if len(w.page) == 0 {
		return nil
	}
	sealed := w.seal.Seal(nil, pageNonce((w.rows-1)/pagePacks), w.page, nil)
	w.page = w.page[:0]
	_, err := w.w.Write(sealed)
	return err
}

// close makes the table durable.
func (w *packWriter) close() error {
	err := w.flush()
	if err == nil {
		err = w.w.Flush()
	}
	if err == nil {
		err = w.f.Sync()
	}
	if closeErr := w.f.Close(); err == nil {
		err = closeErr
	}
	return err
}
