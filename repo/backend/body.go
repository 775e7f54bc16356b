package backend

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"
)

// ReadBody fills p from the body of a server's answer, which must be as long. One that ends early was cut on its way,
// which is no end of the file, and so the error is none of the classes.
func ReadBody(body io.Reader, p []byte) error {
	n, err := io.ReadFull(body, p)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("the answer ends after %d of %d bytes: %w", n, len(p), err)
	}
	var more [1]byte
	if n, _ := body.Read(more[:]); n > 0 {
		return fmt.Errorf("the answer has more than %d bytes", len(p))
	}
	return nil
}

// Upload is content on its way to a server. net/http may still be reading a body when the request has failed; after
// End nobody does, so that the buffer is the caller's again.
type Upload struct {
	content []byte

	mu    sync.Mutex // guards all below, and where each body is
	ended bool
	last  *uploadBody // the newest: only that counts
	whole bool        // its last byte has been read, and not gone back since
}

// NewUpload returns an upload of content, which belongs to it until End.
func NewUpload(content []byte) *Upload { return &Upload{content: content, whole: len(content) == 0} }

// Body returns a reader from the beginning: what was read before counts no more. Its Close does nothing.
func (u *Upload) Body() io.ReadSeekCloser {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.whole = len(u.content) == 0
	u.last = &uploadBody{u, bytes.NewReader(u.content)}
	return u.last
}

// End ends the reading. It returns err, and when that is nil an error unless all has been read: an answer that comes
// before is none.
func (u *Upload) End(err error) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.ended = true
	if err == nil && !u.whole {
		err = errors.New("the server answers before it has the whole file")
	}
	return err
}

// uploadBody is one reading of an upload.
type uploadBody struct {
	u *Upload
	r *bytes.Reader
}

// Read implements io.Reader.
func (b *uploadBody) Read(p []byte) (int, error) {
	b.u.mu.Lock()
	defer b.u.mu.Unlock()
	if b.u.ended {
		return 0, errors.New("the request is over")
	}
	n, err := b.r.Read(p)
	if b.r.Len() == 0 && b.u.last == b {
		b.u.whole = true
	}
	return n, err
}

// Seek implements io.Seeker. What lies behind the new place is to be read again.
func (b *uploadBody) Seek(offset int64, whence int) (int64, error) {
	b.u.mu.Lock()
	defer b.u.mu.Unlock()
	left := b.r.Len()
	at, err := b.r.Seek(offset, whence)
	if b.r.Len() > left && b.u.last == b {
		b.u.whole = false
	}
	return at, err
}

// Close implements io.Closer.
func (b *uploadBody) Close() error { return nil }
