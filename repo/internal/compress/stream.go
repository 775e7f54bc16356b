package compress

import (
	"errors"
	"fmt"
	"io"
)

// NewReader decodes the zstd frame src piece by piece, in memory of the size of the frame's window. What
// Decompress refuses it refuses too, some of it only while reading: a content of other than
// plainBytes bytes, or damage. Its errors are of class ErrCorrupt, and io.EOF is returned only behind
// plainBytes bytes. src must not change until Close.
func NewReader(src []byte, plainBytes int) (io.ReadCloser, error) {
	f, err := parseFrame(src)
	if err != nil {
		return nil, err
	}
	if plainBytes < 0 || f.sized && f.contentBytes != uint64(plainBytes) || f.boundBytes < uint64(plainBytes) {
		return nil, fmt.Errorf("%w: %v, want %d plain bytes", ErrCorrupt, f, plainBytes)
	}
	d, err := newStream(src)
	if err != nil {
		return nil, fmt.Errorf("%w: %v: %w", ErrCorrupt, f, err)
	}
	return &reader{stream: d, frame: f, left: plainBytes}, nil
}

type reader struct {
	stream io.ReadCloser
	frame  frame
	left   int // plain bytes that must still come
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.stream.Read(p)
	if n > r.left {
		return 0, fmt.Errorf("%w: %v: %w", ErrCorrupt, r.frame, errTooLong)
	}
	r.left -= n
	switch {
	case err == nil:
	case !errors.Is(err, io.EOF):
		err = fmt.Errorf("%w: %v: %w", ErrCorrupt, r.frame, err)
	case r.left > 0:
		err = fmt.Errorf("%w: %v ends %d plain bytes early", ErrCorrupt, r.frame, r.left)
	default:
		err = io.EOF
	}
	return n, err
}

func (r *reader) Close() error { return r.stream.Close() }
