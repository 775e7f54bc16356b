package backend_test

import (
	"errors"
	"io"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"vitrine/repo/backend"
)

// hesitant reads no more than so many bytes at a time, and says then that it is at its end.
type hesitant struct {
	*strings.Reader
	most int
}

func (h hesitant) ReadAt(p []byte, off int64) (int, error) {
	n, err := h.Reader.ReadAt(p[:min(h.most, len(p))], off)
	if n < len(p) && err == nil {
		err = io.EOF
	}
	return n, err
}

func (h hesitant) Stat() (fs.FileInfo, error) {
	return fs.Stat(fstest.MapFS{"f": {Data: make([]byte, h.Size())}}, "f")
}

func TestReadRange(t *testing.T) {
	const content = "0123456789"
	for _, most := range []int{1, 3, 10, 100} {
		for offset := range int64(len(content) + 2) {
			for length := range len(content) + 2 {
				p := make([]byte, length)
				err := backend.ReadRange(hesitant{strings.NewReader(content), most}, p, offset)
				end := int(offset) + length
				if end > len(content) {
					if !errors.Is(err, backend.ErrShort) {
						t.Errorf("%d+%d, %d at a time: %v, want ErrShort", offset, length, most, err)
					}
				} else if err != nil || string(p) != content[offset:end] {
					t.Errorf("%d+%d, %d at a time: %q, %v", offset, length, most, p, err)
				}
			}
		}
	}
	if err := backend.ReadRange(hesitant{strings.NewReader(content), 1}, nil, -1); !errors.Is(err, backend.ErrShort) {
		t.Errorf("negative offset: %v", err)
	}
}
