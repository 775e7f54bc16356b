package backend

import (
	"fmt"
	"io"
	"io/fs"
)

// ReadRange fills p from a file, as ReadAt of a Backend has to: when the file ends before, the error is of class ErrShort, and the
// empty range gets the same answer as any other. The file may read less than it is asked for before its end, as SFTP servers do.
func ReadRange(file interface {
	io.ReaderAt
	Stat() (fs.FileInfo, error)
}, p []byte, offsetBytes int64) error {
	if offsetBytes < 0 {
		return fmt.Errorf("negative offset: %w", ErrShort)
	}
	if len(p) == 0 {
		info, err := file.Stat()
		if err == nil && offsetBytes > info.Size() {
			err = ErrShort
		}
		return err
	}
	for {
		n, err := file.ReadAt(p, offsetBytes)
		switch {
		case n == len(p):
			return nil // io.ReaderAt may say io.EOF at the very end
		case err == io.EOF && n > 0:
			p, offsetBytes = p[n:], offsetBytes+int64(n)
		case err == io.EOF:
			return fmt.Errorf("it ends %d bytes early: %w", len(p), ErrShort)
		default:
			return err
		}
	}
}
