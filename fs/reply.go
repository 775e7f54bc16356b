package fs

import (
	"github.com/hanwen/go-fuse/v2/fuse"

	"vitrine/cache/blobcache"
)

// reply is a part of a file on its way to the kernel. It goes without a copy: its pieces are the
// bytes of the caches, and chunks are held until Done.
type reply struct {
	pieces   [][]byte
	held     []hold
	answered func() // called by Done, unless nil
}

// hold is a chunk of which usedBytes are in the reply.
type hold struct {
	ref       blobcache.Ref
	usedBytes int
}

var _ fuse.ReadResult = (*reply)(nil)

// add appends bytes of what ref holds.
func (r *reply) add(piece []byte, ref blobcache.Ref) {
	if len(piece) > 0 {
		r.pieces = append(r.pieces, piece)
	}
	r.held = append(r.held, hold{ref, len(piece)})
}

// Done is called when the kernel has the bytes.
func (r *reply) Done() {
	for _, h := range r.held {
		h.ref.Release(h.usedBytes)
	}
	r.held, r.pieces = nil, nil
	if r.answered != nil {
		r.answered()
		r.answered = nil
	}
}

// Size returns the number of bytes.
func (r *reply) Size() (n int) {
	for _, p := range r.pieces {
		n += len(p)
	}
	return n
}

// Slices returns the bytes for writev.
func (r *reply) Slices() ([][]byte, fuse.Status) { return r.pieces, fuse.OK }

// Bytes returns the bytes in one piece, for where Slices is not asked.
func (r *reply) Bytes(buf []byte) ([]byte, fuse.Status) {
	buf = buf[:0]
	for _, p := range r.pieces {
		buf = append(buf, p...)
	}
	return buf, fuse.OK
}
