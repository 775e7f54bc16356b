// Package packfile makes and reads the directory at the end of a pack: which blobs it holds,
// and where.
//
// Layout of a pack, integers little-endian:
//
//	sealed blob 1 || … || sealed blob n || sealed header || uint32 length of the sealed header
//
// The plain header has one entry per blob, in the order of the blobs, so that offsets follow
// by addition:
//
//	offset  bytes  content
//	0       1      0 data, 1 tree, 2 compressed data, 3 compressed tree
//	1       4      length of the sealed blob
//	5       4      only in types 2 and 3: length of the plain blob, not 0
//	5 or 9  32     id of the blob
package packfile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"

	"vitrine/repo/blob"
	"vitrine/repo/internal/seal"
)

const (
	// MaxHeaderBytes bounds the sealed header together with its length field.
	MaxHeaderBytes = 16 << 20
	// MaxBlobs is how many blobs fit under MaxHeaderBytes, whatever they are.
	MaxBlobs = (MaxHeaderBytes - fixedBytes) / compressedEntryBytes

	lengthBytes          = 4                                // the uint32 at the end
	fixedBytes           = seal.OverheadBytes + lengthBytes // of a header without entries
	plainEntryBytes      = 1 + 4 + 32
	compressedEntryBytes = plainEntryBytes + 4

	compressedBit = 2 // in the type byte
)

// ErrCorrupt is wrapped by every error about bytes that are not those of a pack.
var ErrCorrupt = errors.New("pack is corrupt")

// EntryBytes returns how much one more blob adds to HeaderBytes.
func EntryBytes(compressed bool) int {
	if compressed {
		return compressedEntryBytes
	}
	return plainEntryBytes
}

// HeaderBytes returns how many bytes Finish appends for these entries.
func HeaderBytes(entries []blob.Entry) int {
	n := fixedBytes
	for i := range entries {
		n += EntryBytes(entries[i].Compressed())
	}
	return n
}

// Finish appends the sealed header and its length to pack, which consists of the sealed blobs
// of entries, in this order and without gaps. It panics if the lengths do not add up, because
// such a pack would lose its blobs.
func Finish(pack []byte, entries []blob.Entry, key *seal.Key) []byte {
	var sum int64
	for i := range entries {
		if int64(entries[i].OffsetBytes) != sum {
			panic(fmt.Sprintf("packfile: blob %d is said to be at %d but is at %d", i, entries[i].OffsetBytes, sum))
		}
		sum += int64(entries[i].LengthBytes)
	}
	if sum != int64(len(pack)) {
		panic(fmt.Sprintf("packfile: %d blobs of %d bytes in a pack of %d bytes", len(entries), sum, len(pack)))
	}
	return AppendHeader(pack, entries, key)
}

// AppendHeader appends to dst what Finish appends to a pack; it is for writers that have not
// got the pack in one piece. Offsets and pack ids are not looked at. It panics if there are no
// entries or more than fit under MaxHeaderBytes (MaxBlobs always do).
func AppendHeader(dst []byte, entries []blob.Entry, key *seal.Key) []byte {
	total := HeaderBytes(entries)
	if len(entries) == 0 || total > MaxHeaderBytes {
		panic(fmt.Sprintf("packfile: header with %d entries", len(entries)))
	}
	plain := make([]byte, 0, total-fixedBytes)
	for i := range entries {
		plain = appendEntry(plain, &entries[i])
	}
	dst = slices.Grow(dst, total)
	dst = key.Seal(dst, plain)
	return binary.LittleEndian.AppendUint32(dst, uint32(total-lengthBytes))
}

func appendEntry(dst []byte, e *blob.Entry) []byte {
	if e.Type > blob.Tree {
		panic(fmt.Sprintf("packfile: blob of type %d", e.Type))
	}
	if e.Compressed() {
		dst = append(dst, byte(e.Type)|compressedBit)
		dst = binary.LittleEndian.AppendUint32(dst, e.LengthBytes)
		dst = binary.LittleEndian.AppendUint32(dst, e.PlainBytes)
	} else {
		dst = append(dst, byte(e.Type))
		dst = binary.LittleEndian.AppendUint32(dst, e.LengthBytes)
	}
	return append(dst, e.ID[:]...)
}

