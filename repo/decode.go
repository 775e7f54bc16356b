package repo

import (
	"fmt"

	"vitrine/repo/blob"
	"vitrine/repo/internal/compress"
	"vitrine/repo/internal/sha256many"
)

// DecodeBlob opens, decompresses and verifies a sealed blob that the caller has read; the
// plain bytes are appended to buf[:0]. The sealed bytes are overwritten.
func (r *Repository) DecodeBlob(e blob.Entry, sealed, buf []byte) ([]byte, error) {
	plain, err := r.openBlob(e.Handle, e.Location, sealed, buf)
	if err != nil {
		return nil, decodeError(&e, err)
	}
	return plain, nil
}

func decodeError(e *blob.Entry, err error) error {
	return fmt.Errorf("decode %v of pack %s at %d+%d: %w", e.Handle, e.Pack.Short(), e.OffsetBytes, e.LengthBytes, err)
}

// Decoding is one blob for DecodeBlobs. The caller sets the first three fields.
type Decoding struct {
	Entry  blob.Entry
	Sealed []byte // is overwritten
	Buf    []byte // the plain bytes are appended to Buf[:0]

	Plain []byte // the plain bytes, verified; nil after an error
	Err   error  // of class ErrCorrupt
}

// DecodeBlobs is DecodeBlob for several blobs, of which each succeeds or fails for itself. Of two
// or more the hashes take half the time; see DecodeTogether for how many. Neither the sealed
// bytes nor the spare capacities of the buffers may overlap.
func (r *Repository) DecodeBlobs(batch []Decoding) {
	for len(batch) > 0 {
		n := min(len(batch), decodeMost)
		r.decodeBlobs(batch[:n])
		batch = batch[n:]
	}
}

const (
	// decodeMost bounds how many blobs are verified together.
	decodeMost = 32
	// decodeBytes is how much is decoded before the hashes are compared: it should still be in
	// the processor's cache then, together with the sealed bytes.
	decodeBytes = 128 << 10
	// pairBytes is the most of a blob that is decoded with another one although both together have more
	// than decodeBytes.
	pairBytes = 8 << 20
)

// DecodeTogether tells how many of the blobs at the beginning of a list are best decoded with one call of
// DecodeBlobs: as many as the processor's cache holds, or else two, if the second one is not so
// much larger that the first would be waiting for it. It is 0 only for an empty list.
func DecodeTogether(entries []blob.Entry) int {
	sum := uint64(0)
	for i := range entries {
		size := uint64(entries[i].Size())
		pair := i == 1 && size <= min(pairBytes, 2*sum)
		if i == decodeMost || i > 0 && sum+size > decodeBytes && !pair {
			return i
		}
		sum += size
	}
	return len(entries)
}

// decodeBlobs is DecodeBlobs for at most decodeMost blobs.
func (r *Repository) decodeBlobs(batch []Decoding) {
	var opened [decodeMost]*Decoding
	var messages [decodeMost][]byte
	var sums [decodeMost]([len(blob.ID{})]byte)
	n := 0
	for i := range batch {
		d := &batch[i]
		plain, err := r.unseal(d.Entry.Location, d.Sealed, d.Buf)
		if err != nil {
			d.Plain, d.Err = nil, decodeError(&d.Entry, err)
			continue
		}
		opened[n], messages[n] = d, plain
		n++
	}
	sha256many.Sums(sums[:n], messages[:n])
	for i, d := range opened[:n] {
		d.Plain, d.Err = messages[i], nil
		if err := compareID(d.Entry.ID, sums[i]); err != nil {
			d.Plain, d.Err = nil, decodeError(&d.Entry, err)
		}
	}
}

func (r *Repository) openBlob(h blob.Handle, loc blob.Location, sealed, buf []byte) ([]byte, error) {
	plain, err := r.unseal(loc, sealed, buf)
	if err == nil {
		err = compareID(h.ID, blob.Hash(plain))
	}
	if err != nil {
		return nil, err
	}
	return plain, nil
}

// unseal appends what is in the sealed bytes to buf[:0]. It is not yet compared with the blob's ID.
func (r *Repository) unseal(loc blob.Location, sealed, buf []byte) ([]byte, error) {
	var plain []byte
	var err error
	if !loc.Compressed() {
		plain, err = r.key.Open(buf[:0], sealed)
	} else if sealed, err = r.key.OpenInPlace(sealed); err == nil {
		plain, err = compress.Decompress(buf[:0], sealed, int(loc.PlainBytes))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return plain, nil
}

func compareID(want, got blob.ID) error {
	if got != want {
		return fmt.Errorf("%w: content hashes to %s", ErrCorrupt, got.Short())
	}
	return nil
}
