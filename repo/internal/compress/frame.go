package compress

import (
	"encoding/binary"
	"fmt"
)

// frame is what the outside of a zstd frame (RFC 8878, section 3.1.1) tells:
//
//	bytes   content
//	4       magic number, 0xFD2FB528 little-endian
//	1       descriptor: bits 7-6 size of the content size, bit 5 single segment,
//	        bit 3 reserved, bit 2 checksum, bits 1-0 size of the dictionary id
//	0 or 1  window descriptor, unless single segment
//	0-4     dictionary id
//	0-8     content size
//	…       blocks: 3 bytes little-endian (bit 0 last, bits 1-2 type, then size), content
//	0 or 4  checksum
type frame struct {
	sized        bool
	contentBytes uint64 // if sized
	boundBytes   uint64 // what the blocks can hold at most
}

func (f frame) String() string {
	if f.sized {
		return fmt.Sprintf("frame of %d plain bytes", f.contentBytes)
	}
	return fmt.Sprintf("frame of unknown size, up to %d bytes", f.boundBytes)
}

const (
	frameMagic    = 0xFD2FB528
	maxBlockBytes = 128 << 10
)

// parseFrame walks over the blocks of src without decoding them: it must be exactly one
// complete frame. That costs next to nothing, and bounds the content before anything is
// allocated for it.
func parseFrame(src []byte) (frame, error) {
	f, at, checksum, err := parseFrameHeader(src)
	if err != nil {
		return f, err
	}
	for last := false; !last; {
		if len(src)-at < 3 {
			return f, fmt.Errorf("%w: byte %d: block header is cut off", ErrCorrupt, at)
		}
		header := uint32(src[at]) | uint32(src[at+1])<<8 | uint32(src[at+2])<<16
		last = header&1 != 0
		stored := int(header >> 3)
		switch header >> 1 & 3 {
		case 0: // raw
			f.boundBytes += uint64(stored)
		case 1: // one byte, repeated
			f.boundBytes += uint64(stored)
			stored = 1
		case 2: // compressed
			f.boundBytes += maxBlockBytes
		default:
			return f, fmt.Errorf("%w: byte %d: reserved block type", ErrCorrupt, at)
		}
		at += 3
		if len(src)-at < stored {
			return f, fmt.Errorf("%w: byte %d: block of %d bytes is cut to %d", ErrCorrupt, at, stored, len(src)-at)
		}
		at += stored
	}
	if want := at + checksum; len(src) != want {
		return f, fmt.Errorf("%w: frame of %d bytes in %d bytes", ErrCorrupt, want, len(src))
	}
	return f, nil
}

// parseFrameHeader returns where the blocks begin and how many bytes of checksum follow them.
func parseFrameHeader(src []byte) (f frame, at, checksum int, err error) {
	if len(src) < 5 || binary.LittleEndian.Uint32(src) != frameMagic {
		return f, 0, 0, fmt.Errorf("%w: byte 0: not a zstd frame", ErrCorrupt)
	}
	descriptor := src[4]
	single := descriptor&0x20 != 0
	if descriptor&0x08 != 0 {
		return f, 0, 0, fmt.Errorf("%w: byte 4: reserved bit is set", ErrCorrupt)
	}
	at = 5
	if !single {
		at++ // the window: decoding goes straight to its destination and needs none
	}
	dictBytes := [...]int{0, 1, 2, 4}[descriptor&3]
	sizeBytes := [...]int{0, 2, 4, 8}[descriptor>>6]
	if sizeBytes == 0 && single {
		sizeBytes = 1
	}
	if len(src) < at+dictBytes+sizeBytes {
		return f, 0, 0, fmt.Errorf("%w: frame header is cut to %d bytes", ErrCorrupt, len(src))
	}
	for _, b := range src[at : at+dictBytes] {
		if b != 0 {
			return f, 0, 0, fmt.Errorf("%w: byte %d: frame needs a dictionary", ErrCorrupt, at)
		}
	}
	at += dictBytes
	f.sized = sizeBytes > 0
	for i := range sizeBytes {
		f.contentBytes |= uint64(src[at+i]) << (8 * i)
	}
	if sizeBytes == 2 {
		f.contentBytes += 256
	}
	if descriptor&0x04 != 0 {
		checksum = 4
	}
	return f, at + sizeBytes, checksum, nil
}