// ParseHeader reads the plain text of a header. The offsets are filled in, Pack is left zero.
// Lengths are checked to be those of sealed bytes and to add up to what OffsetBytes can hold.
func ParseHeader(plain []byte) ([]blob.Entry, error) {
	n, err := countEntries(plain)
	if err != nil {
		return nil, err
	}
	entries := make([]blob.Entry, n)
	var offset uint64
	for i, at := 0, 0; i < n; i++ {
		p := plain[at:]
		e := &entries[i]
		e.Type = blob.Type(p[0] &^ compressedBit)
		e.LengthBytes = binary.LittleEndian.Uint32(p[1:])
		e.OffsetBytes = uint32(offset)
		idAt := 5
		if p[0]&compressedBit != 0 {
			e.PlainBytes = binary.LittleEndian.Uint32(p[5:])
			idAt = 9
			if e.PlainBytes == 0 {
				return nil, fmt.Errorf("%w: header byte %d: compressed blob of 0 plain bytes", ErrCorrupt, at)
			}
		}
		e.ID = blob.ID(p[idAt : idAt+32])
		if e.LengthBytes < seal.OverheadBytes {
			return nil, fmt.Errorf("%w: header byte %d: sealed blob of %d bytes", ErrCorrupt, at, e.LengthBytes)
		}
		if offset += uint64(e.LengthBytes); offset > math.MaxUint32 {
			return nil, fmt.Errorf("%w: header byte %d: blob ends at %d, beyond 32 bits", ErrCorrupt, at, offset)
		}
		at += idAt + 32
	}
	return entries, nil
}

// countEntries walks the type bytes, so that ParseHeader allocates once and as much as is there.
func countEntries(plain []byte) (int, error) {
	if len(plain) == 0 {
		return 0, fmt.Errorf("%w: header byte 0: no entries", ErrCorrupt)
	}
	n := 0
	for at := 0; at < len(plain); n++ {
		t := plain[at]
		if t > byte(blob.Tree)|compressedBit {
			return 0, fmt.Errorf("%w: header byte %d: unknown type %d", ErrCorrupt, at, t)
		}
		size := EntryBytes(t&compressedBit != 0)
		if len(plain)-at < size {
			return 0, fmt.Errorf("%w: header byte %d: entry of %d bytes is cut to %d", ErrCorrupt, at, size, len(plain)-at)
		}
		at += size
	}
	return n, nil
}

// List reads the header of a pack of sizeBytes; Pack is left zero. readAt fills p from
// offsetBytes or fails; it is called once or twice, one after the other, and must not keep p.
// An error of readAt is wrapped; every other error is an ErrCorrupt.
func List(ctx context.Context, readAt func(ctx context.Context, p []byte, offsetBytes int64) error, sizeBytes int64, key *seal.Key) ([]blob.Entry, error) {
	if sizeBytes < fixedBytes+plainEntryBytes+seal.OverheadBytes {
		return nil, fmt.Errorf("%w: %d bytes are too few", ErrCorrupt, sizeBytes)
	}
	tail := make([]byte, guessBytes(sizeBytes))
	tailAt := sizeBytes - int64(len(tail))
	if err := readAt(ctx, tail, tailAt); err != nil {
		return nil, fmt.Errorf("read pack header at %d+%d: %w", tailAt, len(tail), err)
	}

	lengthAt := len(tail) - lengthBytes
	length := int64(binary.LittleEndian.Uint32(tail[lengthAt:]))
	if length < seal.OverheadBytes+plainEntryBytes || length > MaxHeaderBytes-lengthBytes || length > sizeBytes-lengthBytes {
		return nil, fmt.Errorf("%w: byte %d: header of %d bytes in a pack of %d bytes", ErrCorrupt, sizeBytes-lengthBytes, length, sizeBytes)
	}
	headerAt := sizeBytes - lengthBytes - length
	sealed := tail[:lengthAt]
	if missing := tailAt - headerAt; missing > 0 {
		all := make([]byte, length)
		if err := readAt(ctx, all[:missing], headerAt); err != nil {
			return nil, fmt.Errorf("read pack header at %d+%d: %w", headerAt, missing, err)
		}
		copy(all[missing:], sealed)
		sealed = all
	}

	plain, err := key.OpenInPlace(sealed[int64(len(sealed))-length:])
	if err != nil {
		return nil, fmt.Errorf("%w: header at %d+%d: %w", ErrCorrupt, headerAt, length, err)
	}
	entries, err := ParseHeader(plain)
	if err != nil {
		return nil, err
	}
	last := entries[len(entries)-1]
	if end := int64(last.OffsetBytes) + int64(last.LengthBytes); end != headerAt {
		return nil, fmt.Errorf("%w: byte %d: blobs end at %d but the header begins here", ErrCorrupt, headerAt, end)
	}
	return entries, nil
}

// guessBytes returns how much of the end of a pack is read at first. The 128th part holds the
// header when the blobs are 5 KiB on average; source trees have 7. What is read too much costs
// a remote backend less than a second request.
func guessBytes(sizeBytes int64) int64 {
	const atLeast, atMost = 8 << 10, 256 << 10
	return min(sizeBytes, max(atLeast, min(sizeBytes/128, atMost)))
}
