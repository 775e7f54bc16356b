package repo

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"vitrine/repo/blob"
	"vitrine/repo/chunker"
	"vitrine/repo/hugepage"
	"vitrine/repo/internal/compress"
)

// encoder turns plain bytes into what a pack holds. It has the memory for that, two buffers as large as
// the largest blob that it met, so it is used again and again, by one caller at a time.
type encoder struct{ frame, sealed []byte }

// encode compresses, seals and, unless told otherwise, verifies. The sealed bytes are e's until the next
// call. plainBytes is the length for the index, 0 when the blob is not compressed: because that would not make it
// smaller, unless always is set, or because it has no bytes.
//
// Verifying finds any bit that memory, processor or one of the codecs got wrong on the way. What was
// sealed is compared with what was to be sealed, then that with the plain bytes, as a frame of these:
// in this order a frame that changes after it was sealed, or before, is noticed by one or the other.
func (e *encoder) encode(r *Repository, plain []byte, always bool) (sealed []byte, plainBytes uint32, err error) {
	content := plain
	e.frame = sized(e.frame, compress.BoundBytes(len(plain)))
	if frame, ok := r.codec.Compress(e.frame, plain); ok {
		content, plainBytes = frame, uint32(len(plain))
	} else if always && len(plain) > 0 {
		content, plainBytes = r.codec.CompressAlways(e.frame, plain), uint32(len(plain))
	}
	e.sealed = r.key.Seal(sized(e.sealed, len(content)+blob.SealOverheadBytes), content)
	if !r.verify {
		return e.sealed, plainBytes, nil
	}
	if err := r.verifySealed(e.sealed, content, plain, plainBytes != 0); err != nil {
		return nil, 0, err
	}
	return e.sealed, plainBytes, nil
}

// verifySealed returns an error unless sealed opens to content, and that is plain or, if compressed, a frame of it.
func (r *Repository) verifySealed(sealed, content, plain []byte, compressed bool) error {
	err := r.key.Verify(sealed, content)
	if err == nil && compressed && !compress.Matches(content, plain) {
		err = errors.New("the compressed frame does not hold the blob")
	}
	if err != nil {
		return Advised(fmt.Errorf("verify before storing: %w; is the memory of this machine sound?", err))
	}
	return nil
}

// sized returns buf, empty, or a new buffer of at least n bytes when it is smaller. Growing by a quarter at least makes that
// rare.
func sized(buf []byte, n int) []byte {
	if cap(buf) < n {
		buf = make([]byte, 0, max(n, cap(buf)+cap(buf)/4, 64<<10))
		hugepage.Advise(buf)
	}
	return buf[:0]
}

// encoders keeps the encoders of a write scope. A blob gets the smallest one that is large enough, or else the largest, which
// grows: so only as many become as large as the largest blobs as there are such blobs at a time. Not a sync.Pool, which a
// collection empties, so that pages would have to be had from the system again.
type encoders struct {
	mu   sync.Mutex
	free []*encoder // as many as there were callers at a time, at most; by the size of their frames
}

// get returns an encoder for a blob of n bytes.
func (s *encoders) get(n int) *encoder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.free) == 0 {
		return new(encoder)
	}
	i := min(s.place(compress.BoundBytes(n)), len(s.free)-1)
	e := s.free[i]
	s.free = slices.Delete(s.free, i, i+1)
	return e
}

// place returns where the encoders begin whose frames have room for n bytes. mu is held.
func (s *encoders) place(n int) int {
	i, _ := slices.BinarySearchFunc(s.free, n, func(e *encoder, n int) int { return cap(e.frame) - n })
	return i
}

func (s *encoders) put(e *encoder) {
	if cap(e.sealed) > maxPooledBytes {
		return // of a rare huge tree
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = slices.Insert(s.free, s.place(cap(e.frame)), e)
}

// packBuffers recycles the buffers of packs that are stored: one for each open pack, for each upload, for each of the
// ready packs that wait for that, and for the full ones of writers who wait for a place among these.
type packBuffers struct {
	mu   sync.Mutex
	free [][]byte
}

// get returns an empty buffer for a pack of the size, with room for the largest chunk as its last blob and for its
// header. What of it is never used costs no memory.
func (s *packBuffers) get(packBytes int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.free); n > 0 {
		buf := s.free[n-1]
		s.free = s.free[:n-1]
		return buf
	}
	buf := make([]byte, 0, packBytes+chunker.MaxBytes+1<<20) // not slices.Grow, which touches all of it
	hugepage.Advise(buf)
	return buf
}

func (s *packBuffers) put(buf []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = append(s.free, buf[:0])
}

// StoredBytes returns what the plain bytes would take in a pack, for a run that only tells
// what it would do.
func (r *Repository) StoredBytes(plain []byte) (int, error) {
	e := looseEncoders.get(len(plain))
	defer looseEncoders.put(e)
	sealed, _, err := e.encode(r, plain, false)
	return len(sealed), err
}

// looseEncoders are those of what belongs to no write scope: StoredBytes, and blobs that are written again.
var looseEncoders encoders
