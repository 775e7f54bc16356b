package repo

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"vitrine/repo/blob"
	"vitrine/repo/internal/compress"
)

// StreamBlob is ReadBlob for whoever can do with a large blob in pieces, which takes less memory and time: of
// a blob of more than largeBytes plain bytes it returns a stream instead of the bytes. What the stream
// gives is not verified before Read returns io.EOF: whatever was made of it counts only then, and any
// other error says that it must be dropped. The stream reads one copy of the blob; when that is damaged,
// ReadBlob may still find a good one. Close the stream after use.
func (r *Repository) StreamBlob(ctx context.Context, h blob.Handle, buf []byte, largeBytes int) ([]byte, io.ReadCloser, error) {
	loc, known, err := r.LookupBlob(h)
	if err != nil {
		return nil, nil, err
	}
	if known && int64(loc.Size()) > int64(largeBytes) {
		if s, err := r.openStream(ctx, h, loc); err == nil || !IsLost(err) {
			return nil, s, err
		}
	}
	plain, err := r.readBlob(ctx, h, loc, known, buf)
	return plain, nil, err
}

// openStream reads and opens the sealed bytes of a blob.
func (r *Repository) openStream(ctx context.Context, h blob.Handle, loc blob.Location) (io.ReadCloser, error) {
	s := &stream{id: h.ID, hash: sha256.New(), fail: func(err error) error { return failLoad(h, loc, err) }}
	sealed, err := r.readSealed(hinted(ctx, h.Type), loc, nil)
	if err != nil {
		return nil, s.fail(err)
	}
	if sealed, err = r.key.OpenInPlace(sealed); err == nil {
		if !loc.Compressed() {
			s.plain = &rest{sealed}
		} else {
			s.plain, err = compress.NewReader(sealed, int(loc.PlainBytes))
		}
	}
	if err != nil {
		return nil, s.fail(fmt.Errorf("%w: %w", ErrCorrupt, err))
	}
	return s, nil
}

// stream hashes what it gives out.
type stream struct {
	id    blob.ID
	plain io.ReadCloser
	hash  hash.Hash
	fail  func(error) error // names the blob
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.plain.Read(p)
	s.hash.Write(p[:n])
	switch {
	case err == nil:
		return n, nil
	case !errors.Is(err, io.EOF):
		return n, s.fail(fmt.Errorf("%w: %w", ErrCorrupt, err))
	}
	var got blob.ID
	if s.hash.Sum(got[:0]); got != s.id {
		return n, s.fail(fmt.Errorf("%w: content hashes to %s", ErrCorrupt, got.Short()))
	}
	return n, io.EOF
}

func (s *stream) Close() error { return s.plain.Close() }

// rest gives out bytes that are in memory.
type rest struct{ p []byte }

func (r *rest) Read(p []byte) (int, error) {
	if len(r.p) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.p)
	r.p = r.p[n:]
	return n, nil
}

func (*rest) Close() error { return nil }
